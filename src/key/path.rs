//! `path:REGEX`: what the first group of a regular expression finds in the raw path.
use crate::head::Head;
use regex::bytes::Regex;

/// A group of the path.
#[derive(Debug, Clone)]
pub struct PathGroup {
    regex: Regex,
}

impl PathGroup {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let regex = Regex::new(text).map_err(|error| format!("the regex is not one: {error}"))?;
        if regex.captures_len() < 2 {
            return Err(format!("the regex {text} has no group; write \"path:^/users/([^/]+)\""));
        }
        Ok(Self { regex })
    }

    pub(super) fn write(&self, head: &Head, out: &mut Vec<u8>) {
        if let Some(group) = self.regex.captures(head.path()).and_then(|captures| captures.get(1)) {
            out.extend_from_slice(group.as_bytes());
        }
    }
}
