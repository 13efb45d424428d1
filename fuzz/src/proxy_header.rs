//! The PROXY header: what a prefix decides, more bytes never change; no byte of what follows is taken; the address is the one that
//! a plain second reading finds.
use ringway::net::proxy_protocol::MAX_V2;
use ringway::net::proxy_protocol::Progress;
use ringway::net::proxy_protocol::parse;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;

/// Checks one input.
pub fn check(input: &[u8]) {
    let whole = parse(input);
    for end in 0..input.len() {
        match parse(&input[..end]) {
            Ok(Progress::Partial) => {}
            Ok(complete @ Progress::Complete { consumed, .. }) => {
                assert!(consumed <= end, "more was taken than there is");
                assert_eq!(whole, Ok(complete), "more bytes changed a header that was whole");
            }
            Err(_) => assert!(whole.is_err(), "refused at {end} bytes, accepted with more"),
        }
    }
    match whole {
        Ok(Progress::Complete { consumed, client }) => {
            assert!(consumed <= MAX_V2);
            assert_eq!(Some(client), plain(&input[..consumed]), "the client is somebody else");
            assert_eq!(parse(&input[..consumed - 1]), Ok(Progress::Partial), "the last byte was not needed");
        }
        Ok(Progress::Partial) => assert!(input.len() < MAX_V2, "a header without an end is waited for"),
        Err(_) => {}
    }
}

/// The client that a whole header names, read line by line and offset by offset.
fn plain(header: &[u8]) -> Option<Option<SocketAddr>> {
    if header.starts_with(b"PROXY ") { v1(header) } else { v2(header) }
}

fn v1(header: &[u8]) -> Option<Option<SocketAddr>> {
    let line = std::str::from_utf8(header.strip_suffix(b"\r\n")?).ok()?;
    assert!(!line.contains("\r\n") && header.len() <= 107);
    let words: Vec<&str> = line.split(' ').collect();
    match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => Some(None),
        ["PROXY", family, source, target, port, target_port] => {
            let (source, target): (IpAddr, IpAddr) = (source.parse().ok()?, target.parse().ok()?);
            assert_eq!((source.is_ipv4(), target.is_ipv4()), (*family == "TCP4", *family == "TCP4"));
            let read = |port: &str| port.parse::<u16>().ok().filter(|number| number.to_string() == port);
            read(target_port)?;
            Some(Some(SocketAddr::new(source, read(port)?)))
        }
        _ => None,
    }
}

fn v2(header: &[u8]) -> Option<Option<SocketAddr>> {
    assert_eq!(&header[..12], b"\r\n\r\n\0\r\nQUIT\n");
    let length = usize::from(header[14]) << 8 | usize::from(header[15]);
    assert_eq!(header.len(), 16 + length);
    let port = |at: usize| u16::from(header[at]) << 8 | u16::from(header[at + 1]);
    match (header[12], header[13] >> 4) {
        (0x20, _) => Some(None),
        (0x21, 1) => {
            let octets: [u8; 4] = header[16..20].try_into().ok()?;
            Some(Some(SocketAddr::new(Ipv4Addr::from(octets).into(), port(24))))
        }
        (0x21, 2) => {
            let octets: [u8; 16] = header[16..32].try_into().ok()?;
            Some(Some(SocketAddr::new(Ipv6Addr::from(octets).into(), port(48))))
        }
        (0x21, 0 | 3) => Some(None),
        _ => None,
    }
}
