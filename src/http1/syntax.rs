//! Which bytes may stand where (RFC 9110 section 5.6, RFC 9112, RFC 3986).

const VALUE: u8 = 2;
const TARGET: u8 = 4;
const HOST: u8 = 8;
const NAME: u8 = 16;

const CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0u8; 256];
    let mut byte = 0usize;
    while byte < 256 {
        let b = byte as u8;
        let alphanumeric = b.is_ascii_alphanumeric();
        // Visible characters, space, tab and obs-text (0x80 and above).
        if (b >= 0x20 && b != 0x7f) || b == b'\t' {
            table[byte] |= VALUE;
        }
        // What a client may put into a path or query: visible ASCII. A fragment never belongs there.
        if b > 0x20 && b < 0x7f && b != b'#' {
            table[byte] |= TARGET;
        }
        if alphanumeric || contains(b"-._~!$&'()*+,;=:[]", b) {
            table[byte] |= HOST;
        }
        // What nearly all host names are made of.
        if alphanumeric || b == b'-' || b == b'.' {
            table[byte] |= NAME;
        }
        byte += 1;
    }
    table
}

const fn contains(set: &[u8], byte: u8) -> bool {
    let mut at = 0;
    while at < set.len() {
        if set[at] == byte {
            return true;
        }
        at += 1;
    }
    false
}

fn all(bytes: &[u8], class: u8) -> bool {
    bytes.iter().all(|byte| CLASSES[*byte as usize] & class != 0)
}

/// A field value: no control characters but tab.
pub fn is_field_value(bytes: &[u8]) -> bool {
    field_value_len(bytes) == bytes.len()
}

/// How many bytes at the beginning may stand in a field value.
pub fn field_value_len(bytes: &[u8]) -> usize {
    leading(bytes, VALUE, |word| any_below(word, 0x20) || any_below(word ^ (EACH * 0x7f), 1))
}

/// Visible ASCII without `#`, at least one byte.
pub fn is_target(bytes: &[u8]) -> bool {
    let is_odd = |word| {
        word & HIGH != 0
            || any_below(word, 0x21)
            || [0x7f, b'#'].iter().any(|b| any_below(word ^ (EACH * u64::from(*b)), 1))
    };
    !bytes.is_empty() && leading(bytes, TARGET, is_odd) == bytes.len()
}

const EACH: u64 = u64::from_ne_bytes([1; 8]);
const HIGH: u64 = EACH * 0x80;

/// Whether one of eight bytes is below `least`, which is at most 0x80. Never misses one; may take others along that follow one.
fn any_below(word: u64, least: u64) -> bool {
    word.wrapping_sub(EACH * least) & !word & HIGH != 0
}

/// How many bytes at the beginning are of this class, looked at by eight: one by one only where `is_odd` says that there may be
/// one that is not.
fn leading(bytes: &[u8], class: u8, is_odd: impl Fn(u64) -> bool) -> usize {
    let is_other = |byte: &u8| CLASSES[*byte as usize] & class == 0;
    let (words, rest) = bytes.as_chunks::<8>();
    for (number, word) in words.iter().enumerate() {
        if is_odd(u64::from_ne_bytes(*word))
            && let Some(at) = word.iter().position(is_other)
        {
            return number * 8 + at;
        }
    }
    words.len() * 8 + rest.iter().position(is_other).unwrap_or(rest.len())
}

/// `uri-host [ ":" port ]` (RFC 3986 section 3.2.2), without user information; a port is at most 65535. Nothing is percent-encoded:
/// no name in DNS needs it, and whoever decodes would read another host than the routes did.
pub fn is_authority(bytes: &[u8]) -> bool {
    if !bytes.is_empty() && all(bytes, NAME) {
        return true;
    }
    if !all(bytes, HOST) {
        return false;
    }
    let (host, port) = split_port(bytes);
    let is_port = |port: &[u8]| match std::str::from_utf8(port) {
        Ok(digits) if port.iter().all(u8::is_ascii_digit) => digits.is_empty() || digits.parse::<u16>().is_ok(),
        _ => false,
    };
    let is_host = match host {
        [] => false,
        [b'[', inner @ .., b']'] => is_ip_literal(inner),
        _ => !host.iter().any(|b| matches!(b, b'[' | b']' | b':')),
    };
    is_host && port.is_none_or(is_port)
}

fn is_ip_literal(inner: &[u8]) -> bool {
    let text = std::str::from_utf8(inner).unwrap_or_default();
    text.parse::<std::net::Ipv6Addr>().is_ok()
}

/// An authority's host and, if there is a colon after it, its port.
pub fn split_port(authority: &[u8]) -> (&[u8], Option<&[u8]>) {
    let after_bracket = memchr::memrchr(b']', authority).map_or(0, |at| at + 1);
    match memchr::memchr(b':', &authority[after_bracket..]) {
        Some(at) => (&authority[..after_bracket + at], Some(&authority[after_bracket + at + 1..])),
        None => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_at_eight_bytes_sees_what_looking_at_each_sees() {
        for byte in 0..=255u8 {
            for (length, at) in (1..20).flat_map(|length| (0..length).map(move |at| (length, at))) {
                let mut bytes = vec![b'a'; length];
                bytes[at] = byte;
                let (value, target) = (all(&[byte], VALUE), all(&[byte], TARGET));
                assert_eq!(field_value_len(&bytes), if value { length } else { at }, "{byte:#x} at {at} of {length}");
                assert_eq!(is_target(&bytes), target, "{byte:#x} at {at} of {length}");
            }
        }
    }

    #[test]
    fn an_authority_is_a_host_and_maybe_a_port() {
        for good in ["a", "a.b:80", "a:", "10.0.0.1:8080", "[::1]", "[::1]:443", "x_y-z.example", "a:65535"] {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            "", ":80", "a:b", "a:80:80", "u@a", "a/b", "[::1", "::1", "[x]", "a b", "a:123456", "a:65536", "[]", "a]",
            "a%", "a%2", "a%2Db", "a%zz",
        ] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
    }
}
