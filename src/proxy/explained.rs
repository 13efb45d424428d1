//! What a client that shows the debug token is told of its request: one line of JSON in a field of the response. Without a
//! token in the settings a response costs one look at whether there is one.
use crate::head::names::Name;
use crate::proxy::context::RequestContext;
use crate::proxy::finish::Finish;
use crate::ring::Slot;
use crate::ring::fingerprint;
use crate::snapshot::upstream::Upstream;
use crate::worker::buffers::Draft;
use serde::Serialize;

/// The field, of the request and of the response.
const FIELD: &[u8] = b"Ringway-Explain";
/// Candidates that are told.
const MAX_CANDIDATES: usize = 5;
/// Most of a name that is told, and of a key, which may be as long as a head.
const MAX_NAME: usize = 128;
const MAX_KEY: usize = 256;

/// What is told; what is not known, or does not exist for this request, is left out. Never longer than 6 KiB.
#[derive(Debug, Serialize)]
struct Told {
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<String>,
    /// The key's bytes, those that are not printable as `\x00`.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// Which alternative gave it, as written.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// Its hash, 16 digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    /// The first candidate of the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    /// Who was asked last: whose answer this is, unless it is an error of ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    /// What that one is to the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<&'static str>,
    /// What the answer has to do with those of others.
    #[serde(skip_serializing_if = "Option::is_none")]
    coalesced: Option<&'static str>,
    attempts: u32,
    generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    /// The first candidates of the key, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    candidates: Vec<Candidate>,
}

#[derive(Debug, Serialize)]
struct Candidate {
    id: String,
    /// Why it is passed over: `down`, `ejected`, `draining`, or `ramp` while it comes or goes gradually.
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<&'static str>,
}

/// Tells it, if the request shows the token.
#[inline]
pub fn tell(finish: &Finish, answer: &mut Draft) {
    if finish.view.debug_token.is_some() {
        tell_who_may_know(finish, answer);
    }
}

#[cold]
fn tell_who_may_know(finish: &Finish, answer: &mut Draft) {
    let ctx: &RequestContext = finish;
    let Some(token) = &ctx.view.debug_token else { return };
    let (head, fields) = (ctx.head(), ctx.head().fields());
    let is_shown = |field: &crate::head::Field| {
        field.known == Name::Reserved
            && head.name_of(field).eq_ignore_ascii_case(FIELD)
            && token.is(head.value_of(field))
    };
    if !fields.iter().any(is_shown) {
        return;
    }
    let Ok(told) = serde_json::to_string(&told(ctx)) else { return };
    answer.edits.add(FIELD, ascii(&told).as_bytes());
    // A cache between us and the client keeps this answer from those who do not show the token.
    answer.edits.add(b"Vary", FIELD);
}

fn told(ctx: &RequestContext) -> Told {
    let route = ctx.route.map(|route| ctx.view.routes.get(route));
    let upstream = ctx.upstream_index().map(|index| ctx.view.upstream(index));
    let source = || ctx.forward()?.key.as_ref().zip(ctx.key.as_ref()).map(|(spec, key)| spec.source_text(key.source));
    let hash = ctx.key.as_ref().map(|extracted| extracted.key.0);
    let name = |upstream: &Upstream, slot: Slot| upstream.endpoint(slot).id.to_string();
    let owner = upstream.zip(hash).and_then(|(upstream, hash)| {
        let owner = upstream.candidates(hash, ctx.started).next();
        owner.map(|slot| name(upstream, slot))
    });
    let ring = |upstream: &std::sync::Arc<Upstream>| fingerprint::of(upstream.ring.settings(), upstream.ring.members());
    Told {
        route: route.map(|route| short(route.name.as_str(), MAX_NAME)),
        upstream: upstream.map(|upstream| short(upstream.name.as_str(), MAX_NAME)),
        key: key(ctx),
        source: source().map(|source| short(source, MAX_NAME)),
        hash: hash.map(|hash| format!("{hash:016x}")),
        owner,
        endpoint: ctx.endpoint().map(|endpoint| endpoint.id.to_string()),
        position: ctx.position.map(|position| position.as_str()),
        coalesced: ctx.coalesced.map(|coalesced| coalesced.as_str()),
        attempts: ctx.attempts,
        generation: ctx.view.generation,
        fingerprint: upstream.map(ring).map(|fingerprint| fingerprint.to_string()),
        candidates: upstream.zip(hash).map(|(upstream, hash)| candidates(ctx, upstream, hash)).unwrap_or_default(),
    }
}

/// The key's bytes, taken anew: what was taken first is its hash alone.
fn key(ctx: &RequestContext) -> Option<String> {
    let (spec, extracted) = (ctx.forward()?.key.as_ref()?, ctx.key.as_ref()?);
    let mut bytes = Vec::new();
    match extracted.source {
        Some(_) => spec.extract(ctx.head(), &ctx.client, &mut bytes),
        None => Some(spec.of_client(&ctx.client, &mut bytes)),
    }?;
    bytes.truncate(MAX_KEY + 1);
    Some(short(&bytes.escape_ascii().to_string(), MAX_KEY))
}

fn candidates(ctx: &RequestContext, upstream: &Upstream, hash: u64) -> Vec<Candidate> {
    let skipped = |slot: Slot| match upstream.mask.is_open(slot) {
        false => Some(upstream.mask.availability(slot).as_str()),
        true => upstream.hides(hash, slot, ctx.started).then_some("ramp"),
    };
    let candidate = |slot: Slot| Candidate { id: upstream.endpoint(slot).id.to_string(), skipped: skipped(slot) };
    upstream.candidates(hash, ctx.started).take(MAX_CANDIDATES).map(candidate).collect()
}

/// A text of so many letters at most.
fn short(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_string(),
    }
}

/// JSON that a field can hold: names may be of any letters.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for letter in json.chars() {
        match letter {
            ' '..='~' => text.push(letter),
            _ => letter.encode_utf16(&mut [0; 2]).iter().for_each(|unit| text.push_str(&format!("\\u{unit:04x}"))),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_fits_into_a_field() {
        let text = "caf\u{e9} \u{1f600}\u{7f} \"q\" \\";
        let json = ascii(&serde_json::to_string(text).unwrap());
        assert!(json.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        assert_eq!(short(&"\u{e9}".repeat(300), MAX_NAME).chars().count(), MAX_NAME + 3);
    }
}
