//! Unix sockets and IPv6, in and out.
use crate::harness::http::Client;
use crate::harness::origin::Origin;
use crate::harness::program::{Ringway, command};
use crate::harness::wait_for;
use crate::hashing::{BY_PATH, upstream};
use crate::skip;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use tempfile::TempDir;

/// Sends a GET over the socket at `path` and gives all that comes back until the other side closes.
fn get(socket: &Path, path: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(crate::harness::PATIENCE))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut received = String::new();
    stream.read_to_string(&mut received)?;
    Ok(received)
}

/// Answers every request at `listener` with its own head as the body, one request for each connection.
fn echo(listener: UnixListener) {
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut head = Vec::new();
            let mut part = [0; 4096];
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read(&mut part) {
                    Ok(count @ 1..) => head.extend_from_slice(&part[..count]),
                    _ => break,
                }
            }
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", head.len());
            // A peer that has left is no concern of an echo.
            stream.write_all(answer.as_bytes()).and_then(|()| stream.write_all(&head)).unwrap_or_default();
        }
    });
}

fn sockets() -> (TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let [front, back] = ["front.sock", "back.sock"].map(|name| folder.path().join(name));
    (folder, front, back)
}

fn listener(socket: &Path) -> String {
    format!("[[listener]]\naddress = \"unix:{}\"\n", socket.display())
}

#[test]
fn a_request_goes_in_and_out_by_unix_sockets() {
    let (_folder, front, back) = sockets();
    echo(UnixListener::bind(&back).unwrap());
    let endpoint = format!("[upstream.u]\nendpoints = [{{ id = \"a\", address = \"unix:{}\" }}]\n", back.display());
    let mut ringway = Ringway::start(&format!("{}mode = \"0600\"\n{BY_PATH}{endpoint}", listener(&front)));
    let answer = get(&front, "/k").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("GET /k HTTP/1.1"), "{answer}");
    assert!(answer.contains("X-Forwarded-For: 127.0.0.1\r\n"), "a client of this machine: {answer}");
    assert_eq!(std::fs::metadata(&front).unwrap().permissions().mode() & 0o777, 0o600);
    let shown = format!("unix:{}", back.display());
    for page in ["/api/v1/status", "/api/v1/explain?url=/k"] {
        assert!(ringway.admin_get(page).unwrap().text().contains(&shown), "{page}");
    }
    assert!(ringway.admin_get("/api/v1/status").unwrap().text().contains(&format!("unix:{}", front.display())));
    assert_eq!(ringway.metrics().sum_of("ringway_upstream_requests_total", &[("class", "2xx")]), 1.0);
    assert!(ringway.stop().success());
    assert!(!front.exists(), "the file goes with the program");
}

#[test]
fn the_file_of_a_killed_program_is_replaced_and_that_of_a_running_one_is_not() {
    let (folder, front, _) = sockets();
    let origin = Origin::start("a");
    let config = format!("{}{BY_PATH}{}", listener(&front), upstream(&[&origin]));
    let mut killed = Ringway::start(&config);
    killed.signal("KILL");
    killed.wait();
    assert!(front.exists());
    let running = Ringway::start(&config);
    assert!(get(&front, "/k").unwrap().starts_with("HTTP/1.1 200 "));

    let second = folder.path().join("second.toml");
    std::fs::write(&second, format!("[admin]\naddress = \"127.0.0.1:0\"\n{config}")).unwrap();
    let refused = command(&["run", "-c", second.to_str().unwrap()]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.contains(front.to_str().unwrap()) && told.contains("in use"), "{told}");
    assert!(get(&front, "/k").unwrap().starts_with("HTTP/1.1 200 "), "the running one is left alone");
    drop(running);
}

#[test]
fn a_reload_opens_and_closes_a_unix_socket() {
    let (_folder, front, _) = sockets();
    let origin = Origin::start("a");
    let tcp = format!("[[listener]]\naddress = \"LISTEN\"\n{BY_PATH}{}", upstream(&[&origin]));
    let ringway = Ringway::start(&tcp);
    ringway.rewrite_config(&format!("{}{tcp}", listener(&front)));
    assert!(get(&front, "/k").unwrap().starts_with("HTTP/1.1 200 "));
    ringway.rewrite_config(&tcp);
    wait_for("the file to go", || (!front.exists()).then_some(()));
    assert_eq!(ringway.client().get("/k").unwrap().status, 200);
}

#[test]
fn an_endpoint_whose_socket_is_gone_costs_nobody_an_error() {
    let (_folder, _, back) = sockets();
    let origin = Origin::start("a");
    let unix = format!("{{ id = \"b\", address = \"unix:{}\" }}, ", back.display());
    let upstream = upstream(&[&origin]).replace("endpoints = [", &format!("endpoints = [{unix}"));
    let ringway = Ringway::start(&format!("{BY_PATH}{upstream}"));
    let mut client = ringway.client();
    for number in 0..40 {
        assert_eq!(client.get(&format!("/{number}")).unwrap().status, 200);
    }
    let errors = [("endpoint", "b"), ("reason", "connect")];
    assert!(ringway.metrics().sum_of("ringway_upstream_errors_total", &errors) >= 1.0);
}

#[test]
fn a_full_queue_is_waited_at_no_longer_than_connecting_may_take() {
    let (_folder, _, back) = sockets();
    let full = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    full.bind(&socket2::SockAddr::unix(&back).unwrap()).unwrap();
    full.listen(0).unwrap();
    let _taken = UnixStream::connect(&back).unwrap();
    let endpoint = format!("endpoints = [{{ id = \"a\", address = \"unix:{}\" }}]", back.display());
    let ringway = Ringway::start(&format!("{BY_PATH}[upstream.u]\nconnect_timeout = \"200ms\"\n{endpoint}\n"));
    assert_eq!(ringway.client().get("/k").unwrap().status, 502);
    assert_eq!(ringway.metrics().sum_of("ringway_upstream_errors_total", &[("reason", "connect_timeout")]), 1.0);
}

#[test]
fn both_versions_of_http_are_spoken_over_a_unix_socket() {
    if Command::new("curl").arg("--version").output().is_err() {
        skip!("no curl");
    }
    let (_folder, front, _) = sockets();
    let origin = Origin::start("a");
    let _ringway = Ringway::start(&format!("{}{BY_PATH}{}", listener(&front), upstream(&[&origin])));
    for (version, expected) in [("--http1.1", "1.1 200"), ("--http2-prior-knowledge", "2 200")] {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-m", "10", version, "-o", "/dev/null", "-w", "%{http_version} %{http_code}"]);
        let output = curl.arg("--unix-socket").arg(&front).arg("http://a.example/k").output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{told}");
    }
}

#[test]
fn a_request_goes_in_and_out_by_ipv6() {
    let Ok(probe) = TcpListener::bind("[::1]:0") else { skip!("no IPv6 on this machine") };
    let address: SocketAddr = probe.local_addr().unwrap();
    drop(probe);
    let origin = Origin::start_at("a", "[::1]:0");
    assert!(origin.address.is_ipv6());
    let config = format!("[[listener]]\naddress = \"{address}\"\n{BY_PATH}{}", upstream(&[&origin]));
    let ringway = Ringway::start(&config);
    let response = Client::new(address).get("/k").unwrap();
    assert_eq!((response.status, response.header("x-origin")), (200, Some("a")));
    assert_eq!(origin.requests()[0].header("x-forwarded-for"), Some("::1"));
    assert!(ringway.admin_get("/api/v1/status").unwrap().text().contains(&format!("\"{}\"", origin.address)));
}

/// The names file that stands in for /etc/hosts while a test's program runs, in a mount namespace of its own.
struct Hosts {
    _folder: TempDir,
    file: PathBuf,
    wrapper: PathBuf,
}

impl Hosts {
    /// `None` where nobody may mount, or the system's resolver reads no names file first.
    fn new(lines: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let [file, wrapper] = ["hosts", "in-namespace"].map(|name| folder.path().join(name));
        // A bind mount holds on to the file it was made of: it is written in place, never replaced.
        std::fs::write(&file, lines).unwrap();
        let script = format!(
            "#!/bin/sh\nexec unshare -m sh -c 'mount --bind \"$0\" /etc/hosts && exec \"$@\"' {} {} \"$@\"\n",
            file.display(),
            crate::harness::program::program().display()
        );
        std::fs::write(&wrapper, script).unwrap();
        std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
        let works =
            Command::new("unshare").args(["-m", "sh", "-c", "mount --bind \"$0\" /etc/hosts"]).arg(&file).output();
        let reads_files = std::fs::read_to_string("/etc/nsswitch.conf").map_or(true, |text| text.contains("files"));
        (works.is_ok_and(|output| output.status.success()) && reads_files).then_some(Self {
            _folder: folder,
            file,
            wrapper,
        })
    }

    fn write(&self, lines: &str) {
        std::fs::write(&self.file, lines).unwrap();
    }

    fn start(&self, config: &str) -> Ringway {
        Ringway::start_by(&self.wrapper, config)
    }
}

fn named(endpoints: &[(&str, String)]) -> String {
    let lines = endpoints.iter().map(|(id, address)| format!("{{ id = \"{id}\", address = \"{address}\" }}, "));
    let endpoints = lines.collect::<String>();
    format!("{BY_PATH}[upstream.u]\nresolve = \"100ms\"\nconnect_timeout = \"2s\"\nendpoints = [{endpoints}]\n")
}

fn endpoint(ringway: &Ringway, id: &str) -> serde_json::Value {
    let status: serde_json::Value = serde_json::from_str(ringway.admin_get("/api/v1/status").unwrap().text()).unwrap();
    let endpoints = status["upstreams"][0]["endpoints"].as_array().unwrap().clone();
    endpoints.into_iter().find(|endpoint| endpoint["id"] == id).unwrap()
}

fn look_ups(ringway: &Ringway, result: &str) -> f64 {
    ringway.metrics().sum_of("ringway_look_ups_total", &[("result", result)])
}

#[test]
fn a_host_name_leads_to_its_endpoint_from_the_first_request() {
    let origin = Origin::start("a");
    let ringway = Ringway::start(&named(&[("a", format!("localhost:{}", origin.address.port()))]));
    assert_eq!(ringway.client().get("/k").unwrap().header("x-origin"), Some("a"));
    assert_eq!(origin.requests()[0].header("host"), Some(ringway.address.to_string().as_str()));
    let shown = endpoint(&ringway, "a");
    assert_eq!(shown["address"], format!("localhost:{}", origin.address.port()));
    let addresses = shown["addresses"].as_array().unwrap();
    assert!(addresses.contains(&origin.address.to_string().into()), "{shown}");
    let generation = ringway.generation();
    wait_for("several look-ups", || (look_ups(&ringway, "success") >= 3.0).then_some(()));
    assert_eq!(ringway.generation(), generation, "the same addresses again are no change");
}

#[test]
fn a_name_that_was_never_resolved_is_down_and_its_keys_go_on() {
    let origin = Origin::start("a");
    let config = named(&[("a", origin.address.to_string()), ("b", "nowhere.invalid:80".into())]);
    let ringway = Ringway::start(&config);
    let mut client = ringway.client();
    for number in 0..20 {
        assert_eq!(client.get(&format!("/{number}")).unwrap().header("x-origin"), Some("a"));
    }
    let shown = endpoint(&ringway, "b");
    assert_eq!((&shown["state"], &shown["addresses"]), (&"down".into(), &serde_json::json!([])));
    assert_eq!(ringway.metrics().sum_of("ringway_endpoint_up", &[("endpoint", "b")]), 0.0);
    let explained = ringway.admin_get("/api/v1/explain?url=/k").unwrap();
    assert!(explained.text().contains("down: its name was never resolved"), "{}", explained.text());
    assert_eq!(ringway.metrics().sum_of("ringway_upstream_errors_total", &[("endpoint", "b")]), 0.0, "it is not asked");
    wait_for("the warning", || ringway.stderr().contains("was never resolved").then_some(()));
}

#[test]
fn an_upstream_of_unresolved_names_answers_503_and_checking_it_looks_nothing_up() {
    let config = named(&[("a", "nowhere.invalid:80".into())]);
    let ringway = Ringway::spawn(&config).until_alive();
    assert_eq!(ringway.client().get("/k").unwrap().status, 503);
    assert_eq!(ringway.admin_get("/readyz").unwrap().status, 503);
    let file = ringway.config_path();
    assert!(command(&["check", "-c", file.to_str().unwrap()]).status.success());
    let explained = command(&["explain", "-c", file.to_str().unwrap(), "http://a.example/k"]);
    let told = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(told.contains("owner  a") && !told.contains("skipped"), "{told}");
}

#[test]
fn a_changed_name_moves_no_key_and_a_failed_look_up_keeps_the_last() {
    let Some(hosts) = Hosts::new("127.0.0.1 localhost one.test\n") else { skip!("no mount namespace") };
    let (old, other) = (Origin::start_at("old", "127.0.0.1:0"), Origin::start("b"));
    let port = old.address.port();
    let new = Origin::start_at("new", &format!("127.0.0.2:{port}"));
    let ringway = hosts.start(&named(&[("a", format!("one.test:{port}")), ("b", other.address.to_string())]));
    let mut client = ringway.client();
    let mut served = || -> Vec<String> {
        (0..40).map(|n| client.get(&format!("/{n}")).unwrap().header("x-origin").unwrap().to_string()).collect()
    };
    let before = served();
    assert!(before.contains(&"old".into()) && before.contains(&"b".into()));
    let (generation, answers) = (ringway.generation(), endpoint(&ringway, "a")["ok"].clone());
    assert!(answers.as_u64().unwrap() > 0);

    hosts.write("127.0.0.1 localhost\n127.0.0.2 one.test\n");
    wait_for("the new address", || (ringway.generation() > generation).then_some(()));
    let after = served();
    let moved = before.iter().map(|id| if id == "old" { "new" } else { id }).collect::<Vec<_>>();
    assert_eq!(after, moved, "the same keys, at the new address");
    assert_eq!(ringway.generation(), generation + 1, "one swap");
    let requests = ringway.metrics().sum_of("ringway_upstream_requests_total", &[("endpoint", "a")]);
    assert_eq!(requests as usize, 2 * before.iter().filter(|id| *id == "old").count(), "counters stay");

    hosts.write("127.0.0.1 localhost\n");
    let failures = look_ups(&ringway, "failure");
    wait_for("failed look-ups", || (look_ups(&ringway, "failure") >= failures + 2.0).then_some(()));
    assert_eq!(served(), after, "where it led last stays");
    assert_eq!(endpoint(&ringway, "a")["state"], "up");
    assert!(new.connections() > 0);
}

#[test]
fn the_addresses_of_one_name_are_one_endpoint_and_tried_in_turn() {
    let lines = "127.0.0.1 localhost\n127.0.0.3 one.test\n127.0.0.4 one.test\n";
    let Some(hosts) = Hosts::new(lines) else { skip!("no mount namespace") };
    let mut first = Origin::start_at("first", "127.0.0.3:0");
    let port = first.address.port();
    let mut second = Origin::start_at("second", &format!("127.0.0.4:{port}"));
    let ringway = hosts.start(&named(&[("a", format!("one.test:{port}"))]));
    assert_eq!(endpoint(&ringway, "a")["addresses"].as_array().unwrap().len(), 2);
    let mut client = ringway.client();
    let mut served = |path: &str| client.get(path).unwrap().header("x-origin").unwrap().to_string();
    let (gone, left) = if served("/1") == "first" { (&mut first, &mut second) } else { (&mut second, &mut first) };
    gone.stop();
    for number in 0..10 {
        assert_eq!(served(&format!("/{number}")), left.id, "the other address is tried within the same attempt");
    }
    assert_eq!(ringway.metrics().sum("ringway_upstream_errors_total"), 0.0, "the endpoint as a whole did not fail");
    gone.restart();
    left.stop();
    assert_eq!(served("/2"), gone.id);
}
