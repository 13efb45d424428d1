//! The points of nginx's `hash KEY consistent`: a chain of CRC32 over `HOST \0 PORT PREV`, where PREV is the point before (0 at
//! first), in little-endian order. Only where points stand is decided here; they are walked like all others.
//!
//! nginx drops a point that stands where another does already, and which of the two stays follows from its file's order.
//! Here both stay and the smaller id wins, so that the order of a file decides nothing: with 1,000 points the chance that
//! any two share a place is about 1 in 10,000.
use super::SLOT_BITS;
use crc32fast::Hasher;
use std::ops::Range;

/// Points for each unit of weight.
pub(super) const POINTS_PER_WEIGHT: u32 = 160;

/// Adds the points with these numbers of a server named as nginx's file names it.
pub(super) fn add_points(server: &str, numbers: Range<usize>, slot: u64, points: &mut Vec<u64>) {
    let (host, port) = host_and_port(server);
    let mut base = Hasher::new();
    base.update(host.as_bytes());
    base.update(b"\0");
    base.update(port.as_bytes());
    let mut previous = 0u32;
    for number in 0..numbers.end {
        let mut hasher = base.clone();
        hasher.update(&previous.to_le_bytes());
        previous = hasher.finalize();
        // The circle has 2^40 places and nginx's 2^32: its places are every 256th.
        if number >= numbers.start {
            points.push(u64::from(previous) << (SLOT_BITS + 8) | slot);
        }
    }
}

/// A unix socket is its path; otherwise digits after a last colon are the port. Without them the port is empty, not 80.
fn host_and_port(server: &str) -> (&str, &str) {
    if let Some((scheme, path)) = server.split_at_checked(5)
        && scheme.eq_ignore_ascii_case("unix:")
    {
        return (path, "");
    }
    match server.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port),
        _ => (server, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_taken_apart_as_nginx_does() {
        for (server, expected) in [
            ("10.0.0.1:8080", ("10.0.0.1", "8080")),
            ("10.0.0.1", ("10.0.0.1", "")),
            ("cache-1", ("cache-1", "")),
            ("cache.internal:80", ("cache.internal", "80")),
            ("[::1]:81", ("[::1]", "81")),
            ("[::1]", ("[::1]", "")),
            ("unix:/run/a.sock", ("/run/a.sock", "")),
            ("UNIX:/run/a:80", ("/run/a:80", "")),
            ("unix", ("unix", "")),
        ] {
            assert_eq!(host_and_port(server), expected, "{server}");
        }
    }

    #[test]
    fn the_first_points_are_those_of_the_rule() {
        let mut points = Vec::new();
        add_points("10.0.0.1:8080", 0..2, 7, &mut points);
        let first = crc32fast::hash(b"10.0.0.1\x008080\0\0\0\0");
        let second = crc32fast::hash(&[b"10.0.0.1\x008080", first.to_le_bytes().as_slice()].concat());
        assert_eq!(points, [u64::from(first) << 32 | 7, u64::from(second) << 32 | 7]);
        add_points("10.0.0.1:8080", 1..2, 7, &mut points);
        assert_eq!(points[1], points[2]);
    }
}
