//! What an HTTP/2 client must not do: said in frames, judged by what the origin saw.
use crate::harness::h2::{self, ENHANCE_YOUR_CALM, Frames, PROTOCOL_ERROR, block, frame, get};
use crate::harness::program::Ringway;
use crate::harness::wait_for;
use crate::http2::one;

/// `:status: 400`, and 200, as the static table has them.
const BAD_REQUEST: Result<u8, u32> = Ok(0x8c);
const FINE: Result<u8, u32> = Ok(0x88);

type Fields<'a> = Vec<(&'a str, &'a str)>;

fn with<'a>(more: &[(&'a str, &'a str)]) -> Fields<'a> {
    get("/p").into_iter().chain(more.iter().copied()).collect()
}

/// A GET in which one pseudo-field is another, or is gone.
fn changed<'a>(name: &str, value: Option<&'a str>) -> Fields<'a> {
    let fields = get("/p").into_iter().filter_map(|(field, old)| match value {
        _ if field != name => Some((field, old)),
        value => Some((field, value?)),
    });
    fields.collect()
}

#[test]
fn nothing_malformed_reaches_the_origin() {
    let (origin, ringway) = one("");
    let cases: Vec<Fields<'_>> = vec![
        with(&[("X-Upper", "1")]),
        with(&[("x-cr", "a\rb")]),
        with(&[("x-lf", "a\nb: c")]),
        with(&[("x-crlf", "a\r\nhost: evil")]),
        with(&[("x-nul", "a\0b")]),
        with(&[("x-lead", " a")]),
        with(&[("x-trail", "a ")]),
        with(&[("x name", "a")]),
        with(&[("x:name", "a")]),
        with(&[("", "a")]),
        with(&[("x-a\r\nx-b", "a")]),
        with(&[("connection", "close")]),
        with(&[("keep-alive", "1")]),
        with(&[("proxy-connection", "close")]),
        with(&[("transfer-encoding", "chunked")]),
        with(&[("upgrade", "h2c")]),
        with(&[("te", "gzip")]),
        with(&[("host", "b.example")]),
        with(&[("host", "a.example"), ("host", "a.example")]),
        with(&[("content-length", "1")]),
        with(&[("content-length", "0"), ("content-length", "0")]),
        with(&[("content-length", "+0")]),
        with(&[("content-length", "0, 0")]),
        with(&[("x-a", "1"), (":path", "/q")]),
        with(&[(":path", "/q")]),
        with(&[(":status", "200")]),
        with(&[(":unknown", "1")]),
        with(&[(":protocol", "websocket")]),
        changed(":path", None),
        changed(":path", Some("")),
        changed(":path", Some("*")),
        changed(":path", Some("p")),
        changed(":path", Some("http://b.example/p")),
        changed(":path", Some("/p\r\nx: y")),
        changed(":path", Some("/p q")),
        changed(":path", Some("/p\0")),
        changed(":method", None),
        changed(":method", Some("G ET")),
        changed(":method", Some("GET / HTTP/1.1\r\n\r\n")),
        changed(":scheme", None),
        changed(":scheme", Some("ht tp")),
        changed(":scheme", Some("ftp")),
        changed(":authority", None),
        changed(":authority", Some("")),
        changed(":authority", Some("u@a.example")),
        changed(":authority", Some("a.example/b")),
        changed(":authority", Some("a.example\r\nx: y")),
    ];
    for fields in cases {
        let mut frames = Frames::connect(ringway.address);
        frames.head(1, true, &fields);
        let verdict = frames.verdict(1);
        let is_refused = verdict == BAD_REQUEST || verdict == Err(PROTOCOL_ERROR) || verdict == Err(9);
        assert!(is_refused, "{fields:?}: {verdict:?}");
    }
    assert!(origin.requests().is_empty(), "{:?}", origin.requests());
    // The same connection and the same words, without the fault.
    let mut frames = Frames::connect(ringway.address);
    frames.head(1, true, &with(&[("host", "A.example"), ("te", "trailers"), ("x-a", "a\tb"), ("content-length", "0")]));
    assert_eq!(frames.verdict(1), FINE);
    frames.head(3, true, &with(&[("connection", "close")]));
    assert_eq!(frames.verdict(3), Err(PROTOCOL_ERROR));
    frames.head(5, true, &get("/q"));
    assert_eq!(frames.verdict(5), FINE, "a malformed request ends its stream alone");
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn tunnels_are_not_built_and_heads_are_bounded() {
    let (origin, ringway) = one("");
    let mut frames = Frames::connect(ringway.address);
    frames.head(1, false, &[(":method", "CONNECT"), (":authority", "a.example:443")]);
    assert!(frames.verdict(1).is_ok());
    let long = "x".repeat(16_000);
    let mut fields = with(&[("x-a", &long), ("x-b", &long), ("x-c", &long)]);
    let bytes = block(&fields);
    frames.send(h2::HEADERS, h2::END_STREAM, 3, &bytes[..16_000]);
    frames.send(h2::CONTINUATION, 0, 3, &bytes[16_000..32_000]);
    frames.send(h2::CONTINUATION, h2::END_HEADERS, 3, &bytes[32_000..]);
    assert!(frames.verdict(3).is_ok_and(|status| status != 0x88));
    let names: Vec<String> = (0..101).map(|n| format!("x-{n}")).collect();
    fields = get("/").to_vec();
    fields.extend(names.iter().map(|name| (name.as_str(), "1")));
    frames.head(5, true, &fields);
    assert!(frames.verdict(5).is_ok_and(|status| status != 0x88));
    frames.head(7, true, &get("/"));
    assert_eq!(frames.verdict(7), FINE);
    let count = |code| ringway.metrics().sum_of("ringway_requests_total", &[("code", code)]);
    wait_for("the counts", || (count("405") == 1.0 && count("431") >= 1.0).then_some(()));
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn a_body_of_another_length_than_announced_is_never_whole() {
    let (origin, ringway) = one("");
    for (announced, pieces) in [("10", &["hello"][..]), ("3", &["hello"]), ("5", &["hello", "more"])] {
        let mut frames = Frames::connect(ringway.address);
        let mut fields = changed(":method", Some("POST"));
        fields.push(("content-length", announced));
        frames.head(1, false, &fields);
        for (index, piece) in pieces.iter().enumerate() {
            let end = if index + 1 == pieces.len() { h2::END_STREAM } else { 0 };
            frames.send(h2::DATA, end, 1, piece.as_bytes());
        }
        assert_eq!(frames.verdict(1), Err(PROTOCOL_ERROR), "{announced}");
    }
    wait_for("the requests to end", || (ringway.metrics().sum("ringway_endpoint_in_flight") == 0.0).then_some(()));
    assert!(origin.requests().iter().all(|seen| !seen.whole || seen.body == b"hello"), "{:?}", origin.requests());
}

/// Sends `bytes` again and again until the program says stop, and how.
fn flooded(ringway: &Ringway, first: &[u8], next: impl Fn(u32) -> Vec<u8>) -> Option<u32> {
    let mut frames = Frames::connect(ringway.address);
    frames.send_raw(first);
    let reader = frames.stream.try_clone().unwrap();
    let writing = std::thread::spawn({
        let bytes: Vec<Vec<u8>> =
            (0..200).map(|batch| (0..500).flat_map(|n| next(batch * 500 + n)).collect()).collect();
        let mut writer = reader;
        move || {
            for part in bytes {
                if std::io::Write::write_all(&mut writer, &part).is_err() {
                    break;
                }
            }
        }
    });
    let mut code = None;
    while let Some(frame) = frames.next() {
        if frame.kind == h2::GOAWAY {
            code = Some(frame.code());
        }
    }
    writing.join().unwrap();
    code
}

fn id(n: u32) -> u32 {
    2 * n + 1
}

#[test]
fn floods_are_ended_and_counted() {
    let (_origin, ringway) = one("");
    let refused = |reason: &str| ringway.metrics().sum_of("ringway_connections_refused_total", &[("reason", reason)]);
    let rapid_reset = |n| {
        let mut bytes = frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, id(n), &block(&get("/r")));
        bytes.extend(frame(h2::RST_STREAM, 0, id(n), &8u32.to_be_bytes()));
        bytes
    };
    assert_eq!(flooded(&ringway, &[], rapid_reset), Some(ENHANCE_YOUR_CALM));
    wait_for("a count", || (refused("h2_resets") + refused("h2_flood") == 1.0).then_some(()));
    let pings = |_| frame(h2::PING, 0, 0, b"12345678");
    let settings = |_| frame(h2::SETTINGS, 0, 0, &[]);
    let priorities = |n| frame(h2::PRIORITY, 0, id(n), &[0, 0, 0, 0, 1]);
    let windows = |_| frame(h2::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]);
    let unknown = |_| frame(0xee, 0, 0, b"1");
    let control: [&dyn Fn(u32) -> Vec<u8>; 5] = [&pings, &settings, &priorities, &windows, &unknown];
    for (index, next) in control.into_iter().enumerate() {
        assert_eq!(flooded(&ringway, &[], next), Some(ENHANCE_YOUR_CALM), "{index}");
        wait_for("a count", || (refused("h2_control") == (index + 1) as f64).then_some(()));
    }
    let mut post = changed(":method", Some("POST"));
    post.push(("x-a", "1"));
    let open = frame(h2::HEADERS, h2::END_HEADERS, 1, &block(&post));
    assert_eq!(flooded(&ringway, &open, |_| frame(h2::DATA, 0, 1, &[])), Some(ENHANCE_YOUR_CALM));
    let endless = frame(h2::HEADERS, 0, 1, &block(&get("/")));
    let continuation = |_| frame(h2::CONTINUATION, 0, 1, &block(&[("x", "y")]));
    assert_eq!(flooded(&ringway, &endless, continuation), Some(ENHANCE_YOUR_CALM));
    let head = |n| frame(h2::HEADERS, h2::END_HEADERS, id(n), &block(&post));
    assert_eq!(flooded(&ringway, &[], head), Some(ENHANCE_YOUR_CALM), "streams beyond the limit");
    // Each of these makes the server reset the stream that the client opened: a reset by proxy (CVE-2025-8671).
    let resets: [&dyn Fn(u32) -> Vec<u8>; 4] = [
        &|n| frame(h2::WINDOW_UPDATE, 0, id(n), &[0, 0, 0, 0]),
        &|n| frame(h2::WINDOW_UPDATE, 0, id(n), &[0x7f, 0xff, 0xff, 0xff]),
        &|n| frame(h2::DATA, 0, id(n), b"after the end"),
        &|n| frame(h2::PRIORITY, 0, id(n), &[0, 0, 0, 1]),
    ];
    for (index, reset) in resets.into_iter().enumerate() {
        let made = |n| {
            let mut bytes = frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, id(n), &block(&get("/m")));
            bytes.extend(reset(n));
            bytes
        };
        let code = flooded(&ringway, &[], made);
        assert!(code.is_some_and(|code| code != 0), "{index}: ended by {code:?}");
    }
    let malformed =
        |n| frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, id(n), &block(&with(&[("connection", "x")])));
    assert_eq!(flooded(&ringway, &[], malformed), Some(ENHANCE_YOUR_CALM));
    wait_for("all to end", || (ringway.metrics().sum("ringway_connections") == 0.0).then_some(()));
    assert_eq!(ringway.metrics().sum("ringway_endpoint_in_flight"), 0.0);
    assert_eq!(ringway.client().get("/after").unwrap().status, 200);
}

/// Memory that the program has, in KiB.
fn resident(ringway: &Ringway) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", ringway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_few_bytes_that_stand_for_megabytes_of_fields_are_not_unpacked() {
    let (origin, ringway) = one("");
    let mut frames = Frames::connect(ringway.address);
    // A field of 4,000 bytes into the table of the connection, then a byte each time it is meant again.
    let value = "x".repeat(4000);
    let mut bomb = block(&get("/bomb"));
    let mut literal = block(&[("x-bomb", &value)]);
    literal[0] = 0x40;
    bomb.extend(literal);
    bomb.extend([0x80 | 62; 12_000]);
    let before = resident(&ringway);
    for n in 0..32 {
        frames.send(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, id(n), &bomb);
        let verdict = frames.verdict(id(n));
        assert_ne!(verdict, FINE, "{n}");
        if verdict.is_err() {
            break;
        }
    }
    assert!(resident(&ringway) < before + (32 << 10), "{before} KiB became {} KiB", resident(&ringway));
    assert!(origin.requests().is_empty());
}

#[test]
fn what_is_not_http2_is_let_go() {
    let (_origin, ringway) = one("protocols = [\"h2\"]");
    assert!(crate::harness::http::raw(ringway.address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").len() < 100);
    let mut frames = Frames::connect(ringway.address);
    frames.send(h2::DATA, 0, 0, b"x");
    assert_eq!(frames.find("a goodbye", |frame| frame.kind == h2::GOAWAY).code(), PROTOCOL_ERROR);
    let refused = || ringway.metrics().sum_of("ringway_connections_refused_total", &[("reason", "h2_protocol")]);
    wait_for("the counts", || (refused() == 2.0).then_some(()));
}
