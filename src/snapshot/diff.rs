//! What changed between two snapshots, in words.
use super::Snapshot;
use super::settings::Endpoint;
use super::settings::Upstream;
use crate::route::Route;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Words that are told; the rest is counted.
const MAX_WORDS: usize = 20;

/// What is in one snapshot and not, or otherwise, in the other.
pub fn diff(before: &Snapshot, after: &Snapshot) -> Vec<String> {
    let mut words = Vec::new();
    listeners(&mut words, before, after);
    routes(&mut words, before.routes.routes(), after.routes.routes());
    let upstreams = |snapshot: &Snapshot| -> BTreeMap<String, Arc<Upstream>> {
        snapshot.upstreams.iter().map(|upstream| (upstream.name.to_string(), upstream.settings.clone())).collect()
    };
    let (before, after) = (upstreams(before), upstreams(after));
    compare(&mut words, "upstream", &before, &after, |words, name, before, after| upstream(words, name, before, after));
    cut(words)
}

fn cut(mut words: Vec<String>) -> Vec<String> {
    if words.len() > MAX_WORDS {
        let more = words.len() - MAX_WORDS;
        words.truncate(MAX_WORDS);
        words.push(format!("and {more} more"));
    }
    words
}

/// Tells what came and what went, and has what stayed looked at.
fn compare<T>(
    words: &mut Vec<String>,
    kind: &str,
    before: &BTreeMap<String, T>,
    after: &BTreeMap<String, T>,
    mut look: impl FnMut(&mut Vec<String>, &str, &T, &T),
) {
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        words.push(format!("{kind} {name} removed"));
    }
    for (name, new) in after {
        match before.get(name) {
            None => words.push(format!("{kind} {name} added")),
            Some(old) => look(words, name, old, new),
        }
    }
}

fn listeners(words: &mut Vec<String>, before: &Snapshot, after: &Snapshot) {
    let names = |snapshot: &Snapshot| -> BTreeMap<String, ()> {
        snapshot.listeners.iter().map(|listener| (listener.name.to_string(), ())).collect()
    };
    compare(words, "listener", &names(before), &names(after), |_, _, (), ()| {});
}

fn routes(words: &mut Vec<String>, before: &[Route], after: &[Route]) {
    let by_name = |routes: &[Route]| -> BTreeMap<String, String> {
        // Routes cannot be compared, but what they print tells all they are.
        routes.iter().map(|route| (route.name.to_string(), format!("{route:?}"))).collect()
    };
    compare(words, "route", &by_name(before), &by_name(after), |words, name, before, after| {
        if before != after {
            words.push(format!("route {name} changed"));
        }
    });
}

fn upstream(words: &mut Vec<String>, name: &str, before: &Upstream, after: &Upstream) {
    let policies = |upstream: &Upstream| Upstream { endpoints: Vec::new(), ..upstream.clone() };
    if policies(before) != policies(after) {
        words.push(format!("upstream {name}: policies changed"));
    }
    endpoints(words, name, &before.endpoints, &after.endpoints);
}

/// What is in one list of an upstream's members and not, or otherwise, in the other.
pub fn members(name: &str, before: &[Endpoint], after: &[Endpoint]) -> Vec<String> {
    let mut words = Vec::new();
    endpoints(&mut words, name, before, after);
    cut(words)
}

fn endpoints(words: &mut Vec<String>, name: &str, before: &[Endpoint], after: &[Endpoint]) {
    let named = |list: &[Endpoint]| -> BTreeMap<String, Endpoint> {
        list.iter().map(|endpoint| (format!("{name}/{}", endpoint.id), endpoint.clone())).collect()
    };
    compare(words, "endpoint", &named(before), &named(after), |words, name, before, after| {
        if before.weight != after.weight {
            words.push(format!("endpoint {name}: weight {} -> {}", before.weight, after.weight));
        }
        if before.address != after.address {
            words.push(format!("endpoint {name}: address {} -> {}", before.address, after.address));
        }
    });
}
