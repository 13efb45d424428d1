//! Whoever leaves, stalls or breaks off in the middle of an exchange: the other side is told, at once and rightly.
use crate::harness::http::{Wire, field};
use crate::harness::peer::{Peer, client, reset};
use crate::harness::program::Ringway;
use crate::harness::wait_for;
use crate::hashing::BY_PATH;
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

const GET: &[u8] = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n";
const BEGUN: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n";

fn one(listener: &str) -> (Peer, Ringway) {
    let peer = Peer::new();
    let listener = format!("[[listener]]\naddress = \"LISTEN\"\n{listener}\n");
    let ringway = Ringway::start(&format!("{listener}{BY_PATH}{}", peer.upstream()));
    (peer, ringway)
}

/// The next `count` finished requests, as the access log tells them.
#[track_caller]
fn logged(ringway: &Ringway, count: usize) -> Vec<Value> {
    let lines = |log: String| log.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>();
    wait_for("the access log", || Some(lines(ringway.stdout())).filter(|lines| lines.len() >= count))
}

/// Fails unless the other side closes or resets.
#[track_caller]
fn is_over(wire: &mut Wire) {
    match wire.until_closed() {
        Ok(rest) => assert_eq!(String::from_utf8_lossy(&rest), "", "something came after all"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
}

/// Client and server in the middle of a response of which five bytes have come.
#[track_caller]
fn in_the_middle(peer: &Peer, ringway: &Ringway, request: &[u8]) -> (Wire, Wire) {
    let mut client = client(ringway, request);
    let (mut server, ..) = peer.accept();
    server.stream.write_all(BEGUN).unwrap();
    client.head().unwrap().unwrap();
    client.exactly(10).unwrap();
    (client, server)
}

#[test]
fn a_client_that_ends_before_its_answer_has_begun_has_left() {
    let (peer, ringway) = one("");
    let client = client(&ringway, GET);
    let (mut server, ..) = peer.accept();
    client.stream.shutdown(Shutdown::Write).unwrap();
    is_over(&mut server);
    let line = &logged(&ringway, 1)[0];
    assert_eq!((&line["status"], &line["error"]), (&499.into(), &"client_closed".into()));
    assert_eq!(ringway.metrics().sum("ringway_endpoint_in_flight"), 0.0);
}

#[test]
fn a_client_that_is_reset_in_the_middle_takes_its_exchange_with_it() {
    let (peer, ringway) = one("");
    let (client, mut server) = in_the_middle(&peer, &ringway, GET);
    reset(client);
    is_over(&mut server);
    let line = &logged(&ringway, 1)[0];
    assert_eq!(
        (&line["status"], &line["error"], &line["bytes_out"]),
        (&200.into(), &"client_closed".into(), &5.into())
    );
    assert_eq!(ringway.metrics().sum("ringway_upstream_errors_total"), 0.0, "it is not the endpoint's fault");
}

#[test]
fn a_client_that_has_said_all_still_gets_the_rest() {
    let (peer, ringway) = one("");
    let (mut client, mut server) = in_the_middle(&peer, &ringway, GET);
    client.stream.shutdown(Shutdown::Write).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    server.stream.write_all(b"3\r\nend\r\n0\r\n\r\n").unwrap();
    assert_eq!(client.until_closed().unwrap(), b"3\r\nend\r\n0\r\n\r\n");
    drop((client, server));
    // After its end only a reset tells that nobody is left.
    let (client, mut server) = in_the_middle(&peer, &ringway, GET);
    client.stream.shutdown(Shutdown::Write).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    reset(client);
    is_over(&mut server);
    let lines = logged(&ringway, 2);
    assert_eq!((&lines[0]["error"], &lines[1]["error"]), (&Value::Null, &"client_closed".into()));
}

#[test]
fn an_upload_that_breaks_off_is_never_whole_for_the_endpoint() {
    let (peer, ringway) = one("");
    for (head, is_reset) in
        [("Content-Length: 10", false), ("Transfer-Encoding: chunked", false), ("Content-Length: 10", true)]
    {
        let request = format!("POST /up HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n5\r\nab");
        let mut client = client(&ringway, request.as_bytes());
        let (mut server, ..) = peer.accept();
        if is_reset {
            reset(client);
        } else {
            client.stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(client.until_closed().unwrap_or_default(), b"", "nobody is there to be told");
        }
        let body = server.until_closed().unwrap_or_default();
        assert!(!body.ends_with(b"0\r\n\r\n") && body.len() < 10, "{head}: {body:?}");
    }
    for line in logged(&ringway, 3) {
        assert_eq!((&line["status"], &line["error"]), (&499.into(), &"client_closed".into()));
        assert!(line["bytes_in"].as_u64() >= Some(2), "{line}");
    }
    assert_eq!(ringway.metrics().sum("ringway_upstream_errors_total"), 0.0);
}

#[test]
fn a_client_that_leaves_while_the_endpoint_takes_nothing_is_noticed() {
    let (peer, ringway) = one("");
    let mut client = client(&ringway, b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n");
    let (mut server, ..) = peer.accept();
    client.stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let piece = vec![b'x'; 100_000];
    while client.stream.write(&piece).is_ok() {}
    reset(client);
    wait_for("the exchange to end", || (ringway.metrics().sum("ringway_endpoint_in_flight") == 0.0).then_some(()));
    assert_eq!(logged(&ringway, 1)[0]["status"], 499);
    assert!(server.until_closed().map_or(true, |body| body.len() < 100_000_000));
}

#[test]
fn garbage_in_an_upload_is_not_the_endpoints_fault() {
    let (peer, ringway) = one("");
    let post = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n";
    let (mut client, mut server) = in_the_middle(&peer, &ringway, post);
    client.stream.write_all(b"zz\r\n").unwrap();
    is_over(&mut client);
    assert_eq!(server.until_closed().unwrap_or_default(), b"2\r\nab\r\n");
    let line = &logged(&ringway, 1)[0];
    assert_eq!((&line["error"], &line["bytes_in"], &line["bytes_out"]), (&"bad_request".into(), &2.into(), &5.into()));
    assert_eq!(ringway.metrics().sum("ringway_upstream_errors_total"), 0.0);
}

#[test]
fn a_response_that_breaks_off_is_never_whole_for_the_client() {
    let (peer, ringway) = one("");
    let check = |request: &[u8], head: &str, is_reset: bool, expected: &str| {
        let mut client = client(&ringway, request);
        let (mut server, ..) = peer.accept();
        server.stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}\r\n5\r\nbegin\r\n").as_bytes()).unwrap();
        client.head().unwrap().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        if is_reset {
            reset(server)
        } else {
            drop(server)
        }
        let got = client.until_closed().map_err(|error| error.kind());
        let got = got.map(|bytes| String::from_utf8(bytes).unwrap());
        assert!(
            got.as_deref() == Ok(expected) || got == Err(ErrorKind::ConnectionReset),
            "{head:?} {is_reset}: {got:?}"
        );
        assert!(expected != "a reset" || got.is_err(), "{head:?} {is_reset}: {got:?}");
    };
    for is_reset in [false, true] {
        check(GET, "Transfer-Encoding: chunked\r\n", is_reset, "5\r\nbegin\r\n");
        check(GET, "Content-Length: 100\r\n", is_reset, "5\r\nbegin\r\n");
        // HTTP/1.0 tells an end by nothing but the end of the connection: it must not look like one.
        check(b"GET /x HTTP/1.0\r\n\r\n", "Transfer-Encoding: chunked\r\n", is_reset, "a reset");
    }
    check(GET, "Connection: close\r\n", true, "a\r\n5\r\nbegin\r\n\r\n");
    for line in logged(&ringway, 7) {
        assert_eq!((&line["status"], &line["error"]), (&200.into(), &"upstream_reset".into()));
        assert!(line["bytes_out"].as_u64() >= Some(5), "{line}");
    }
    assert_eq!(ringway.metrics().sum_of("ringway_upstream_errors_total", &[("reason", "body")]), 7.0);
}

#[test]
fn a_slow_reader_is_served_and_one_that_does_not_read_is_not() {
    let (peer, ringway) = one("body_timeout = \"1s\"");
    for (is_moving, size) in [(true, 8 << 20), (false, 32 << 20)] {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(64 << 10).unwrap();
        socket.connect(&ringway.address.into()).unwrap();
        let mut client = TcpStream::from(socket);
        client.write_all(GET).unwrap();
        let (mut server, ..) = peer.accept();
        let writing = std::thread::spawn(move || {
            server.stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").as_bytes()).unwrap();
            server.stream.write_all(&vec![b'x'; size])
        });
        let (mut got, mut part) = (0, vec![0; 64 << 10]);
        if is_moving {
            while got < size {
                std::thread::sleep(Duration::from_millis(20));
                got += client.read(&mut part).unwrap();
            }
            writing.join().unwrap().unwrap();
            continue;
        }
        let line = logged(&ringway, 2).remove(1);
        assert_eq!((&line["status"], &line["error"]), (&200.into(), &"timeout_client".into()));
        assert!(line["bytes_out"].as_u64() < Some(size as u64), "{line}");
        assert!(writing.join().unwrap().is_err(), "the endpoint is told");
    }
}

#[test]
fn a_final_answer_instead_of_100_ends_the_connection() {
    let (peer, ringway) = one("");
    let asking = b"PUT /e HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    let mut client = client(&ringway, asking);
    let (mut server, _, fields) = peer.accept();
    assert_eq!(field(&fields, "expect"), Some("100-continue"));
    server.stream.write_all(b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno").unwrap();
    // What it sends next is a body that nobody takes, or the next request: nobody could tell.
    let (line, fields) = client.head().unwrap().unwrap();
    assert_eq!((line.as_str(), field(&fields, "connection")), ("HTTP/1.1 401 No", Some("close")));
    assert_eq!(client.until_closed().unwrap(), b"no");
    is_over(&mut server);
}

#[test]
fn an_early_answer_on_a_last_connection_is_read_by_a_client_that_still_sends() {
    let (peer, ringway) = one("");
    let mut client = client(&ringway, b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n");
    let (mut server, ..) = peer.accept();
    server.stream.write_all(b"HTTP/1.1 413 Large\r\nConnection: close\r\nContent-Length: 5\r\n\r\nlarge").unwrap();
    drop(server);
    client.stream.write_all(&vec![b'x'; 5_000_000]).unwrap();
    let (line, fields) = client.head().unwrap().unwrap();
    assert_eq!((line.as_str(), field(&fields, "connection")), ("HTTP/1.1 413 Large", Some("close")));
    assert_eq!(client.until_closed().unwrap(), b"large");
}
