//! Upgraded connections: who may have one, and that both sides then see each other's bytes, ends and resets.
use crate::harness::http::{Wire, field};
use crate::harness::peer::{Peer, client, reset};
use crate::harness::program::Ringway;
use crate::harness::{PATIENCE, wait_for};
use crate::hashing::BY_PATH;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::process::{Command, Stdio};
use std::time::Duration;

const ASKING: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n";
const GRANTED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

fn one(route: &str) -> (Peer, Ringway) {
    let peer = Peer::new();
    let ringway = Ringway::start(&format!("{BY_PATH}{route}\n{}", peer.upstream()));
    (peer, ringway)
}

/// Both ends of an open tunnel.
#[track_caller]
fn open(peer: &Peer, ringway: &Ringway) -> (Wire, Wire) {
    let mut client = client(ringway, ASKING.as_bytes());
    let (mut server, ..) = peer.accept();
    server.stream.write_all(GRANTED.as_bytes()).unwrap();
    assert!(client.head().unwrap().unwrap().0.starts_with("HTTP/1.1 101 "));
    (client, server)
}

#[track_caller]
fn passes(from: &mut Wire, to: &mut Wire, bytes: &[u8]) {
    from.stream.write_all(bytes).unwrap();
    assert_eq!(to.exactly(bytes.len()).unwrap(), bytes);
}

#[track_caller]
fn ends(wire: &mut Wire) {
    assert_eq!(wire.until_closed().unwrap(), b"", "an orderly end and nothing before it");
}

#[track_caller]
fn is_reset(wire: &mut Wire) {
    let error = wire.until_closed().expect_err("no orderly end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[track_caller]
fn logged(ringway: &Ringway) -> serde_json::Value {
    let line = wait_for("a line of the access log", || ringway.stdout().lines().next().map(str::to_string));
    serde_json::from_str(&line).unwrap()
}

#[test]
fn both_sides_see_each_others_bytes_from_the_first_on() {
    let (peer, ringway) = one("");
    let mut client = client(&ringway, format!("{ASKING}sent before the answer").as_bytes());
    let (mut server, line, fields) = peer.accept();
    assert_eq!(line, "GET /chat HTTP/1.1");
    assert_eq!((field(&fields, "connection"), field(&fields, "upgrade")), (Some("upgrade"), Some("websocket")));
    server.stream.write_all(format!("{GRANTED}sent with the answer").as_bytes()).unwrap();
    let (line, fields) = client.head().unwrap().unwrap();
    assert_eq!(line, "HTTP/1.1 101 Switching Protocols");
    assert_eq!((field(&fields, "connection"), field(&fields, "upgrade")), (Some("upgrade"), Some("websocket")));
    assert_eq!(client.exactly(20).unwrap(), b"sent with the answer");
    assert_eq!(server.exactly(22).unwrap(), b"sent before the answer");
    passes(&mut client, &mut server, b"\r\n\r\nGET / HTTP/1.1\r\n\r\n");
    passes(&mut server, &mut client, &[0, 255, 128]);
    let metrics = ringway.metrics();
    assert_eq!((metrics.sum("ringway_tunnels"), metrics.sum("ringway_endpoint_in_flight")), (1.0, 1.0));
    let status = ringway.admin_get("/api/v1/status").unwrap();
    let status: serde_json::Value = serde_json::from_str(status.text()).unwrap();
    assert_eq!(status["listeners"][0]["tunnels"], 1);
    client.stream.shutdown(Shutdown::Write).unwrap();
    ends(&mut server);
    drop(server);
    ends(&mut client);
    let line = logged(&ringway);
    assert_eq!((&line["status"], &line["bytes_in"], &line["bytes_out"]), (&101.into(), &44.into(), &23.into()));
    assert_eq!((&line["error"], &line["endpoint"], &line["path"]), (&().into(), &"a".into(), &"/chat".into()));
    let metrics = ringway.metrics();
    assert_eq!(metrics.sum_of("ringway_requests_total", &[("code", "101")]), 1.0);
    assert_eq!(metrics.sum_of("ringway_upstream_requests_total", &[("class", "1xx")]), 1.0);
    assert_eq!((metrics.sum("ringway_tunnels"), metrics.sum("ringway_endpoint_in_flight")), (0.0, 0.0));
}

#[test]
fn an_end_passes_one_way_and_the_other_goes_on() {
    let (peer, ringway) = one("");
    let (mut client, mut server) = open(&peer, &ringway);
    client.stream.shutdown(Shutdown::Write).unwrap();
    ends(&mut server);
    passes(&mut server, &mut client, b"still here");
    drop(server);
    ends(&mut client);
    let (mut client, mut server) = open(&peer, &ringway);
    server.stream.shutdown(Shutdown::Write).unwrap();
    ends(&mut client);
    passes(&mut client, &mut server, b"still here");
    drop(client);
    ends(&mut server);
    wait_for("both tunnels to end", || (ringway.metrics().sum("ringway_tunnels") == 0.0).then_some(()));
}

#[test]
fn a_reset_passes_as_a_reset() {
    let (peer, ringway) = one("");
    let (client, mut server) = open(&peer, &ringway);
    reset(client);
    is_reset(&mut server);
    let (mut client, server) = open(&peer, &ringway);
    reset(server);
    is_reset(&mut client);
    // A side that has ended is not read from any more; its reset is noticed all the same.
    let (client, mut server) = open(&peer, &ringway);
    client.stream.shutdown(Shutdown::Write).unwrap();
    ends(&mut server);
    reset(client);
    let error = wait_for("a reset after an end", || server.stream.take_error().unwrap());
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    let mut errors: Vec<String> = wait_for("three lines", || {
        let log = ringway.stdout();
        let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["error"].to_string();
        Some(log.lines().map(line).collect::<Vec<_>>()).filter(|lines| lines.len() == 3)
    });
    // Each worker writes its lines when it comes to it.
    errors.sort();
    assert_eq!(errors, ["\"client_closed\"", "\"client_closed\"", "\"upstream_reset\""]);
}

#[test]
fn only_the_protocol_asked_for_is_switched_to() {
    let (peer, ringway) = one("");
    let check = |request: &str, answer: &str, expected: &str| {
        let mut client = client(&ringway, request.as_bytes());
        let (mut server, ..) = peer.accept();
        server.stream.write_all(answer.as_bytes()).unwrap();
        let line = client.head().unwrap().unwrap().0;
        assert!(line.starts_with(expected), "{request:?} answered by {answer:?}: {line}");
    };
    let plain = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    check(plain, GRANTED, "HTTP/1.1 502 ");
    check(ASKING, &GRANTED.replace("Upgrade: websocket", "Upgrade: h2c"), "HTTP/1.1 502 ");
    check(ASKING, &GRANTED.replace("Upgrade: websocket", "X: y"), "HTTP/1.1 502 ");
    check(ASKING, &GRANTED.replace("Connection: Upgrade\r\n", ""), "HTTP/1.1 502 ");
    check(&ASKING.replace("WebSocket", "h2c"), &GRANTED.replace("websocket", "h2c"), "HTTP/1.1 502 ");
    check(&ASKING.replace("GET", "OPTIONS"), GRANTED, "HTTP/1.1 502 ");
    check(&ASKING.replace("HTTP/1.1", "HTTP/1.0"), GRANTED, "HTTP/1.1 502 ");
    check(&ASKING.replace("\r\n\r\n", "\r\nContent-Length: 2\r\n\r\nhi"), GRANTED, "HTTP/1.1 502 ");
    check(ASKING, GRANTED, "HTTP/1.1 101 ");
    assert_eq!(ringway.metrics().sum_of("ringway_upstream_errors_total", &[("reason", "bad_response")]), 8.0);
}

#[test]
fn without_an_upgrade_it_is_a_request_like_any_other() {
    let (peer, ringway) = one("upgrade = []");
    let mut client = client(&ringway, ASKING.as_bytes());
    let (mut server, _, fields) = peer.accept();
    assert_eq!((field(&fields, "upgrade"), field(&fields, "connection")), (None, None), "not listed, not asked for");
    server.stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    client.head().unwrap();
    assert_eq!(client.exactly(2).unwrap(), b"ok");

    let (peer, ringway) = one("");
    let mut client = self::client(&ringway, ASKING.as_bytes());
    let (mut server, ..) = peer.accept();
    server.stream.write_all(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\nUpgrade: websocket\r\n\r\nno").unwrap();
    let (line, fields) = client.head().unwrap().unwrap();
    assert_eq!((line.as_str(), field(&fields, "upgrade")), ("HTTP/1.1 403 No", None));
    assert_eq!(client.exactly(2).unwrap(), b"no");
    client.stream.write_all(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(server.head().unwrap().unwrap().0, "GET /next HTTP/1.1", "both connections go on");
}

#[test]
fn silence_ends_a_tunnel_and_a_word_either_way_keeps_it() {
    let (peer, ringway) = one("tunnel_timeout = \"400ms\"");
    let (mut client, mut server) = open(&peer, &ringway);
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(200));
        passes(&mut server, &mut client, b"tick");
    }
    ends(&mut client);
    ends(&mut server);
    assert_eq!(logged(&ringway)["error"], "tunnel_timeout");
}

#[test]
fn a_tunnel_outlives_reloads_until_its_endpoint_is_removed_and_drained() {
    let (peer, other) = (Peer::new(), Peer::new());
    let config = |upstream: String, more: &str| {
        format!("[server]\nworkers = 2\ndrain_timeout = \"500ms\"\n{BY_PATH}{more}\n{upstream}")
    };
    let ringway = Ringway::start(&config(peer.upstream(), ""));
    let (mut client, mut server) = open(&peer, &ringway);
    ringway.rewrite_config(&config(peer.upstream(), "upgrade = []\ntunnel_timeout = \"1s\""));
    passes(&mut client, &mut server, b"over a reload");
    ringway.rewrite_config(&config(other.upstream().replace("\"a\"", "\"b\""), ""));
    passes(&mut client, &mut server, b"draining");
    // Busy to its end: what is said does not put the end off.
    client.stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let deadline = ringway::base::clock::now() + PATIENCE;
    loop {
        assert!(ringway::base::clock::now() < deadline, "it never ended");
        let written = server.stream.write_all(b"x");
        match client.stream.read(&mut [0; 16]) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("no orderly end: {error}, {written:?}"),
        }
    }
    assert_eq!(logged(&ringway)["error"], "endpoint_removed");
}

#[test]
fn a_shutdown_waits_for_tunnels_until_time_is_up() {
    let peer = Peer::new();
    let config = format!("[server]\nworkers = 2\nshutdown_timeout = \"500ms\"\n{BY_PATH}{}", peer.upstream());
    let mut ringway = Ringway::start(&config);
    let (mut client, mut server) = open(&peer, &ringway);
    ringway.signal("TERM");
    wait_for("readiness to go", || {
        ringway.admin_get("/readyz").map_or(Some(()), |it| (it.status == 503).then_some(()))
    });
    passes(&mut client, &mut server, b"last words");
    assert!(ringway.wait().success());
    assert!(ringway.stderr().contains("time was up"), "{}", ringway.stderr());
    assert_eq!(logged(&ringway)["status"], 101, "it is written down all the same");
    client.until_closed().unwrap_or_default();
}

#[test]
fn whoever_reads_slowly_slows_the_other_side_down() {
    let (peer, ringway) = one("");
    let (mut client, mut server) = open(&peer, &ringway);
    for is_up in [true, false] {
        let (from, to) = if is_up { (&mut client, &mut server) } else { (&mut server, &mut client) };
        from.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let piece: Vec<u8> = (0..251).cycle().take(251 * 256).collect();
        let mut sent = 0;
        while sent < 256 << 20 {
            match from.stream.write(&piece[sent % 251..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(sent < 64 << 20, "{sent} bytes were taken although nobody read them");
        let got = to.exactly(sent).unwrap();
        assert!(got.iter().enumerate().all(|(at, byte)| *byte == (at % 251) as u8), "something came out of order");
    }
}

const PYTHON: &str = r#"
import asyncio, sys, websockets

async def echo(socket):
    async for message in socket:
        await socket.send(message)

async def main(address):
    async with websockets.serve(echo, "127.0.0.1", int(sys.argv[2]), max_size=None) as _:
        async with websockets.connect(f"ws://{address}/chat", max_size=None) as socket:
            for message in ["hello", "", b"\x00\xff" * 700_000, "grüße " * 1000]:
                await socket.send(message)
                assert await socket.recv() == message
            await (await socket.ping())
            await asyncio.gather(*(socket.send(str(n)) for n in range(500)))
            assert [int(await socket.recv()) for _ in range(500)] == list(range(500))
            await socket.close(4001, "enough")
            assert socket.close_code == 4001, socket.close_code
        sockets = await asyncio.gather(*(websockets.connect(f"ws://{address}/{n}") for n in range(50)))
        for n, socket in enumerate(sockets):
            await socket.send(str(n))
        assert [await socket.recv() for socket in sockets] == [str(n) for n in range(50)]
        await asyncio.gather(*(socket.close() for socket in sockets))

asyncio.run(asyncio.wait_for(main(sys.argv[1]), 60))
print("fine")
"#;

#[test]
fn a_real_websocket_client_and_server_do_not_notice() {
    if !Command::new("python3")
        .args(["-c", "import websockets"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
    {
        crate::skip!("python3 has no websockets");
    }
    let address = crate::harness::free_address();
    let upstream = format!("[upstream.u]\nendpoints = [{{ id = \"a\", address = \"{address}\" }}]\n");
    let ringway = Ringway::start(&format!("{BY_PATH}{upstream}"));
    let arguments = [PYTHON.to_string(), ringway.address.to_string(), address.port().to_string()];
    let ran = Command::new("python3").arg("-c").args(arguments).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "fine\n", "{}", String::from_utf8_lossy(&ran.stderr));
    wait_for("51 tunnels to end", || {
        (ringway.metrics().sum_of("ringway_requests_total", &[("code", "101")]) == 51.0).then_some(())
    });
    assert_eq!(ringway.metrics().get("ringway_panics_total"), 0.0);
}
