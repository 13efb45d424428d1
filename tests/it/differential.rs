//! The same bytes to our HTTP/1.1 and to hyper's. What we accept, hyper accepts as the same message; where hyper accepts and we
//! refuse, we are stricter on purpose, and the reason is one of a list. A new difference, either way, fails.
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use ringway::head::{Head, Method, Version};
use ringway::http1::chunked::{Decoded, Decoder};
use ringway::http1::framing::{self, BodyLength};
use ringway::http1::limits::Limits;
use ringway::http1::parse::{self, Progress};
use ringway::http1::refusal::Refusal;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// What both make of one message. Names in lower case, with their values in order; a start line as text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Message {
    start: String,
    fields: BTreeMap<String, Vec<Vec<u8>>>,
    body: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Accepted(Message),
    /// Not whole when the bytes end.
    Partial,
    Refused(Option<Refusal>),
}

/// Why we may refuse a request that hyper accepts. Each is shown by a row of [`STRICTER_REQUESTS`].
const STRICTER_REQUESTS: &[(Refusal, &str)] = &[
    (Refusal::BareLf, "GET / HTTP/1.1\nHost: a\n\n"),
    (Refusal::StartLine, "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (Refusal::Target, "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"),
    (Refusal::Host, "GET / HTTP/1.1\r\n\r\n"),
    (Refusal::Host, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    (Refusal::Host, "GET / HTTP/1.1\r\nHost: user@a\r\n\r\n"),
    (Refusal::ContentLength, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx"),
    (Refusal::TransferEncoding, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    (
        Refusal::ConflictingFraming,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (Refusal::ChunkSize, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\nx\r\n0\r\n\r\n"),
    (Refusal::ChunkExtension, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;=\r\nx\r\n0\r\n\r\n"),
];

/// The same for responses, to a GET.
const STRICTER_RESPONSES: &[(Refusal, &str)] = &[
    (Refusal::StartLine, "HTTP/1.1 600 Beyond\r\nContent-Length: 0\r\n\r\n"),
    (Refusal::BareLf, "HTTP/1.1 200 OK\nContent-Length: 1\n\nx"),
    (Refusal::ContentLength, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx"),
    (Refusal::TransferEncoding, "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    (
        Refusal::ConflictingFraming,
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (Refusal::ChunkSize, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\nx\r\n0\r\n\r\n"),
    (Refusal::ChunkExtension, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;=\r\nx\r\n0\r\n\r\n"),
];

#[test]
fn each_strictness_is_one_that_hyper_has_not() {
    for (refusal, request) in STRICTER_REQUESTS {
        assert_eq!(our_request(request.as_bytes()), Verdict::Refused(Some(*refusal)), "{request:?}");
        let theirs = hyper_request(request.as_bytes());
        assert!(matches!(theirs, Verdict::Accepted(_)), "hyper refuses it too: {request:?}");
    }
    for (refusal, response) in STRICTER_RESPONSES {
        assert_eq!(our_response(response.as_bytes()), Verdict::Refused(Some(*refusal)), "{response:?}");
        let theirs = hyper_response(response.as_bytes());
        assert!(matches!(theirs, Verdict::Accepted(_)), "hyper refuses it too: {response:?}");
    }
}

#[test]
fn the_plain_cases_are_the_same_for_both() {
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a/b?c=d&e HTTP/1.1\r\nhost: a:80\r\nX: y\r\nx: z\r\nEmpty:\r\nPadded: \t a b \t\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://o:81/p?q HTTP/1.1\r\nHost: o:81\r\n\r\n",
        "GET http://o HTTP/1.1\r\nHost: o\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
        "PROPFIND / HTTP/1.0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n2\r\nhe\r\n3;a=b\r\nllo\r\n0\r\nX: y\r\n\r\n",
    ] {
        let ours = our_request(request.as_bytes());
        assert!(matches!(ours, Verdict::Accepted(_)), "{request:?}: {ours:?}");
        assert_eq!(ours, hyper_request(request.as_bytes()), "{request:?}");
    }
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 \r\nX: y\r\nx: z\r\nEmpty:\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 204\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.0 404 Not Found\r\n\r\nuntil the end",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;a=b\r\nllo\r\n0\r\nX: y\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ] {
        let ours = our_response(response.as_bytes());
        assert!(matches!(ours, Verdict::Accepted(_)), "{response:?}: {ours:?}");
        assert_eq!(ours, hyper_response(response.as_bytes()), "{response:?}");
    }
}

/// One of the texts, now and then none of them.
fn any_of(texts: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop_oneof![9 => prop::sample::select(texts).prop_map(String::from), 1 => "[ -~]{0,12}"]
}

fn field_lines(framing: &'static [&'static str]) -> impl Strategy<Value = String> {
    let line = prop_oneof![
        4 => "[A-Za-z][A-Za-z0-9-]{0,9}: ?[ -~\t\u{e9}]{0,12}\r\n",
        1 => any_of(&["X : y\r\n", " X: y\r\n", "X: y\r\n z\r\n", ": y\r\n", "X\r\n", "X: y\n", "X: a\rb\r\n", "X: a\0b\r\n"]),
    ];
    let rest = (prop::collection::vec(line, 0..4), prop::collection::vec(prop::sample::select(framing), 0..2));
    rest.prop_map(|(lines, framing)| framing.concat() + &lines.concat())
}

const FRAMING: &[&str] = &[
    "Content-Length: 5\r\n",
    "Content-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Content-Length: 0\r\n",
    "content-length: 05\r\n",
    "Content-Length: +5\r\n",
    "Content-Length: 5, 5\r\n",
    "Content-Length: 5 \r\n",
    "Content-Length:\r\n",
    "Transfer-Encoding: Chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding: chunked;q=1\r\n",
    "Transfer-Encoding:\tchunked\r\n",
    "",
];
const BODIES: &[&str] = &[
    "hello",
    "5\r\nhello\r\n0\r\n\r\n",
    "005;a=\"b\"\r\nhello\r\n0\r\nX: y\r\n\r\n",
    "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    "",
    "+5\r\nhello\r\n0\r\n\r\n",
    "5 \r\nhello\r\n0\r\n\r\n",
    "5\nhello\r\n0\r\n\r\n",
    "5\r\nhelloX\r\n0\r\n\r\n",
    "5;\r\nhello\r\n0\r\n\r\n",
    "ffffffffffffffff1\r\n",
    "0\r\nX : y\r\n\r\n",
    "hello, and more than announced",
];

fn requests() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        6 => "(GET|POST|PUT|OPTIONS|X-Y) /[a-z0-9/%.?&=-]{0,12} HTTP/1\\.[01]\r\n",
        1 => "(GET|POST) https?://[a-z]{1,3}(:[0-9]{1,3})?(/[a-z]{0,3})?(\\?[a-z])? HTTP/1\\.1\r\n",
        1 => any_of(&["OPTIONS * HTTP/1.1\r\n", "CONNECT a:1 HTTP/1.1\r\n", "GET / HTTP/1.2\r\n", "GET / http/1.1\r\n", "GET  / HTTP/1.1\r\n",
            "GET / HTTP/1.1 \r\n", "GET / HTTP/2.0\r\n", "GET /\r\n", "\r\nGET / HTTP/1.1\r\n", "GET / HTTP/1.1\n", "G(T / HTTP/1.1\r\n"]),
    ];
    let host = prop_oneof![
        8 => "Host: [a-z]{1,4}(:[0-9]{1,3})?\r\n",
        1 => any_of(&["", "Host: a\r\nHost: a\r\n", "Host: u@a\r\n", "Host:\r\n", "Host : a\r\n", "host:a\r\n"]),
    ];
    messages(line, host, field_lines(FRAMING))
}

fn responses() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        6 => "HTTP/1\\.[01] (200|204|206|304|404|500|599) [A-Za-z ]{0,8}\r\n",
        1 => any_of(&["HTTP/1.1 200\r\n", "HTTP/1.1 099 x\r\n", "HTTP/1.1 600 x\r\n", "HTTP/1.1 2000 x\r\n", "HTTP/2.0 200 x\r\n",
            "ICY 200 OK\r\n", "HTTP/1.1  200 OK\r\n", "HTTP/1.1 200 OK\n", "HTTP/1.1 100 x\r\n\r\nHTTP/1.1 200 y\r\n"]),
    ];
    messages(line, Just(String::new()).boxed(), field_lines(FRAMING))
}

/// A message of these parts, in every tenth of which one byte is another.
fn messages(
    line: impl Strategy<Value = String>,
    host: impl Strategy<Value = String>,
    fields: impl Strategy<Value = String>,
) -> impl Strategy<Value = Vec<u8>> {
    let body = prop::sample::select(BODIES);
    let slip = prop::option::weighted(
        0.1,
        (any::<prop::sample::Index>(), prop::sample::select(&b"\r\n\0\t :;,\x7f\xff#%"[..])),
    );
    (line, host, fields, body, slip).prop_map(|(line, host, fields, body, slip)| {
        let mut bytes = format!("{line}{host}{fields}\r\n{body}").into_bytes();
        if let Some((index, byte)) = slip {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(1500), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_request_is_the_same_for_both_or_we_say_why_not(bytes in requests()) {
        compare(&bytes, our_request(&bytes), hyper_request(&bytes), STRICTER_REQUESTS);
    }

    #[test]
    fn a_response_is_the_same_for_both_or_we_say_why_not(bytes in responses()) {
        compare(&bytes, our_response(&bytes), hyper_response(&bytes), STRICTER_RESPONSES);
    }
}

fn compare(bytes: &[u8], ours: Verdict, theirs: Verdict, stricter: &[(Refusal, &str)]) {
    let shown = bytes.escape_ascii();
    match (&ours, &theirs) {
        (Verdict::Accepted(_), _) => assert_eq!(ours, theirs, "{shown}"),
        (Verdict::Refused(Some(refusal)), Verdict::Accepted(_)) => {
            assert!(stricter.iter().any(|(known, _)| known == refusal), "{shown}: refused for {refusal:?}");
        }
        (Verdict::Partial, Verdict::Accepted(_)) => panic!("hyper finds whole what is a part to us: {shown}"),
        _ => {}
    }
}

// --- ours ---------------------------------------------------------------------------------------------------------------

fn our_request(bytes: &[u8]) -> Verdict {
    let mut head = Head::default();
    match parse::request(bytes, &Limits::default(), &mut head) {
        Err(refusal) => Verdict::Refused(Some(refusal)),
        Ok(Progress::Partial) => Verdict::Partial,
        Ok(Progress::Complete { consumed }) => {
            let start = |head: &Head| {
                let authority = head.authority().unwrap_or_default();
                format!(
                    "{} {} {} {}",
                    text(head.method_text()),
                    text(authority),
                    text(head.target()),
                    version(head.version())
                )
            };
            our_body(&head, framing::of_request(&head), &bytes[consumed..], start)
        }
    }
}

fn our_response(mut bytes: &[u8]) -> Verdict {
    loop {
        let mut head = Head::default();
        match parse::response(bytes, &Limits::default(), &mut head) {
            Err(refusal) => return Verdict::Refused(Some(refusal)),
            Ok(Progress::Partial) => return Verdict::Partial,
            Ok(Progress::Complete { consumed }) => bytes = &bytes[consumed..],
        }
        let length = framing::of_response(&head, Method::Get);
        if !(100..200).contains(&head.status()) || length.is_err() {
            return our_body(&head, length, bytes, |head| format!("{} {}", head.status(), version(head.version())));
        }
    }
}

fn our_body(
    head: &Head,
    length: Result<BodyLength, Refusal>,
    bytes: &[u8],
    start: impl Fn(&Head) -> String,
) -> Verdict {
    let body = match length {
        Err(refusal) => return Verdict::Refused(Some(refusal)),
        Ok(BodyLength::Empty) => Vec::new(),
        Ok(BodyLength::UntilClose) => bytes.to_vec(),
        Ok(BodyLength::Length(length)) => match bytes.get(..usize::try_from(length).unwrap_or(usize::MAX)) {
            Some(body) => body.to_vec(),
            None => return Verdict::Partial,
        },
        Ok(BodyLength::Chunked) => match chunks(bytes) {
            Ok(Some(body)) => body,
            Ok(None) => return Verdict::Partial,
            Err(refusal) => return Verdict::Refused(Some(refusal)),
        },
    };
    let mut fields: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for field in head.fields() {
        fields.entry(text(head.name_of(field)).to_ascii_lowercase()).or_default().push(head.value_of(field).to_vec());
    }
    Verdict::Accepted(Message { start: start(head), fields, body })
}

fn chunks(mut bytes: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
    let (mut decoder, mut body) = (Decoder::new(&Limits::default()), Vec::new());
    loop {
        match decoder.decode(bytes)? {
            Decoded::Data { consumed, data } => {
                body.extend_from_slice(&bytes[data]);
                bytes = &bytes[consumed..];
            }
            Decoded::End { .. } => return Ok(Some(body)),
            Decoded::NeedMore { .. } => return Ok(None),
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn version(version: Version) -> &'static str {
    version.as_str()
}

// --- hyper's ------------------------------------------------------------------------------------------------------------

/// Runs on a thread of its own: whatever hyper does with the bytes, it does it at once.
fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(future)
}

fn hyper_request(bytes: &[u8]) -> Verdict {
    let seen = Rc::new(RefCell::new(None));
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let seen = seen.clone();
        async move {
            let first = seen.borrow().is_none();
            let verdict = request_verdict(request).await;
            if first {
                seen.replace(Some(verdict));
            }
            Ok::<_, std::convert::Infallible>(hyper::Response::new(Empty::<Bytes>::new()))
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.half_close(true);
    let serve = builder.serve_connection(TokioIo::new(theirs), service);
    run(async {
        let feed = feed(ours, bytes);
        // hyper's own error says no more than that it refused: what the service saw is the verdict.
        tokio::time::timeout(Duration::from_secs(10), async { tokio::join!(serve, feed).0.is_ok() }).await
    })
    .expect("hyper ends when its input does");
    seen.take().unwrap_or(Verdict::Refused(None))
}

async fn request_verdict(request: hyper::Request<Incoming>) -> Verdict {
    let (head, body) = request.into_parts();
    let uri = &head.uri;
    let host = head.headers.get("host").map(|host| text(host.as_bytes()));
    let authority = uri.authority().map(|authority| text(authority.as_str().as_bytes())).or(host).unwrap_or_default();
    let target = match uri.path_and_query() {
        None => authority.clone(),
        // An absolute target without a path is one for the whole server.
        Some(target) if head.method == "OPTIONS" && uri.authority().is_some() && target.as_str() == "/" => "*".into(),
        Some(target) if target.as_str().starts_with('?') => format!("/{}", target.as_str()),
        Some(target) => target.to_string(),
    };
    let start = format!("{} {authority} {} {:?}", head.method, text(target.as_bytes()), head.version);
    verdict(start, &head.headers, body).await
}

fn hyper_response(bytes: &[u8]) -> Verdict {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    run(async {
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(theirs)).await;
        let (mut sender, connection) = handshake.expect("no byte was needed for it");
        let request = hyper::Request::get("/").header("host", "a").body(Empty::<Bytes>::new()).expect("a request");
        let exchange = async {
            match sender.send_request(request).await {
                Err(_) => Verdict::Refused(None),
                Ok(response) => {
                    let (head, body) = response.into_parts();
                    verdict(format!("{} {:?}", head.status.as_u16(), head.version), &head.headers, body).await
                }
            }
        };
        let feed = answer(ours, bytes);
        let all = async { tokio::join!(exchange, async { connection.await.is_ok() }, feed).0 };
        tokio::time::timeout(Duration::from_secs(10), all).await.expect("hyper ends when its input does")
    })
}

async fn verdict(start: String, headers: &hyper::HeaderMap, body: Incoming) -> Verdict {
    let mut fields: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for (name, value) in headers {
        fields.entry(name.to_string()).or_default().push(value.as_bytes().to_vec());
    }
    match body.collect().await {
        Ok(body) => Verdict::Accepted(Message { start, fields, body: body.to_bytes().to_vec() }),
        Err(_) => Verdict::Refused(None),
    }
}

/// Sends all, ends, and reads until the other side ends.
async fn feed(mut stream: DuplexStream, bytes: &[u8]) {
    // hyper may have ended already: what it saw is told elsewhere.
    stream.write_all(bytes).await.unwrap_or_default();
    stream.shutdown().await.unwrap_or_default();
    stream.read_to_end(&mut Vec::new()).await.map(drop).unwrap_or_default();
}

/// Sends the response once the request has come.
async fn answer(mut stream: DuplexStream, bytes: &[u8]) {
    stream.read(&mut [0; 1024]).await.map(drop).unwrap_or_default();
    feed(stream, bytes).await;
}
