//! The rules of HTTP/2 (RFC 9113 sections 4 to 8, RFC 7541) one by one, in frames: what ends a stream, what ends the connection and
//! with which code, and what must be taken as it is.
use crate::harness::h2::{
    self, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, block, frame, get,
};
use crate::harness::origin::{Origin, Script};
use crate::harness::program::Ringway;
use crate::harness::wait_for;
use crate::http2::one;
use std::time::Duration;

const PADDED: u8 = 8;
const WITH_PRIORITY: u8 = 0x20;
const PUSH_PROMISE: u8 = 5;
const WHOLE: u8 = END_HEADERS | END_STREAM;

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const FRAME_SIZE_ERROR: u32 = 6;
const COMPRESSION_ERROR: u32 = 9;

/// How a client is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// A response on stream 1 whose field block begins with this byte: its status.
    Status(u8),
    /// A reset of stream 1.
    Reset(u32),
    /// GOAWAY, and the end of the connection.
    Goodbye(u32),
    /// PING or SETTINGS come back with ACK.
    Acknowledged(u8),
}

const FINE: Answer = Answer::Status(0x88);
const BAD_REQUEST: Answer = Answer::Status(0x8c);

/// Sends these frames on a connection of their own, and gives the answer of the wanted kind.
#[track_caller]
fn check(ringway: &Ringway, what: &str, frames: &[Vec<u8>], expected: Answer) {
    let mut connection = Frames::connect(ringway.address);
    connection.find("its settings", |frame| frame.kind == SETTINGS && frame.flags == 1);
    connection.send_raw(&frames.concat());
    let is_it = |frame: &h2::Frame| match expected {
        Answer::Acknowledged(kind) => frame.kind == kind && frame.flags & 1 == 1,
        _ => frame.kind == GOAWAY || (frame.stream == 1 && matches!(frame.kind, HEADERS | RST_STREAM)),
    };
    let got = connection.find(what, is_it);
    let answer = match got.kind {
        HEADERS => Answer::Status(got.payload[0]),
        RST_STREAM => Answer::Reset(got.code()),
        GOAWAY => Answer::Goodbye(got.code()),
        kind => Answer::Acknowledged(kind),
    };
    assert_eq!(answer, expected, "{what}");
    if matches!(answer, Answer::Goodbye(_)) {
        while connection.next().is_some() {}
    }
}

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    get("/p").into_iter().chain(more.iter().copied()).collect()
}

fn post(path: &str) -> Vec<(&str, &str)> {
    get(path).into_iter().map(|(name, value)| if name == ":method" { (name, "POST") } else { (name, value) }).collect()
}

fn head(flags: u8, stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, flags, stream, &block(fields))
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

#[test]
fn frames_that_break_a_rule_end_the_connection_with_the_code_of_that_rule() {
    let (origin, ringway) = one("");
    let whole = head(WHOLE, 1, &get("/p"));
    let open = head(END_HEADERS, 1, &post("/up"));
    let begun = head(END_STREAM, 1, &get("/p"));
    let check = |what: &str, frames: &[&Vec<u8>], code: u32| {
        let frames: Vec<Vec<u8>> = frames.iter().map(|frame| (*frame).clone()).collect();
        check(&ringway, what, &frames, Answer::Goodbye(code));
    };
    check("a frame above the largest size", &[&open, &frame(DATA, 0, 1, &[0; 16_385])], FRAME_SIZE_ERROR);
    check("a head above the largest size", &[&frame(HEADERS, WHOLE, 1, &[0x82; 16_385])], FRAME_SIZE_ERROR);
    check("PING of six", &[&frame(PING, 0, 0, &[0; 6])], FRAME_SIZE_ERROR);
    check("RST_STREAM of three", &[&open, &frame(RST_STREAM, 0, 1, &[0; 3])], FRAME_SIZE_ERROR);
    check("PRIORITY of four", &[&open, &frame(PRIORITY, 0, 1, &[0; 4])], FRAME_SIZE_ERROR);
    check("WINDOW_UPDATE of three", &[&frame(WINDOW_UPDATE, 0, 0, &[0; 3])], FRAME_SIZE_ERROR);
    check("SETTINGS of three", &[&frame(SETTINGS, 0, 0, &[0; 3])], FRAME_SIZE_ERROR);
    check("SETTINGS that acknowledge and set", &[&frame(SETTINGS, 1, 0, &[0; 6])], FRAME_SIZE_ERROR);
    check("SETTINGS of a stream", &[&frame(SETTINGS, 0, 1, &[])], PROTOCOL_ERROR);
    check("PING of a stream", &[&frame(PING, 0, 1, &[0; 8])], PROTOCOL_ERROR);
    check("GOAWAY of a stream", &[&frame(GOAWAY, 0, 1, &[0; 8])], PROTOCOL_ERROR);
    check("DATA of no stream", &[&frame(DATA, 0, 0, b"x")], PROTOCOL_ERROR);
    check("HEADERS of no stream", &[&head(WHOLE, 0, &get("/p"))], PROTOCOL_ERROR);
    check("PRIORITY of no stream", &[&frame(PRIORITY, 0, 0, &[0; 5])], PROTOCOL_ERROR);
    check("RST_STREAM of no stream", &[&frame(RST_STREAM, 0, 0, &[0; 4])], PROTOCOL_ERROR);
    check("CONTINUATION of no stream", &[&begun, &frame(CONTINUATION, END_HEADERS, 0, &[])], PROTOCOL_ERROR);
    check("DATA of an idle stream", &[&frame(DATA, 0, 1, b"x")], PROTOCOL_ERROR);
    check("RST_STREAM of an idle stream", &[&frame(RST_STREAM, 0, 1, &[0; 4])], PROTOCOL_ERROR);
    check("WINDOW_UPDATE of an idle stream", &[&frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])], PROTOCOL_ERROR);
    check("CONTINUATION of an idle stream", &[&frame(CONTINUATION, END_HEADERS, 1, &[])], PROTOCOL_ERROR);
    check("CONTINUATION after a whole head", &[&open, &frame(CONTINUATION, END_HEADERS, 1, &[])], PROTOCOL_ERROR);
    check("a stream of the server's", &[&head(WHOLE, 2, &get("/p"))], PROTOCOL_ERROR);
    check("an older stream", &[&head(WHOLE, 5, &get("/p")), &head(WHOLE, 3, &get("/p"))], PROTOCOL_ERROR);
    check("PRIORITY within a head", &[&begun, &frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])], PROTOCOL_ERROR);
    check("another head within a head", &[&begun, &head(WHOLE, 3, &get("/p"))], PROTOCOL_ERROR);
    let nonsense = frame(HEADERS, WHOLE, 3, &[0x80]);
    check("what is no head within a head", &[&begun, &nonsense], PROTOCOL_ERROR);
    check("what is no head after a head", &[&open, &frame(CONTINUATION, END_HEADERS, 1, &[0x80])], PROTOCOL_ERROR);
    check("another stream's part of a head", &[&begun, &frame(CONTINUATION, END_HEADERS, 3, &[0x80])], PROTOCOL_ERROR);
    check("an unknown frame within a head", &[&begun, &frame(0xfa, 0, 1, b"x")], PROTOCOL_ERROR);
    check("padding longer than DATA", &[&open, &frame(DATA, PADDED, 1, b"\x09test")], PROTOCOL_ERROR);
    let padded = [vec![0xff], block(&get("/p"))].concat();
    check("padding longer than a head", &[&frame(HEADERS, WHOLE | PADDED, 1, &padded)], PROTOCOL_ERROR);
    check("a client that pushes", &[&open, &frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82])], PROTOCOL_ERROR);
    check("ENABLE_PUSH of two", &[&setting(2, 2)], PROTOCOL_ERROR);
    check("MAX_FRAME_SIZE below the least", &[&setting(5, 16_383)], PROTOCOL_ERROR);
    check("MAX_FRAME_SIZE above the most", &[&setting(5, 1 << 24)], PROTOCOL_ERROR);
    check("a window of no size", &[&frame(WINDOW_UPDATE, 0, 0, &[0; 4])], PROTOCOL_ERROR);
    let widest = frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]);
    check("a window beyond the most", &[&widest, &widest], FLOW_CONTROL_ERROR);
    assert!(origin.requests().iter().all(|seen| seen.path() == "/p" || !seen.whole), "{:?}", origin.requests());
    // All is well without the fault.
    self::check(&ringway, "nothing wrong", &[whole], FINE);
}

#[test]
fn a_field_block_that_is_none_ends_the_connection_as_one() {
    let (origin, ringway) = one("");
    let good = block(&get("/p"));
    for (what, block) in [
        ("index zero", [&good[..], &[0x80]].concat()),
        ("an index beyond the tables", [&good[..], &[0xc6]].concat()),
        ("a name beyond the tables", [&good[..], &[0x7f, 0x07, 1, b'a']].concat()),
        ("an endless number", vec![0xff; 11]),
        ("a string that is cut", [&good[..], &[0x00, 0x05, b'a']].concat()),
        ("a new size at the end", [&good[..], &[0x20]].concat()),
        ("a size beyond the most", [&[0x3f, 0xff, 0xff, 0x7f], &good[..]].concat()),
        ("filling of more than seven bits", [&good[..], b"\0\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff"].concat()),
        ("filling of zeros", [&good[..], b"\0\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90"].concat()),
        ("an end within a string", [&good[..], b"\0\x85\xf2\xb2\x4a\x84\xff\x87\xff\xff\xff\xfa\xff\xff\xff"].concat()),
    ] {
        check(&ringway, what, &[frame(HEADERS, WHOLE, 1, &block)], Answer::Goodbye(COMPRESSION_ERROR));
        // In parts: but `h2` looks at each as it comes, and would be first.
        if !block.starts_with(&good) {
            continue;
        }
        let (first, rest) = block.split_at(block.len() / 2);
        let parts = [frame(HEADERS, END_STREAM, 1, first), frame(CONTINUATION, END_HEADERS, 1, rest)];
        check(&ringway, what, &parts, Answer::Goodbye(COMPRESSION_ERROR));
    }
    assert!(origin.requests().is_empty(), "{:?}", origin.requests());
    let refused = || ringway.metrics().sum_of("ringway_connections_refused_total", &[("reason", "h2_protocol")]);
    wait_for("the counts", || (refused() == 18.0).then_some(()));
}

#[test]
fn a_request_that_breaks_a_rule_ends_its_stream_and_is_never_whole_for_an_origin() {
    let (origin, ringway) = one("");
    let open = head(END_HEADERS, 1, &post("/up"));
    let data = frame(DATA, 0, 1, b"x");
    let last = frame(DATA, END_STREAM, 1, b"x");
    let trailers = |fields: &[(&str, &str)]| vec![open.clone(), data.clone(), head(WHOLE, 1, fields)];
    let check = |what: &str, frames: &[Vec<u8>], expected| check(&ringway, what, frames, expected);
    for path in ["/a#b", "/a?b#", "/#", "#"] {
        check("a fragment", &[head(WHOLE, 1, &get(path))], BAD_REQUEST);
    }
    let mut others = Frames::connect(ringway.address);
    others.send_raw(&[head(WHOLE, 1, &get("/a#b")), head(WHOLE, 3, &get("/good"))].concat());
    let answered: Vec<u32> = (0..2).map(|_| others.find("an answer", |frame| frame.kind == HEADERS).stream).collect();
    assert!(answered.contains(&1) && answered.contains(&3), "a fragment ends its stream alone: {answered:?}");
    check("a path beyond ASCII", &[head(WHOLE, 1, &get("/\u{e9}"))], BAD_REQUEST);
    let (reset, broken) = (Answer::Reset(PROTOCOL_ERROR), Answer::Goodbye(PROTOCOL_ERROR));
    check("two methods", &[head(WHOLE, 1, &with(&[(":method", "GET")]))], reset);
    check("two schemes", &[head(WHOLE, 1, &with(&[(":scheme", "http")]))], reset);
    check("two hosts", &[head(WHOLE, 1, &with(&[(":authority", "a.example")]))], reset);
    check(
        "CONNECT with a path",
        &[head(WHOLE, 1, &[(":method", "CONNECT"), (":scheme", "http"), (":path", "/"), (":authority", "a")])],
        reset,
    );
    check("trailers with a method", &trailers(&[(":method", "GET")]), BAD_REQUEST);
    check("trailers with a status", &trailers(&[("x", "y"), (":status", "200")]), reset);
    check("trailers with an unknown pseudo-field", &trailers(&[(":x", "y")]), Answer::Goodbye(PROTOCOL_ERROR));
    check("trailers in upper case", &trailers(&[("X", "y")]), Answer::Goodbye(PROTOCOL_ERROR));
    check("trailers of one connection", &trailers(&[("connection", "close")]), reset);
    check("trailers with CR and LF", &trailers(&[("x", "a\r\nb: c")]), broken);
    check("a head in a body", &[open.clone(), head(END_HEADERS, 1, &[("x", "y")]), last.clone()], reset);
    check(
        "too much",
        &[
            head(END_HEADERS, 1, &[&post("/up")[..], &[("content-length", "1")]].concat()),
            frame(DATA, END_STREAM, 1, b"xx"),
        ],
        reset,
    );
    check("a window of no size", &[open.clone(), frame(WINDOW_UPDATE, 0, 1, &[0; 4])], broken);
    let widest = frame(WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0xff, 0xff]);
    check("a window beyond the most", &[open.clone(), widest], Answer::Reset(FLOW_CONTROL_ERROR));
    let whole: Vec<_> = origin.requests().into_iter().filter(|seen| seen.whole).collect();
    assert!(whole.len() == 1 && whole[0].path() == "/good", "{whole:?}");
}

#[test]
fn what_is_allowed_is_taken_as_it_is() {
    let (_origin, ringway) = one("");
    let whole = head(WHOLE, 1, &get("/p"));
    let open = head(END_HEADERS, 1, &post("/up"));
    let check = |what: &str, frames: &[Vec<u8>], expected| check(&ringway, what, frames, expected);
    check("an unknown frame", &[frame(0x16, 0xff, 0, b"12345678"), whole.clone()], FINE);
    check("unknown flags", &[frame(PING, 0x16, 0, b"12345678")], Answer::Acknowledged(PING));
    check("a reserved bit", &[frame(PING, 0, 0x8000_0000, b"12345678")], Answer::Acknowledged(PING));
    check("an unknown setting", &[setting(0xff, 1)], Answer::Acknowledged(SETTINGS));
    check("an acknowledged PING that nobody sent", &[frame(PING, 1, 0, b"12345678"), whole.clone()], FINE);
    check("the largest DATA", &[open.clone(), frame(DATA, END_STREAM, 1, &[b'x'; 16_384])], FINE);
    check("padded DATA", &[open.clone(), frame(DATA, END_STREAM | PADDED, 1, b"\x03test\0\0\0")], FINE);
    let padded = [&[2, 0, 0, 0, 0, 16][..], &block(&get("/p")), &[0, 0]].concat();
    check("a padded head with a priority", &[frame(HEADERS, WHOLE | PADDED | WITH_PRIORITY, 1, &padded)], FINE);
    let bytes = block(&get("/p"));
    let (first, rest) = bytes.split_at(7);
    let parts = [
        frame(HEADERS, END_STREAM, 1, first),
        frame(CONTINUATION, 0, 1, rest),
        frame(CONTINUATION, 0, 1, &[]),
        frame(CONTINUATION, END_HEADERS, 1, &[]),
    ];
    check("a head in parts", &parts, FINE);
    check("trailers", &[open.clone(), frame(DATA, 0, 1, b"x"), head(WHOLE, 1, &[("x-sum", "#1")])], FINE);
    check("`#` in a field", &[head(WHOLE, 1, &with(&[("referer", "http://a.example/p#q")]))], FINE);
    check("`%23` in a path", &[head(WHOLE, 1, &get("/a%23b?c=%23"))], FINE);
    let cancel = frame(RST_STREAM, 0, 1, &0xffu32.to_be_bytes());
    check("a reset for no known reason", &[open, cancel, frame(PING, 0, 0, &[0; 8])], Answer::Acknowledged(PING));
    check("a window made small and wide again", &[setting(4, 0), setting(4, 100), whole], FINE);
    // `h2` would have it written down each time.
    assert!(!ringway.stderr().contains("PING"), "{}", ringway.stderr());
}

#[test]
fn a_client_that_floods_a_program_that_is_leaving_is_sent_away() {
    let origin = Origin::start("a");
    let upstream = crate::hashing::upstream(&[&origin]);
    let ringway = Ringway::start(&format!("{}{upstream}", crate::hashing::BY_PATH));
    origin.script(Script { delay: Duration::from_secs(5), ..Script::default() });
    let mut frames = Frames::connect(ringway.address);
    frames.head(1, true, &get("/slow"));
    origin.wait_for_requests(1);
    ringway.signal("TERM");
    assert_eq!(frames.find("a goodbye", |frame| frame.kind == GOAWAY).code(), 0);
    frames.send_raw(&frame(SETTINGS, 0, 0, &[]).repeat(20_000));
    assert_eq!(frames.find("another goodbye", |frame| frame.kind == GOAWAY).code(), h2::ENHANCE_YOUR_CALM);
}
