//! Who is behind a proxy, as `X-Forwarded-For` and `Forwarded` (RFC 7239) tell it. Whom to believe is decided elsewhere.
use std::net::IpAddr;
use std::net::SocketAddr;

/// The addresses of one `X-Forwarded-For` value, the nearest first; `None` is what is no address.
pub fn of_x_forwarded_for(value: &[u8]) -> impl Iterator<Item = Option<IpAddr>> {
    value.rsplit(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|item| !item.is_empty()).map(node)
}

/// The `for` of each element of one `Forwarded` value, the nearest first; `None` is what names no address.
pub fn of_forwarded(value: &[u8]) -> impl Iterator<Item = Option<IpAddr>> {
    from_the_end(value, b',').filter(|element| !element.trim_ascii().is_empty()).map(|element| {
        from_the_end(element, b';').find_map(|pair| {
            let at = memchr::memchr(b'=', pair)?;
            pair[..at].trim_ascii().eq_ignore_ascii_case(b"for").then(|| node(pair[at + 1..].trim_ascii()))
        })?
    })
}

/// Cuts at separators that are not in quotes. From the end: the nearest proxy wrote there, and a quote that a client left open
/// at the beginning cannot swallow it.
fn from_the_end(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut in_quotes = false;
        let cut = text.iter().rposition(|byte| {
            in_quotes ^= *byte == b'"';
            *byte == separator && !in_quotes
        });
        rest = cut.map(|at| &text[..at]);
        Some(cut.map_or(text, |at| &text[at + 1..]))
    })
}

/// An address, maybe with a port, maybe in brackets, maybe in quotes.
fn node(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let text = text.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')).unwrap_or(text);
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    text.parse().ok().or_else(bracketed).or_else(with_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_the_nearest_on() {
        let check = |value: &str, expected: &[Option<&str>]| {
            let expected: Vec<_> = expected.iter().map(|text| text.map(|text| text.parse().unwrap())).collect();
            assert_eq!(of_forwarded(value.as_bytes()).collect::<Vec<Option<IpAddr>>>(), expected, "{value}");
        };
        check("for=192.0.2.60;proto=http;by=203.0.113.43", &[Some("192.0.2.60")]);
        check("For=\"[2001:db8:cafe::17]:4711\"", &[Some("2001:db8:cafe::17")]);
        check("for=192.0.2.43, for=198.51.100.17:80", &[Some("198.51.100.17"), Some("192.0.2.43")]);
        check("by=\"a,b;for=1.1.1.1\";for=\"2.2.2.2\"", &[Some("2.2.2.2")]);
        check("for=_hidden, for=unknown, proto=https", &[None, None, None]);
        check("for=\"evil, for=10.0.0.7", &[Some("10.0.0.7"), None]);
        check("for=\"\\\"evil, for=10.0.0.7;proto=https", &[Some("10.0.0.7"), None]);
        check("", &[]);
        let listed: Vec<_> = of_x_forwarded_for(b"1.1.1.1, evil,, [::1], 2.2.2.2:80").collect();
        let address = |text: &str| Some(text.parse().unwrap());
        assert_eq!(listed, [address("2.2.2.2"), address("::1"), None, address("1.1.1.1")]);
    }
}
