//! Bodies move both ways at once, with back-pressure, and whoever leaves is noticed.
use crate::harness::http::{Wire, field};
use crate::harness::origin::{Body, Cut, Framing, Origin, Script};
use crate::harness::peer::{Peer, client, reset};
use crate::harness::program::Ringway;
use crate::harness::wait_for;
use crate::hashing::{BY_PATH, upstream};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

fn one() -> (Origin, Ringway) {
    let origin = Origin::start("a");
    let ringway = Ringway::start(&format!("{BY_PATH}{}", upstream(&[&origin])));
    (origin, ringway)
}

#[test]
fn a_large_body_goes_up_and_comes_back_the_same() {
    let (origin, ringway) = one();
    let body: Vec<u8> = (0..3_000_000u32).flat_map(|n| n.to_le_bytes()).collect();
    for framing in [Framing::Length, Framing::Chunked(50_000)] {
        origin.script(Script { body: Body::Echo, framing, ..Script::default() });
        let mut client = ringway.client();
        assert!(client.post("/echo", &body).unwrap().body == body, "{framing:?}");
        assert_eq!(client.get("/next").unwrap().status, 200, "the connection goes on");
    }
    let seen = origin.requests();
    assert_eq!(seen[0].header("content-length"), Some("12000000"), "a length stays a length");
}

#[test]
fn chunks_and_trailers_of_a_request_arrive() {
    let (origin, ringway) = one();
    let mut client = ringway.client();
    client.send(b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n").unwrap();
    client.send(b"6\r\n world\r\n0\r\nX-Sum: 7\r\nContent-Length: 1\r\n\r\n").unwrap();
    assert_eq!(client.response("POST").unwrap().status, 200);
    let seen = &origin.wait_for_requests(1)[0];
    assert_eq!((seen.body.as_slice(), seen.whole), (&b"hello world"[..], true));
    assert_eq!(seen.trailers, [("X-Sum".to_string(), "7".to_string())], "what frames a message cannot come after it");
    assert_eq!(client.get("/after").unwrap().status, 200);
}

#[test]
fn a_client_that_asks_before_it_sends_is_answered() {
    let (origin, ringway) = one();
    origin.script(Script { interim: vec!["100 Continue"], ..Script::default() });
    let mut stream = TcpStream::connect(ringway.address).unwrap();
    stream.write_all(b"PUT /e HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n").unwrap();
    let mut first = [0; 25];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"body").unwrap();
    let mut second = [0; 12];
    stream.read_exact(&mut second).unwrap();
    assert_eq!(&second, b"HTTP/1.1 200");
    assert_eq!(origin.wait_for_requests(1)[0].body, b"body");
}

#[test]
fn an_early_answer_reaches_a_client_that_still_sends() {
    let (origin, ringway) = one();
    origin.script(Script { status: 413, early: true, ..Script::default() });
    let mut client = ringway.client();
    let body = vec![b'x'; 500_000];
    assert_eq!(client.post("/early", &body).unwrap().status, 413);
    assert_eq!(client.get("/next").unwrap().status, 413, "both messages ended: the connection goes on");
    assert_eq!(origin.wait_for_requests(1)[0].body.len(), body.len());
}

#[test]
fn a_client_that_leaves_takes_its_upstream_exchange_with_it() {
    let (origin, ringway) = one();
    origin.script(Script { delay: Duration::from_secs(2), ..Script::default() });
    let mut stream = TcpStream::connect(ringway.address).unwrap();
    stream.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    origin.wait_for_requests(1);
    let metrics = ringway.metrics();
    assert_eq!(metrics.sum("ringway_endpoint_in_flight"), 1.0);
    drop(stream);
    wait_for("the request to end", || {
        (ringway.metrics().sum_of("ringway_requests_total", &[("code", "499")]) == 1.0).then_some(())
    });
    assert_eq!(ringway.metrics().sum("ringway_endpoint_in_flight"), 0.0);
    wait_for("its connection to close", || (origin.open_connections() == 0).then_some(()));
}

#[test]
fn a_slow_reader_holds_the_origin_back() {
    let (origin, ringway) = one();
    let size = 64 << 20;
    origin.script(Script { body: Body::Bytes(size), ..Script::default() });
    let mut stream = TcpStream::connect(ringway.address).unwrap();
    stream.write_all(b"GET /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut first = [0; 1000];
    stream.read_exact(&mut first).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let status = std::fs::read_to_string(format!("/proc/{}/status", ringway.pid())).unwrap();
    let resident: usize =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok()).unwrap();
    assert!(resident < 48 << 10, "{resident} KiB: the body is not kept");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.len() > size - 1000);
}

#[test]
fn events_arrive_when_they_are_sent() {
    let peer = Peer::new();
    let ringway = Ringway::start(&format!("{BY_PATH}{}", peer.upstream()));
    for (framing, wrap) in [("Transfer-Encoding: chunked", true), ("Connection: close", false)] {
        let mut client = client(&ringway, b"GET /events HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n");
        let (mut server, ..) = peer.accept();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{framing}\r\n\r\n");
        server.stream.write_all(head.as_bytes()).unwrap();
        let fields = client.head().unwrap().unwrap().1;
        assert_eq!(field(&fields, "transfer-encoding"), Some("chunked"), "the head comes before any event");
        for number in 0..20 {
            let event = format!("id: {number}\ndata: x\n\n");
            let chunk = format!("{:x}\r\n{event}\r\n", event.len());
            server.stream.write_all(if wrap { chunk.as_bytes() } else { event.as_bytes() }).unwrap();
            // Nothing more comes until this one has arrived.
            assert_eq!(client.exactly(chunk.len()).unwrap(), chunk.as_bytes());
        }
    }
}

#[test]
fn large_bodies_pass_both_ways_at_once_in_little_memory() {
    const SIZE: usize = 96 << 20;
    let peer = Peer::new();
    let ringway = Ringway::start(&format!("{BY_PATH}{}", peer.upstream()));
    let piece: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    let head = format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n");
    let mut client = client(&ringway, head.as_bytes());
    let (mut server, ..) = peer.accept();
    std::thread::scope(|scope| {
        let mut up = client.stream.try_clone().unwrap();
        scope.spawn({
            let piece = &piece;
            move || (0..SIZE >> 20).for_each(|_| up.write_all(piece).unwrap())
        });
        // Answers each piece before it takes the next.
        scope.spawn(move || {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
            server.stream.write_all(head.as_bytes()).unwrap();
            let (mut part, mut done) = (vec![0; 1 << 16], 0);
            while done < SIZE {
                let count = server.stream.read(&mut part).unwrap();
                server.stream.write_all(&part[..count]).unwrap();
                done += count;
            }
            assert_eq!(done, SIZE);
        });
        client.head().unwrap().unwrap();
        for _ in 0..SIZE >> 20 {
            assert!(client.exactly(1 << 20).unwrap() == piece, "something came out of order");
        }
    });
    let status = std::fs::read_to_string(format!("/proc/{}/status", ringway.pid())).unwrap();
    let peak: usize =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok()).unwrap();
    assert!(peak < 48 << 10, "{peak} KiB at its peak: bodies are not kept");
}

/// How many pipes a process has open; each is two descriptors.
fn pipes(ringway: &Ringway) -> usize {
    let folder = std::fs::read_dir(format!("/proc/{}/fd", ringway.pid())).unwrap();
    let targets = folder.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("pipe:")).count() / 2
}

/// The letters a to z, in turn, as [`Body::Bytes`] sends them.
fn letters(size: usize) -> Vec<u8> {
    (b'a'..=b'z').cycle().take(size).collect()
}

#[test]
fn long_bodies_come_whole_however_slowly_they_are_read() {
    const CLIENTS: usize = 80;
    let peer = Peer::new();
    let ringway = Ringway::start(&format!("{BY_PATH}{}", peer.upstream()));
    let before = pipes(&ringway);
    let body = letters(16 << 20);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let serve = |mut server: Wire| {
        // Whoever leaves is not sent everything.
        if server.stream.write_all(head.as_bytes()).and_then(|()| server.stream.write_all(&body)).is_err() {}
    };
    std::thread::scope(|scope| {
        // More than there are pipes for: the others' bodies are copied.
        let ask = |number| {
            let client = client(&ringway, format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
            let (server, ..) = peer.accept();
            scope.spawn(move || serve(server));
            client
        };
        let mut staying: Vec<_> = (0..CLIENTS).map(ask).collect();
        let most = wait_for("the system to move bodies", || Some(pipes(&ringway) - before).filter(|&pipes| pipes > 32));
        assert!(most <= 64, "{most} pipes, 32 for each of two workers");
        drop(staying.split_off(CLIENTS / 8));
        for mut client in staying {
            let body = &body;
            scope.spawn(move || {
                client.head().unwrap().unwrap();
                assert!(client.exactly(body.len()).unwrap() == *body, "bytes are lost or out of order");
            });
        }
    });
    wait_for("everybody to be gone", || (ringway.metrics().sum("ringway_endpoint_in_flight") == 0.0).then_some(()));
    assert!(pipes(&ringway) - before <= 16, "few are kept, and none with anything in it");
    // What somebody left in a pipe is nobody else's.
    for number in 0..5 {
        let mut client = client(&ringway, format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        let (server, ..) = peer.accept();
        std::thread::scope(|scope| {
            scope.spawn(|| serve(server));
            client.head().unwrap().unwrap();
            assert!(client.exactly(body.len()).unwrap() == body);
        });
    }
}

#[test]
fn a_long_request_is_passed_on_as_it_comes() {
    let peer = Peer::new();
    let ringway = Ringway::start(&format!("{BY_PATH}{}", peer.upstream()));
    let before = pipes(&ringway);
    let body = letters(2 << 20);
    let head = format!("PUT /slow HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut client = client(&ringway, head.as_bytes());
    let (mut server, ..) = peer.accept();
    let (mut at, mut next) = (0, 1);
    while at < body.len() {
        let piece = &body[at..body.len().min(at + next)];
        client.stream.write_all(piece).unwrap();
        // Nothing more comes until this one has arrived.
        assert!(server.exactly(piece.len()).unwrap() == piece, "at {at}");
        (at, next) = (at + piece.len(), next * 3 % 100_003);
    }
    server.stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").unwrap();
    assert!(client.head().unwrap().unwrap().0.contains("200"));
    assert_eq!(pipes(&ringway) - before, 1, "the system has moved it");
    // Nothing of it is kept, so it is not sent again.
    let mut client = self::client(&ringway, head.as_bytes());
    let half = std::thread::spawn(move || {
        let sent = client.stream.write_all(&body[..1 << 20]);
        (sent.is_ok(), client.head())
    });
    let (mut server, ..) = peer.accept();
    server.exactly(500_000).unwrap();
    reset(server);
    let (_, answer) = half.join().unwrap();
    assert!(answer.unwrap().unwrap().0.contains("502"), "an endpoint that left within a request is told of");
}

#[test]
fn a_long_body_is_passed_on_as_it_comes() {
    let peer = Peer::new();
    let ringway = Ringway::start(&format!("{BY_PATH}{}", peer.upstream()));
    let mut client = client(&ringway, b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    let (mut server, ..) = peer.accept();
    let body = letters(2 << 20);
    server.stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes()).unwrap();
    client.head().unwrap().unwrap();
    let (mut at, mut next) = (0, 1);
    while at < body.len() {
        let piece = &body[at..body.len().min(at + next)];
        server.stream.write_all(piece).unwrap();
        // Nothing more comes until this one has arrived.
        assert!(client.exactly(piece.len()).unwrap() == piece, "at {at}");
        (at, next) = (at + piece.len(), next * 3 % 100_003);
    }
}

#[test]
fn a_long_body_that_breaks_off_is_not_taken_for_whole() {
    let (origin, ringway) = one();
    for cut in [Cut::Reset, Cut::Close] {
        origin.script(Script { body: Body::Bytes(8 << 20), cut: Some((3 << 20, cut)), ..Script::default() });
        assert!(ringway.client().get("/cut").is_err(), "{cut:?}");
    }
    origin.script(Script { body: Body::Bytes(1 << 20), ..Script::default() });
    assert!(ringway.client().get("/whole").unwrap().body == letters(1 << 20));
}
