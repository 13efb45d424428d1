//! Exact and wildcard hosts, and the host a request is for.
use crate::head::Head;
use smallvec::SmallVec;

/// The host a request is for, in lower case, without its port and without the dot that may end a full name.
pub fn of(head: &Head) -> SmallVec<[u8; 64]> {
    let authority = head.authority().unwrap_or_default();
    // Names are short: looking at each byte is quicker than calling somebody who looks at many.
    let after_literal = authority.iter().rposition(|byte| *byte == b']').map_or(0, |at| at + 1);
    let port = authority[after_literal..].iter().position(|byte| *byte == b':');
    let end = port.map_or(authority.len(), |at| after_literal + at);
    let host = authority[..end].strip_suffix(b".").unwrap_or(&authority[..end]);
    let mut lower = SmallVec::from_slice(host);
    lower.make_ascii_lowercase();
    lower
}

/// A host a route is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostPattern {
    /// This host, in lower case.
    Exact(String),
    /// Any host below this one: `.example.com` for `*.example.com`.
    Suffix(String),
}

impl HostPattern {
    /// Reads `example.com` or `*.example.com`.
    ///
    /// # Errors
    /// What is wrong with it, as a fragment.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let name = lower.strip_prefix("*.").unwrap_or(&lower);
        let is_literal = name.starts_with('[') && name.ends_with(']') && lower == name;
        let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
        if name.is_empty() || !(is_literal || is_name) {
            return Err(format!(
                "\"{text}\" is not a host: write \"example.com\" or \"*.example.com\", without a port"
            ));
        }
        Ok(if lower == name { Self::Exact(lower) } else { Self::Suffix(format!(".{name}")) })
    }

    /// How specific a match of `host` (lower case, no port) is; `None` when it does not match. Exact hosts beat wildcards,
    /// longer wildcards shorter ones.
    pub fn rank(&self, host: &[u8]) -> Option<usize> {
        match self {
            Self::Exact(name) => (name.as_bytes() == host).then_some(usize::MAX),
            Self::Suffix(suffix) => {
                (host.len() > suffix.len() && host.ends_with(suffix.as_bytes())).then_some(suffix.len())
            }
        }
    }
}

impl std::fmt::Display for HostPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
        }
    }
}
