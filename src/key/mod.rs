//! Bytes to hash, taken from a request head. Pure: knows no ring, no upstream, no body.
//!
//! A key is a list of alternatives; the first whose parts are all present wins. An alternative is one part, or several joined by
//! ` + `. One part is hashed as it is; joined parts are each led by their length, so `a + b` never equals another split. A part
//! that is present but empty counts as missing: it would send everybody without a value to one endpoint.
pub mod client_ip;
pub mod cookie;
pub mod header;
pub mod line;
pub mod path;
pub mod query;

use crate::base::hash::PlacementHash;
use crate::head::Client;
use crate::head::Head;
use thiserror::Error;

/// A key's place in the key space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HashKey(pub u64);

/// A key, and which alternative gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extracted {
    /// The hash.
    pub key: HashKey,
    /// The alternative's number; `None` when the client's address stood in for a missing key.
    pub source: Option<usize>,
}

/// A key that cannot be read from any request.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct KeyError {
    /// Which alternative.
    pub alternative: usize,
    /// What is wrong, and what to write instead.
    pub message: String,
}

/// Where a route's key comes from.
#[derive(Debug, Clone)]
pub struct KeySpec {
    alternatives: Vec<Alternative>,
    hash: PlacementHash,
}

#[derive(Debug, Clone)]
struct Alternative {
    text: String,
    parts: Vec<Part>,
}

/// What an alternative is made of, beyond the request's method and target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// Fields of the request.
    pub fields: bool,
    /// Its host.
    pub host: bool,
    /// The client's address.
    pub client: bool,
}

/// One source of bytes.
#[derive(Debug, Clone)]
enum Part {
    Header(header::Header),
    Cookie(cookie::Cookie),
    Query(query::Query),
    Path,
    PathGroup(path::PathGroup),
    PathAndQuery,
    Host,
    Method,
    ClientIp(client_ip::ClientIp),
}

/// What a part may look like, for messages.
const FORMS: [&str; 10] = [
    "header:NAME",
    "cookie:NAME",
    "query:NAME",
    "path",
    "path:REGEX",
    "path_and_query",
    "host",
    "method",
    "client_ip",
    "client_ip/24/56",
];

impl KeySpec {
    /// Reads a list of alternatives; `hash` is that of the upstream's ring.
    ///
    /// # Errors
    /// The first alternative that is not one, with what to write instead.
    pub fn parse<S: AsRef<str>>(alternatives: &[S], hash: PlacementHash) -> Result<Self, KeyError> {
        let parse = |(index, text): (usize, &S)| {
            let parts = text.as_ref().split(" + ").map(|part| Part::parse(part.trim())).collect::<Result<Vec<_>, _>>();
            let parts = parts.map_err(|message| KeyError { alternative: index, message })?;
            Ok(Alternative { text: text.as_ref().to_string(), parts })
        };
        let alternatives = alternatives.iter().enumerate().map(parse).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { alternatives, hash })
    }

    /// The key of a request; its canonical bytes are left in `scratch`. `None` when no alternative is present.
    #[inline]
    pub fn extract(&self, head: &Head, client: &Client, scratch: &mut Vec<u8>) -> Option<Extracted> {
        let source = self.alternatives.iter().position(|alternative| alternative.write(head, client, scratch))?;
        Some(Extracted { key: HashKey(self.hash.hash(scratch)), source: Some(source) })
    }

    /// The key by one alternative, whatever the others have; `None` when it is not present.
    pub fn extract_by(
        &self,
        alternative: usize,
        head: &Head,
        client: &Client,
        scratch: &mut Vec<u8>,
    ) -> Option<Extracted> {
        let is_present = self.alternatives[alternative].write(head, client, scratch);
        is_present.then(|| Extracted { key: HashKey(self.hash.hash(scratch)), source: Some(alternative) })
    }

    /// What an alternative is made of.
    pub fn needs(&self, alternative: usize) -> Needs {
        let mut needs = Needs::default();
        for part in &self.alternatives[alternative].parts {
            match part {
                Part::Header(_) | Part::Cookie(_) => needs.fields = true,
                Part::Host => needs.host = true,
                Part::ClientIp(_) => needs.client = true,
                Part::Query(_) | Part::Path | Part::PathGroup(_) | Part::PathAndQuery | Part::Method => {}
            }
        }
        needs
    }

    /// The key that a client's address makes, for requests that have no other.
    pub fn of_client(&self, client: &Client, scratch: &mut Vec<u8>) -> Extracted {
        scratch.clear();
        client_ip::ClientIp::whole().write(client, scratch);
        Extracted { key: HashKey(self.hash.hash(scratch)), source: None }
    }

    /// Whether the bytes of an alternative are several parts, each led by its length.
    pub fn is_joined(&self, source: Option<usize>) -> bool {
        source.is_some_and(|source| self.alternatives[source].parts.len() > 1)
    }

    /// The alternatives as they were written.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.alternatives.iter().map(|alternative| alternative.text.as_str())
    }

    /// An alternative as it was written.
    pub fn source_text(&self, source: Option<usize>) -> &str {
        source.map_or("client_ip", |source| &self.alternatives[source].text)
    }
}

impl Alternative {
    /// Writes the canonical bytes; false when a part is missing.
    fn write(&self, head: &Head, client: &Client, scratch: &mut Vec<u8>) -> bool {
        scratch.clear();
        if let [part] = self.parts.as_slice() {
            return part.write(head, client, scratch);
        }
        self.parts.iter().all(|part| {
            let start = scratch.len();
            scratch.extend_from_slice(&[0; 4]);
            let is_present = part.write(head, client, scratch);
            let length = (scratch.len() - start - 4) as u32;
            scratch[start..start + 4].copy_from_slice(&length.to_le_bytes());
            is_present
        })
    }
}

impl Part {
    fn parse(text: &str) -> Result<Self, String> {
        let (kind, argument) = match text.split_once(':') {
            Some((kind, argument)) => (kind, Some(argument)),
            None => (text, None),
        };
        match (kind, argument) {
            ("header", Some(name)) => header::Header::parse(name).map(Self::Header),
            ("cookie", Some(name)) => cookie::Cookie::parse(name).map(Self::Cookie),
            ("query", Some(name)) => query::Query::parse(name).map(Self::Query),
            ("path", None) => Ok(Self::Path),
            ("path", Some(regex)) => path::PathGroup::parse(regex).map(Self::PathGroup),
            ("path_and_query", None) => Ok(Self::PathAndQuery),
            ("host", None) => Ok(Self::Host),
            ("method", None) => Ok(Self::Method),
            (kind, None) if kind == "client_ip" || kind.starts_with("client_ip/") => {
                client_ip::ClientIp::parse(kind).map(Self::ClientIp)
            }
            _ => Err(unknown(text, kind)),
        }
    }

    /// Appends this part's bytes; false when there are none.
    #[inline]
    fn write(&self, head: &Head, client: &Client, out: &mut Vec<u8>) -> bool {
        let before = out.len();
        match self {
            Self::Header(header) => header.write(head, out),
            Self::Cookie(cookie) => cookie.write(head, out),
            Self::Query(query) => query.write(head, out),
            Self::Path => out.extend_from_slice(head.path()),
            Self::PathGroup(group) => group.write(head, out),
            Self::PathAndQuery => out.extend_from_slice(head.target()),
            Self::Host => line::write_host(head, client, out),
            Self::Method => out.extend_from_slice(head.method_text()),
            Self::ClientIp(client_ip) => client_ip.write(client, out),
        }
        out.len() > before
    }
}

fn unknown(text: &str, kind: &str) -> String {
    // Of equally near forms the last one found wins, so the plainer ones are looked at last.
    let near = FORMS.iter().rev().max_by(|a, b| {
        let likeness = |form: &str| strsim::jaro_winkler(form.split(':').next().unwrap_or(form), kind);
        likeness(a).total_cmp(&likeness(b))
    });
    format!(
        "\"{text}\" is not a part of a key; did you mean \"{}\"? Parts are {}",
        near.unwrap_or(&"path"),
        FORMS.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Method;
    use crate::head::Version;
    use proptest::prelude::*;

    fn head(target: &str, fields: &[(&str, &str)]) -> Head {
        let mut head = Head::default();
        head.set_request(Method::Get, b"GET", target.as_bytes());
        let authority = head.append(b"Example.COM:80");
        head.set_authority(authority);
        for (name, value) in fields {
            head.push(name.as_bytes(), value.as_bytes());
        }
        head
    }

    const CLIENT: Client = Client { ip: std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 2, 3)), secure: false };

    fn bytes(key: &[&str], head: &Head) -> Option<(Vec<u8>, usize)> {
        let mut scratch = Vec::new();
        let spec = KeySpec::parse(key, PlacementHash::default()).unwrap();
        let extracted = spec.extract(head, &CLIENT, &mut scratch)?;
        assert_eq!(extracted.key.0, PlacementHash::default().hash(&scratch));
        Some((scratch, extracted.source.unwrap()))
    }

    #[test]
    fn each_source_gives_its_bytes() {
        let head =
            head("/a/b%20?x=1&y=&z", &[("X-User", "u"), ("Cookie", "a=1; sid=s"), ("X-Empty", ""), ("x-user", "v")]);
        let check = |part: &str, expected: Option<&[u8]>| {
            assert_eq!(bytes(&[part], &head), expected.map(|expected| (expected.to_vec(), 0)), "{part}");
        };
        check("header:x-user", Some(b"u, v"));
        check("header:x-empty", None);
        check("header:x-none", None);
        check("cookie:sid", Some(b"s"));
        check("cookie:SID", None);
        check("query:x", Some(b"1"));
        check("query:y", None);
        check("query:z", None);
        check("path", Some(b"/a/b%20"));
        check("path:^/([a-z]+)/", Some(b"a"));
        check("path:^/(nothing)", None);
        check("path_and_query", Some(b"/a/b%20?x=1&y=&z"));
        check("host", Some(b"example.com"));
        check("method", Some(b"GET"));
        check("client_ip", Some(&[10, 1, 2, 3]));
        check("client_ip/16/56", Some(&[10, 1, 0, 0]));
    }

    #[test]
    fn the_first_alternative_that_is_whole_wins() {
        let head = head("/p", &[("X-A", "a")]);
        let (joined, source) =
            bytes(&["cookie:sid", "header:x-a + header:x-b", "header:x-a + path", "path"], &head).unwrap();
        assert_eq!((joined.as_slice(), source), (&b"\x01\0\0\0a\x02\0\0\0/p"[..], 2));
        assert_eq!(bytes(&["header:none", "cookie:none"], &head), None);
    }

    #[test]
    fn http1_and_http2_give_the_same_key() {
        let one = head("/p?q", &[("COOKIE", "sid=1; b=2")]);
        let mut two = Head::default();
        two.set_version(Version::Http2);
        two.set_request(Method::Get, b"GET", b"/p?q");
        let authority = two.append(b"example.com");
        two.set_authority(authority);
        two.push(b"cookie", b"sid=1; b=2");
        let key = ["host + path_and_query + cookie:sid"];
        assert_eq!(bytes(&key, &one), bytes(&key, &two));
    }

    #[test]
    fn a_wrong_part_is_told_with_the_nearest() {
        let check = |part: &str, expected: &str| {
            let error = KeySpec::parse(&["path", part], PlacementHash::default()).unwrap_err();
            assert_eq!(error.alternative, 1);
            assert!(error.message.contains(expected), "{}", error.message);
        };
        check("heder:x", "did you mean \"header:NAME\"?");
        check("client-ip", "did you mean \"client_ip\"?");
        check("header:", "name");
        check("header:a b", "name");
        check("path:(", "regex");
        check("path:abc", "group");
        check("client_ip/33/56", "0 to 32");
        check("client_ip/24", "client_ip/24/56");
    }

    proptest! {
        #[test]
        fn joined_parts_never_equal_another_split(a in "[a-z]{1,6}", b in "[a-z]{1,6}", c in "[a-z]{1,6}", d in "[a-z]{1,6}") {
            let of = |one: &str, two: &str| bytes(&["header:x-1 + header:x-2"], &head("/", &[("x-1", one), ("x-2", two)]));
            prop_assert_eq!(of(&a, &b) == of(&c, &d), (&a, &b) == (&c, &d));
        }
    }
}
