//! Texts with placeholders: `https://{host}{path_and_query}`; `{{` and `}}` are the braces themselves. What a client sent stays in
//! its place: it is encoded for where it goes, so it never ends a field or becomes another part of a URL.
use crate::head::Client;
use crate::head::Head;
use crate::route::host;
use std::io::Write;

/// What a placeholder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Scheme,
    Host,
    Authority,
    Method,
    Path,
    Query,
    PathAndQuery,
    ClientIp,
    RequestId,
}

/// All placeholders. `{host}` has no port and is in lower case, `{authority}` is as received, `{query}` has no `?`.
const VALUES: [(&str, Value); 9] = [
    ("scheme", Value::Scheme),
    ("host", Value::Host),
    ("authority", Value::Authority),
    ("method", Value::Method),
    ("path", Value::Path),
    ("query", Value::Query),
    ("path_and_query", Value::PathAndQuery),
    ("client_ip", Value::ClientIp),
    ("request_id", Value::RequestId),
];

/// What placeholders are filled from.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The request's head.
    pub head: &'a Head,
    /// Its sender.
    pub client: &'a Client,
    /// Its id.
    pub id: &'a [u8],
}

/// A text with placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    pieces: Vec<Piece<Value>>,
}

/// A piece of a text: as it stands, or what stands for something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<T> {
    /// Bytes as they stand.
    Text(String),
    /// A placeholder.
    Place(T),
}

/// Cuts a text into pieces; `known` says what a placeholder's name means, or what is wrong with it.
///
/// # Errors
/// Those of `known`, and braces without a partner.
pub fn pieces<T>(text: &str, known: impl Fn(&str) -> Result<T, String>) -> Result<Vec<Piece<T>>, String> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        if rest.starts_with("{{") || rest.starts_with("}}") {
            plain.push_str(&rest[..1]);
            rest = &rest[2..];
            continue;
        }
        let name = rest.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let (name, after) = name.ok_or_else(|| {
            format!("\"{text}\" has a brace without a partner; write {{{{ or }}}} for the character itself")
        })?;
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
        }
        pieces.push(Piece::Place(known(name)?));
        rest = after;
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    Ok(pieces)
}

impl Template {
    /// Reads a text.
    ///
    /// # Errors
    /// What is wrong with it, and what may be written.
    pub fn parse(text: &str) -> Result<Self, String> {
        let known = |name: &str| {
            let found = VALUES.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
            let list = VALUES.map(|(name, _)| format!("{{{name}}}")).join(", ");
            found.ok_or_else(|| format!("{{{name}}} stands for nothing; there is {list}"))
        };
        Ok(Self { text: text.to_string(), pieces: pieces(text, known)? })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the request's host is part of it.
    pub fn names_host(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Place(Value::Host | Value::Authority)))
    }

    /// Appends it as part of a URL: what is not allowed there is percent-encoded.
    pub fn write_url(&self, facts: Facts<'_>, out: &mut Vec<u8>) {
        self.write(facts, out, |value, byte, out| {
            let ends_host = matches!(value, Value::Host | Value::Authority) && b"@/?".contains(&byte);
            if byte.is_ascii_alphanumeric() || (b"-._~!$&'()*+,;=:@/?%[]".contains(&byte) && !ends_host) {
                out.push(byte);
            } else {
                write!(out, "%{byte:02X}").expect("a vector takes all that is written");
            }
        });
    }

    /// Appends it as a field's value: control characters become `?`.
    pub fn write_field(&self, facts: Facts<'_>, out: &mut Vec<u8>) {
        self.write(facts, out, |_, byte, out| out.push(if byte < 0x20 || byte == 0x7f { b'?' } else { byte }));
    }

    fn write(&self, facts: Facts<'_>, out: &mut Vec<u8>, encode: impl Fn(Value, u8, &mut Vec<u8>)) {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Place(value) => value.each_byte(facts, |byte| encode(*value, byte, out)),
            }
        }
    }
}

impl Value {
    fn each_byte(self, facts: Facts<'_>, visit: impl FnMut(u8)) {
        let head = facts.head;
        match self {
            Self::Scheme => [&b"http"[..], b"https"][usize::from(facts.client.secure)].iter().copied().for_each(visit),
            Self::Host => host::of(head).iter().copied().for_each(visit),
            Self::Authority => head.authority().unwrap_or_default().iter().copied().for_each(visit),
            Self::Method => head.method_text().iter().copied().for_each(visit),
            Self::Path => or_root(head.path()).iter().copied().for_each(visit),
            Self::Query => head.query().unwrap_or_default().iter().copied().for_each(visit),
            Self::PathAndQuery => or_root(head.target()).iter().copied().for_each(visit),
            Self::ClientIp => facts.client.ip.to_string().bytes().for_each(visit),
            Self::RequestId => facts.id.iter().copied().for_each(visit),
        }
    }
}

/// `OPTIONS *` has no path: it is about the whole host.
fn or_root(path: &[u8]) -> &[u8] {
    if path == b"*" { b"/" } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Method;

    fn filled(text: &str, target: &[u8], host: &[u8]) -> String {
        let mut head = Head::default();
        head.set_request(Method::of(b"GET"), b"GET", target);
        let authority = head.append(host);
        head.set_authority(authority);
        let client = Client { ip: "10.0.0.1".parse().unwrap(), secure: true };
        let mut out = Vec::new();
        Template::parse(text).unwrap().write_url(Facts { head: &head, client: &client, id: b"id-1" }, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn placeholders_are_filled() {
        let check = |text: &str, expected: &str| assert_eq!(filled(text, b"/a/b?c=%20d", b"A.Example:8443"), expected);
        check("https://{host}{path_and_query}", "https://a.example/a/b?c=%20d");
        check("{scheme}://{authority}{path}?q={query}", "https://A.Example:8443/a/b?q=c=%20d");
        check("/{method}/{client_ip}/{request_id}", "/GET/10.0.0.1/id-1");
        check("{{x}}", "{x}");
    }

    #[test]
    fn what_a_client_sent_stays_in_its_place() {
        assert_eq!(filled("{path_and_query}", b"/\\a\"<\x80", b"a"), "/%5Ca%22%3C%80");
        assert_eq!(filled("https://a{path}", b"*", b"a"), "https://a/");
        assert_eq!(filled("https://{host}/", b"/", b"a@b"), "https://a%40b/");
    }

    #[test]
    fn a_wrong_placeholder_is_told() {
        let error = |text: &str| Template::parse(text).unwrap_err();
        assert!(error("{hots}").contains("{hots} stands for nothing; there is {scheme}, {host}"));
        assert!(error("a}").contains("partner") && error("{a").contains("partner"));
    }
}
