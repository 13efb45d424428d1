//! `[[route]]` and its `retry`.
use super::action;
use super::coalesce;
use super::diagnostic::did_you_mean;
use super::fill;
use super::listener;
use super::serialize;
use super::store::Stores;
use super::table::Found;
use super::table::Reader;
use super::table::Section;
use crate::base::ids::ListenerName;
use crate::base::ids::RouteName;
use crate::base::ids::UpstreamName;
use crate::discovery::settings::Settings as Discovery;
use crate::key::KeySpec;
use crate::listener::settings::Settings as Listener;
use crate::retry::policy;
use crate::retry::policy::Conditions;
use crate::route::HeaderMatch;
use crate::route::Matcher;
use crate::route::Route;
use crate::route::RouteTable;
use crate::route::access::Access;
use crate::route::action::Action;
use crate::route::action::Forward;
use crate::route::action::OnMissingKey;
use crate::route::host::HostPattern;
use crate::route::path::PathPattern;
use crate::snapshot::settings::Upstream;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a route may refer to.
pub struct Known<'a> {
    /// All listeners.
    pub listeners: &'a [Found<Listener>],
    /// All upstreams.
    pub upstreams: &'a [Upstream],
    /// Those whose members are learned.
    pub discoveries: &'a BTreeMap<UpstreamName, Arc<Discovery>>,
    /// All stores.
    pub stores: &'a Stores,
}

/// Reads one `[[route]]`; `None` when it leads nowhere.
pub fn read(reader: &mut Reader<'_>, section: &Section<'_>, known: &Known<'_>) -> Option<Found<Route>> {
    section.check_names(reader);
    let matcher = matcher(reader, section, known);
    let name = section.text(reader, "name").map_or_else(|| matcher.default_name(), |name| RouteName::new(&name.value));
    let access = Access {
        allow: listener::networks(reader, section, "allow"),
        deny: listener::networks(reader, section, "deny"),
    };
    let response_headers = action::field_edits(reader, section, "response_headers", "route.response_headers");
    let rate_limit = action::rate_limit(reader, section);
    let action = action(reader, section, known, &matcher)?;
    let route = Route { access, rate_limit, response_headers, ..Route::new(name, matcher, action) };
    Some(Found { value: route, place: section.place.clone() })
}

/// The one thing a route does.
fn action(reader: &mut Reader<'_>, section: &Section<'_>, known: &Known<'_>, matcher: &Matcher) -> Option<Action> {
    let given: Vec<&str> = ["upstream", "redirect", "respond"].into_iter().filter(|name| section.has(name)).collect();
    if let [_, second, ..] = given[..] {
        reader.problem(&section.place(second), "a route has one of \"upstream\", \"redirect\" and \"respond\"");
        return None;
    }
    match given.first() {
        Some(&"upstream") => forward(reader, section, known, matcher).map(Action::Forward),
        Some(other) => {
            action::warn_of_unused(reader, section, other);
            if *other == "redirect" {
                action::redirect(reader, section).map(Action::Redirect)
            } else {
                action::respond(reader, section).map(Action::Respond)
            }
        }
        None => {
            let message = "[[route]] has no \"upstream\", \"redirect\" or \"respond\"; write upstream = \"NAME\"";
            reader.problem(&section.place, message);
            None
        }
    }
}

fn forward(reader: &mut Reader<'_>, section: &Section<'_>, known: &Known<'_>, matcher: &Matcher) -> Option<Forward> {
    let path = action::path_edit(reader, section, &matcher.path);
    let retry = section.table(reader, "retry", "route.retry");
    let retry = self::retry(reader, &retry);
    let timeout = section.duration(reader, "timeout");
    let via = section.bool(reader, "via");
    let upgrade = upgrade(reader, section);
    let tunnel_timeout = section.duration(reader, "tunnel_timeout");
    let coalesce = coalesce::read(reader, section, known.stores);
    let on_missing_key = match section.choice(reader, "on_missing_key") {
        "reject" => OnMissingKey::Reject,
        "client_ip" => OnMissingKey::ClientIp,
        _ => OnMissingKey::Random,
    };
    let key = section.texts(reader, "key");
    let wanted = section.text(reader, "upstream")?;
    let Some(upstream) = known.upstreams.iter().find(|upstream| upstream.name.as_str() == wanted.value) else {
        let near = did_you_mean(&wanted.value, known.upstreams.iter().map(|upstream| upstream.name.as_str()));
        reader.problem(&wanted.place, format!("there is no [upstream.{}]{near}", wanted.value));
        return None;
    };
    let mut forward = Forward::new(UpstreamName::new(&wanted.value), self::key(reader, section, &key, upstream, known));
    forward.fill = fill::read(reader, section, &key, &forward.upstream, known);
    forward.timeout = timeout.unwrap_or(forward.timeout);
    forward.upgrade = upgrade;
    forward.tunnel_timeout = tunnel_timeout.unwrap_or(forward.tunnel_timeout);
    (forward.retry, forward.via, forward.on_missing_key) = (retry, via, on_missing_key);
    forward.serialize = serialize::read(reader, section, upstream, forward.key.is_some(), known.stores);
    forward.path = path;
    forward.coalesce = coalesce.map(Box::new);
    forward.request_headers = action::field_edits(reader, section, "request_headers", "route.request_headers");
    Some(forward)
}

fn key(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    key: &[Found<String>],
    upstream: &Upstream,
    known: &Known<'_>,
) -> Option<KeySpec> {
    if key.is_empty() {
        if upstream.endpoints.len() > 1 || known.discoveries.contains_key(&upstream.name) {
            let name = &upstream.name;
            reader.problem(&section.place("key"), format!(
                "upstream \"{name}\" has several endpoints, so the route needs a key; write key = [\"path_and_query\"]"
            ));
        }
        return None;
    }
    parse_key(reader, key, upstream)
}

/// A key that is hashed as an upstream's ring hashes; `None` when nothing is named, or it is wrong.
pub fn parse_key(reader: &mut Reader<'_>, key: &[Found<String>], upstream: &Upstream) -> Option<KeySpec> {
    if key.is_empty() {
        return None;
    }
    let texts: Vec<&str> = key.iter().map(|text| text.value.as_str()).collect();
    match KeySpec::parse(&texts, upstream.ring.hash) {
        Ok(spec) => Some(spec),
        Err(error) => {
            reader.problem(&key[error.alternative].place, error.message);
            None
        }
    }
}

fn upgrade(reader: &mut Reader<'_>, section: &Section<'_>) -> Vec<Arc<str>> {
    let mut protocols = Vec::new();
    for protocol in section.texts(reader, "upgrade") {
        let text = protocol.value.to_ascii_lowercase();
        let (name, version) = text.split_once('/').unwrap_or((&text, "1"));
        if !crate::head::is_token(name.as_bytes()) || !crate::head::is_token(version.as_bytes()) {
            reader.problem(&protocol.place, format!("\"{}\" is not a protocol; write \"websocket\"", protocol.value));
        } else if matches!(name, "http" | "h2c" | "h2") {
            let why = "may not be upgraded to: what follows would pass no route; write \"websocket\"";
            reader.problem(&protocol.place, format!("\"{}\" {why}", protocol.value));
        }
        protocols.push(Arc::from(text));
    }
    protocols
}

fn matcher(reader: &mut Reader<'_>, section: &Section<'_>, known: &Known<'_>) -> Matcher {
    let mut matcher = Matcher { path: path(reader, section), ..Matcher::any() };
    for name in section.texts(reader, "listeners") {
        if known.listeners.iter().all(|listener| listener.value.name.as_str() != name.value) {
            let near = did_you_mean(&name.value, known.listeners.iter().map(|listener| listener.value.name.as_str()));
            reader.problem(&name.place, format!("there is no listener \"{}\"{near}", name.value));
        }
        matcher.listeners.push(ListenerName::new(&name.value));
    }
    for host in section.texts(reader, "hosts") {
        match HostPattern::parse(&host.value) {
            Ok(pattern) => matcher.hosts.push(pattern),
            Err(message) => reader.problem(&host.place, message),
        }
    }
    matcher.methods = methods(reader, section);
    for (name, value) in section.map(reader, "headers") {
        if !crate::head::is_token(name.value.as_bytes()) {
            reader.problem(&name.place, format!("\"{}\" is not a field name", name.value));
        }
        let value = (value != "*").then_some(value);
        matcher.headers.push(HeaderMatch { name: name.value.to_ascii_lowercase(), value });
    }
    matcher
}

/// The methods of a table.
pub fn methods(reader: &mut Reader<'_>, section: &Section<'_>) -> Vec<String> {
    let mut methods = Vec::new();
    for method in section.texts(reader, "methods") {
        if !crate::head::is_token(method.value.as_bytes()) || method.value.bytes().any(|b| b.is_ascii_lowercase()) {
            reader.problem(&method.place, format!("\"{}\" is not a method; write \"GET\"", method.value));
        }
        methods.push(method.value);
    }
    methods
}

fn path(reader: &mut Reader<'_>, section: &Section<'_>) -> PathPattern {
    type Parse = fn(&str) -> Result<PathPattern, String>;
    let forms: [(&str, Parse); 3] =
        [("path", PathPattern::exact), ("path_prefix", PathPattern::prefix), ("path_regex", PathPattern::regex)];
    let mut pattern = None;
    for (name, parse) in forms {
        let Some(text) = section.text(reader, name) else { continue };
        if pattern.is_some() {
            reader.problem(&text.place, "a route has one of \"path\", \"path_prefix\" and \"path_regex\"");
        }
        match parse(&text.value) {
            Ok(parsed) => pattern = Some(parsed),
            Err(message) => reader.problem(&text.place, message),
        }
    }
    pattern.unwrap_or(PathPattern::Any)
}

fn retry(reader: &mut Reader<'_>, section: &Section<'_>) -> policy::Settings {
    section.check_names(reader);
    let default = policy::Settings::default();
    let mut on = Conditions {
        connect: false,
        reset: false,
        status_502: false,
        status_503: false,
        status_504: false,
        timeout: false,
    };
    for text in section.texts(reader, "on") {
        match text.value.as_str() {
            "connect" => on.connect = true,
            "reset" => on.reset = true,
            "502" => on.status_502 = true,
            "503" => on.status_503 = true,
            "504" => on.status_504 = true,
            "timeout" => on.timeout = true,
            other => {
                let names = ["connect", "reset", "502", "503", "504", "timeout"];
                let near = did_you_mean(other, names);
                let list = names.map(|name| format!("\"{name}\"")).join(", ");
                reader.problem(&text.place, format!("\"{other}\" cannot be tried again: one of {list}{near}"));
            }
        }
    }
    policy::Settings {
        attempts: section.integer(reader, "attempts").map_or(default.attempts, |attempts| attempts as u32),
        on,
        budget: section.share(reader, "budget").unwrap_or(default.budget),
        backoff: section.duration(reader, "backoff").unwrap_or(default.backoff),
    }
}

/// Gives routes that have no name of their own, and whose hosts and path another one matches too, their listeners' names with it.
pub fn tell_apart(routes: &mut [Found<Route>]) {
    let names: Vec<RouteName> = routes.iter().map(|route| route.value.name.clone()).collect();
    for route in routes.iter_mut().map(|route| &mut route.value) {
        let listeners: Vec<&str> = route.matcher.listeners.iter().map(ListenerName::as_str).collect();
        let is_shared = names.iter().filter(|name| **name == route.name).count() > 1;
        if is_shared && !listeners.is_empty() && route.name == route.matcher.default_name() {
            route.name = RouteName::new(&format!("{}@{}", route.name, listeners.join(",")));
        }
    }
}

/// Notes routes that match the same requests, and names that stand twice.
pub fn check_unique(reader: &mut Reader<'_>, routes: &[Found<Route>]) {
    let mut rest: Vec<&Found<Route>> = routes.iter().collect();
    while let Err(equal) = RouteTable::new(rest.iter().map(|route| route.value.clone()).collect()) {
        let at = reader.describe(&rest[equal.0].place);
        let second = rest.remove(equal.1);
        reader.problem(&second.place, format!("this route matches the same requests as the one at {at}"));
    }
    for (index, route) in rest.iter().enumerate() {
        if let Some(first) = rest[..index].iter().find(|other| other.value.name == route.value.name) {
            let at = reader.describe(&first.place);
            let name = &route.value.name;
            reader
                .problem(&route.place, format!("two routes are called \"{name}\", the other at {at}; give one a name"));
        }
    }
}
