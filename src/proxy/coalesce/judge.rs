//! Whether an answer may be given to others than the one it was asked for. Pure: by its head alone.
use crate::head::Head;
use crate::head::names::Name;
use crate::head::tokens;
use crate::http1::framing::BodyLength;
use crate::proxy::coalesce::identity::Names;
use crate::route::coalesce::Coalesce;
use std::time::Duration;

/// Fields that an answer may depend on; more is as good as all.
const MAX_NAMES: usize = 16;

/// What may be done with an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is good for all whose values of these fields are the same.
    Shared(Names),
    /// It is for one alone, and so are the next ones.
    Own,
    /// It says that the endpoint failed: others had better ask for themselves.
    Failed,
}

/// What may be done with an answer whose body is of this length.
pub fn verdict(head: &Head, length: BodyLength, coalesce: &Coalesce) -> Verdict {
    let is_too_large = matches!(length, BodyLength::Length(bytes) if bytes > coalesce.max_body);
    if head.status() >= 500 {
        return Verdict::Failed;
    }
    if is_too_large || !is_for_all(head.status(), coalesce) || is_private(head) || is_endless(head) {
        return Verdict::Own;
    }
    names(head).map_or(Verdict::Own, Verdict::Shared)
}

/// How much longer a cache that gave an answer has it, by its own word: it says how old it is, and how old it may become. To the
/// second, so one less.
pub fn cached_for(head: &Head) -> Option<Duration> {
    let seconds = |text: &[u8]| std::str::from_utf8(text.trim_ascii()).ok()?.parse::<u32>().ok();
    let mut ages = head.all_named(b"age");
    let (Some(age), None) = (ages.next(), ages.next()) else { return None };
    let directives = || head.all_named(b"cache-control").flat_map(tokens);
    if directives().any(|directive| directive.to_ascii_lowercase().starts_with(b"no-cache")) {
        return None;
    }
    let lifetime = |wanted: &[u8]| {
        directives().find_map(|directive| {
            let (name, value) = directive.split_at(directive.iter().position(|byte| *byte == b'=')?);
            if name.trim_ascii().eq_ignore_ascii_case(wanted) { seconds(&value[1..]) } else { None }
        })
    };
    let lifetime = lifetime(b"s-maxage").or_else(|| lifetime(b"max-age"))?;
    let left = lifetime.checked_sub(seconds(age)?)?.checked_sub(1)?;
    (left > 0).then(|| Duration::from_secs(left.into()))
}

/// Whether this status says the same to everybody. Those for parts and conditions are, where such requests are shared.
fn is_for_all(status: u16, coalesce: &Coalesce) -> bool {
    match status {
        206 | 304 | 412 | 416 => !coalesce.share_headers.is_empty(),
        200..=399 | 404 | 405 | 410 | 414 | 451 => true,
        _ => false,
    }
}

fn is_private(head: &Head) -> bool {
    if head.all_named(b"set-cookie").next().is_some() {
        return true;
    }
    // Also `private="field"`: which field that is for whom is for a cache to keep in mind.
    let is_private = |directive: &[u8]| {
        let word = directive.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
        word.eq_ignore_ascii_case(b"private") || word.eq_ignore_ascii_case(b"no-store")
    };
    head.all_named(b"cache-control").flat_map(tokens).any(is_private)
}

/// Whether it is a stream of events, which nobody wants from its beginning and which has no end.
fn is_endless(head: &Head) -> bool {
    head.all(Name::ContentType).any(|kind| {
        let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        kind.eq_ignore_ascii_case(b"text/event-stream") || kind.eq_ignore_ascii_case(b"multipart/x-mixed-replace")
    })
}

/// What it depends on: what it says, and what is forgotten too often: a body that is encoded for those who take that, and a
/// permission for one origin. `None` when that is everything.
fn names(head: &Head) -> Option<Names> {
    let mut names: Vec<Box<[u8]>> = Vec::new();
    for name in head.all_named(b"vary").flat_map(tokens) {
        if name == b"*" {
            return None;
        }
        names.push(name.to_ascii_lowercase().into());
    }
    if head.all_named(b"content-encoding").next().is_some() {
        names.push(b"accept-encoding"[..].into());
    }
    if head.all_named(b"access-control-allow-origin").any(|origin| origin != b"*") {
        names.push(b"origin"[..].into());
    }
    names.sort_unstable();
    names.dedup();
    (names.len() <= MAX_NAMES).then(|| names.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, fields: &[(&str, &str)]) -> Verdict {
        let mut head = Head::default();
        head.set_response(status, Default::default());
        fields.iter().for_each(|(name, value)| head.push(name.as_bytes(), value.as_bytes()));
        verdict(&head, BodyLength::Chunked, &Coalesce::default())
    }

    fn shared(names: &[&str]) -> Verdict {
        Verdict::Shared(names.iter().map(|name| Box::from(name.as_bytes())).collect())
    }

    #[test]
    fn a_cache_says_how_long_it_has_an_answer() {
        let left = |fields: &[(&str, &str)]| {
            let mut head = Head::default();
            fields.iter().for_each(|(name, value)| head.push(name.as_bytes(), value.as_bytes()));
            cached_for(&head).map(|left| left.as_secs())
        };
        let (age, lasting) = (("Age", "10"), ("Cache-Control", "public, max-age=60"));
        assert_eq!(left(&[age, lasting]), Some(49));
        assert_eq!(left(&[age, ("Cache-Control", "max-age=60, S-MaxAge=20")]), Some(9));
        assert_eq!(left(&[age, ("Cache-Control", "max-age=12")]), Some(1));
        // Nothing is known, or it is over, or every use of it is asked about.
        for fields in [
            &[lasting][..],
            &[age],
            &[age, age, lasting],
            &[age, ("Cache-Control", "max-age=11")],
            &[age, ("Cache-Control", "max-age=5")],
            &[("Age", "x"), lasting],
            &[("Age", "-1"), lasting],
            &[age, ("Cache-Control", "max-age")],
            &[age, ("Cache-Control", "max-age=\"60\"")],
            &[age, ("Cache-Control", "no-cache, max-age=60")],
        ] {
            assert_eq!(left(fields), None, "{fields:?}");
        }
    }

    #[test]
    fn what_is_for_one_is_never_for_others() {
        assert_eq!(of(200, &[("Cache-Control", "public, max-age=60")]), shared(&[]));
        assert_eq!(of(200, &[("Cache-Control", "no-cache, max-age=0")]), shared(&[]));
        for field in [
            ("Set-Cookie", "a=1"),
            ("Cache-Control", "private"),
            ("cache-control", "max-age=1, PRIVATE"),
            ("Cache-Control", "private=\"x-user\""),
            ("Cache-Control", "No-Store"),
            ("Vary", "*"),
            ("Vary", "accept, *"),
            ("Content-Type", "text/event-stream;charset=utf-8"),
        ] {
            assert_eq!(of(200, &[field]), Verdict::Own, "{field:?}");
        }
        for status in [401, 403, 407, 408, 421, 425, 429, 206, 304] {
            assert_eq!(of(status, &[]), Verdict::Own, "{status}");
        }
        for status in [200, 204, 301, 404, 410] {
            assert_eq!(of(status, &[]), shared(&[]), "{status}");
        }
        assert_eq!(of(500, &[]), Verdict::Failed);
        assert_eq!(of(503, &[("Set-Cookie", "a=1")]), Verdict::Failed);
    }

    #[test]
    fn a_body_is_shared_up_to_its_limit() {
        let mut head = Head::default();
        head.set_response(200, Default::default());
        let coalesce = Coalesce { max_body: 10, ..Coalesce::default() };
        assert_eq!(verdict(&head, BodyLength::Length(10), &coalesce), shared(&[]));
        assert_eq!(verdict(&head, BodyLength::Length(11), &coalesce), Verdict::Own);
    }

    #[test]
    fn what_an_answer_depends_on_is_read_once_and_in_order() {
        let vary = [("Vary", "Accept-Language, accept"), ("vary", "ACCEPT")];
        assert_eq!(of(200, &vary), shared(&["accept", "accept-language"]));
        assert_eq!(of(200, &[("Content-Encoding", "gzip")]), shared(&["accept-encoding"]));
        assert_eq!(of(200, &[("Access-Control-Allow-Origin", "https://a.example")]), shared(&["origin"]));
        assert_eq!(of(200, &[("Access-Control-Allow-Origin", "*")]), shared(&[]));
        let many: Vec<String> = (0..=MAX_NAMES).map(|number| format!("x-{number}")).collect();
        assert_eq!(of(200, &[("Vary", &many.join(","))]), Verdict::Own);
    }
}
