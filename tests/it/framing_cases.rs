//! Every way to say a message's end twice, or to hide one message in another, as bytes on a socket. The verdict is what the
//! origin received: what is ambiguous never reaches it, what is legal reaches it as one clean request.
use crate::framing::{one, status_of};
use crate::harness::http::raw;
use crate::harness::origin::{Origin, Script};
use crate::harness::program::Ringway;
use crate::harness::wait_for;
use crate::hashing::{BY_PATH, upstream};
use socket2::SockRef;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

/// Follows each bad request on its connection. If it were ever answered, the bad one had ended where we did not see it end.
const EVIL: &str = "GET /evil HTTP/1.1\r\nHost: a\r\n\r\n";

/// Refuses with this status, says so, ends the connection, and leaves the origin alone.
fn refused(origin: &Origin, ringway: &Ringway, request: &[u8], status: u16) {
    let before = origin.requests().len();
    let answer = raw(ringway.address, &[request, EVIL.as_bytes()].concat());
    let shown = request[..request.len().min(300)].escape_ascii();
    assert_eq!(status_of(&answer), status, "{shown}");
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains("Connection: close"), "{shown} keeps the connection: {text}");
    assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{shown}: what follows was taken for a request: {text}");
    assert_eq!(origin.requests().len(), before, "{shown} reached the origin: {:?}", origin.requests().last());
}

/// Refuses with 400 within the body: the origin may have seen its beginning, but never a whole request.
fn cut_off(origin: &Origin, ringway: &Ringway, chunks: &[u8]) {
    let before = origin.requests().len();
    let head = b"POST /cut HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = raw(ringway.address, &[head, chunks, EVIL.as_bytes()].concat());
    assert_eq!(status_of(&answer), 400, "{}", chunks.escape_ascii());
    let text = String::from_utf8_lossy(&answer);
    assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{}: {text}", chunks.escape_ascii());
    let seen = &origin.requests()[before..];
    assert!(seen.iter().all(|request| !request.whole), "{} came whole: {seen:?}", chunks.escape_ascii());
}

/// Serves it; gives the one request that the origin received, as text.
fn served(origin: &Origin, ringway: &Ringway, request: &[u8]) -> String {
    let before = origin.requests().len();
    let answer = raw(ringway.address, request);
    assert_eq!(status_of(&answer), 200, "{}: {}", request.escape_ascii(), String::from_utf8_lossy(&answer));
    let seen = origin.wait_for_requests(before + 1);
    assert_eq!(seen.len(), before + 1, "{} became several requests", request.escape_ascii());
    assert!(seen[before].whole);
    String::from_utf8_lossy(&seen[before].raw).into_owned()
}

#[test]
fn a_length_that_is_not_one_plain_number_is_refused() {
    let (origin, ringway) = one("");
    let lengths = [
        "+5",
        "-5",
        "5 5",
        "5,5",
        "5, 5",
        "5, 6",
        "0x5",
        "5a",
        "5.0",
        "5;a",
        "",
        "18446744073709551621",
        "1e1",
        "99999999999999999999999999",
        "\u{665}",
        "\"5\"",
        "5\t5",
    ];
    for length in lengths {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\nhello");
        refused(&origin, &ringway, request.as_bytes(), 400);
    }
    for fields in [
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\nX: y\r\ncontent-length: 0",
        "Content-Length: 5\r\nContent-Length:",
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\nhello");
        refused(&origin, &ringway, request.as_bytes(), 400);
    }
}

#[test]
fn a_transfer_coding_that_is_not_exactly_chunked_is_refused() {
    let (origin, ringway) = one("");
    let codings = [
        "identity",
        "gzip",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        "chunked,",
        ", chunked",
        "chunked;q=1",
        "chunked; a=b",
        "\"chunked\"",
        "xchunked",
        "chunkedx",
        "chunked chunked",
        "",
        "chunk",
        "c hunked",
        "chunked\r\n ",
        "\r\n chunked",
        "\u{b}chunked",
        "chunked\u{b}",
        "chunked\0",
        "identity, chunked",
        "trailers",
    ];
    for coding in codings {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {coding}\r\n\r\n0\r\n\r\n");
        refused(&origin, &ringway, request.as_bytes(), 400);
    }
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: x\r\nContent-Length: 5",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        " Transfer-Encoding: chunked",
        "X: y\r\n\tTransfer-Encoding: chunked",
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n0\r\n\r\n");
        refused(&origin, &ringway, request.as_bytes(), 400);
    }
    refused(&origin, &ringway, b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400);
}

#[test]
fn a_malformed_field_is_refused() {
    let (origin, ringway) = one("");
    let fields: [&[u8]; 26] = [
        b"X : y",
        b"X\t: y",
        b": y",
        b"X",
        b"X y",
        b"X y: z",
        b"X(: y",
        b"X\"y: z",
        b"X/y: z",
        b"X@: y",
        b"X\0: y",
        b"X\x7f: y",
        b"X\xe9: y",
        b"X: a\0b",
        b"X: \0",
        b"X: a\x01b",
        b"X: a\x7fb",
        b"X: a\x1bb",
        b"X: a\rb",
        b"X: a\r",
        b"X: a\nb: c",
        b"X: y\n",
        b" X: y",
        b"\tX: y",
        b"X: y\r\n z",
        b"X: y\r\n\tz",
    ];
    for field in fields {
        let request = [b"GET / HTTP/1.1\r\nHost: a\r\n", field, b"\r\n\r\n"].concat();
        refused(&origin, &ringway, &request, 400);
    }
    refused(&origin, &ringway, b"GET / HTTP/1.1\r\n Host: a\r\nHost: a\r\n\r\n", 400);
    refused(&origin, &ringway, b"GET / HTTP/1.1\r\nHost: a\n\r\n", 400);
    refused(&origin, &ringway, b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400);
    refused(&origin, &ringway, b"GET / HTTP/1.1\r\nHost: a\r\n\n", 400);
    refused(&origin, &ringway, b"GET / HTTP/1.1\r\nHost: a\r\n\rX", 400);
}

#[test]
fn a_host_that_is_missing_doubled_or_no_host_is_refused() {
    let (origin, ringway) = one("");
    let hosts = [
        "",
        "Host: a\r\nHost: b\r\n",
        "Host: a\r\nHost: a\r\n",
        "Host: a\r\nhost: a\r\n",
        "Host:\r\n",
        "Host: \t\r\n",
        "Host: user@a\r\n",
        "Host: user:pw@a\r\n",
        "Host: a/b\r\n",
        "Host: a?b\r\n",
        "Host: a#b\r\n",
        "Host: a b\r\n",
        "Host: a, b\r\n",
        "Host: http://a\r\n",
        "Host: a:b\r\n",
        "Host: a:80:80\r\n",
        "Host: [::1\r\n",
        "Host: ::1\r\n",
        "Host: a\\b\r\n",
        "Host: a\"b\r\n",
        "Host: :80\r\n",
        "Host: a:999999\r\n",
        "Host: <a>\r\n",
        "Host: a%\r\n",
        "Host: a:65536\r\n",
    ];
    for host in hosts {
        refused(&origin, &ringway, format!("GET / HTTP/1.1\r\n{host}\r\n").as_bytes(), 400);
    }
    for target in ["http://user@a/", "http://a:b/", "http:///", "http://", "http://a b/", "http://[::1/", "//a/\u{e9}"]
    {
        refused(&origin, &ringway, format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), 400);
    }
    // Two names for one request: an absolute target replaces Host, and Host must still be one.
    refused(&origin, &ringway, b"GET http://a/ HTTP/1.1\r\nHost: b\r\nHost: c\r\n\r\n", 400);
    refused(&origin, &ringway, b"GET http://a/ HTTP/1.1\r\n\r\n", 400);
}

#[test]
fn a_start_line_that_is_not_of_http_1_is_refused() {
    let (origin, ringway) = one("");
    let check = |line: &[u8], status| {
        refused(&origin, &ringway, &[line, b"\r\nHost: a\r\n\r\n"].concat(), status);
    };
    for line in [
        &b"GET /"[..],
        b"GET",
        b"GET  / HTTP/1.1",
        b"GET /  HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b" GET / HTTP/1.1",
        b"\tGET / HTTP/1.1",
        b"GET\t/ HTTP/1.1",
        b"GET /\tHTTP/1.1",
        b"GET / a HTTP/1.1",
        b"GET / http/1.1",
        b"GET / Http/1.1",
        b"GET / HTTP/1",
        b"GET / HTTP/1.10",
        b"GET / HTTP/1.1.1",
        b"GET / HTTP/ 1.1",
        b"GET / HTTP1.1",
        b"GET / HTTPS/1.1",
        b"GET / ICY/1.1",
        b"GET / HTTP/1.x",
        b"GET / HTTP/+1.1",
        b"G@T / HTTP/1.1",
        b"GET: / HTTP/1.1",
        b"G\0T / HTTP/1.1",
        b"G\xe9T / HTTP/1.1",
        b"(GET) / HTTP/1.1",
        b"\"GET\" / HTTP/1.1",
        b"GET a HTTP/1.1",
        b"GET /\0 HTTP/1.1",
        b"GET /\x01 HTTP/1.1",
        b"GET /\x7f HTTP/1.1",
        b"GET /\xc3\xa9 HTTP/1.1",
        b"GET /a#b HTTP/1.1",
        b"GET /\r HTTP/1.1",
        b"GET ? HTTP/1.1",
        b"GET * HTTP/1.1",
        b"GET ftp://a/ HTTP/1.1",
        b"GET a:80 HTTP/1.1",
        b"OPTIONS ** HTTP/1.1",
        b"CONNECT / HTTP/1.1",
        b"CONNECT http://a/ HTTP/1.1",
        b"\r\n\r\n",
        b"/ HTTP/1.1",
    ] {
        check(line, 400);
    }
    for version in ["0.9", "1.2", "1.9", "2.0", "3.0", "9.9"] {
        check(format!("GET / HTTP/{version}").as_bytes(), 505);
    }
    // HTTP/0.9, as a whole request.
    let answer = raw(ringway.address, b"GET /\r\n");
    assert_eq!(status_of(&answer), 400);
    assert_eq!(origin.requests().len(), 0);
}

#[test]
fn what_is_too_large_is_refused_by_its_kind() {
    let (origin, ringway) = one("max_header_bytes = \"2KiB\"\nmax_headers = 10");
    let get = |target: &str, fields: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes();
    let long = "x".repeat(3000);
    refused(&origin, &ringway, &get(&format!("/{long}"), ""), 414);
    refused(&origin, &ringway, &get("/", &format!("X: {long}\r\n")), 431);
    refused(&origin, &ringway, &get("/", &format!("{long}: x\r\n")), 431);
    refused(&origin, &ringway, &get("/", &"X: y\r\n".repeat(10)), 431);
    refused(&origin, &ringway, &get("/", &format!("X: {}\r\n", "y".repeat(150)).repeat(9).repeat(2)), 431);
    refused(&origin, &ringway, format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "G".repeat(3000)).as_bytes(), 400);
    served(&origin, &ringway, &get("/", &format!("{}Connection: close\r\n", "X: y\r\n".repeat(8))));
}

#[test]
fn a_chunk_that_is_not_well_formed_cuts_the_request_off() {
    let (origin, ringway) = one("");
    for size in [
        "+5",
        "-5",
        " 5",
        "5 ",
        "5\t",
        "0x5",
        "5h",
        "g",
        "",
        "5 5",
        "5,",
        "\u{665}",
        "1000000000000000",
        "5\0",
        "ffffffffffffffff",
        "10000000000000005",
        "fffffffffffffffffffffffffffffff5",
        "5\r",
        "5;",
        "5;=",
        "5;a=",
        "5; a",
        "5 ;a",
        "5;a =b",
        "5;a= b",
        "5;a=\"b",
        "5;a=\"\x01\"",
        "5;a=\"b\"c",
        "5;a b",
        "5;\x7f",
        "5;a\0",
        "5,a=b",
        "5;a\rb",
    ] {
        cut_off(&origin, &ringway, format!("{size}\r\nhello\r\n0\r\n\r\n").as_bytes());
    }
    for chunks in [
        &b"5\nhello\r\n0\r\n\r\n"[..],
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhello!\r\n0\r\n\r\n",
        b"5\r\nhello\r0\r\n\r\n",
        b"5\r\nhello\r\n0\n\r\n",
        b"5\r\nhello\r\n0\r\n\n",
        b"5\rhello\r\n0\r\n\r\n",
        b"\r\n5\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX : y\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX: y\n\r\n",
        b"5\r\nhello\r\n0\r\n X: y\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX: a\0b\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\rX\r\n\r\n",
    ] {
        cut_off(&origin, &ringway, chunks);
    }
    let long = format!("5;a={}\r\nhello\r\n0\r\n\r\n", "b".repeat(1000));
    cut_off(&origin, &ringway, long.as_bytes());
}

#[test]
fn what_is_legal_reaches_the_origin_as_one_clean_request() {
    let (origin, ringway) = one("");
    let serve = |request: &[u8]| served(&origin, &ringway, request);
    let close = "Connection: close\r\n";
    let padded = serve(
        format!("GET /p HTTP/1.1\r\nHost:\t a \t\r\nX:y\r\nEmpty:\r\nZ: \ta\tb  c\u{e9} \t\r\n{close}\r\n").as_bytes(),
    );
    assert!(padded.starts_with("GET /p HTTP/1.1\r\nHost: a\r\nX: y\r\nEmpty: \r\nZ: a\tb  c\u{e9}\r\n"), "{padded}");
    assert!(
        serve(format!("\r\nGET /q HTTP/1.1\r\nHost: a\r\n{close}\r\n").as_bytes())
            .starts_with("GET /q HTTP/1.1\r\nHost: a\r\n")
    );
    for target in ["http://o:81/p?q", "HTTP://o:81/p?q", "https://o:81/p?q"] {
        let seen = serve(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{close}\r\n").as_bytes());
        assert!(seen.starts_with("GET /p?q HTTP/1.1\r\nHost: o:81\r\n") && !seen.contains("Host: a\r\n"), "{seen}");
    }
    assert!(
        serve(format!("GET http://o HTTP/1.1\r\nHost: a\r\n{close}\r\n").as_bytes())
            .starts_with("GET / HTTP/1.1\r\nHost: o\r\n")
    );
    assert!(
        serve(format!("OPTIONS * HTTP/1.1\r\nHost: a\r\n{close}\r\n").as_bytes()).starts_with("OPTIONS * HTTP/1.1\r\n")
    );
    assert!(
        serve(format!("OPTIONS http://o HTTP/1.1\r\nHost: a\r\n{close}\r\n").as_bytes())
            .starts_with("OPTIONS * HTTP/1.1\r\nHost: o\r\n")
    );
    for host in ["a.example:8080", "[::1]:80", "10.0.0.1", "a_b", "xn--e1a.example.", "a:"] {
        let seen = serve(format!("GET / HTTP/1.1\r\nHost: {host}\r\n{close}\r\n").as_bytes());
        assert!(seen.contains(&format!("Host: {host}\r\n")), "{seen}");
    }
    // Bytes of a path and query pass as they are.
    for target in ["/%2F%00%zz;a=b//..a?%20", "/a?b?c&d=/../e", "/'\"<>[]{}|\\^`"] {
        let seen = serve(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{close}\r\n").as_bytes());
        assert!(seen.starts_with(&format!("GET {target} HTTP/1.1\r\n")), "{seen}");
    }
    for method in ["PROPFIND", "M-SEARCH", "get", "!#$%&'*+-.^_`|~9"] {
        let seen = serve(format!("{method} / HTTP/1.1\r\nHost: a\r\n{close}\r\n").as_bytes());
        assert!(seen.starts_with(&format!("{method} / HTTP/1.1\r\n")), "{seen}");
    }
    assert!(serve(b"GET /old HTTP/1.0\r\n\r\n").starts_with("GET /old HTTP/1.1\r\nHost: \r\n"));
}

#[test]
fn a_legal_body_reaches_the_origin_byte_for_byte() {
    let (origin, ringway) = one("");
    let serve = |fields: &str, body: &str| {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n\r\n{body}");
        let seen = served(&origin, &ringway, request.as_bytes());
        let (head, _) = seen.split_once("\r\n\r\n").unwrap();
        let framing = head.lines().filter(|line| line.starts_with("Content-Length") || line.starts_with("Transfer-E"));
        let framing: Vec<&str> = framing.collect();
        assert_eq!(framing.len(), 1, "{seen}");
        (framing[0].to_owned(), origin.requests().pop().unwrap())
    };
    for length in ["5", "005", "\t5 \t"] {
        let (framing, seen) = serve(&format!("Content-Length: {length}"), "hello");
        assert_eq!((framing.as_str(), &seen.body[..]), ("Content-Length: 5", &b"hello"[..]));
    }
    assert_eq!(serve("Content-Length: 0", "").0, "Content-Length: 0");
    for coding in ["chunked", "CHUNKED", "Chunked", "\tchunked\t"] {
        for chunks in ["5\r\nhello\r\n0\r\n\r\n", "0005\r\nhello\r\n000\r\n\r\n", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"] {
            let (framing, seen) = serve(&format!("Transfer-Encoding: {coding}"), chunks);
            assert_eq!((framing.as_str(), &seen.body[..]), ("Transfer-Encoding: chunked", &b"hello"[..]));
        }
    }
    let (_, seen) = serve("Transfer-Encoding: chunked", "2;a;b=c;d=\"e;\\\"\u{e9}\"\r\nhe\r\n3\r\nllo\r\n0;x\r\n\r\n");
    assert_eq!(seen.body, b"hello");
    // What frames, routes, identifies or rules a message has no business after it.
    let forbidden = "Content-Length: 9\r\nTransfer-Encoding: chunked\r\nHost: evil\r\nX-Forwarded-For: 6.6.6.6\r\n\
        Fencing-Token: 1\r\nAuthorization: x\r\nCookie: a=b\r\nContent-Type: x\r\nConnection: close\r\nTE: x\r\nVia: x\r\n\
        Content-Encoding: gzip\r\nContent-Range: bytes 0-1/2\r\nCache-Control: no-store\r\nSet-Cookie: a=b\r\n\
        Proxy-Authorization: x\r\nMax-Forwards: 1\r\n";
    let (_, seen) = serve("Transfer-Encoding: chunked", &format!("5\r\nhello\r\n0\r\n{forbidden}X-Sum: 1\r\n\r\n"));
    assert_eq!(seen.trailers, [("X-Sum".to_owned(), "1".to_owned())]);
}

#[test]
fn a_field_that_only_looks_like_another_does_not_stand_for_it() {
    let (origin, ringway) = one("");
    // Many applications see `X_Forwarded_For` and `X-Forwarded-For` as one variable.
    let names =
        ["X_Forwarded_For", "x-forwarded_proto", "X_Request_Id", "Client_Cert", "Fencing_Token", "Content_Length"];
    let fields: String = names.iter().map(|name| format!("{name}: 7\r\n")).collect();
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX_Kept: 1\r\n{fields}\r\n");
    let seen = served(&origin, &ringway, request.as_bytes());
    assert!(seen.contains("X_Kept: 1\r\n") && !seen.contains(": 7\r\n"), "{seen}");
}

#[test]
fn an_expectation_nobody_here_knows_is_left_to_the_origin() {
    let (origin, ringway) = one("");
    let serve = |version: &str, expect: &str| {
        let fields = format!("Host: a\r\nConnection: close\r\nExpect: {expect}\r\nContent-Length: 5");
        served(&origin, &ringway, format!("POST / HTTP/{version}\r\n{fields}\r\n\r\nhello").as_bytes())
    };
    // The body is not held back for what is not exactly `100-continue`: whoever takes it for that finds the body there.
    for expect in ["x", "y 100-continue", "100-continue-not", "\"100-continue\"", "100-continue, x", "100-Continue"] {
        let seen = serve("1.1", expect);
        assert!(seen.contains(&format!("Expect: {expect}\r\n")) && seen.ends_with("\r\n\r\nhello"), "{seen}");
    }
    let old = serve("1.0", "100-continue");
    assert!(!old.contains("Expect") && old.ends_with("\r\n\r\nhello"), "HTTP/1.0 knows none: {old}");
}

#[test]
fn what_frames_or_identifies_a_request_cannot_be_named_away() {
    let (origin, ringway) = one("trusted_proxies = [\"127.0.0.1\"]");
    let names = "Host, Content-Length, Transfer-Encoding, X-Request-Id, X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, Via";
    for (framing, body) in [("Content-Length: 5", "hello"), ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n")] {
        let ours = "X-Request-Id: abc\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: h";
        let request = format!(
            "POST / HTTP/1.1\r\nHost: a\r\n{ours}\r\nConnection: close, {names}, X-Hop\r\nX-Hop: 1\r\n{framing}\r\n\r\n{body}"
        );
        let seen = served(&origin, &ringway, request.as_bytes());
        for field in [
            "Host: a",
            "X-Request-Id: abc",
            framing,
            "X-Forwarded-For: 6.6.6.6, 127.0.0.1",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: h",
            "Via: 1.1 ringway",
        ] {
            assert_eq!(seen.matches(&format!("\r\n{field}\r\n")).count(), 1, "{field}: {seen}");
        }
        assert!(!seen.contains("X-Hop"), "{seen}");
    }
}

#[test]
fn what_asks_for_http2_never_reaches_the_origin() {
    let (origin, ringway) = one("");
    for connection in ["Upgrade, HTTP2-Settings", "Upgrade", "close"] {
        let fields = format!("Connection: {connection}, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__");
        let seen = served(&origin, &ringway, format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n").as_bytes());
        assert!(!seen.to_lowercase().contains("upgrade") && !seen.to_lowercase().contains("http2"), "{seen}");
    }
}

/// With one worker, and so one pool: a connection that may be used again is.
fn one_worker() -> (Origin, Ringway) {
    let origin = Origin::start("a");
    let ringway = Ringway::start(&format!(
        "[server]\nworkers = 1\n[[listener]]\naddress = \"LISTEN\"\n{BY_PATH}{}",
        upstream(&[&origin])
    ));
    assert_eq!(next_connection(&origin, &ringway), next_connection(&origin, &ringway));
    (origin, ringway)
}

/// Has the origin answer with these bytes; gives the client's answer to a GET.
fn answered(origin: &Origin, ringway: &Ringway, request: &str, response: &[u8]) -> String {
    origin.script(Script { raw: Some(response.to_vec()), ..Script::default() });
    let answer = raw(ringway.address, format!("{request}\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes());
    String::from_utf8_lossy(&answer).into_owned()
}

/// The number of the connection that the origin gets the next request on.
fn next_connection(origin: &Origin, ringway: &Ringway) -> usize {
    origin.script(Script::default());
    let before = origin.requests().len();
    assert_eq!(ringway.client().get("/next").unwrap().text(), "a /next\n", "somebody else's answer");
    origin.wait_for_requests(before + 1)[before].connection
}

#[test]
fn a_response_that_is_ambiguous_is_a_502_and_its_connection_is_not_used_again() {
    let (origin, ringway) = one_worker();
    let many = "X: y\r\n".repeat(300);
    let large = format!("X: {}\r\n", "y".repeat(70_000));
    let check = |response: &str| {
        let answer = answered(&origin, &ringway, "GET /bad HTTP/1.1", response.as_bytes());
        let shown = &response[..response.len().min(200)];
        assert_eq!(status_of(answer.as_bytes()), 502, "{shown:?}: {answer}");
        assert!(!answer.contains("hello"), "{shown:?} went on in part: {answer}");
        let used = origin.requests().last().unwrap().connection;
        assert_ne!(next_connection(&origin, &ringway), used, "{shown:?}");
    };
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: \r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "X : y\r\nContent-Length: 5\r\n",
        ": y\r\nContent-Length: 5\r\n",
        "X\r\nContent-Length: 5\r\n",
        "X: y\r\n z\r\nContent-Length: 5\r\n",
        " X: y\r\nContent-Length: 5\r\n",
        "X: a\0b\r\nContent-Length: 5\r\n",
        "X: a\rb\r\nContent-Length: 5\r\n",
        "X: y\nContent-Length: 5\r\n",
        &many,
        &large,
    ] {
        check(&format!("HTTP/1.1 200 OK\r\n{fields}\r\nhello"));
    }
    for line in [
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked",
        "HTTP/2.0 200 OK",
        "HTTP/1.2 200 OK",
        "http/1.1 200 OK",
        "ICY 200 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 099 OK",
        "HTTP/1.1 600 OK",
        "HTTP/1.1 +20 OK",
        "HTTP/1.1  200 OK",
        "HTTP/1.1\t200 OK",
        "HTTP/1.1 200\tOK",
        "HTTP/1.1 2OO OK",
        " HTTP/1.1 200 OK",
        "HTTP/1.1 200 O\0K",
        "HTTP/1.1 200 OK\n",
        "HTTP/1.1 101 Switching Protocols",
        "HTTP/1.1",
        "hello",
        "\r\n",
        "HTTP/1.1 100 Continue\r\nContent-Length: 5",
        "HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked",
    ] {
        check(&format!("{line}\r\nContent-Length: 5\r\n\r\nhello"));
    }
    let hints = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(20);
    let answer = answered(&origin, &ringway, "GET /bad HTTP/1.1", hints.as_bytes());
    assert!(answer.contains("HTTP/1.1 502 "), "hints without end: {answer}");
}

#[test]
fn a_broken_chunk_of_a_response_never_ends_cleanly() {
    let (origin, ringway) = one_worker();
    for chunks in [
        "+5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nX : y\r\n\r\n",
        "5;\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello",
    ] {
        let response = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        let answer = answered(&origin, &ringway, "GET /bad HTTP/1.1", response.as_bytes());
        assert!(!answer.ends_with("0\r\n\r\n"), "{chunks:?}: {answer}");
        let used = origin.requests().last().unwrap().connection;
        assert_ne!(next_connection(&origin, &ringway), used, "{chunks:?}");
    }
}

#[test]
fn bytes_after_a_response_are_nobodys_answer() {
    let (origin, ringway) = one_worker();
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    for (request, response) in [
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 44\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 44\r\n\r\n"),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 44\r\n\r\n"),
    ] {
        let answer =
            answered(&origin, &ringway, &format!("{request} /x HTTP/1.1"), format!("{response}{evil}").as_bytes());
        assert!(!answer.contains("evil"), "{response:?}: {answer}");
        let used = origin.requests().last().unwrap().connection;
        assert_ne!(next_connection(&origin, &ringway), used, "{response:?}");
    }
    // A body announced where there can be none: it may still be on its way, so nothing waits for it on that connection.
    for fields in ["Content-Length: 5", "Transfer-Encoding: chunked"] {
        let response = format!("HTTP/1.1 204 No Content\r\n{fields}\r\n\r\n");
        answered(&origin, &ringway, "GET /x HTTP/1.1", response.as_bytes());
        let used = origin.requests().last().unwrap().connection;
        assert_ne!(next_connection(&origin, &ringway), used, "{fields}");
    }
}

#[test]
fn a_legal_response_reaches_the_client() {
    let (origin, ringway) = one_worker();
    let check = |response: &str, expected: &str| {
        let answer = answered(&origin, &ringway, "GET /x HTTP/1.1", response.as_bytes());
        assert!(answer.starts_with(expected), "{response:?}: {answer}");
        answer
    };
    check("HTTP/1.1 200 OK\r\nContent-Length:\t5 \t\r\n\r\nhello", "HTTP/1.1 200 OK\r\n");
    check("HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 200 OK\r\n");
    check("HTTP/1.1 299 \r\ncontent-length: 5\r\n\r\nhello", "HTTP/1.1 299 \r\n");
    check("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 204 No Content\r\n");
    check("HTTP/1.1 200 OK\r\nTransfer-Encoding: CHUNKED\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n", "HTTP/1.1 200 OK\r\n");
    let chain = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    check(&format!("{chain}HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), chain);
    let hops = "HTTP/1.1 200 OK\r\nConnection: X-Hop, Content-Length, X-Twice\r\nX-Hop: 1\r\nX-Twice: 1\r\nX-Kept: 1\r\n\
        Date: D\r\nx-twice: 2\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello";
    let answer = check(hops, "HTTP/1.1 200 OK\r\nX-Kept: 1\r\nDate: D\r\nContent-Length: 5\r\n");
    assert!(answer.ends_with("\r\n\r\nhello") && !answer.contains("wice") && !answer.contains("pgrade"), "{answer}");
}

#[test]
fn a_response_says_when_it_came_about() {
    let (origin, ringway) = one_worker();
    let dates = |answer: &str| -> Vec<String> {
        answer.lines().filter_map(|line| line.strip_prefix("Date: ").map(str::to_owned)).collect()
    };
    let undated = answered(&origin, &ringway, "GET /x HTTP/1.1", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    let ours = answered(&origin, &ringway, "TRACE /x HTTP/1.1", b"");
    for answer in [undated, ours] {
        let dates = dates(&answer);
        assert_eq!(dates.len(), 1, "{answer}");
        let told = httpdate::parse_http_date(&dates[0]).unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert!(ringway::base::clock::since_epoch().abs_diff(told) < Duration::from_secs(60), "{answer}");
    }
    let dated = b"HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 5\r\n\r\nhello";
    let answer = answered(&origin, &ringway, "GET /x HTTP/1.1", dated);
    assert!(answer.contains("date: Sun, 06 Nov 1994 08:49:37 GMT\r\n") && dates(&answer).is_empty(), "{answer}");
}

#[test]
fn a_client_that_leaves_after_half_a_preface_of_http2_is_let_go() {
    let (_origin, ringway) = one("header_timeout = \"60s\"");
    for is_reset in [false, true] {
        let mut stream = TcpStream::connect(ringway.address).unwrap();
        stream.write_all(b"P").unwrap();
        let connections = || ringway.metrics().sum_of("ringway_connections", &[]);
        wait_for("the connection to be seen", || (connections() == 1.0).then_some(()));
        if is_reset {
            // With no time to linger the kernel closes by RST.
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(stream);
        wait_for("the connection to be let go", || (connections() == 0.0).then_some(()));
    }
}
