//! Faults at the socket: bytes that come one at a time, and ends and resets at each byte of an exchange. Never a wrong
//! success, never a hang, never a panic.
use crate::harness::http::Wire;
use crate::harness::origin::{Body, Cut, Framing, Origin, Script};
use crate::harness::peer::{Peer, client, reset};
use crate::harness::program::Ringway;
use crate::harness::wait_for;
use crate::hashing::{BY_PATH, upstream};
use std::io::{Result, Write};
use std::net::Shutdown;

const POST: &[u8] = b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n4\r\ndefg\r\n0\r\nX-T: 1\r\n\r\n";

fn one() -> (Origin, Ringway) {
    let origin = Origin::start("a");
    let ringway = Ringway::start(&format!("{BY_PATH}{}", upstream(&[&origin])));
    (origin, ringway)
}

fn trickle(wire: &mut Wire, bytes: &[u8]) -> Result<()> {
    bytes.iter().try_for_each(|byte| wire.stream.write_all(&[*byte]))
}

/// What every story here ends with: nothing left over, nothing broken.
#[track_caller]
fn is_sound(ringway: &Ringway) {
    let settled = || {
        let metrics = ringway.metrics();
        let open = metrics.sum("ringway_endpoint_in_flight") + metrics.sum("ringway_connections");
        (open == 0.0).then_some(metrics)
    };
    let metrics = wait_for("every exchange to end", settled);
    assert_eq!(metrics.get("ringway_panics_total"), 0.0);
}

#[test]
fn one_byte_at_a_time_is_as_good_as_all_at_once() {
    let peer = Peer::new();
    let ringway = Ringway::start(&format!("{BY_PATH}{}", peer.upstream()));
    let mut client = client(&ringway, b"");
    trickle(&mut client, POST).unwrap();
    let (mut server, line, _) = peer.accept();
    assert_eq!(line, "POST /p HTTP/1.1");
    let (body, trailers) = server.chunked().unwrap();
    assert_eq!((body.as_slice(), trailers.len()), (&b"abcdefg"[..], 1));
    let answer = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
        3;x\r\none\r\n1\r\n!\r\n0\r\nX-U: 2\r\n\r\n";
    trickle(&mut server, answer).unwrap();
    assert_eq!(client.head().unwrap().unwrap().0, "HTTP/1.1 103 Early Hints");
    assert_eq!(client.head().unwrap().unwrap().0, "HTTP/1.1 200 OK");
    let (body, trailers) = client.chunked().unwrap();
    assert_eq!((body.as_slice(), trailers), (&b"one!"[..], vec![("X-U".to_string(), "2".to_string())]));
    trickle(&mut client, b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(server.head().unwrap().unwrap().0, "GET /next HTTP/1.1");
    trickle(&mut server, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes").unwrap();
    client.head().unwrap().unwrap();
    assert_eq!(client.exactly(3).unwrap(), b"yes");
    drop((client, server));
    is_sound(&ringway);
}

#[test]
fn a_request_cut_at_any_byte_is_never_whole_for_an_origin() {
    let (origin, ringway) = one();
    for is_reset in [false, true] {
        for count in 0..POST.len() {
            let mut wire = client(&ringway, &POST[..count]);
            if is_reset {
                reset(wire);
                continue;
            }
            wire.stream.shutdown(Shutdown::Write).unwrap();
            let answer = wire.until_closed().unwrap_or_default();
            assert_eq!(String::from_utf8_lossy(&answer), "", "cut after {count} bytes");
        }
    }
    is_sound(&ringway);
    let seen = origin.requests();
    assert!(seen.iter().all(|request| !request.whole), "{seen:?}");
    let metrics = ringway.metrics();
    assert_eq!(metrics.sum("ringway_requests_total"), metrics.sum_of("ringway_requests_total", &[("code", "499")]));
    assert_eq!(ringway.client().request("GET", "/", &[("Connection", "close")], None).unwrap().status, 200);
}

#[test]
fn a_response_cut_at_any_byte_is_never_whole_for_a_client() {
    let (origin, ringway) = one();
    for framing in [Framing::Length, Framing::Chunked(2)] {
        let script = Script { body: Body::Bytes(5), framing, ..Script::default() };
        origin.script(script.clone());
        let whole =
            client(&ringway, b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").until_closed().unwrap();
        for cut in [Cut::Close, Cut::Reset] {
            for count in 0.. {
                origin.script(Script { cut: Some((count, cut)), ..script.clone() });
                let answer = ringway.client().request("GET", "/x", &[("Connection", "close")], None);
                match answer {
                    Ok(answer) if answer.status == 502 => {}
                    // The origin sent every byte before it closed.
                    Ok(answer) => {
                        assert_eq!(answer.body, b"abcde", "{framing:?} {cut:?} after {count}");
                        assert!(count + 100 > whole.len(), "{framing:?} {cut:?} after {count}: too soon");
                        break;
                    }
                    Err(error) => assert!(count < 200, "{framing:?} {cut:?} after {count}: {error}"),
                }
            }
        }
    }
    is_sound(&ringway);
    assert!(origin.requests().iter().all(|request| request.whole));
}

#[test]
fn a_tunnel_cut_at_any_moment_leaves_nothing_behind() {
    let asking: &[u8] = b"GET /t HTTP/1.1\r\nHost: a\r\nConnection: close, upgrade\r\nUpgrade: websocket\r\n\r\n";
    let granted: &[u8] = b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello";
    let peer = Peer::new();
    let ringway = Ringway::start(&format!("{BY_PATH}{}", peer.upstream()));
    for count in 0..=granted.len() {
        for (is_client, is_reset) in [(true, true), (true, false), (false, true), (false, false)] {
            let mut client = client(&ringway, asking);
            let (mut server, ..) = peer.accept();
            server.stream.write_all(&granted[..count]).unwrap();
            let (leaver, mut other) = if is_client { (client, server) } else { (server, client) };
            if is_reset {
                reset(leaver)
            } else {
                drop(leaver)
            }
            let got = other.until_closed().map(|bytes| String::from_utf8(bytes).unwrap());
            match (is_client, got) {
                (true, got) => assert_eq!(got.unwrap_or_default(), "", "{count} {is_reset}"),
                (false, Ok(answer)) if count + 5 < granted.len() => {
                    assert!(answer.starts_with("HTTP/1.1 502 "), "{count} {is_reset}: {answer}");
                }
                (false, got) => drop(got),
            }
            client = self::client(&ringway, b"");
            drop(client);
        }
    }
    is_sound(&ringway);
    assert_eq!(ringway.metrics().sum("ringway_tunnels"), 0.0);
}
