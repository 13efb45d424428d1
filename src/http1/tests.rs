//! What is accepted, what is refused, and that both hold however the bytes are split.
use super::encode;
use super::framing;
use super::framing::BodyLength;
use super::limits::Limits;
use super::parse;
use super::parse::Progress;
use super::refusal::Refusal;
use crate::head::Head;
use crate::head::Version;
use crate::head::edits::Edits;
use bytes::BytesMut;
use proptest::prelude::*;

fn parse_request(input: &[u8]) -> Result<(Progress, Head), Refusal> {
    let mut head = Head::default();
    parse::request(input, &Limits::default(), &mut head).map(|progress| (progress, head))
}

/// Parses piece by piece: whatever the split, the outcome is the same as at once.
fn accepted(input: &[u8]) -> Head {
    let (progress, head) = parse_request(input).unwrap_or_else(|refusal| panic!("{}: {refusal}", input.escape_ascii()));
    assert_eq!(progress, Progress::Complete { consumed: input.len() }, "{}", input.escape_ascii());
    for end in 0..input.len() {
        let partial = parse_request(&input[..end]).map(|(progress, _)| progress);
        assert_eq!(partial, Ok(Progress::Partial), "{}", input[..end].escape_ascii());
    }
    head
}

fn refused(input: &[u8], expected: Refusal) {
    let outcome = parse_request(input).and_then(|(progress, head)| {
        assert_ne!(progress, Progress::Partial, "{} is not refused", input.escape_ascii());
        framing::of_request(&head).map(|_| ())
    });
    assert_eq!(outcome, Err(expected), "{}", input.escape_ascii());
}

#[test]
fn legal_requests_are_served() {
    let head = accepted(b"\r\nGET /a?b=%20 HTTP/1.1\r\nhost:\t example.com:8080 \t\r\nX:\r\nY: a\tb\xff\r\n\r\n");
    assert_eq!((head.target(), head.authority()), (&b"/a?b=%20"[..], Some(&b"example.com:8080"[..])));
    assert_eq!(head.all_named(b"y").next(), Some(&b"a\tb\xff"[..]));
    let head = accepted(b"GET http://other:81/p?q HTTP/1.1\r\nHost: example.com\r\n\r\n");
    assert_eq!((head.target(), head.authority()), (&b"/p?q"[..], Some(&b"other:81"[..])));
    assert_eq!(accepted(b"GET HTTP://o HTTP/1.1\r\nHost: e\r\n\r\n").target(), b"/");
    assert_eq!(accepted(b"GET http://o?q HTTP/1.1\r\nHost: e\r\n\r\n").target(), b"/?q");
    assert_eq!(accepted(b"OPTIONS http://o HTTP/1.1\r\nHost: e\r\n\r\n").target(), b"*");
    assert_eq!(accepted(b"OPTIONS * HTTP/1.1\r\nHost: e\r\n\r\n").target(), b"*");
    assert_eq!(accepted(b"CONNECT o:443 HTTP/1.1\r\nHost: o:443\r\n\r\n").authority(), Some(&b"o:443"[..]));
    let old = accepted(b"M-SEARCH / HTTP/1.0\r\n\r\n");
    assert_eq!((old.version(), old.authority(), old.method_text()), (Version::Http10, None, &b"M-SEARCH"[..]));
}

#[test]
fn ambiguous_requests_are_refused() {
    let line = |line: &[u8], refusal| refused(&[line, b"\r\nHost: a\r\n\r\n"].concat(), refusal);
    line(b"GET / HTTP/1.1\nX: y", Refusal::BareLf);
    line(b"GET /", Refusal::StartLine);
    line(b"GET", Refusal::StartLine);
    line(b"GET /\rX HTTP/1.1", Refusal::Target);
    line(b"GET  / HTTP/1.1", Refusal::Target);
    line(b"GET / a HTTP/1.1", Refusal::Target);
    line(b"GET\t/ HTTP/1.1", Refusal::Method);
    line(b" GET / HTTP/1.1", Refusal::Method);
    line(b"G(T / HTTP/1.1", Refusal::Method);
    line(b"GET / HTTP/1.2", Refusal::Version);
    line(b"GET / HTTP/2.0", Refusal::Version);
    line(b"GET / HTTP/1.10", Refusal::StartLine);
    line(b"GET / http/1.1", Refusal::StartLine);
    line(b"GET / HTTP/1.1 ", Refusal::StartLine);
    for target in ["a", "/a#b", "/\x7f", "/\u{e9}", "ftp://a/", "http://u@a/", "http:///", "*", "/\0"] {
        line(format!("GET {target} HTTP/1.1").as_bytes(), Refusal::Target);
    }
    line(b"CONNECT /a HTTP/1.1", Refusal::Target);
    let field =
        |field: &[u8], refusal| refused(&[b"GET / HTTP/1.1\r\nHost: a\r\n", field, b"\r\n\r\n"].concat(), refusal);
    field(b" X: y", Refusal::FieldSpace);
    field(b"X: y\r\n\tz", Refusal::FieldSpace);
    field(b"X : y", Refusal::FieldSpace);
    field(b": y", Refusal::FieldName);
    field(b"X", Refusal::FieldName);
    field(b"X(: y", Refusal::FieldName);
    field(b"X\0: y", Refusal::FieldName);
    field(b"X: a\0b", Refusal::FieldValue);
    field(b"X: a\x01b", Refusal::FieldValue);
    field(b"X: a\rb", Refusal::BareCr);
    field(b"X: y\nZ: z", Refusal::BareLf);
    field(b"Host: a", Refusal::Host);
    refused(b"GET / HTTP/1.1\r\n\r\n", Refusal::Host);
    refused(b"GET / HTTP/1.1\r\nHost:\r\n\r\n", Refusal::Host);
    refused(b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Refusal::Host);
    refused(b"GET http://a/ HTTP/1.1\r\nHost: b c\r\n\r\n", Refusal::Host);
    refused(b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::StartLine);
    field(b"Content-Length: 1\r\nTransfer-Encoding: chunked", Refusal::ConflictingFraming);
}

#[test]
fn garbage_is_refused_before_its_line_ends() {
    for garbage in [&b"\x16\x03\x01\x02\x00"[..], b"\0", b"GE\0", b"GET /\0", b"GET / HTTP/1.1\r\nA\0", b"\rX"] {
        assert!(parse_request(garbage).is_err(), "{}", garbage.escape_ascii());
    }
    assert!(parse_request(&[b'A'; 65]).is_err());
    let mut head = Head::default();
    assert_eq!(parse::response(b"SSH-2.0", &Limits::default(), &mut head), Err(Refusal::StartLine));
}

#[test]
fn limits_hold_to_the_byte() {
    let limits = Limits { max_head_bytes: 64, max_fields: 2 };
    let check = |input: String| parse::request(input.as_bytes(), &limits, &mut Head::default());
    let sized = |bytes: usize| format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(bytes - 26));
    assert_eq!(check(sized(64)), Ok(Progress::Complete { consumed: 64 }));
    assert_eq!(check(sized(65)), Err(Refusal::HeadTooLarge));
    assert_eq!(check(format!("GET /{}", "a".repeat(64))), Err(Refusal::TargetTooLong));
    assert_eq!(check(format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(64))), Err(Refusal::HeadTooLarge));
    assert_eq!(check("GET / HTTP/1.1\r\nHost: a\r\nB: b\r\nC: c\r\n\r\n".into()), Err(Refusal::TooManyFields));
}

#[test]
fn responses_are_read_as_strictly() {
    let parse = |line: &str| {
        let mut head = Head::default();
        let input = format!("{line}\r\nA: b\r\n\r\n");
        parse::response(input.as_bytes(), &Limits::default(), &mut head)
            .map(|_| (head.status(), head.reason().to_vec()))
    };
    assert_eq!(parse("HTTP/1.1 200 OK then"), Ok((200, b"OK then".to_vec())));
    assert_eq!(parse("HTTP/1.0 404 "), Ok((404, vec![])));
    assert_eq!(parse("HTTP/1.1 204"), Ok((204, vec![])));
    for bad in [
        "HTTP/1.1 2000",
        "HTTP/1.1 20",
        "HTTP/1.1 099 x",
        "HTTP/1.1 600 x",
        "HTTP/1.1  200",
        "HTTP/1.1 +20 x",
        "ICY 200 OK",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
    assert_eq!(parse("HTTP/2.0 200 OK"), Err(Refusal::Version));
    assert_eq!(parse("HTTP/1.1 200 a\rb"), Err(Refusal::StartLine));
}

#[test]
fn framing_is_said_once_and_by_us() {
    let head = accepted(b"POST /p HTTP/1.1\r\nContent-Length: 5\r\nHost: a\r\nX: 1\r\n\r\n");
    let mut edits = Edits::default();
    edits.add(b"Via", b"1.1 r");
    let mut out = BytesMut::new();
    encode::request(&head, &edits, BodyLength::Chunked, encode::Connection::Default, &mut out);
    assert_eq!(&out[..], b"POST /p HTTP/1.1\r\nHost: a\r\nX: 1\r\nTransfer-Encoding: chunked\r\nVia: 1.1 r\r\n\r\n");
    let mut response = Head::default();
    parse::response(b"HTTP/1.1 304\r\nContent-Length: 5\r\n\r\n", &Limits::default(), &mut response).unwrap();
    out.clear();
    encode::response(&response, &Edits::default(), BodyLength::Empty, encode::Connection::Close, &mut out);
    assert_eq!(&out[..], b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nConnection: close\r\n\r\n");
}

proptest! {
    #[test]
    fn bytes_never_panic_and_the_split_never_matters(
        input in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            "(GET|POST) /[a-z?%]{0,9} HTTP/1\\.[01]\r\n(Host: [a-z]{1,5}\r\n)?([A-Za-z-]{1,8}:[ -~\t\r\n]{0,12}\r\n){0,4}\r\n".prop_map(String::into_bytes),
        ],
    ) {
        let whole = parse_request(&input).map(|(progress, head)| (progress, head.target().to_vec(), head.fields().len()));
        for end in 0..input.len() {
            match parse_request(&input[..end]) {
                Ok((Progress::Partial, _)) => {}
                // What a part decides, the whole does not change.
                Ok((progress, head)) => prop_assert_eq!(Ok((progress, head.target().to_vec(), head.fields().len())), whole.clone()),
                Err(_) => prop_assert!(whole.is_err(), "{}", input.escape_ascii()),
            }
        }
    }

    #[test]
    fn an_accepted_head_goes_on_as_one_that_is_accepted(
        path in "/[a-z0-9%._~/-]{0,20}", name in "[A-Za-z][A-Za-z-]{0,10}", value in "([!-~]([ -~]{0,10}[!-~])?)?",
    ) {
        let input = format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-{name}: {value}\r\n\r\n");
        let (_, head) = parse_request(input.as_bytes()).unwrap();
        let mut out = BytesMut::new();
        encode::request(&head, &Edits::default(), BodyLength::Empty, encode::Connection::Default, &mut out);
        prop_assert_eq!(&out[..], input.as_bytes());
    }
}

#[test]
fn lines_that_go_on_as_they_came_are_copied_and_the_others_written() {
    let head = accepted(b"GET / HTTP/1.1\r\nA: 1\r\nB:2\r\nC: 3\r\nHost: h\r\nD: \r\nE:  5\r\nF: 6 \r\nG: 7\r\n\r\n");
    let mut edits = Edits::default();
    edits.drop_field(2);
    let mut out = BytesMut::new();
    encode::request(&head, &edits, BodyLength::Empty, encode::Connection::Default, &mut out);
    assert_eq!(
        out.escape_ascii().to_string(),
        b"GET / HTTP/1.1\r\nHost: h\r\nA: 1\r\nB: 2\r\nD: \r\nE: 5\r\nF: 6\r\nG: 7\r\n\r\n".escape_ascii().to_string()
    );
    let mut pushed = Head::default();
    pushed.push(b"a", b"1");
    pushed.push(b"b", b": 2");
    pushed.set_response(200, Default::default());
    out.clear();
    encode::response(&pushed, &Edits::default(), BodyLength::Empty, encode::Connection::Default, &mut out);
    assert_eq!(&out[..], b"HTTP/1.1 200 OK\r\na: 1\r\nb: : 2\r\n\r\n");
}
