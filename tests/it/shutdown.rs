//! The end: what runs is finished, what waits is served, a second signal ends it now.
use crate::harness::origin::{Cut, Origin, Script};
use crate::harness::program::Ringway;
use crate::harness::wait_for;
use crate::hashing::{BY_PATH, upstream};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

fn one(server: &str) -> (Origin, Ringway) {
    let origin = Origin::start("a");
    let ringway = Ringway::start(&format!("[server]\nworkers = 2\n{server}\n{BY_PATH}{}", upstream(&[&origin])));
    (origin, ringway)
}

#[test]
fn a_request_under_way_is_finished() {
    let (origin, mut ringway) = one("");
    origin.script(Script { delay: Duration::from_millis(400), ..Script::default() });
    let (address, mut idle) = (ringway.address, ringway.client());
    idle.get("/warm").unwrap();
    std::thread::scope(|scope| {
        let slow = scope.spawn(move || crate::harness::http::Client::new(address).get("/slow").unwrap());
        origin.wait_for_requests(2);
        assert_eq!(ringway.stop().code(), Some(0));
        let response = slow.join().unwrap();
        assert_eq!((response.status, response.header("connection")), (200, Some("close")));
    });
    assert!(idle.get("/after").is_err(), "an idle connection is closed");
}

#[test]
fn time_is_up_for_what_hangs() {
    let (origin, mut ringway) = one("shutdown_timeout = \"300ms\"");
    origin.script(Script { cut: Some((0, Cut::Stall)), ..Script::default() });
    let address = ringway.address;
    let hanging = std::thread::spawn(move || crate::harness::http::Client::new(address).get("/hang").is_err());
    origin.wait_for_requests(1);
    assert_eq!(ringway.stop().code(), Some(0));
    assert!(hanging.join().unwrap());
    assert!(ringway.stderr().contains("time was up"), "{}", ringway.stderr());
}

#[test]
fn a_delay_keeps_serving_while_readiness_is_gone_and_a_second_signal_ends_it() {
    let (_origin, mut ringway) = one("shutdown_delay = \"60s\"");
    ringway.signal("TERM");
    wait_for("readiness to go", || (ringway.admin_get("/readyz").unwrap().status == 503).then_some(()));
    assert_eq!(ringway.client().get("/").unwrap().status, 200);
    assert_eq!(ringway.stop().code(), Some(0));
}

#[test]
fn whoever_waits_to_be_accepted_when_the_end_is_told_is_served() {
    for _ in 0..3 {
        let (_origin, mut ringway) = one("");
        ringway.signal("STOP");
        let mut waiting: Vec<TcpStream> =
            (0..100).map(|_| TcpStream::connect(ringway.address).expect("a place in the queue")).collect();
        for stream in &mut waiting {
            stream.write_all(b"GET /queued HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        }
        ringway.signal("TERM");
        ringway.signal("CONT");
        for stream in &mut waiting {
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).expect("an answer, not a reset");
            assert_eq!(&answer, b"HTTP/1.1 200");
        }
        assert_eq!(ringway.wait().code(), Some(0));
    }
}

#[test]
fn the_service_manager_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let program = std::env::var("RINGWAY_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_ringway").into());
    let mut demo = std::process::Command::new(program)
        .args(["demo", "--port", "0", "--admin-port", "0"])
        .env("NOTIFY_SOCKET", &path)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let heard = || {
        let mut buffer = [0; 256];
        let count = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    };
    assert_eq!(heard(), "READY=1\n");
    let signalled = std::process::Command::new("sh").args(["-c", &format!("kill -TERM {}", demo.id())]).status();
    assert!(signalled.unwrap().success());
    assert_eq!(heard(), "STOPPING=1\n");
    assert!(demo.wait().unwrap().success());
}
