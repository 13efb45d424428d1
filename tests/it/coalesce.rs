//! One exchange for many who ask for the same, and nobody gets what is another's.
use super::harness::h2;
use super::harness::http::{Client, Fields, Response, Wire, field};
use super::harness::program::{self, Ringway};
use super::harness::{PATIENCE, wait_for};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// An origin whose every exchange is answered by the test itself, on a connection of its own.
pub struct Hand(TcpListener);

/// One request, and where its answer goes.
pub struct Asked {
    wire: Wire,
    line: String,
    fields: Fields,
}

impl Hand {
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    #[track_caller]
    pub fn next(&self) -> Asked {
        wait_for("a request at the origin", || self.try_next())
    }

    fn try_next(&self) -> Option<Asked> {
        let (stream, _) = self.0.accept().ok()?;
        stream.set_nonblocking(false).unwrap();
        let mut wire = Wire::new(stream).unwrap();
        let (line, fields) = wire.head().unwrap().expect("a request");
        Some(Asked { wire, line, fields })
    }

    /// Nobody else has asked so far.
    #[track_caller]
    pub fn is_left_alone(&self) {
        assert_eq!(self.0.accept().map(drop).unwrap_err().kind(), ErrorKind::WouldBlock, "one exchange too many");
    }

    /// Ringway in front of it, with the rest of the configuration.
    fn proxy(&self, coalesce: &str) -> Ringway {
        Ringway::start(&self.config(coalesce))
    }

    /// Nobody waits too long, however busy the machine is, unless that is the story.
    pub fn config(&self, coalesce: &str) -> String {
        let wait = if coalesce.contains("wait") { "" } else { "wait = \"30s\"" };
        format!(
            "[[route]]\nupstream = \"u\"\nretry = {{ attempts = 0 }}\n[route.coalesce]\n{wait}\n{coalesce}\n\
             [upstream.u]\nendpoints = [{{ id = \"a\", address = \"{}\" }}]\n[upstream.u.outlier]\nmax_ejected = \"0%\"\n",
            self.0.local_addr().unwrap()
        )
    }
}

impl Asked {
    pub fn send(&mut self, bytes: &[u8]) {
        self.wire.stream.write_all(bytes).unwrap();
    }

    /// Answers with these fields, each ended by CRLF, and all of this body.
    pub fn answer(mut self, status: u16, fields: &str, body: &[u8]) {
        let length = body.len();
        self.send(
            format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {length}\r\n{fields}\r\n").as_bytes(),
        );
        self.send(body);
    }

    /// Waits until the proxy has given it up.
    #[track_caller]
    fn until_given_up(mut self) {
        assert!(matches!(self.wire.stream.read(&mut [0; 16]), Ok(0) | Err(_)));
    }
}

pub type Asking = JoinHandle<std::io::Result<Response>>;

fn ask_as(address: SocketAddr, method: &'static str, path: &str, fields: &[(&'static str, &'static str)]) -> Asking {
    let (path, fields) = (path.to_owned(), fields.to_vec());
    thread::spawn(move || Client::new(address).request(method, &path, &fields, None))
}

pub fn ask(proxy: &Ringway, path: &str) -> Asking {
    ask_as(proxy.address, "GET", path, &[])
}

#[track_caller]
pub fn got(asking: Asking) -> Response {
    asking.join().unwrap().expect("an answer")
}

/// Waits until so many requests wait for another's answer.
#[track_caller]
pub fn until_waiting(proxy: &Ringway, count: usize) {
    wait_for(&format!("{count} waiting"), || {
        (proxy.metrics().sum("ringway_coalesce_waiting") == count as f64).then_some(())
    });
}

pub fn role(proxy: &Ringway, role: &str) -> f64 {
    proxy.metrics().sum_of("ringway_coalesced_total", &[("role", role)])
}

fn letters(count: usize) -> Vec<u8> {
    (b'a'..=b'z').cycle().take(count).collect()
}

#[test]
fn two_hundred_clients_of_one_key_cost_one_exchange() {
    let origin = Hand::new();
    let proxy = origin.proxy("");
    let body = letters(300_000);
    let first = ask(&proxy, "/a?b=1");
    let asked = origin.next();
    assert_eq!(asked.line, "GET /a?b=1 HTTP/1.1");
    let others: Vec<Asking> = (0..199).map(|_| ask(&proxy, "/a?b=1")).collect();
    until_waiting(&proxy, 199);
    asked.answer(200, "X-Number: 1\r\n", &body);
    for asking in others.into_iter().chain([first]) {
        let response = got(asking);
        assert_eq!((response.status, response.header("x-number")), (200, Some("1")));
        assert!(response.header("date").is_some(), "the origin gave none");
        assert!(response.body == body, "other bytes");
    }
    origin.is_left_alone();
    assert_eq!((role(&proxy, "filler"), role(&proxy, "local")), (1.0, 199.0));
    let metrics = proxy.metrics();
    assert_eq!(metrics.sum("ringway_upstream_requests_total"), 1.0);
    assert_eq!(metrics.sum("ringway_requests_total"), 200.0);
    assert_eq!(metrics.sum("ringway_endpoint_in_flight"), 0.0);
    // All of them are told who answered; one has asked.
    let lines = wait_for("200 lines", || Some(proxy.stdout()).filter(|text| text.lines().count() == 200));
    let count = |what: &str| lines.lines().filter(|line| line.contains(what)).count();
    assert_eq!(count("\"endpoint\":\"a\",\"position\":\"owner\""), 200);
    assert_eq!((count("\"coalesced\":\"filler\""), count("\"attempts\":1")), (1, 1));
    assert_eq!((count("\"coalesced\":\"local\""), count("\"upstream_ms\":null,\"attempts\":0")), (199, 199));
    // What is over is kept for nobody.
    let again = ask(&proxy, "/a?b=1");
    origin.next().answer(200, "", b"new");
    assert_eq!(got(again).body, b"new");
}

#[test]
fn an_answer_is_passed_on_as_it_comes_and_from_its_start_to_who_is_late() {
    let origin = Hand::new();
    let proxy = origin.proxy("");
    for framing in ["Content-Length: 8\r\n", "Transfer-Encoding: chunked\r\n"] {
        let piece = |text: &str| if framing.contains("chunked") { format!("4\r\n{text}\r\n") } else { text.to_owned() };
        let listen = || {
            let mut wire = Wire::new(TcpStream::connect(proxy.address).unwrap()).unwrap();
            wire.stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            wire
        };
        let read = |wire: &mut Wire, text: &str| {
            let piece = piece(text);
            assert_eq!(wire.exactly(piece.len()).unwrap(), piece.as_bytes());
        };
        let mut first = listen();
        let mut asked = origin.next();
        let mut second = listen();
        until_waiting(&proxy, 1);
        asked.send(format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{framing}\r\n{}", piece("half")).as_bytes());
        // Nothing more has come from the origin: what is here was passed on at once.
        let mut third = None;
        for wire in [&mut first, &mut second] {
            assert!(wire.head().unwrap().unwrap().0.contains("200"));
            read(wire, "half");
        }
        let late = third.get_or_insert_with(listen);
        assert!(late.head().unwrap().unwrap().0.contains("200"));
        read(late, "half");
        asked.send(piece("done").as_bytes());
        let end = if framing.contains("chunked") { "0\r\n\r\n" } else { "" };
        asked.send(end.as_bytes());
        for wire in [&mut first, &mut second, late] {
            read(wire, "done");
            assert_eq!(wire.exactly(end.len()).unwrap(), end.as_bytes());
        }
        origin.is_left_alone();
    }
}

#[test]
fn who_asked_first_may_leave_and_the_exchange_ends_with_the_last() {
    let origin = Hand::new();
    let proxy = origin.proxy("");
    let mut first = TcpStream::connect(proxy.address).unwrap();
    first.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let asked = origin.next();
    let others: Vec<Asking> = (0..3).map(|_| ask_as(proxy.address, "GET", "/", &[("Host", "a")])).collect();
    until_waiting(&proxy, 3);
    drop(first);
    wait_for("the first to be gone", || proxy.stdout().contains("client_closed").then_some(()));
    asked.answer(200, "", b"for the others");
    for asking in others {
        assert_eq!(got(asking).body, b"for the others");
    }
    origin.is_left_alone();
    // When the last one leaves, before the head or after it, nobody is asked in vain.
    let leave = |bytes: &[u8]| {
        let mut clients: Vec<TcpStream> = (0..2).map(|_| TcpStream::connect(proxy.address).unwrap()).collect();
        clients[0].write_all(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut asked = origin.next();
        clients[1].write_all(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        until_waiting(&proxy, 1);
        asked.send(bytes);
        if !bytes.is_empty() {
            until_waiting(&proxy, 0);
        }
        drop(clients);
        asked.until_given_up();
    };
    leave(b"");
    leave(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nten bytes.");
    assert_eq!(proxy.metrics().sum("ringway_coalesce_waiting"), 0.0);
}

#[test]
fn an_answer_that_breaks_off_ends_well_for_nobody() {
    let origin = Hand::new();
    let proxy = origin.proxy("");
    for head in ["Content-Length: 100\r\n", "Transfer-Encoding: chunked\r\n"] {
        let first = ask(&proxy, "/");
        let mut asked = origin.next();
        let others: Vec<Asking> = (0..20).map(|_| ask(&proxy, "/")).collect();
        until_waiting(&proxy, 20);
        asked.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n5\r\nhello\r\n").as_bytes());
        until_waiting(&proxy, 0);
        drop(asked);
        for asking in others.into_iter().chain([first]) {
            asking.join().unwrap().expect_err("half an answer");
        }
        origin.is_left_alone();
    }
    let metrics = proxy.metrics();
    let broken = metrics.sum_of("ringway_upstream_errors_total", &[("reason", "body")]);
    assert_eq!(broken, 2.0, "the endpoint is blamed once for each");
}

#[test]
fn a_failure_of_the_first_is_not_that_of_the_others() {
    let origin = Hand::new();
    let proxy = origin.proxy("");
    for fail in [|asked: Asked| drop(asked), |asked: Asked| asked.answer(503, "", b"busy")] {
        let first = ask(&proxy, "/");
        let asked = origin.next();
        let others: Vec<Asking> = (0..20).map(|_| ask(&proxy, "/")).collect();
        until_waiting(&proxy, 20);
        fail(asked);
        let first = got(first);
        assert!(matches!(first.status, 502 | 503));
        // One of them asks for all that are left.
        let again = origin.next();
        until_waiting(&proxy, 19);
        again.answer(200, "", b"well");
        for asking in others {
            let response = got(asking);
            assert_eq!((response.status, &response.body[..]), (200, &b"well"[..]));
        }
        origin.is_left_alone();
    }
    assert_eq!(role(&proxy, "filler"), 4.0);
    // After a second failure nobody waits for a third.
    let first = ask(&proxy, "/");
    let asked = origin.next();
    let others: Vec<Asking> = (0..5).map(|_| ask(&proxy, "/")).collect();
    until_waiting(&proxy, 5);
    drop(asked);
    let again = origin.next();
    until_waiting(&proxy, 4);
    drop(again);
    for _ in 0..4 {
        origin.next().answer(200, "", b"alone");
    }
    let bodies: Vec<Response> = others.into_iter().map(got).collect();
    assert_eq!(bodies.iter().filter(|response| response.body == b"alone").count(), 4);
    assert_eq!((got(first).status, role(&proxy, "failed")), (502, 4.0));
}

#[test]
fn an_answer_for_one_alone_is_never_given_to_another() {
    let origin = Hand::new();
    let proxy = origin.proxy("max_body = \"1KiB\"");
    let (large, mut told) = (letters(1025), 0);
    let cases = [
        (200, "Set-Cookie: session=1\r\n", &b"mine"[..]),
        (200, "Cache-Control: private\r\n", b"mine"),
        (200, "Cache-Control: max-age=5, no-store\r\n", b"mine"),
        (200, "Vary: *\r\n", b"mine"),
        (401, "", b"mine"),
        (200, "", &large),
    ];
    for (number, (status, fields, body)) in cases.into_iter().enumerate() {
        let path = format!("/{number}");
        let first = ask(&proxy, &path);
        let asked = origin.next();
        let others: Vec<Asking> = (0..3).map(|_| ask(&proxy, &path)).collect();
        until_waiting(&proxy, 3);
        asked.answer(status, fields, body);
        assert_eq!(got(first).body, body);
        // They all are at the origin at one time: none waits for another.
        let own: Vec<Asked> = (0..3).map(|_| origin.next()).collect();
        for (number, asked) in own.into_iter().enumerate() {
            asked.answer(200, fields, format!("own {number}").as_bytes());
        }
        let mut bodies: Vec<Vec<u8>> = others.into_iter().map(|asking| got(asking).body).collect();
        bodies.sort();
        assert_eq!(bodies, [b"own 0", b"own 1", b"own 2"], "{fields}");
        // For two seconds nobody begins to wait; when they are over before both have come, this says nothing.
        let next: Vec<Asking> = (0..2).map(|_| ask(&proxy, &path)).collect();
        let first = origin.next();
        let second = wait_for("the second", || match origin.try_next() {
            Some(asked) => Some(Some(asked)),
            None => (proxy.metrics().sum("ringway_coalesce_waiting") > 0.0).then_some(None),
        });
        told += usize::from(second.is_some());
        first.answer(200, fields, b"x");
        second.unwrap_or_else(|| origin.next()).answer(200, fields, b"x");
        next.into_iter().for_each(|asking| assert_eq!(got(asking).body, b"x"));
    }
    assert!(told > 0, "it took two seconds each time");
    assert_eq!((role(&proxy, "hit_for_miss"), role(&proxy, "local")), (2.0 * told as f64, 0.0));
    assert!(role(&proxy, "filler") >= 6.0 && role(&proxy, "unshared") >= 18.0);
    // When the answers are for all again, they are shared again.
    thread::sleep(Duration::from_secs(2));
    let first = ask(&proxy, "/0");
    let asked = origin.next();
    let second = ask(&proxy, "/0");
    until_waiting(&proxy, 1);
    asked.answer(200, "", b"ours");
    assert_eq!((got(first).body, got(second).body), (b"ours".to_vec(), b"ours".to_vec()));
}

#[test]
fn who_says_who_he_is_or_asks_for_a_part_is_asked_for_alone() {
    let origin = Hand::new();
    let proxy = origin.proxy("");
    let first = ask(&proxy, "/");
    let held = origin.next();
    let personal = [
        ("Authorization", "Basic YTpi"),
        ("Cookie", "user=a"),
        ("Range", "bytes=0-1"),
        ("If-None-Match", "\"a\""),
        ("If-Modified-Since", "Thu, 01 Jan 1970 00:00:00 GMT"),
    ];
    for (number, field_sent) in personal.into_iter().enumerate() {
        let own = ask_as(proxy.address, "GET", "/", &[field_sent]);
        let asked = origin.next();
        assert_eq!(field(&asked.fields, field_sent.0), Some(field_sent.1));
        asked.answer(200, "", b"own");
        assert_eq!(got(own).body, b"own");
        assert_eq!(role(&proxy, "bypass"), number as f64 + 1.0);
    }
    let body = thread::spawn({
        let address = proxy.address;
        move || Client::new(address).request("GET", "/", &[], Some(b"x"))
    });
    origin.next().answer(200, "", b"own");
    assert_eq!(got(body).body, b"own");
    held.answer(200, "", b"all");
    assert_eq!(got(first).body, b"all");
}

#[test]
fn fields_that_are_shared_are_a_part_of_what_is_asked_for() {
    let origin = Hand::new();
    let proxy = origin.proxy("share_headers = [\"Cookie\", \"x-tenant\"]");
    let ask = |cookie, tenant| ask_as(proxy.address, "GET", "/", &[("Cookie", cookie), ("X-Tenant", tenant)]);
    let mut held = Vec::new();
    for (cookie, tenant) in [("a=1", "t"), ("a=2", "t"), ("a=1", "u")] {
        let first = ask(cookie, tenant);
        let asked = origin.next();
        assert_eq!((field(&asked.fields, "cookie"), field(&asked.fields, "x-tenant")), (Some(cookie), Some(tenant)));
        let second = ask(cookie, tenant);
        held.push((first, asked, second, format!("{cookie} {tenant}")));
    }
    until_waiting(&proxy, 3);
    for (first, asked, second, body) in held {
        asked.answer(200, "", body.as_bytes());
        assert_eq!((got(first).text(), got(second).text()), (&body[..], &body[..]));
    }
    origin.is_left_alone();
}

#[test]
fn only_what_is_the_same_in_all_is_the_same() {
    let origin = Hand::new();
    let config = origin.config("").replace("upstream = \"u\"", "upstream = \"u\"\nkey = [\"header:x-user\", \"path\"]");
    let proxy = Ringway::start(&config);
    let asks: [(_, _, &[_]); 8] = [
        ("GET", "/p", &[("Host", "a.example")]),
        ("GET", "/p?q", &[("Host", "a.example")]),
        ("GET", "/p", &[("Host", "b.example")]),
        ("HEAD", "/p", &[("Host", "a.example")]),
        ("GET", "/p", &[("Host", "a.example"), ("Cache-Control", "no-cache")]),
        // The ring's key may be a tenant: that it is not named by Vary does not make it everybody's.
        ("GET", "/p", &[("Host", "a.example"), ("X-User", "anna")]),
        ("GET", "/p", &[("Host", "a.example"), ("X-User", "bert")]),
        ("GET", "/P", &[("Host", "a.example")]),
    ];
    let mut held = Vec::new();
    for (method, path, fields) in asks {
        let first = ask_as(proxy.address, method, path, fields);
        let asked = origin.next();
        held.push((first, asked, ask_as(proxy.address, method, path, fields)));
    }
    until_waiting(&proxy, asks.len());
    for (number, (first, asked, second)) in held.into_iter().enumerate() {
        let body = [number as u8];
        let expected: &[u8] = if asked.line.starts_with("HEAD") { &[] } else { &body };
        asked.answer(200, "", expected);
        assert_eq!((&got(first).body[..], &got(second).body[..]), (expected, expected));
    }
    origin.is_left_alone();
}

#[test]
fn a_head_is_shared_with_the_length_it_tells() {
    let origin = Hand::new();
    let proxy = origin.proxy("");
    let first = ask_as(proxy.address, "HEAD", "/", &[]);
    let mut asked = origin.next();
    let second = ask_as(proxy.address, "HEAD", "/", &[]);
    until_waiting(&proxy, 1);
    asked.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 12345\r\n\r\n");
    for asking in [first, second] {
        assert_eq!(got(asking).header("content-length"), Some("12345"));
    }
}

#[test]
fn values_of_fields_that_vary_names_are_compared() {
    let origin = Hand::new();
    let proxy = origin.proxy("");
    let ask = |language| ask_as(proxy.address, "GET", "/", &[("Accept-Language", language)]);
    let german = ask("de");
    let asked = origin.next();
    let others: Vec<Asking> = ["de", "en", "en", "en"].map(ask).into();
    until_waiting(&proxy, 4);
    asked.answer(200, "Vary: accept-language\r\n", b"hallo");
    assert_eq!(got(german).text(), "hallo");
    // The others ask again, one for all: what the answer depends on is known by now.
    let english = origin.next();
    assert_eq!(field(&english.fields, "accept-language"), Some("en"));
    until_waiting(&proxy, 2);
    english.answer(200, "Vary: Accept-Language\r\n", b"hello");
    let texts: Vec<String> = others.into_iter().map(|asking| got(asking).text().to_owned()).collect();
    assert_eq!(texts, ["hallo", "hello", "hello", "hello"]);
    // From now on they do not meet at all.
    let german = ask("de");
    let held = origin.next();
    let english = ask("en");
    origin.next().answer(200, "Vary: Accept-Language\r\n", b"hello");
    assert_eq!(got(english).text(), "hello");
    held.answer(200, "Vary: Accept-Language\r\n", b"hallo");
    assert_eq!(got(german).text(), "hallo");
    origin.is_left_alone();
}

#[test]
fn an_encoded_body_is_for_those_who_take_it_although_nobody_says_so() {
    let origin = Hand::new();
    let proxy = origin.proxy("");
    let packed = ask_as(proxy.address, "GET", "/", &[("Accept-Encoding", "gzip")]);
    let asked = origin.next();
    let plain = ask(&proxy, "/");
    until_waiting(&proxy, 1);
    asked.answer(200, "Content-Encoding: gzip\r\n", b"packed");
    origin.next().answer(200, "", b"plain");
    assert_eq!((got(packed).text(), got(plain).text()), ("packed", "plain"));
}

#[test]
fn who_waits_too_long_asks_for_itself() {
    let origin = Hand::new();
    let proxy = origin.proxy("wait = \"200ms\"");
    let first = ask(&proxy, "/");
    let held = origin.next();
    let second = ask(&proxy, "/");
    origin.next().answer(200, "", b"own");
    assert_eq!(got(second).text(), "own");
    assert_eq!(role(&proxy, "timeout"), 1.0);
    held.answer(200, "", b"late");
    assert_eq!(got(first).text(), "late");
}

#[test]
fn what_was_asked_before_a_change_is_not_for_those_who_ask_after_it() {
    let origin = Hand::new();
    let other_route = "[[route]]\nmethods = [\"POST\"]\nupstream = \"u\"\n";
    let in_turn = "[[route]]\nmethods = [\"PUT\"]\nupstream = \"u\"\n[route.serialize]\nkey = [\"path\"]\n";
    let proxy = Ringway::start(&format!("{other_route}{in_turn}{}", origin.config("")));
    for (method, path, status, changes) in [
        ("PURGE", "/a", 200, true),
        ("PURGE", "/b", 404, true),
        ("DELETE", "/c", 204, true),
        ("POST", "/d", 200, true),
        ("POST", "/e", 409, false),
        ("PUT", "/g", 200, true),
        ("OPTIONS", "/f", 200, false),
    ] {
        let before = ask(&proxy, path);
        let old = origin.next();
        let with = ask(&proxy, path);
        until_waiting(&proxy, 1);
        let change = ask_as(proxy.address, method, &format!("{path}?x=1"), &[]);
        origin.next().answer(status, "", b"");
        assert_eq!(got(change).status, status);
        let after = ask(&proxy, path);
        if changes {
            let new = origin.next();
            // Those who ask from now on wait for the new answer.
            let later = ask(&proxy, path);
            until_waiting(&proxy, 2);
            new.answer(200, "", b"new");
            assert_eq!((got(after).text(), got(later).text()), ("new", "new"), "{method}");
            old.answer(200, "", b"old");
        } else {
            until_waiting(&proxy, 2);
            old.answer(200, "", b"old");
            assert_eq!(got(after).text(), "old", "{method}");
        }
        assert_eq!((got(before).text(), got(with).text()), ("old", "old"), "{method}");
    }
    origin.is_left_alone();
}

#[test]
fn who_reads_slowly_holds_up_nobody() {
    let origin = Hand::new();
    let body = letters(16 << 20);
    let proxy = origin.proxy("max_body = \"64MiB\"");
    let slow = |path: &str| {
        let mut slow = TcpStream::connect(proxy.address).unwrap();
        slow.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
        slow.set_read_timeout(Some(PATIENCE)).unwrap();
        slow
    };
    // What is kept whole is there for the slow one, too.
    let mut first = slow("/whole");
    let asked = origin.next();
    let second = ask_as(proxy.address, "GET", "/whole", &[("Host", "a")]);
    until_waiting(&proxy, 1);
    asked.answer(200, "", &body);
    assert!(got(second).body == body);
    let mut came = vec![0; body.len() + 1000];
    let mut count = 0;
    while !came[..count].ends_with(&body[body.len() - 1000..]) || count < body.len() {
        count += first.read(&mut came[count..]).unwrap();
    }
    drop(first);
    // Of what turns out too large to be kept, the slow one gets a part that does not end well.
    proxy.rewrite_config(&origin.config("wait = \"4s\""));
    let first = slow("/part");
    let mut asked = origin.next();
    let others: Vec<Asking> = (0..2).map(|_| ask_as(proxy.address, "GET", "/part", &[("Host", "a")])).collect();
    until_waiting(&proxy, 2);
    asked.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n");
    for part in body.chunks(1 << 20) {
        asked.send(format!("{:x}\r\n", part.len()).as_bytes());
        asked.send(part);
        asked.send(b"\r\n");
    }
    // Who comes now waits for none of it.
    let next = ask_as(proxy.address, "GET", "/part", &[("Host", "a")]);
    origin.next().answer(200, "", b"own");
    assert_eq!(got(next).text(), "own");
    asked.send(b"0\r\n\r\n");
    others.into_iter().for_each(|asking| assert!(got(asking).body == body));
    let mut wire = Wire::new(first).unwrap();
    wire.head().unwrap().unwrap();
    wire.chunked().expect_err("a part of the answer");
}

#[test]
fn an_answer_too_large_to_be_kept_waits_for_its_one_reader() {
    let origin = Hand::new();
    let proxy = origin.proxy("max_body = \"1KiB\"\nwait = \"100ms\"");
    let asking = ask(&proxy, "/");
    let mut asked = origin.next();
    let body = letters(8 << 20);
    asked.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
    asked.send(&body);
    drop(asked);
    assert!(got(asking).body == body);
}

#[test]
fn trailers_are_for_all() {
    let origin = Hand::new();
    let proxy = origin.proxy("");
    let first = ask(&proxy, "/");
    let mut asked = origin.next();
    let second = ask(&proxy, "/");
    until_waiting(&proxy, 1);
    asked.send(
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 7\r\n\r\n",
    );
    for asking in [first, second] {
        let response = got(asking);
        assert_eq!((response.text(), field(&response.trailers, "x-sum")), ("hi", Some("7")));
    }
}

#[test]
fn streams_of_http2_share_an_exchange_over_http2() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let proxy = Ringway::start(&format!(
        "[[route]]\nupstream = \"u\"\nretry = {{ attempts = 0 }}\n[route.coalesce]\nwait = \"30s\"\n\
         [upstream.u]\nprotocol = \"h2\"\nendpoints = [{{ id = \"a\", address = \"{at}\" }}]\n"
    ));
    // All of them fit into the connection's window, whatever the order they are read in.
    let body = letters(1000);
    let (address, expected) = (proxy.address, body.clone());
    let clients = thread::spawn(move || {
        h2::client(address, &::h2::client::Builder::new(), |send| async move {
            let mut answers = Vec::new();
            let mut send = send.ready().await.unwrap();
            for _ in 0..50 {
                let request = http::Request::get("http://a.example/x").body(()).unwrap();
                answers.push(send.send_request(request, true).unwrap().0);
                send = send.ready().await.unwrap();
            }
            for answer in answers {
                let answer = answer.await.unwrap();
                assert_eq!(answer.status(), 200);
                assert_eq!(h2::whole(answer.into_body()).await.unwrap().0, expected);
            }
            let request = http::Request::get("http://a.example/broken").body(()).unwrap();
            let answers =
                [send.send_request(request.clone(), true).unwrap().0, send.send_request(request, true).unwrap().0];
            for answer in answers {
                h2::whole(answer.await.unwrap().into_body()).await.expect_err("half an answer");
            }
        })
    });
    let mut frames = h2::accept(&listener);
    let request = frames.find("a request", |frame| frame.kind == h2::HEADERS);
    until_waiting(&proxy, 49);
    frames.head(request.stream, false, &[(":status", "200")]);
    frames.send(h2::DATA, h2::END_STREAM, request.stream, &body);
    let request = frames.find("another request", |frame| frame.kind == h2::HEADERS);
    until_waiting(&proxy, 1);
    frames.head(request.stream, false, &[(":status", "200")]);
    frames.send(h2::DATA, 0, request.stream, &body);
    until_waiting(&proxy, 0);
    frames.send(h2::RST_STREAM, 0, request.stream, &[0, 0, 0, 2]);
    clients.join().unwrap();
    assert_eq!((role(&proxy, "filler"), role(&proxy, "local")), (2.0, 50.0));
}

#[test]
fn a_proxy_says_whether_a_request_would_share() {
    let origin = Hand::new();
    let proxy = origin.proxy("");
    let explain = |fields: &[&str]| {
        let path = proxy.config_path();
        let mut arguments = vec!["explain", "-c", path.to_str().unwrap(), "http://a/x"];
        fields.iter().for_each(|field| arguments.extend(["-H", field]));
        String::from_utf8(program::command(&arguments).stdout).unwrap()
    };
    assert!(explain(&[]).contains("\ncoalesce    one exchange for all"), "{}", explain(&[]));
    assert!(explain(&["Cookie: a=1"]).contains("\ncoalesce    asked for itself: it has cookie\n"));
}

#[test]
fn what_cannot_be_is_refused() {
    let origin = Hand::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ringway.toml");
    for (line, said) in [
        ("store = \"s\"", "there is no [store.s]"),
        ("lease = \"10s\"", "is for a fleet that a store coalesces"),
        ("on_store_loss = \"local\"", "is for a fleet that a store coalesces"),
        ("wait = \"0s\"", "wait"),
        ("max_body = \"2GiB\"", "max_body"),
        ("share_headers = [\"a b\"]", "not a field name"),
    ] {
        std::fs::write(&path, format!("[[listener]]\naddress = \"127.0.0.1:0\"\n{}", origin.config(line))).unwrap();
        let output = program::command(&["check", "-c", path.to_str().unwrap()]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(output.status.code() == Some(2) && told.contains(said) && told.contains(":"), "{line}: {told}");
    }
}
