//! The harness does what its stories rely on: each script of an origin, as the client sees it and as it was recorded.
use crate::harness::http::{Client, raw, raw_for};
use crate::harness::nginx::Nginx;
use crate::harness::origin::{Body, Cut, Framing, Origin, Script};
use crate::harness::wait_for;
use crate::skip;
use ringway::base::clock;
use std::io::ErrorKind;
use std::time::Duration;

#[test]
fn an_origin_answers_with_its_id_and_keeps_the_connection() {
    let origin = Origin::start("a");
    let mut client = Client::new(origin.address);
    for path in ["/x?y=1", "/z"] {
        let response = client.get(path).unwrap();
        assert_eq!((response.status, response.header("x-origin")), (200, Some("a")));
        assert_eq!(response.text(), format!("a {path}\n"));
    }
    assert_eq!((client.connections, origin.connections()), (1, 1));
}

#[test]
fn every_framing_carries_the_same_body() {
    let origin = Origin::start("a");
    for framing in [Framing::Length, Framing::Chunked(7), Framing::Close] {
        origin.script(Script { framing, body: Body::Bytes(100_000), status: 404, ..Script::default() });
        let response = Client::new(origin.address).get("/").unwrap();
        assert_eq!((response.status, response.body.len()), (404, 100_000), "{framing:?}");
        assert_eq!(&response.body[25..28], b"zab");
    }
    origin.script(Script { status: 204, ..Script::default() });
    let response = raw_for(origin.address, b"GET / HTTP/1.1\r\n\r\n", Duration::from_millis(50));
    assert_eq!(response, b"HTTP/1.1 204 Scripted\r\nX-Origin: a\r\n\r\n");
}

#[test]
fn requests_are_recorded_byte_for_byte() {
    let origin = Origin::start("a");
    let head = "POST /p HTTP/1.1\r\nhOsT: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let body = "3;e=1\r\nabc\r\n02\r\nde\r\n0\r\nsum: 9\r\n\r\n";
    let mut client = Client::new(origin.address);
    client.send(format!("{head}{body}").as_bytes()).unwrap();
    client.response("POST").unwrap();
    client.post("/q", b"12345").unwrap();
    let seen = origin.requests();
    assert_eq!(String::from_utf8_lossy(&seen[0].raw), format!("{head}{body}"));
    assert_eq!((seen[0].header("host"), &seen[0].body[..], seen[0].trailers.len()), (Some("x"), &b"abcde"[..], 1));
    assert_eq!((seen[1].path(), &seen[1].body[..], seen[1].connection), ("/q", &b"12345"[..], 1));
}

#[test]
fn a_request_that_breaks_off_is_recorded_as_such() {
    let origin = Origin::start("a");
    raw_for(origin.address, b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc", Duration::from_millis(20));
    let seen = origin.wait_for_requests(1);
    assert!(!seen[0].whole);
    assert!(seen[0].raw.ends_with(b"\r\n\r\nabc"));
}

#[test]
fn echo_interim_answers_and_trailers_arrive() {
    let origin = Origin::start("a");
    origin.script(Script {
        body: Body::Echo,
        framing: Framing::Chunked(4),
        trailers: vec![("x-sum", "7")],
        interim: vec!["100 Continue", "103 Early Hints\r\nlink: </a.css>"],
        ..Script::default()
    });
    let response = Client::new(origin.address).post("/", b"hello").unwrap();
    assert_eq!(response.text(), "hello");
    assert_eq!(response.trailers, [("x-sum".to_owned(), "7".to_owned())]);
    assert_eq!(response.interim.iter().map(|(status, _)| *status).collect::<Vec<_>>(), [100, 103]);
    assert_eq!(response.interim[1].1[0].1, "</a.css>");
}

#[test]
fn an_early_answer_comes_before_the_body_is_sent() {
    let origin = Origin::start("a");
    origin.script(Script { early: true, status: 413, ..Script::default() });
    let mut client = Client::new(origin.address);
    client.send(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n").unwrap();
    assert_eq!(client.response("POST").unwrap().status, 413);
    assert!(origin.requests().is_empty());
    client.send(b"abc").unwrap();
    assert_eq!(origin.wait_for_requests(1)[0].body, b"abc");
}

#[test]
fn a_cut_answer_fails_in_its_own_way() {
    let origin = Origin::start("a");
    let get = |cut| {
        origin.script(Script { cut: Some(cut), body: Body::Bytes(1000), ..Script::default() });
        Client::new(origin.address).get("/").unwrap_err().kind()
    };
    assert_eq!(get((0, Cut::Reset)), ErrorKind::ConnectionReset);
    assert_eq!(get((0, Cut::Close)), ErrorKind::UnexpectedEof);
    assert_eq!(get((500, Cut::Close)), ErrorKind::UnexpectedEof);
    origin.script(Script { cut: Some((30, Cut::Stall)), ..Script::default() });
    let received = raw_for(origin.address, b"GET / HTTP/1.1\r\n\r\n", Duration::from_millis(50));
    assert_eq!(received.len(), 30);
    wait_for("the stalled connection's end", || (origin.open_connections() == 0).then_some(()));
}

#[test]
fn a_slow_answer_takes_its_time() {
    let origin = Origin::start("a");
    origin.script(Script { delay: Duration::from_millis(60), ..Script::default() });
    let start = clock::now();
    assert_eq!(Client::new(origin.address).get("/").unwrap().status, 200);
    assert!(clock::now() - start >= Duration::from_millis(60));
}

#[test]
fn an_unannounced_close_makes_the_kept_connection_stale() {
    let origin = Origin::start("a");
    origin.script(Script { close_unannounced: true, ..Script::default() });
    let mut client = Client::new(origin.address);
    assert_eq!(client.get("/").unwrap().header("connection"), None);
    wait_for("the close", || (origin.open_connections() == 0).then_some(()));
    client.get("/").unwrap_err();
    assert_eq!(client.get("/").unwrap().status, 200);
    assert_eq!(client.connections, 2);
}

#[test]
fn a_stopped_origin_refuses_and_comes_back_at_its_port() {
    let mut origin = Origin::start("a");
    let mut client = Client::new(origin.address);
    client.get("/").unwrap();
    origin.stop();
    client.get("/").unwrap_err();
    assert_eq!(Client::new(origin.address).get("/").unwrap_err().kind(), ErrorKind::ConnectionRefused);
    origin.restart();
    assert_eq!(Client::new(origin.address).get("/").unwrap().status, 200);
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn raw_gives_all_bytes_until_the_close() {
    let origin = Origin::start("a");
    origin.script(Script { framing: Framing::Close, headers: vec![("X-A", "b".into())], ..Script::default() });
    let expected = "HTTP/1.1 200 Scripted\r\nX-Origin: a\r\nX-A: b\r\nConnection: close\r\n\r\na /\n";
    assert_eq!(String::from_utf8(raw(origin.address, b"GET / HTTP/1.1\r\n\r\n")).unwrap(), expected);
}

#[test]
fn a_real_nginx_answers_dies_and_comes_back() {
    let Some(mut nginx) = Nginx::start("n1") else { skip!("no nginx on this machine") };
    let response = Client::new(nginx.address).get("/a?b").unwrap();
    assert_eq!((response.header("x-origin"), response.text()), (Some("n1"), "n1 /a?b\n"));
    nginx.kill();
    assert_eq!(Client::new(nginx.address).get("/").unwrap_err().kind(), ErrorKind::ConnectionRefused);
    nginx.restart();
    assert_eq!(Client::new(nginx.address).get("/").unwrap().status, 200);
}
