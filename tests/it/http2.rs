//! HTTP/2 clients: what they may do, and that a request is the same one as over HTTP/1.1.
use crate::harness::h2::{self, Frames, HEADERS};
use crate::harness::http::Client;
use crate::harness::origin::{Body, Cut, Framing, Origin, Script};
use crate::harness::program::Ringway;
use crate::harness::wait_for;
use crate::hashing::{BY_PATH, upstream};
use crate::skip;
use ::h2::client::Builder;
use bytes::Bytes;
use http::Request;
use std::process::Command;
use std::time::Duration;

pub fn one(listener: &str) -> (Origin, Ringway) {
    let origin = Origin::start("a");
    let listener = format!("[[listener]]\naddress = \"LISTEN\"\n{listener}\n");
    let ringway = Ringway::start(&format!("{listener}{BY_PATH}{}", upstream(&[&origin])));
    (origin, ringway)
}

fn request(method: &str, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("http://a.example{path}")).body(()).unwrap()
}

#[test]
fn a_request_has_the_same_route_and_key_over_both_versions() {
    let origin = Origin::start("a");
    let key = r#"["header:x-user", "cookie:sid + path", "query:q + host", "path_and_query"]"#;
    let routes = format!(
        "[[route]]\nname = \"all\"\nupstream = \"u\"\nkey = {key}\n[[route]]\nname = \"host\"\nhosts = [\"b.example\"]\nupstream = \"u\"\nkey = {key}\n"
    );
    let ringway = Ringway::start(&format!("[server]\nworkers = 1\n{routes}{}", upstream(&[&origin])));
    type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);
    let cases: [Case<'_>; 9] = [
        ("/", "a.example", &[]),
        ("/a%2Fb/../c?x=%20", "a.example", &[]),
        ("/p?q=1&q=2", "A.Example:80", &[]),
        ("/p?q=1", "b.example:8080", &[]),
        ("/p", "B.EXAMPLE", &[("cookie", "x=1; sid=7; y=2")]),
        ("/p//q/", "b.example", &[("x-user", "\u{fc}ser")]),
        ("/p", "b.example", &[("x-user", "1"), ("x-user", "2")]),
        ("/p;a=b/", "[::1]:80", &[("X-Other", "1")]),
        ("/~%7e", "10.0.0.1", &[("x-user", "")]),
    ];
    for (path, host, fields) in cases {
        let mut headers = vec![("host", host)];
        headers.extend_from_slice(fields);
        assert_eq!(ringway.client().request("GET", path, &headers, None).unwrap().status, 200, "{path}");
        let mut pseudo = vec![(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", host)];
        let lower: Vec<(String, &str)> = fields.iter().map(|(name, value)| (name.to_lowercase(), *value)).collect();
        pseudo.extend(lower.iter().map(|(name, value)| (name.as_str(), *value)));
        let mut frames = Frames::connect(ringway.address);
        frames.head(1, true, &pseudo);
        assert_eq!(frames.verdict(1), Ok(0x88), "{path}");
    }
    let lines = wait_for("the log", || {
        let lines: Vec<serde_json::Value> =
            ringway.stdout().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (lines.len() == 2 * cases.len()).then_some(lines)
    });
    for pair in lines.chunks(2) {
        for field in ["route", "key_hash", "key_source", "host", "path", "endpoint", "status"] {
            assert_eq!(pair[0][field], pair[1][field], "{field}: {} {}", pair[0], pair[1]);
        }
        assert!(pair[0]["key_hash"].is_string(), "{}", pair[0]);
        assert_eq!((&pair[0]["protocol"], &pair[1]["protocol"]), (&"HTTP/1.1".into(), &"HTTP/2".into()));
    }
    let seen = origin.requests();
    for pair in seen.chunks(2) {
        assert_eq!((&pair[0].line, pair[0].header("host")), (&pair[1].line, pair[1].header("host")));
        let shown = |seen: &crate::harness::origin::Seen| {
            let own = ["via", "x-request-id", "cookie"];
            let mut fields = seen.headers.clone();
            fields.iter_mut().for_each(|(name, _)| name.make_ascii_lowercase());
            fields.retain(|(name, _)| !own.contains(&name.as_str()));
            fields
        };
        assert_eq!(shown(&pair[0]), shown(&pair[1]));
    }
}

#[test]
fn bodies_trailers_and_cookies_cross_both_ways() {
    let (origin, ringway) = one("");
    let framing = Framing::Chunked(50_000);
    let trailers = vec![("X-Sum", "9"), ("Content-Length", "1")];
    origin.script(Script { body: Body::Echo, framing, trailers, ..Script::default() });
    let body: Vec<u8> = (0..600_000u32).flat_map(|n| n.to_le_bytes()).collect();
    let sent = Bytes::from(body.clone());
    let (answer, trailers) = h2::client(ringway.address, &Builder::new(), |mut send| async move {
        let mut request = request("POST", "/echo");
        for crumb in ["a=1", "b=2"] {
            request.headers_mut().append("cookie", crumb.parse().unwrap());
        }
        let (response, mut stream) = send.send_request(request, false).unwrap();
        let sending = async {
            stream.send_data(sent, false).unwrap();
            let mut trailers = http::HeaderMap::new();
            trailers.insert("x-check", "7".parse().unwrap());
            trailers.insert("host", "evil".parse().unwrap());
            stream.send_trailers(trailers).unwrap();
        };
        let receiving = async { h2::whole(response.await.unwrap().into_body()).await.unwrap() };
        tokio::join!(sending, receiving).1
    });
    assert!(answer == body);
    assert_eq!((trailers.len(), &trailers["x-sum"]), (1, &http::HeaderValue::from_static("9")));
    let seen = &origin.requests()[0];
    assert_eq!(seen.trailers, [("x-check".to_string(), "7".to_string())]);
    assert_eq!((seen.header("cookie"), seen.header("transfer-encoding")), (Some("a=1; b=2"), Some("chunked")));
    assert!(seen.header("via").unwrap().ends_with("2 ringway"));
}

#[test]
fn early_hints_and_the_leave_to_go_on_come_first() {
    let (origin, ringway) = one("");
    let interim = vec!["100 Continue", "103 Early Hints\r\nlink: </a.css>"];
    origin.script(Script { interim, ..Script::default() });
    let mut frames = Frames::connect(ringway.address);
    frames.head(1, true, &h2::get("/p"));
    let heads: Vec<_> = (0..3).map(|_| frames.find("a head", |frame| frame.kind == HEADERS)).collect();
    assert!(heads.iter().take(2).all(|head| head.flags & h2::END_STREAM == 0));
    let text = String::from_utf8_lossy(&heads[1].payload).into_owned();
    assert!(heads[1].payload.len() > 8 && !text.contains("link"), "a name in lower case, compressed: {text:?}");
    assert_eq!(heads[2].payload[0], 0x88);
}

#[test]
fn a_reset_takes_its_upstream_exchange_with_it() {
    let (origin, ringway) = one("");
    origin.script(Script { delay: Duration::from_secs(2), ..Script::default() });
    let mut frames = Frames::connect(ringway.address);
    frames.head(1, true, &h2::get("/slow"));
    origin.wait_for_requests(1);
    assert_eq!(ringway.metrics().sum("ringway_endpoint_in_flight"), 1.0);
    frames.send(h2::RST_STREAM, 0, 1, &8u32.to_be_bytes());
    wait_for("the request to end", || {
        (ringway.metrics().sum_of("ringway_requests_total", &[("code", "499")]) == 1.0).then_some(())
    });
    assert_eq!(ringway.metrics().sum("ringway_endpoint_in_flight"), 0.0);
    wait_for("its connection to close", || (origin.open_connections() == 0).then_some(()));
    origin.script(Script::default());
    frames.head(3, true, &h2::get("/next"));
    assert_eq!(frames.verdict(3), Ok(0x88), "the connection goes on");
}

#[test]
fn a_truncated_body_never_ends_cleanly() {
    let (origin, ringway) = one("");
    for framing in [Framing::Length, Framing::Chunked(1000)] {
        let script = Script { body: Body::Bytes(100_000), framing, ..Script::default() };
        origin.script(Script { cut: Some((50_000, Cut::Reset)), ..script });
        let ended = h2::client(ringway.address, &Builder::new(), |mut send| async move {
            let (response, _) = send.send_request(request("GET", "/cut"), true).unwrap();
            h2::whole(response.await?.into_body()).await
        });
        assert!(ended.unwrap_err().is_reset());
    }
}

fn resident_kib(ringway: &Ringway) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", ringway.pid())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
    resident.unwrap().parse().unwrap()
}

#[test]
fn a_small_window_holds_the_origin_back() {
    let (origin, ringway) = one("");
    origin.script(Script { body: Body::Bytes(8 << 20), ..Script::default() });
    let before = resident_kib(&ringway);
    let mut builder = Builder::new();
    builder.initial_window_size(1000).initial_connection_window_size(70_000);
    let running = &ringway;
    h2::client(ringway.address, &builder, |mut send| async move {
        let mut ask = || send.send_request(request("GET", "/big"), true).unwrap().0;
        let asked = [ask(), ask(), ask(), ask()];
        let mut bodies = Vec::new();
        for response in asked {
            let mut body = response.await.unwrap().into_body();
            assert_eq!(body.data().await.unwrap().unwrap().len(), 1000);
            bodies.push(body);
        }
        let grown = resident_kib(running).saturating_sub(before);
        assert!(grown < 16 << 10, "{grown} KiB of 32 MiB: bodies are not kept");
    });
}

#[test]
fn a_window_that_stays_closed_ends_its_stream() {
    let (origin, ringway) = one("body_timeout = \"400ms\"");
    origin.script(Script { body: Body::Bytes(100_000), ..Script::default() });
    let mut builder = Builder::new();
    builder.initial_window_size(1000);
    h2::client(ringway.address, &builder, |mut send| async move {
        let (response, _) = send.send_request(request("GET", "/big"), true).unwrap();
        let mut body = response.await.unwrap().into_body();
        let ended = async {
            while body.data().await.transpose()?.is_some() {}
            Ok::<_, ::h2::Error>(())
        };
        assert!(ended.await.unwrap_err().is_reset());
    });
}

#[test]
fn a_body_moves_while_its_answer_does() {
    let (origin, ringway) = one("");
    origin.script(Script { status: 413, early: true, ..Script::default() });
    h2::client(ringway.address, &Builder::new(), |mut send| async move {
        let (response, mut stream) = send.send_request(request("POST", "/early"), false).unwrap();
        stream.send_data(Bytes::from_static(b"some"), false).unwrap();
        assert_eq!(response.await.unwrap().status(), 413, "the request is not over");
    });
}

#[test]
fn a_shutdown_lets_streams_finish_and_says_goodbye() {
    let (origin, mut ringway) = one("");
    origin.script(Script { delay: Duration::from_millis(500), ..Script::default() });
    let mut frames = Frames::connect(ringway.address);
    frames.head(1, true, &h2::get("/slow"));
    origin.wait_for_requests(1);
    ringway.signal("TERM");
    assert_eq!(frames.find("a goodbye", |frame| frame.kind == h2::GOAWAY).code(), 0);
    assert_eq!(frames.verdict(1), Ok(0x88));
    assert_eq!(ringway.wait().code(), Some(0));
}

#[test]
fn a_listener_that_goes_says_goodbye() {
    let (origin, ringway) = one("");
    let mut frames = Frames::connect(ringway.address);
    frames.head(1, true, &h2::get("/before"));
    assert_eq!(frames.verdict(1), Ok(0x88));
    let other = crate::harness::free_address();
    let config = format!("[[listener]]\naddress = \"{other}\"\n{BY_PATH}{}", upstream(&[&origin]));
    ringway.rewrite_config(&config);
    assert_eq!(frames.find("a goodbye", |frame| frame.kind == h2::GOAWAY).code(), 0);
    assert_eq!(Client::new(other).get("/").unwrap().status, 200);
}

#[test]
fn silence_ends_a_connection() {
    let (_origin, ringway) = one("idle_timeout = \"200ms\"\nheader_timeout = \"300ms\"");
    let mut frames = Frames::connect(ringway.address);
    frames.head(1, true, &h2::get("/"));
    assert_eq!(frames.verdict(1), Ok(0x88));
    assert_eq!(frames.find("a goodbye", |frame| frame.kind == h2::GOAWAY).code(), 0, "idle");
    let mut silent = Frames::connect(ringway.address);
    while silent.next().is_some() {}
    let mut slow = Frames::connect(ringway.address);
    slow.send(HEADERS, h2::END_STREAM, 1, &h2::block(&h2::get("/")));
    while slow.next().is_some() {}
    let refused = ringway.metrics().sum_of("ringway_connections_refused_total", &[("reason", "header_timeout")]);
    assert_eq!(refused, 1.0, "a head that does not end; silence alone is no offence");
}

#[test]
fn many_streams_of_a_real_client_are_served() {
    let origin = Origin::start("a");
    // 400 connections at once overflow the origin's queue: the system tries again after a second.
    let patient = "connect_timeout = \"10s\"";
    let ringway = Ringway::start(&format!("{BY_PATH}{}{patient}\n", upstream(&[&origin])));
    let url = format!("http://{}/k", ringway.address);
    let Ok(output) = Command::new("h2load").args(["-n", "2000", "-c", "4", "-m", "100", &url]).output() else {
        skip!("h2load is not installed")
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("2000 succeeded, 0 failed"), "{text}");
    wait_for("its connections to end", || (ringway.metrics().sum("ringway_connections") == 0.0).then_some(()));
}
