//! What a `[[route]]` does itself: `redirect` and `respond`, and what it changes: `strip_prefix`, `rewrite`, `request_headers`,
//! `response_headers`, and how often: `rate_limit`.
use super::table::BoolOrText;
use super::table::Found;
use super::table::Reader;
use super::table::Section;
use crate::base::hash::PlacementHash;
use crate::head::is_token;
use crate::head::names::Name;
use crate::http1::syntax;
use crate::key::KeySpec;
use crate::limit::Rate;
use crate::route::action::Redirect;
use crate::route::action::Respond;
use crate::route::fields::FieldEdits;
use crate::route::path::PathPattern;
use crate::route::rate_limit::RateLimit;
use crate::route::rewrite::PathEdit;
use crate::route::rewrite::Rewrite;
use crate::route::template::Template;
use bytes::Bytes;
use std::time::Duration;

/// Keys of a route that mean nothing unless an endpoint is asked.
const OF_FORWARDING: [&str; 12] = [
    "key",
    "on_missing_key",
    "via",
    "timeout",
    "retry",
    "strip_prefix",
    "rewrite",
    "request_headers",
    "upgrade",
    "tunnel_timeout",
    "serialize",
    "coalesce",
];
/// How a redirect's target may begin.
const BEGINNINGS: [&str; 6] = ["http://", "https://", "{scheme}://", "/", "{path}", "{path_and_query}"];

/// Longest time a limit is over.
const DAY: Duration = Duration::from_secs(86_400);

/// Warns of keys that change nothing on a route that only has `action`.
pub fn warn_of_unused(reader: &mut Reader<'_>, section: &Section<'_>, action: &str) {
    for name in OF_FORWARDING.into_iter().filter(|name| section.has(name)) {
        reader.warn(&section.place(name), format!("\"{name}\" changes nothing on a route with \"{action}\""));
    }
}

/// Reads `redirect`.
pub fn redirect(reader: &mut Reader<'_>, route: &Section<'_>) -> Option<Redirect> {
    let section = route.table(reader, "redirect", "route.redirect");
    section.check_names(reader);
    let status = section.integer(reader, "status").map_or(308, |status| status as u16);
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        reader.problem(
            &section.place("status"),
            format!("\"status\" is {status}, but one of 301, 302, 303, 307, 308 is needed"),
        );
    }
    let to = section.text(reader, "to")?;
    if !BEGINNINGS.iter().any(|beginning| to.value.starts_with(beginning)) || to.value.starts_with("//") {
        let message = format!(
            "\"{}\" is not a place to go to; write \"https://{{host}}{{path_and_query}}\" or \"/path\"",
            to.value
        );
        reader.problem(&to.place, message);
    }
    if to.value.bytes().any(|byte| byte <= b' ' || byte >= 0x7f) {
        reader.problem(&to.place, "a URL has visible ASCII characters only; write others as %20");
    }
    template(reader, &to).map(|to| Redirect { status, to })
}

/// Reads `respond`.
pub fn respond(reader: &mut Reader<'_>, route: &Section<'_>) -> Option<Respond> {
    let section = route.table(reader, "respond", "route.respond");
    section.check_names(reader);
    let status = section.integer(reader, "status").map_or(200, |status| status as u16);
    let body = section.text(reader, "body").map_or_else(String::new, |body| body.value);
    if matches!(status, 204 | 304) && !body.is_empty() {
        reader.problem(&section.place("body"), format!("an answer with status {status} has no body"));
    }
    let mut fields = Vec::new();
    for (name, value) in section.map(reader, "headers") {
        check_field(reader, &name, &value);
        fields.push((name.value, value));
    }
    if !body.is_empty() && !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
        fields.push(("Content-Type".into(), "text/plain; charset=utf-8".into()));
    }
    Some(Respond { status, body: Bytes::from(body), fields })
}

/// Reads `strip_prefix` and `rewrite`; `path` is what the route matches.
pub fn path_edit(reader: &mut Reader<'_>, route: &Section<'_>, path: &PathPattern) -> PathEdit {
    let rewrite = if route.has("rewrite") { rewrite(reader, route) } else { None };
    PathEdit { strip: strip(reader, route, path), rewrite }
}

fn strip(reader: &mut Reader<'_>, route: &Section<'_>, path: &PathPattern) -> Option<String> {
    match (route.bool_or_text(reader, "strip_prefix")?, path) {
        (BoolOrText::Bool(on), _) if !on.value => None,
        (BoolOrText::Bool(_), PathPattern::Prefix(prefix)) => Some(prefix.clone()),
        (BoolOrText::Bool(on), _) => {
            let message = "the route has no \"path_prefix\" that could be cut off; write strip_prefix = \"/prefix\"";
            reader.problem(&on.place, message);
            None
        }
        (BoolOrText::Text(prefix), _) => match PathPattern::prefix(&prefix.value) {
            Ok(_) => Some(prefix.value),
            Err(message) => {
                reader.problem(&prefix.place, message);
                None
            }
        },
    }
}

fn rewrite(reader: &mut Reader<'_>, route: &Section<'_>) -> Option<Rewrite> {
    let section = route.table(reader, "rewrite", "route.rewrite");
    section.check_names(reader);
    let (regex, to) = (section.text(reader, "regex")?, section.text(reader, "to")?);
    Rewrite::parse(&regex.value, &to.value).map_err(|message| reader.problem(&section.place, message)).ok()
}

/// Reads `rate_limit`.
pub fn rate_limit(reader: &mut Reader<'_>, route: &Section<'_>) -> Option<RateLimit> {
    if !route.has("rate_limit") {
        return None;
    }
    let section = route.table(reader, "rate_limit", "route.rate_limit");
    section.check_names(reader);
    let per = section.duration(reader, "per");
    if per.is_some_and(|per| per > DAY) {
        reader.problem(&section.place("per"), "a limit is over a day at most; write per = \"24h\"");
    }
    let (requests, burst) = (section.integer(reader, "requests"), section.integer(reader, "burst"));
    let key = section.texts(reader, "key");
    let texts: Vec<&str> = key.iter().map(|text| text.value.as_str()).collect();
    let spec = KeySpec::parse(&texts, PlacementHash::default());
    let spec = spec.map_err(|error| reader.problem(&key[error.alternative].place, error.message)).ok();
    let (requests, per) = (requests?, per?);
    Some(RateLimit { rate: Rate { requests, per, burst: burst.unwrap_or(requests) }, key: spec? })
}

/// Reads `request_headers` or `response_headers`; `section` is where its keys are.
pub fn field_edits(reader: &mut Reader<'_>, route: &Section<'_>, name: &str, section: &'static str) -> FieldEdits {
    let section = route.table(reader, name, section);
    section.check_names(reader);
    let [set, add] = ["set", "add"].map(|name| {
        let pairs = section.map(reader, name).into_iter();
        pairs.filter_map(|(name, value)| field(reader, name, value)).collect::<Vec<_>>()
    });
    let remove = section.texts(reader, "remove");
    remove.iter().for_each(|name| check_name(reader, name));
    FieldEdits { set, add, remove: remove.into_iter().map(|name| name.value).collect() }
}

fn field(reader: &mut Reader<'_>, name: Found<String>, value: String) -> Option<(String, Template)> {
    check_field(reader, &name, &value);
    let value = template(reader, &Found { value, place: name.place.clone() })?;
    Some((name.value, value))
}

fn template(reader: &mut Reader<'_>, text: &Found<String>) -> Option<Template> {
    let parsed = Template::parse(&text.value);
    parsed.map_err(|message| reader.problem(&text.place, message)).ok()
}

/// Notes a field that cannot be set.
fn check_field(reader: &mut Reader<'_>, name: &Found<String>, value: &str) {
    check_name(reader, name);
    if !syntax::is_field_value(value.as_bytes()) || value.trim() != value {
        let message = format!("the value of \"{}\" has control characters, or white space at an end", name.value);
        reader.problem(&name.place, message);
    }
}

/// Notes a field's name that is none, or that says how messages are framed or what they are for: those are Ringway's.
fn check_name(reader: &mut Reader<'_>, name: &Found<String>) {
    if !is_token(name.value.as_bytes()) {
        return reader.problem(&name.place, format!("\"{}\" is not a field name", name.value));
    }
    let is_ours = match Name::of(name.value.as_bytes()) {
        Name::Connection | Name::KeepAlive | Name::ProxyConnection | Name::Te | Name::Trailer | Name::Upgrade => true,
        Name::ContentLength | Name::TransferEncoding | Name::Expect | Name::Host | Name::Reserved => true,
        _ => name.value.eq_ignore_ascii_case("http2-settings"),
    };
    if is_ours {
        let message = format!("\"{}\" frames, identifies or belongs to a connection: only Ringway sets it", name.value);
        reader.problem(&name.place, message);
    }
}
