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
            14 => &[("content-length", Self::ContentLength)],
            15 => &[("x-forwarded-for", Self::XForwardedFor)],
            16 => &[("x-forwarded-host", Self::XForwardedHost), ("proxy-connection", Self::ProxyConnection)],
            17 => &[("transfer-encoding", Self::TransferEncoding), ("x-forwarded-proto", Self::XForwardedProto)],
            _ => &[],
        };
        for (text, known) in candidates {
            if name.eq_ignore_ascii_case(text.as_bytes()) {
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
