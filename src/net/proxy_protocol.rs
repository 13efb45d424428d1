//! The PROXY header, versions 1 and 2, that load balancers put before a connection's first byte to name its client. Pure: bytes to
//! an address, strict, never more than the header. Whose header is believed is decided elsewhere.
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use thiserror::Error;

/// Longest header of version 1, its CRLF included.
const MAX_V1: usize = 107;
/// How version 2 begins.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Longest header of version 2 that is taken: addresses and some kilobytes of extensions.
pub const MAX_V2: usize = 16 + 4096;

/// What is wrong with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Malformed {
    /// It begins like neither version.
    #[error("there is no PROXY header")]
    Absent,
    /// A line of version 1 that is none.
    #[error("the PROXY header of version 1 is malformed")]
    V1,
    /// A header of version 2 that is none.
    #[error("the PROXY header of version 2 is malformed")]
    V2,
    /// More than anybody needs.
    #[error("the PROXY header is too long")]
    TooLong,
}

/// How far reading came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// All of this belongs to the header, and more is needed.
    Partial,
    /// The header is whole.
    Complete {
        /// Bytes that belong to it.
        consumed: usize,
        /// The client; `None` when the balancer speaks for itself or does not know.
        client: Option<SocketAddr>,
    },
}

/// Reads a header from the first bytes of a connection.
///
/// # Errors
/// When these bytes cannot become one.
pub fn parse(input: &[u8]) -> Result<Progress, Malformed> {
    let begins = |with: &[u8]| input[..input.len().min(with.len())] == with[..input.len().min(with.len())];
    if begins(SIGNATURE) {
        v2(input)
    } else if begins(b"PROXY ") {
        v1(input)
    } else {
        Err(Malformed::Absent)
    }
}

fn v1(input: &[u8]) -> Result<Progress, Malformed> {
    let Some(end) = memchr::memmem::find(input, b"\r\n") else {
        return if input.len() < MAX_V1 { Ok(Progress::Partial) } else { Err(Malformed::TooLong) };
    };
    let consumed = end + 2;
    if consumed > MAX_V1 {
        return Err(Malformed::TooLong);
    }
    let line = std::str::from_utf8(&input[..end]).map_err(|_| Malformed::V1)?;
    let mut words = line.split(' ').skip(1);
    let client = match words.next() {
        // Whatever follows is to be ignored.
        Some("UNKNOWN") => return Ok(Progress::Complete { consumed, client: None }),
        Some("TCP4") => addresses(words, |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::from)),
        Some("TCP6") => addresses(words, |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::from)),
        _ => None,
    };
    client.map(|client| Progress::Complete { consumed, client: Some(client) }).ok_or(Malformed::V1)
}

/// Source and destination address, source and destination port, and nothing more.
fn addresses<'a>(
    mut words: impl Iterator<Item = &'a str>,
    address: impl Fn(&str) -> Option<IpAddr>,
) -> Option<SocketAddr> {
    let (source, _) = (address(words.next()?)?, address(words.next()?)?);
    let (source_port, _) = (port(words.next()?)?, port(words.next()?)?);
    words.next().is_none().then(|| SocketAddr::new(source, source_port))
}

fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    is_plain.then(|| text.parse().ok())?
}

fn v2(input: &[u8]) -> Result<Progress, Malformed> {
    let Some((head, rest)) = input.split_at_checked(16) else { return Ok(Progress::Partial) };
    let (version_and_command, family) = (head[12], head[13]);
    let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if version_and_command >> 4 != 2 {
        return Err(Malformed::V2);
    }
    if 16 + length > MAX_V2 {
        return Err(Malformed::TooLong);
    }
    let Some(block) = rest.get(..length) else { return Ok(Progress::Partial) };
    let consumed = 16 + length;
    let client = match (version_and_command & 15, family) {
        // LOCAL: a health check of the balancer itself. UNSPEC: it does not know. Unix sockets have no address.
        (0, _) | (1, 0x00 | 0x31 | 0x32) => None,
        (1, 0x11 | 0x12) => {
            let block: &[u8; 12] = block.first_chunk().ok_or(Malformed::V2)?;
            let ip = Ipv4Addr::new(block[0], block[1], block[2], block[3]);
            Some(SocketAddr::new(ip.into(), u16::from_be_bytes([block[8], block[9]])))
        }
        (1, 0x21 | 0x22) => {
            let block: &[u8; 36] = block.first_chunk().ok_or(Malformed::V2)?;
            let (ip, _) = block.split_first_chunk::<16>().expect("36 bytes hold 16");
            Some(SocketAddr::new(Ipv6Addr::from(*ip).into(), u16::from_be_bytes([block[32], block[33]])))
        }
        _ => return Err(Malformed::V2),
    };
    Ok(Progress::Complete { consumed, client })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v2_of(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = (block.len() as u16).to_be_bytes();
        [SIGNATURE, &[0x20 | command, family][..], &length, block].concat()
    }

    /// The header alone, then with a request behind it, then every part of it.
    fn check(header: &[u8], expected: Option<&str>) {
        let expected = expected.map(|text| text.parse().unwrap());
        let complete = Ok(Progress::Complete { consumed: header.len(), client: expected });
        assert_eq!(parse(header), complete, "{}", header.escape_ascii());
        assert_eq!(parse(&[header, b"GET / HTTP/1.1\r\n\r\n"].concat()), complete);
        for end in 0..header.len() {
            assert_eq!(parse(&header[..end]), Ok(Progress::Partial), "{}", header[..end].escape_ascii());
        }
    }

    #[test]
    fn a_header_names_the_client() {
        check(b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n", Some("192.0.2.1:56324"));
        check(b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n", Some("[2001:db8::1]:1"));
        check(b"PROXY UNKNOWN\r\n", None);
        check(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None);
        let v4 = [192, 0, 2, 1, 10, 0, 0, 1, 0xdc, 0x04, 0x01, 0xbb];
        check(&v2_of(1, 0x11, &v4), Some("192.0.2.1:56324"));
        check(&v2_of(1, 0x11, &[&v4[..], &[3, 0, 4, 1, 2, 3, 4]].concat()), Some("192.0.2.1:56324"));
        let v6 = [&Ipv6Addr::LOCALHOST.octets()[..], &[0; 16], &[0, 7, 0, 8]].concat();
        check(&v2_of(1, 0x21, &v6), Some("[::1]:7"));
        check(&v2_of(0, 0x00, &[]), None);
        check(&v2_of(0, 0x11, &v4), None);
        check(&v2_of(1, 0x31, &[0; 216]), None);
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for line in [
            "GET / HTTP/1.1\r\n",
            "PROXX",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
            "PROXY tcp4 1.1.1.1 1.1.1.1 1 2\r\n",
            "PROXY \r\n",
        ] {
            assert!(parse(line.as_bytes()).is_err(), "{line}");
        }
        assert_eq!(parse(&[b"PROXY UNKNOWN ", &[b'x'; 100][..]].concat()), Err(Malformed::TooLong));
        assert_eq!(parse(&v2_of(1, 0x11, &[0; 11])), Err(Malformed::V2));
        assert_eq!(parse(&v2_of(2, 0x11, &[0; 12])), Err(Malformed::V2));
        assert_eq!(parse(&v2_of(1, 0x13, &[0; 12])), Err(Malformed::V2));
        assert_eq!(parse(&v2_of(1, 0x11, &[0; 5000])), Err(Malformed::TooLong));
        let mut wrong_version = v2_of(1, 0x11, &[0; 12]);
        wrong_version[12] = 0x11;
        assert_eq!(parse(&wrong_version), Err(Malformed::V2));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_take_too_much(begins in 0usize..3, rest in proptest::collection::vec(any::<u8>(), 0..300)) {
            let input = [[&b""[..], b"PROXY TCP4 ", SIGNATURE][begins], &rest].concat();
            match parse(&input) {
                Ok(Progress::Complete { consumed, .. }) => prop_assert!(consumed <= input.len()),
                Ok(Progress::Partial) => prop_assert!(input.len() < MAX_V2),
                Err(_) => {}
            }
        }
    }
}
