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
    /// `X-Request-Id`
    XRequestId,
    /// A name that only Ringway may set (`Fencing-*`, `Ringway-*`, `Client-Cert*`) or that is dangerous to pass on (`Proxy`).
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
        if reserved { Self::Reserved } else { Self::Other }
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
        assert_eq!(Name::of(b"x-other"), Name::Other);
        assert_eq!(Name::of(b""), Name::Other);
    }

    #[test]
    fn names_only_ringway_may_set_are_reserved() {
        for name in ["Fencing-Token", "ringway-explain", "Client-Cert", "client-cert-chain", "Proxy"] {
            assert_eq!(Name::of(name.as_bytes()), Name::Reserved, "{name}");
        }
        for name in ["proxy-authorization", "fencing", "ringwayx", "client-cer"] {
            assert_eq!(Name::of(name.as_bytes()), Name::Other, "{name}");
        }
    }
}
