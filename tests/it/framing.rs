//! What an origin gets, byte for byte, and what it never gets to see.
use crate::harness::http::{Client, raw};
use crate::harness::origin::{Body, Cut, Framing, Origin, Script};
use crate::harness::program::Ringway;
use crate::hashing::{BY_PATH, upstream};

/// One origin and a proxy before it; `listener` is more of its `[[listener]]`.
pub fn one(listener: &str) -> (Origin, Ringway) {
    let origin = Origin::start("a");
    let listener = format!("[[listener]]\naddress = \"LISTEN\"\n{listener}\n");
    let ringway = Ringway::start(&format!("{listener}{BY_PATH}{}", upstream(&[&origin])));
    (origin, ringway)
}

/// The status of the first response.
pub fn status_of(answer: &[u8]) -> u16 {
    let text = String::from_utf8_lossy(answer);
    text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status in {text:?}"))
}

#[test]
fn ambiguous_requests_never_reach_an_origin() {
    let (origin, ringway) = one("");
    let check = |request: &str, status: u16| {
        let answer = raw(ringway.address, request.as_bytes());
        assert_eq!(status_of(&answer), status, "{request:?}");
        let text = String::from_utf8_lossy(&answer);
        assert!(text.contains("Connection: close"), "{request:?} keeps the connection: {text}");
        assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{request:?}: what follows is not a request: {text}");
    };
    let post = |fields: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}");
    check(
        &post("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\nGET /evil HTTP/1.1\r\nHost: a\r\n\r\n"),
        400,
    );
    check(&post("Content-Length: 3\r\nContent-Length: 3", "abcGET /evil HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    check(&post("Content-Length: +3", "abc"), 400);
    check(&post("Transfer-Encoding: gzip, chunked", "0\r\n\r\n"), 400);
    check(&post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), 400);
    check("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400);
    check("GET / HTTP/1.1\nHost: a\n\n", 400);
    check("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400);
    check("GET / HTTP/1.1\r\n\r\n", 400);
    check("GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400);
    check("GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n", 400);
    check("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505);
    check("\u{16}\u{3}\u{1}\u{2}hello", 400);
    check(&format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(40_000)), 414);
    check(&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(40_000)), 431);
    check(&format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(100)), 431);
    assert_eq!(origin.requests().len(), 0);
    assert!(ringway.metrics().sum_of("ringway_connections_refused_total", &[("reason", "bad_request")]) >= 16.0);
    assert_eq!(ringway.metrics().sum_of("ringway_requests_total", &[("code", "400")]), 12.0);
}

#[test]
fn a_malformed_chunk_cuts_the_request_off() {
    let (origin, ringway) = one("");
    let request =
        b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n+3\r\nabc\r\n0\r\n\r\n";
    assert_eq!(status_of(&raw(ringway.address, request)), 400);
    let seen = origin.requests();
    assert!(seen.iter().all(|request| !request.whole), "the origin must not take it for whole: {seen:?}");
}

#[test]
fn a_body_that_nobody_wants_is_never_taken_for_a_request() {
    let origin = Origin::start("a");
    let routes = "[[route]]\npath = \"/own\"\nrespond = { body = \"ours\" }\n\
        [[route]]\npath = \"/away\"\nredirect = { to = \"/own\" }\n\
        [[route]]\npath = \"/denied\"\nallow = [\"10.0.0.1\"]\nupstream = \"u\"\n\
        [[route]]\npath = \"/read\"\nmethods = [\"GET\"]\nupstream = \"u\"\n\
        [[route]]\npath = \"/keyed\"\nkey = [\"header:x\"]\non_missing_key = \"reject\"\nupstream = \"u\"\n\
        [[route]]\npath = \"/evil\"\nupstream = \"u\"\n";
    let ringway = Ringway::start(&format!("{routes}{}", upstream(&[&origin])));
    let evil = "GET /evil HTTP/1.1\r\nHost: a\r\n\r\n";
    let chunked = format!("{:x}\r\n{evil}\r\n0\r\n\r\n", evil.len());
    for (method, path, status) in [
        ("POST", "/own", 200),
        ("POST", "/away", 308),
        ("POST", "/denied", 403),
        ("POST", "/read", 405),
        ("POST", "/keyed", 400),
        ("POST", "/nowhere", 404),
        ("GET", "/own", 200),
        ("HEAD", "/own", 200),
        ("TRACE", "/own", 405),
    ] {
        for (fields, body) in [
            (format!("Content-Length: {}", evil.len()), evil),
            (format!("Content-Length: {}\r\nExpect: 100-continue", evil.len()), evil),
            ("Transfer-Encoding: chunked".into(), chunked.as_str()),
        ] {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}");
            let answer = raw(ringway.address, request.as_bytes());
            let text = String::from_utf8_lossy(&answer);
            let finals = text.matches("HTTP/1.1 ").count() - text.matches("HTTP/1.1 100 ").count();
            assert_eq!((status_of(&answer), finals), (status, 1), "{request:?}: {text}");
        }
    }
    assert!(origin.requests().is_empty(), "{:?}", origin.requests());
}

#[test]
fn tunnels_and_echoes_are_off() {
    let (origin, ringway) = one("");
    assert_eq!(
        status_of(&raw(ringway.address, b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nConnection: close\r\n\r\n")),
        405
    );
    assert_eq!(status_of(&raw(ringway.address, b"TRACE / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")), 405);
    assert_eq!(origin.requests().len(), 0);
}

#[test]
fn an_origin_gets_one_clean_request() {
    let (origin, ringway) = one("");
    let request = b"POST http://other:81/p?q HTTP/1.1\r\nHost: a\r\nConnection: X-Hop, close\r\nX-Hop: 1\r\nTE: trailers\r\n\
        Proxy: evil\r\nFencing-Token: 9\r\nX-Forwarded-For: 6.6.6.6\r\nX-Request-Id: abc\r\nContent-Length: 3\r\n\r\nxyz";
    assert_eq!(status_of(&raw(ringway.address, request)), 200);
    let seen = &origin.wait_for_requests(1)[0];
    let expected = "POST /p?q HTTP/1.1\r\nHost: other:81\r\nTE: trailers\r\nX-Request-Id: abc\r\nContent-Length: 3\r\n\
        X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: other:81\r\nVia: 1.1 ringway\r\n\r\nxyz";
    assert_eq!(String::from_utf8_lossy(&seen.raw), expected);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (origin, ringway) = one("");
    let requests: String = (0..5).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    let last = "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answer = String::from_utf8(raw(ringway.address, format!("{requests}{last}").as_bytes())).unwrap();
    let bodies: Vec<&str> = answer.split("\r\n").filter(|line| line.starts_with("a /")).collect();
    let paths: Vec<String> = bodies.iter().map(|body| body.split_whitespace().nth(1).unwrap().to_string()).collect();
    assert_eq!(paths, ["/0", "/1", "/2", "/3", "/4", "/last"].map(String::from), "{answer}");
    assert_eq!(origin.requests().len(), 6);
}

#[test]
fn every_framing_of_a_response_arrives_whole() {
    let (origin, ringway) = one("");
    let mut client = ringway.client();
    for framing in [Framing::Length, Framing::Chunked(7), Framing::Chunked(100_000), Framing::Close] {
        for size in [0, 1, 70_000] {
            origin.script(Script { body: Body::Bytes(size), framing, ..Script::default() });
            let response = client.get("/x").unwrap();
            let expected: Vec<u8> = (b'a'..=b'z').cycle().take(size).collect();
            assert!(response.body == expected, "{framing:?} of {size} bytes: got {}", response.body.len());
        }
    }
    origin.script(Script { framing: Framing::Chunked(3), trailers: vec![("X-Sum", "1")], ..Script::default() });
    let trailed = raw(ringway.address, b"GET /t HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(String::from_utf8_lossy(&trailed).ends_with("0\r\nX-Sum: 1\r\n\r\n"));
    // HTTP/1.0 knows no chunks: the end of the connection is the end of the body.
    let old = String::from_utf8(raw(ringway.address, b"GET /t HTTP/1.0\r\n\r\n")).unwrap();
    assert!(old.ends_with("\r\n\r\na /t\n") && !old.contains("chunked"), "{old}");
}

#[test]
fn responses_without_a_body_leave_the_connection_usable() {
    let (origin, ringway) = one("");
    let mut client = ringway.client();
    for status in [204, 304] {
        origin.script(Script { status, ..Script::default() });
        assert_eq!(client.get("/none").unwrap().status, status);
    }
    origin.script(Script::default());
    let head = client.request("HEAD", "/h", &[], None).unwrap();
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("5"), 0));
    assert_eq!(client.get("/x").unwrap().text(), "a /x\n");
    assert_eq!(origin.connections(), 1, "one connection served them all");
}

#[test]
fn interim_responses_pass() {
    let (origin, ringway) = one("");
    origin.script(Script { interim: vec!["103 Early Hints\r\nLink: </a.css>"], ..Script::default() });
    let answer =
        String::from_utf8(raw(ringway.address, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).unwrap();
    assert!(answer.starts_with("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 "), "{answer}");
    let old = String::from_utf8(raw(ringway.address, b"GET / HTTP/1.0\r\n\r\n")).unwrap();
    assert!(old.starts_with("HTTP/1.1 200 "), "HTTP/1.0 knows no 1xx: {old}");
    origin.script(Script { interim: vec!["101 Switching Protocols"], ..Script::default() });
    assert_eq!(Client::new(ringway.address).get("/").unwrap().status, 502, "nobody asked for an upgrade");
}

#[test]
fn a_response_that_breaks_off_never_ends_cleanly() {
    let (origin, ringway) = one("");
    for (framing, cut) in
        [(Framing::Length, Cut::Close), (Framing::Chunked(10), Cut::Close), (Framing::Length, Cut::Reset)]
    {
        origin.script(Script { body: Body::Bytes(1000), framing, cut: Some((300, cut)), ..Script::default() });
        let result = ringway.client().get("/cut");
        assert!(result.is_err(), "{framing:?} {cut:?}: {result:?}");
    }
    assert_eq!(ringway.metrics().sum_of("ringway_upstream_errors_total", &[("reason", "body")]), 3.0);
}

#[test]
fn what_an_origin_must_not_send_is_a_502() {
    let (origin, ringway) = one("");
    for headers in [
        vec![("Transfer-Encoding", "chunked".to_string())],
        vec![("Content-Length", "3".to_string())],
        vec![("X Y", "z".to_string())],
    ] {
        origin.script(Script { headers: headers.clone(), ..Script::default() });
        let refused = ringway.client().request("GET", "/", &[("Accept", "application/json")], None).unwrap();
        assert_eq!(refused.status, 502, "{headers:?}");
        assert!(refused.text().contains("bad_upstream_response"), "{}", refused.text());
    }
}

#[test]
fn limits_and_timeouts_of_a_listener_hold() {
    let (origin, ringway) =
        one("max_body = \"10B\"\nheader_timeout = \"200ms\"\nbody_timeout = \"200ms\"\nidle_timeout = \"200ms\"");
    let too_large = raw(ringway.address, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world");
    assert_eq!(status_of(&too_large), 413);
    let chunked = raw(
        ringway.address,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n",
    );
    assert_eq!(status_of(&chunked), 413);
    assert_eq!(status_of(&raw(ringway.address, b"GET / HTTP/1.1\r\nHost:")), 408);
    assert_eq!(status_of(&raw(ringway.address, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe")), 408);
    assert_eq!(raw(ringway.address, b""), b"", "a client that never begins is let go without a word");
    let idle = raw(ringway.address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(status_of(&idle), 200, "answered, then closed for being idle");
    assert!(origin.requests().iter().filter(|seen| seen.whole).count() == 1, "{:?}", origin.requests());
}

#[test]
fn garbage_from_many_sides_costs_no_panic() {
    let (_origin, ringway) = one("header_timeout = \"300ms\"");
    let mut seed = 7u64;
    for _ in 0..40 {
        let mut bytes = Vec::new();
        for _ in 0..200 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            bytes.push((seed >> 56) as u8);
        }
        raw(ringway.address, &bytes);
    }
    assert_eq!(ringway.client().get("/").unwrap().status, 200);
    assert_eq!(ringway.metrics().get("ringway_panics_total"), 0.0);
}
