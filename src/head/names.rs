//! Field names that the proxy must recognise, as small integers. What they mean is decided where they are used.

/// A field name that somebody in the house looks for; everything else is `Other`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Name {
    /// Any name not listed here.
    Other,
    /// `Accept`
    Accept,
    /// `Authorization`
    Authorization,
    /// `Connection`
    Connection,
    /// `Content-Length`
    ContentLength,
    /// `Content-Type`
    ContentType,
    /// `Cookie`
    Cookie,
    /// `Date`
    Date,
    /// `Expect`
    Expect,
    /// `Expires`
    Expires,
    /// `Forwarded`
    Forwarded,
    /// `Host`
    Host,
    /// `Keep-Alive`
    KeepAlive,
    /// `Last-Modified`
    LastModified,
    /// `Proxy-Connection`
    ProxyConnection,
    /// `Retry-After`
    RetryAfter,
    /// `TE`
    Te,
    /// `Trailer`
    Trailer,
    /// `Transfer-Encoding`
    TransferEncoding,
    /// `Upgrade`
    Upgrade,
    /// `Via`
    Via,
    /// `X-Forwarded-For`
    XForwardedFor,
    /// `X-Forwarded-Host`
    XForwardedHost,
    /// `X-Forwarded-Proto`
    XForwardedProto,
    /// Any other `X-Forwarded-*`
    XForwardedOther,
    /// `X-Request-Id`
    XRequestId,
    /// A name that only Ringway may set (`Fencing-*`, `Ringway-*`, `Client-Cert*`) or that is dangerous to pass on (`Proxy`, and
    /// names that look like others with `_` for `-`).
    Reserved,
}

impl Name {
    /// Recognises a name, letter case aside. One length switch, then at most a few comparisons.
    pub fn of(name: &[u8]) -> Self {
        let candidates: &[(&str, Self)] = match name.len() {
            2 => &[("te", Self::Te)],
            3 => &[("via", Self::Via)],
            4 => &[("host", Self::Host), ("date", Self::Date)],
            5 => &[("proxy", Self::Reserved)],
            6 => &[("accept", Self::Accept), ("cookie", Self::Cookie), ("expect", Self::Expect)],
            7 => &[("upgrade", Self::Upgrade), ("trailer", Self::Trailer), ("expires", Self::Expires)],
            9 => &[("forwarded", Self::Forwarded)],
            10 => &[("connection", Self::Connection), ("keep-alive", Self::KeepAlive)],
            11 => &[("retry-after", Self::RetryAfter)],
            12 => &[("content-type", Self::ContentType), ("x-request-id", Self::XRequestId)],
            13 => &[("authorization", Self::Authorization), ("last-modified", Self::LastModified)],
            14 => &[("content-length", Self::ContentLength), ("http2-settings", Self::Reserved)],
            15 => &[("x-forwarded-for", Self::XForwardedFor)],
            16 => &[("x-forwarded-host", Self::XForwardedHost), ("proxy-connection", Self::ProxyConnection)],
            17 => &[("transfer-encoding", Self::TransferEncoding), ("x-forwarded-proto", Self::XForwardedProto)],
            _ => &[],
        };
        for (text, known) in candidates {
            if name[0] | 0x20 == text.as_bytes()[0] && is_same(name, text.as_bytes()) {
                return *known;
            }
        }
        let reserved = match name.first() {
            Some(b'f' | b'F') => starts_with(name, b"fencing-"),
            Some(b'r' | b'R') => starts_with(name, b"ringway-"),
            Some(b'c' | b'C') => starts_with(name, b"client-cert"),
            _ => false,
        };
        if matches!(name.first(), Some(b'x' | b'X')) && starts_with(name, b"x-forwarded-") {
            return Self::XForwardedOther;
        }
        let is_reserved = reserved || (memchr::memchr(b'_', name).is_some() && is_lookalike(name));
        if is_reserved { Self::Reserved } else { Self::Other }
    }
}

/// Whether an application that reads `_` as `-`, as CGI and its heirs do, would take this name for one that frames a message,
/// that Ringway sets, or that only Ringway may set.
fn is_lookalike(name: &[u8]) -> bool {
    let mut dashed = [0; 17];
    let length = name.len().min(dashed.len());
    for (dashed, byte) in dashed.iter_mut().zip(name) {
        *dashed = if *byte == b'_' { b'-' } else { *byte };
    }
    match Name::of(&dashed[..length]) {
        Name::Reserved => true,
        Name::ContentLength | Name::TransferEncoding | Name::XRequestId => name.len() == length,
        Name::XForwardedFor | Name::XForwardedHost | Name::XForwardedProto | Name::XForwardedOther => true,
        _ => false,
    }
}

/// Whether `name` is `lower` but for letter case; both are of one length. Eight bytes at a time, the last eight maybe twice: names are
/// recognised for each field of each message.
fn is_same(name: &[u8], lower: &[u8]) -> bool {
    let (Some(name_end), Some(lower_end)) = (name.last_chunk::<8>(), lower.last_chunk::<8>()) else {
        return name.eq_ignore_ascii_case(lower);
    };
    let is_same_word = |(name, lower): (&[u8; 8], &[u8; 8])| lower_case(*name) == u64::from_ne_bytes(*lower);
    is_same_word((name_end, lower_end)) && name.as_chunks().0.iter().zip(lower.as_chunks().0).all(is_same_word)
}

/// Eight bytes with their ASCII letters in lower case.
fn lower_case(bytes: [u8; 8]) -> u64 {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = EACH * 0x80;
    let word = u64::from_ne_bytes(bytes);
    let low_bits = word & !HIGH;
    let (from_a, above_z) = (low_bits + EACH * (0x80 - b'A' as u64), low_bits + EACH * (0x7f - b'Z' as u64));
    let is_upper = from_a & !above_z & !word & HIGH;
    word | is_upper >> 2
}

fn starts_with(name: &[u8], prefix: &[u8]) -> bool {
    name.len() >= prefix.len() && name[..prefix.len()].eq_ignore_ascii_case(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_recognised_in_any_case() {
        assert_eq!(Name::of(b"Content-Length"), Name::ContentLength);
        assert_eq!(Name::of(b"TRANSFER-ENCODING"), Name::TransferEncoding);
        assert_eq!(Name::of(b"x-forwarded-proto"), Name::XForwardedProto);
        assert_eq!(Name::of(b"X-Forwarded-Prefix"), Name::XForwardedOther);
        assert_eq!(Name::of(b"x-other"), Name::Other);
        assert_eq!(Name::of(b""), Name::Other);
    }

    #[test]
    fn letter_case_is_all_that_is_overlooked() {
        for byte in 0..=255u8 {
            let bytes = [byte; 8];
            assert_eq!(lower_case(bytes), u64::from_ne_bytes(bytes.map(|byte| byte.to_ascii_lowercase())), "{byte:#x}");
            let mut name = *b"content-length";
            for at in 0..name.len() {
                let kept = std::mem::replace(&mut name[at], byte);
                assert_eq!(is_same(&name, b"content-length"), byte.eq_ignore_ascii_case(&kept), "{byte:#x} at {at}");
                name[at] = kept;
            }
        }
    }

    #[test]
    fn names_only_ringway_may_set_are_reserved() {
        for name in ["Fencing-Token", "ringway-explain", "Client-Cert", "client-cert-chain", "Proxy"] {
            assert_eq!(Name::of(name.as_bytes()), Name::Reserved, "{name}");
        }
        for name in [
            "X_Forwarded_For",
            "x_forwarded-port",
            "transfer_encoding",
            "x-request_id",
            "CLIENT_CERT",
            "Fencing_Token_of_many_words",
        ] {
            assert_eq!(Name::of(name.as_bytes()), Name::Reserved, "{name}");
        }
        for name in ["x_other", "transfer_encoding_x", "content_type", "a_b", "proxy_"] {
            assert_eq!(Name::of(name.as_bytes()), Name::Other, "{name}");
        }
        for name in ["proxy-authorization", "fencing", "ringwayx", "client-cer"] {
            assert_eq!(Name::of(name.as_bytes()), Name::Other, "{name}");
        }
    }
}
