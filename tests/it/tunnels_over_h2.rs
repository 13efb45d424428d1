//! WebSocket over HTTP/2 (RFC 8441), to an endpoint that speaks it over HTTP/1.1.
use crate::harness::h2::{client, whole};
use crate::harness::http::{Fields, Wire, field};
use crate::harness::peer::Peer;
use crate::harness::program::Ringway;
use crate::harness::wait_for;
use crate::hashing::BY_PATH;
use bytes::Bytes;
use h2::client::SendRequest;
use std::io::{ErrorKind, Write};
use std::time::Duration;

fn one(route: &str) -> (Peer, Ringway) {
    let peer = Peer::new();
    let ringway = Ringway::start(&format!("{BY_PATH}{route}\n{}", peer.upstream()));
    (peer, ringway)
}

/// An extended CONNECT, as soon as the server's settings allow it.
async fn connect(send: &mut SendRequest<Bytes>, protocol: &str) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
    while !send.is_extended_connect_protocol_enabled() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut request = http::Request::new(());
    *request.method_mut() = http::Method::CONNECT;
    *request.uri_mut() = "http://a.example/chat?q".parse().unwrap();
    request.headers_mut().insert("sec-websocket-version", "13".parse().unwrap());
    request.headers_mut().insert("sec-websocket-key", "forged".parse().unwrap());
    request.extensions_mut().insert(h2::ext::Protocol::from(protocol));
    std::future::poll_fn(|cx| send.poll_ready(cx)).await.unwrap();
    send.send_request(request, false).unwrap()
}

/// What a WebSocket server says to this request.
fn granted(fields: &Fields) -> String {
    let key = field(fields, "sec-websocket-key").unwrap();
    assert_eq!(key.len(), 24, "{key}");
    let hash = sha1_smol::Sha1::from(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")).digest().bytes();
    let digit = |six: usize| b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[six] as char;
    let bits: String = hash.iter().map(|byte| format!("{byte:08b}")).collect::<String>() + "00";
    let accept: String = bits
        .as_bytes()
        .chunks(6)
        .map(|six| digit(usize::from_str_radix(std::str::from_utf8(six).unwrap(), 2).unwrap()))
        .collect();
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}=\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    )
}

#[test]
fn a_stream_is_a_tunnel_to_an_endpoint_of_the_other_version() {
    let (peer, ringway) = one("");
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| {
            let (mut server, line, fields) = peer.accept();
            assert_eq!(line, "GET /chat?q HTTP/1.1");
            assert_eq!((field(&fields, "connection"), field(&fields, "upgrade")), (Some("upgrade"), Some("websocket")));
            assert_eq!(
                (field(&fields, "host"), field(&fields, "sec-websocket-version")),
                (Some("a.example"), Some("13"))
            );
            assert_eq!(fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key")).count(), 1);
            server.stream.write_all(format!("{}early", granted(&fields)).as_bytes()).unwrap();
            assert_eq!(server.exactly(5).unwrap(), b"hello");
            let large = server.exactly(1 << 20).unwrap();
            server.stream.write_all(&large).unwrap();
            assert_eq!(server.until_closed().unwrap(), b"", "half-close");
            server.stream.write_all(b"bye").unwrap();
        });
        let large = vec![b'x'; 1 << 20];
        let body = client(ringway.address, &h2::client::Builder::new(), async |mut send| {
            let (response, mut up) = connect(&mut send, "websocket").await;
            let response = response.await.unwrap();
            assert_eq!(response.status(), 200);
            let fields = response.headers();
            for name in ["connection", "upgrade", "sec-websocket-accept", "content-length"] {
                assert!(!fields.contains_key(name), "{name}: {fields:?}");
            }
            assert_eq!(fields["sec-websocket-protocol"], "chat");
            up.send_data(Bytes::from_static(b"hello"), false).unwrap();
            up.send_data(large.clone().into(), true).unwrap();
            whole(response.into_body()).await.unwrap().0
        });
        serving.join().unwrap();
        assert!(body == [b"early".as_slice(), &large, b"bye"].concat(), "{} bytes", body.len());
    });
    let line: serde_json::Value = serde_json::from_str(
        wait_for("the log", || Some(ringway.stdout()).filter(|log| log.ends_with('\n'))).lines().next().unwrap(),
    )
    .unwrap();
    assert_eq!((&line["status"], &line["method"], &line["protocol"]), (&200.into(), &"GET".into(), &"HTTP/2".into()));
    assert_eq!((&line["bytes_in"], &line["bytes_out"], &line["error"]), (&1048581.into(), &1048584.into(), &().into()));
    assert_eq!(ringway.metrics().sum("ringway_tunnels"), 0.0);
}

#[test]
fn resets_pass_both_ways() {
    let (peer, ringway) = one("");
    for is_client in [true, false] {
        std::thread::scope(|scope| {
            let serving = scope.spawn(|| {
                let (mut server, _, fields) = peer.accept();
                server.stream.write_all(granted(&fields).as_bytes()).unwrap();
                if is_client {
                    let error = server.until_closed().expect_err("no orderly end");
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                } else {
                    assert_eq!(server.exactly(2).unwrap(), b"go");
                    crate::harness::peer::reset(server);
                }
            });
            client(ringway.address, &h2::client::Builder::new(), async |mut send| {
                let (response, mut up) = connect(&mut send, "websocket").await;
                let response = response.await.unwrap();
                if is_client {
                    up.send_reset(h2::Reason::CANCEL);
                    // The reset goes out while the other side is waited for.
                    while !serving.is_finished() {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                } else {
                    up.send_data(Bytes::from_static(b"go"), false).unwrap();
                    let error = whole(response.into_body()).await.expect_err("no orderly end");
                    assert_eq!(error.reason(), Some(h2::Reason::CONNECT_ERROR));
                }
            });
            serving.join().unwrap();
        });
    }
    wait_for("both tunnels to end", || (ringway.metrics().sum("ringway_tunnels") == 0.0).then_some(()));
}

#[test]
fn only_a_proven_switch_is_a_success() {
    let (peer, ringway) = one("");
    let ok = |_: &Fields| "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi".to_string();
    let unproven = |fields: &Fields| granted(fields).replace("=\r\n", "\r\n");
    let other = |fields: &Fields| granted(fields).replace("Upgrade: websocket", "Upgrade: other");
    let no = |_: &Fields| "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno".to_string();
    type Answer<'a> = &'a (dyn Fn(&Fields) -> String + Sync);
    for (answer, expected) in [(&ok as Answer<'_>, 502), (&unproven, 502), (&other, 502), (&no, 403), (&granted, 200)] {
        let status = std::thread::scope(|scope| {
            let serving = scope.spawn(|| -> Wire {
                let (mut server, _, fields) = peer.accept();
                server.stream.write_all(answer(&fields).as_bytes()).unwrap();
                server
            });
            let status = client(ringway.address, &h2::client::Builder::new(), async |mut send| {
                let (response, _up) = connect(&mut send, "websocket").await;
                response.await.unwrap().status().as_u16()
            });
            drop(serving.join().unwrap());
            status
        });
        assert_eq!(status, expected);
    }
    let status = client(ringway.address, &h2::client::Builder::new(), async |mut send| {
        let (response, _up) = connect(&mut send, "other").await;
        response.await.unwrap().status().as_u16()
    });
    assert_eq!(status, 405, "no route lists it");
}
