//! Servers in Python as upstream servers: the standard library's file server, and a gRPC server with the health service.
use super::{free_address, wait_for};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// `python3 -m http.server` on a folder: a file there is a 200, no file a 404. Dropping it kills it.
pub struct FileServer {
    pub address: SocketAddr,
    pub folder: TempDir,
    child: Child,
}

impl FileServer {
    /// Starts one; `None` when there is no Python on this machine.
    pub fn start() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let address = free_address();
        let mut command = Command::new("python3");
        command.args(["-m", "http.server", "--bind", "127.0.0.1", "-d"]).arg(folder.path());
        command.arg(address.port().to_string());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let server = Self { address, folder, child };
        wait_for("Python's server", || TcpStream::connect(address).ok());
        Some(server)
    }

    /// Puts a file there.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).expect("write in our own folder");
    }

    /// Takes a file away.
    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.folder.path().join(name)).expect("remove from our own folder");
    }
}

impl Drop for FileServer {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

/// A server of grpcio with `grpc.health.v1.Health`. Dropping it kills it.
pub struct GrpcServer {
    pub address: SocketAddr,
    child: Child,
}

const GRPC_SERVER: &str = r#"
import sys
from concurrent import futures
import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

servicer = health.HealthServicer()
server = grpc.server(futures.ThreadPoolExecutor(4))
health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
for line in sys.stdin:
    service, status = line.rstrip("\n").split("=")
    servicer.set(service, health_pb2.HealthCheckResponse.ServingStatus.Value(status))
    print("set", flush=True)
"#;

impl GrpcServer {
    /// Starts one that serves; `None` without Python, grpcio and grpcio-health-checking.
    pub fn start() -> Option<Self> {
        let mut command = Command::new("python3");
        command.args(["-c", GRPC_SERVER]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut server = Self { address: SocketAddr::from(([127, 0, 0, 1], 0)), child: command.spawn().ok()? };
        let port = server.line().trim().parse().ok()?;
        server.address.set_port(port);
        Some(server)
    }

    /// Sets what it says of a service: `SERVING`, `NOT_SERVING`.
    pub fn set(&mut self, service: &str, status: &str) {
        let input = self.child.stdin.as_mut().expect("its standard input is ours");
        writeln!(input, "{service}={status}").expect("it reads");
        assert_eq!(self.line().trim(), "set");
    }

    fn line(&mut self) -> String {
        // Unbuffered: it writes one line for each of ours, so nothing is read ahead and lost.
        let mut line = String::new();
        BufReader::with_capacity(64, self.child.stdout.as_mut().expect("its standard output is ours"))
            .read_line(&mut line)
            .expect("it writes text");
        line
    }
}

impl Drop for GrpcServer {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}
