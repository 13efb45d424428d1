//! gRPC end to end: a real client and a real server, with the program between them.
use crate::harness::free_address;
use crate::harness::program::Ringway;
use crate::skip;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/grpc_peer.py");

fn has_grpc() -> bool {
    let imported = Command::new("python3").args(["-c", "import grpc"]).stderr(Stdio::null()).status();
    imported.is_ok_and(|status| status.success())
}

/// A server that ends with its standard input.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start() -> Self {
        let mut child = Command::new("python3")
            .args([PEER, "server"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, port: line.trim().parse().expect("a port") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

fn run(case: &str, address: &str) {
    let output = Command::new("python3").args([PEER, case, address]).output().expect("python3 starts");
    let (said, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{complaint}");
}

fn config(address: &str) -> String {
    format!(
        "[[route]]\nupstream = \"u\"\npath_prefix = \"/t.Test\"\nkey = [\"path\"]\n[upstream.u]\nprotocol = \"h2\"\nendpoints = [{{ id = \"g\", address = \"{address}\" }}]\n"
    )
}

#[test]
fn every_kind_of_call_works_through_it() {
    if !has_grpc() {
        skip!("python3 has no grpcio");
    }
    let server = Server::start();
    let ringway = Ringway::start(&config(&format!("127.0.0.1:{}", server.port)));
    run("client", &ringway.address.to_string());
    assert_eq!(ringway.metrics().sum("ringway_endpoint_in_flight"), 0.0);
}

#[test]
fn errors_of_the_proxy_are_statuses_of_calls() {
    if !has_grpc() {
        skip!("python3 has no grpcio");
    }
    let ringway = Ringway::start(&config(&free_address().to_string()));
    run("refused", &ringway.address.to_string());
    let told = |code| ringway.metrics().sum_of("ringway_requests_total", &[("code", code)]);
    assert_eq!((told("502"), told("404")), (1.0, 1.0), "counted as what went wrong");
}
