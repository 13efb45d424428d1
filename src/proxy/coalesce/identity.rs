//! What a request asks for, as bytes: two that are equal may be given one answer. Everything is framed by its length, so that no
//! value can be taken for another's end.
use crate::http1::framing::BodyLength;
use crate::key::line;
use crate::proxy::context::RequestContext;
use crate::route::coalesce::Coalesce;
use crate::worker::buffers::Draft;
use std::sync::Arc;

/// Names of the fields that an answer depends on, in lower case, in order.
pub type Names = Arc<[Box<[u8]>]>;

/// Bytes at the beginning that mean nothing to other processes: the view's generation and the route's place in it.
const OWN: usize = 12;

/// What one request asks for.
#[derive(Debug)]
pub struct Identity {
    bytes: Vec<u8>,
    /// Where what depends on earlier answers begins.
    base: usize,
}

impl Identity {
    /// Of a request that is prepared for its endpoint, by everything but what `Vary` has named so far. The ring's key is a part:
    /// requests that are keyed by something else belong to somebody else, whatever the answer says.
    pub fn new(ctx: &RequestContext, coalesce: &Coalesce) -> Self {
        let mut bytes = Vec::with_capacity(256);
        let Draft { head, edits, .. } = &*ctx.request;
        let route = ctx.route.map_or(u32::MAX, |route| route.0);
        bytes.extend_from_slice(&ctx.view.generation.to_le_bytes());
        bytes.extend_from_slice(&route.to_le_bytes());
        bytes.extend_from_slice(&[u8::from(ctx.client.secure), head.method() as u8]);
        framed(&mut bytes, |out| line::write_host(head, &ctx.client, out));
        framed(&mut bytes, |out| out.extend_from_slice(head.target()));
        match &ctx.key {
            None => bytes.push(0),
            Some(extracted) => {
                bytes.push(1);
                bytes.extend_from_slice(&extracted.source.map_or(u64::MAX, |source| source as u64).to_le_bytes());
                bytes.extend_from_slice(&extracted.key.0.to_le_bytes());
            }
        }
        for (name, value) in edits.resulting(head).filter(|(name, _)| is_decisive(name)) {
            framed(&mut bytes, |out| out.extend(name.iter().map(u8::to_ascii_lowercase)));
            framed(&mut bytes, |out| out.extend_from_slice(value));
        }
        for name in &coalesce.share_headers {
            write_values(name.as_bytes(), &ctx.request, &mut bytes);
        }
        let base = bytes.len();
        Self { bytes, base }
    }

    /// The part that does not depend on earlier answers.
    pub fn base(&self) -> &[u8] {
        &self.bytes[..self.base]
    }

    /// Makes the values of fields that earlier answers named a part of it, instead of those before.
    pub fn vary_by(&mut self, names: Option<&Names>, request: &Draft) {
        self.bytes.truncate(self.base);
        for name in names.into_iter().flat_map(|names| names.iter()) {
            write_values(name, request, &mut self.bytes);
        }
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The part of an identity's bytes that is the same on every proxy of a fleet.
pub fn common(bytes: &[u8]) -> &[u8] {
    &bytes[OWN..]
}

/// Appends a field's name and all its values, as they go to the endpoint.
pub fn write_values(name: &[u8], request: &Draft, out: &mut Vec<u8>) {
    framed(out, |out| out.extend_from_slice(name));
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    let mut count = 0u32;
    for (_, value) in request.edits.resulting(&request.head).filter(|(other, _)| other.eq_ignore_ascii_case(name)) {
        framed(out, |out| out.extend_from_slice(value));
        count += 1;
    }
    out[at..at + 4].copy_from_slice(&count.to_le_bytes());
}

/// Whether an answer depends on this field although hardly any says so: how fresh it has to be, and what the client's side is
/// said to look like.
fn is_decisive(name: &[u8]) -> bool {
    let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
    match name.len() {
        6 => is(b"pragma"),
        9 => is(b"forwarded"),
        13 => is(b"cache-control"),
        12.. => name[..12].eq_ignore_ascii_case(b"x-forwarded-") && !is(b"x-forwarded-for"),
        _ => false,
    }
}

fn framed(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let length = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&length.to_le_bytes());
}

/// Whether a request has a body, were it one that may turn out empty.
pub fn has_body(length: BodyLength) -> bool {
    !matches!(length, BodyLength::Empty | BodyLength::Length(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(fields: &[(&str, &str)]) -> Draft {
        let mut draft = Draft::default();
        fields.iter().for_each(|(name, value)| draft.head.push(name.as_bytes(), value.as_bytes()));
        draft
    }

    fn values(name: &str, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        write_values(name.as_bytes(), &draft(fields), &mut out);
        out
    }

    #[test]
    fn values_are_told_apart_however_they_are_split() {
        let of = |fields: &[(&str, &str)]| values("a", fields);
        assert_eq!(of(&[("A", "1"), ("b", "2")]), of(&[("a", "1"), ("c", "3")]));
        let all = [of(&[]), of(&[("a", "")]), of(&[("a", "12")]), of(&[("a", "1"), ("a", "2")]), of(&[("a", "1, 2")])];
        for (at, one) in all.iter().enumerate() {
            assert!(all[..at].iter().all(|other| other != one), "{at}");
        }
    }

    #[test]
    fn what_goes_to_the_endpoint_counts() {
        let mut request = draft(&[("accept-language", "de")]);
        request.edits.remove_named(&request.head, b"accept-language");
        request.edits.add(b"Accept-Language", b"en");
        let mut out = Vec::new();
        write_values(b"accept-language", &request, &mut out);
        assert_eq!(out, values("accept-language", &[("accept-language", "en")]));
    }

    #[test]
    fn fields_that_answers_depend_on_in_silence_are_known() {
        for name in
            ["Cache-Control", "pragma", "X-Forwarded-Proto", "x-forwarded-host", "X-Forwarded-Prefix", "Forwarded"]
        {
            assert!(is_decisive(name.as_bytes()), "{name}");
        }
        for name in ["X-Forwarded-For", "x-request-id", "via", "accept", "user-agent", "x-forwarded", ""] {
            assert!(!is_decisive(name.as_bytes()), "{name}");
        }
    }
}
