//! `cookie:NAME`: the value of the first cookie of that name, byte for byte (RFC 6265 section 4.2).
use crate::head::Head;
use crate::head::names::Name;

/// A cookie by name; names are case-sensitive.
#[derive(Debug, Clone)]
pub struct Cookie {
    name: Box<[u8]>,
}

impl Cookie {
    pub(super) fn parse(name: &str) -> Result<Self, String> {
        if !crate::head::is_token(name.as_bytes()) {
            return Err(format!("\"{name}\" is not a cookie name; write \"cookie:sid\""));
        }
        Ok(Self { name: name.as_bytes().into() })
    }

    pub(super) fn write(&self, head: &Head, out: &mut Vec<u8>) {
        let pairs = head.all(Name::Cookie).flat_map(|line| line.split(|byte| *byte == b';'));
        let value = pairs.map(<[u8]>::trim_ascii).find_map(|pair| pair.strip_prefix(&*self.name)?.strip_prefix(b"="));
        out.extend_from_slice(value.unwrap_or_default());
    }
}
