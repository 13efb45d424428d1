//! What a listener lets in: PROXY headers, connections of one address, bodies that trickle.
use crate::harness::http::{raw, raw_for};
use crate::harness::program::Ringway;
use crate::harness::{PATIENCE, wait_for};
use crate::routes::one;
use ringway::base::clock;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const WHO: &str = "[[route]]\nupstream = \"u\"\nrequest_headers = { set = { x-client = \"{client_ip}\" } }\n";

fn listener(keys: &str) -> String {
    format!("[[listener]]\naddress = \"LISTEN\"\n{keys}\n")
}

fn refused(ringway: &Ringway, reason: &str) -> f64 {
    ringway.metrics().sum_of("ringway_connections_refused_total", &[("reason", reason)])
}

#[test]
fn a_proxy_header_names_the_client() {
    let (origin, upstream) = one();
    let ringway =
        Ringway::start(&format!("{WHO}{upstream}{}", listener("proxy_protocol = { trusted = [\"127.0.0.1\"] }")));
    let request = b"GET /x HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nConnection: close\r\n\r\n";
    let v2 = |block: &[u8], command: u8, family: u8| {
        [b"\r\n\r\n\0\r\nQUIT\n", &[0x20 | command, family, 0, block.len() as u8][..], block].concat()
    };
    let check = |header: &[u8], client: &str| {
        let before = origin.requests().len();
        let answer = raw(ringway.address, &[header, request].concat());
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}: {}", header.escape_ascii(), answer.escape_ascii());
        let seen = origin.wait_for_requests(before + 1).pop().unwrap();
        assert_eq!(seen.header("x-client"), Some(client));
        assert_eq!(seen.header("x-forwarded-for"), Some(client), "what the client said of itself is not believed");
    };
    check(b"PROXY TCP4 192.0.2.7 192.0.2.8 40000 443\r\n", "192.0.2.7");
    check(b"PROXY TCP6 2001:db8::7 ::1 40000 443\r\n", "2001:db8::7");
    check(b"PROXY UNKNOWN\r\n", "127.0.0.1");
    check(&v2(&[192, 0, 2, 9, 127, 0, 0, 1, 1, 0, 1, 0, 4, 0, 1, 0], 1, 0x11), "192.0.2.9");
    check(&v2(&[], 0, 0), "127.0.0.1");
    for wrong in
        [&b""[..], b"PROXY TCP4 x\r\n", b"PROXY TCP4 192.0.2.7 192.0.2.8 0443 1\r\n", b"\r\n\r\n\0\r\nQUIT\nxxxx"]
    {
        assert_eq!(raw(ringway.address, &[wrong, request].concat()), b"", "{}", wrong.escape_ascii());
    }
    assert_eq!(refused(&ringway, "proxy_protocol"), 4.0);
    assert_eq!(origin.requests().len(), 5);
}

#[test]
fn a_proxy_header_may_come_byte_by_byte_and_before_http2() {
    let (origin, upstream) = one();
    let ringway =
        Ringway::start(&format!("{WHO}{upstream}{}", listener("proxy_protocol = { trusted = [\"127.0.0.0/8\"] }")));
    let mut stream = TcpStream::connect(ringway.address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    for byte in b"PROXY TCP4 192.0.2.7 192.0.2.8 40000 443\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" {
        stream.write_all(&[*byte]).unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(origin.wait_for_requests(1)[0].header("x-client"), Some("192.0.2.7"));
    // HTTP/2's preface, and the server's first frame: SETTINGS.
    let hello = b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let answer = raw_for(ringway.address, hello, Duration::from_millis(500));
    assert_eq!(answer.get(3), Some(&4), "{}", answer.escape_ascii());
}

#[test]
fn only_trusted_peers_send_proxy_headers() {
    let (origin, upstream) = one();
    let config = |trusted: &str| {
        format!("{WHO}{upstream}{}", listener(&format!("proxy_protocol = {{ trusted = [\"{trusted}\"] }}")))
    };
    let ringway = Ringway::start(&config("10.0.0.0/8"));
    let bytes = b"PROXY TCP4 10.0.0.7 192.0.2.8 40000 443\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(raw(ringway.address, bytes), b"");
    assert_eq!((refused(&ringway, "proxy_protocol"), origin.requests().len()), (1.0, 0));
    // A header where none is expected is not a request.
    let plain = Ringway::start(&format!("{WHO}{upstream}"));
    assert!(raw(plain.address, bytes).starts_with(b"HTTP/1.1 400"));
}

#[test]
fn a_proxy_header_that_never_comes_is_not_waited_for() {
    let (_origin, upstream) = one();
    let keys = "header_timeout = \"200ms\"\nproxy_protocol = { trusted = [\"127.0.0.1\"] }";
    let ringway = Ringway::start(&format!("{WHO}{upstream}{}", listener(keys)));
    assert_eq!(raw_for(ringway.address, b"PROXY TCP4 ", PATIENCE), b"");
    assert_eq!(refused(&ringway, "proxy_protocol"), 1.0);
}

#[test]
fn the_time_for_a_first_head_counts_from_accept_whatever_comes_before_it() {
    let (_origin, upstream) = one();
    let allowed = Duration::from_secs(3);
    let start = |keys: &str| {
        let keys = format!("header_timeout = \"3s\"\n{keys}");
        Ringway::start(&format!("{WHO}{upstream}{}", listener(&keys)))
    };
    let (plain, behind) = (start(""), start("proxy_protocol = { trusted = [\"127.0.0.1\"] }"));
    // Silent for two seconds, then the beginning of a head: one second is left for the rest.
    let closed_after = |ringway: &Ringway, begin: &[u8]| {
        let (mut stream, accepted) = (TcpStream::connect(ringway.address).unwrap(), clock::now());
        std::thread::sleep(Duration::from_secs(2));
        stream.write_all(begin).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
        accepted.elapsed()
    };
    std::thread::scope(|scope| {
        let cases =
            [(&plain, &b"GET / HT"[..]), (&behind, b"PROXY UNKNOWN\r\nGET / HT"), (&behind, b"PROXY UNKNOWN\r\n")];
        for (ringway, begin) in cases {
            scope.spawn(move || {
                let took = closed_after(ringway, begin);
                assert!(took >= allowed && took < Duration::from_millis(4500), "{}: {took:?}", begin.escape_ascii());
            });
        }
    });
}

#[test]
fn an_address_has_so_many_connections_and_no_more() {
    let (_origin, upstream) = one();
    let config = |most: u32| format!("{WHO}{upstream}{}", listener(&format!("max_connections_per_ip = {most}")));
    let ringway = Ringway::start(&config(3));
    let mut held: Vec<_> = (0..3).map(|_| ringway.client()).collect();
    assert!(held.iter_mut().all(|client| client.get("/").unwrap().status == 200));
    assert!(ringway.client().get("/").is_err(), "a fourth is closed");
    assert_eq!(refused(&ringway, "max_connections_per_ip"), 1.0);
    assert!(held.iter_mut().all(|client| client.get("/").unwrap().status == 200), "those that are there stay");
    held.pop();
    wait_for("room for another", || ringway.client().get("/").ok());
    // A reload forgets no connection.
    ringway.rewrite_config(&config(2));
    assert!(held.iter_mut().all(|client| client.get("/").unwrap().status == 200));
    assert!(ringway.client().get("/").is_err());
}

#[test]
fn a_body_that_trickles_is_not_waited_for() {
    let (_origin, upstream) = one();
    let ringway = Ringway::start(&format!("{WHO}{upstream}{}", listener("min_body_rate = \"1KiB\"")));
    let mut client = ringway.client();
    assert_eq!(client.post("/", &[b'x'; 100_000]).unwrap().status, 200);
    let mut stream = TcpStream::connect(ringway.address).unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n").unwrap();
    // Never silent for long: only the rate is too low.
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let answer = wait_for("the end of it", || {
        let mut part = [0; 1024];
        match stream.read(&mut part) {
            Ok(count) => Some(String::from_utf8_lossy(&part[..count]).into_owned()),
            Err(_) => stream.write_all(b"x").err().map(|error| error.to_string()),
        }
    });
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[test]
fn there_is_room_for_connections_before_they_come() {
    // Whoever lets the system make it bit by bit stands still for 10 to 25 ms each time.
    let (_origin, ringway) = crate::framing::one("");
    let number = |file: &str, line: &str| -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", ringway.pid())).unwrap();
        let words = text.lines().find_map(|text| text.strip_prefix(line)).unwrap().split_whitespace().next();
        words.unwrap().parse().unwrap_or(u64::MAX)
    };
    let (room, most) = (number("status", "FDSize:"), number("limits", "Max open files"));
    assert!(room >= most.min(64 << 10), "room for {room} of {most}");
}
