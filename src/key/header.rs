//! `header:NAME`: the value of a field; several fields of one name are joined by `, ` as HTTP allows (RFC 9110 section 5.3).
use crate::head::Head;

/// A field by name.
#[derive(Debug, Clone)]
pub struct Header {
    name: Box<[u8]>,
}

impl Header {
    pub(super) fn parse(name: &str) -> Result<Self, String> {
        if !crate::head::is_token(name.as_bytes()) {
            return Err(format!("\"{name}\" is not a field name; write \"header:x-cache-key\""));
        }
        Ok(Self { name: name.as_bytes().into() })
    }

    pub(super) fn write(&self, head: &Head, out: &mut Vec<u8>) {
        for (index, value) in head.all_named(&self.name).enumerate() {
            if index > 0 {
                out.extend_from_slice(b", ");
            }
            out.extend_from_slice(value);
        }
    }
}
