//! `query:NAME`: the value of the first parameter of that name, as it stands in the query: nothing is decoded.
use crate::head::Head;

/// A parameter by its raw name.
#[derive(Debug, Clone)]
pub struct Query {
    name: Box<[u8]>,
}

impl Query {
    pub(super) fn parse(name: &str) -> Result<Self, String> {
        if name.is_empty() || name.contains(['&', '=', '#', ' ']) {
            return Err(format!("\"{name}\" is not a parameter's name; write \"query:user\""));
        }
        Ok(Self { name: name.as_bytes().into() })
    }

    pub(super) fn write(&self, head: &Head, out: &mut Vec<u8>) {
        let mut parameters = head.query().unwrap_or_default().split(|byte| *byte == b'&');
        let value = parameters.find_map(|pair| match pair.strip_prefix(&*self.name)? {
            [] => Some(&[][..]),
            [b'=', value @ ..] => Some(value),
            _ => None,
        });
        out.extend_from_slice(value.unwrap_or_default());
    }
}
