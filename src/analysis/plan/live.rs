//! What a change moves of the requests that the running proxy has seen lately.
use super::World;
use super::world::Built;
use crate::analysis::traffic::EndpointTraffic;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;

/// What moves of the last minute's requests of one upstream.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct LiveTraffic {
    /// Its name.
    pub upstream: String,
    /// Requests that were looked at, a part of them all, picked by chance.
    pub requests: u64,
    /// Share of them whose owner is another, 0 to 1.
    pub moved: f64,
    /// By how much that may differ from the share of all requests: the standard error.
    pub error: f64,
    /// Why nothing can be told, where that is so.
    pub why: Option<String>,
    /// Requests by owner, by id.
    pub endpoints: Vec<EndpointTraffic>,
}

/// The keys that an upstream's requests had lately.
#[derive(Debug)]
pub struct Seen {
    /// Its name.
    pub upstream: String,
    /// Hashes of keys, one for each request that was looked at.
    pub keys: Vec<u64>,
    /// Whether the new configuration has the same keys for the same requests.
    pub stays_comparable: bool,
}

impl LiveTraffic {
    /// What `after` does in place of `before`.
    pub fn of(seen: &Seen, before: &World<'_>, after: &World<'_>) -> Self {
        let Seen { upstream, keys, stays_comparable } = seen;
        let (old, new) = (before.rings.get(upstream), after.rings.get(upstream));
        let why = match (keys.is_empty(), new.is_some() && !stays_comparable) {
            (true, _) => Some("no request with a key was seen"),
            (_, true) => Some("its requests get other keys, or another seed"),
            _ => None,
        };
        let (mut moved, mut counted) = (0u64, BTreeMap::<&str, (u64, u64)>::new());
        let keys = if why.is_some() { &[] } else { keys.as_slice() };
        for key in keys {
            let (owner, next) = (old.and_then(|ring| owner(ring, *key)), new.and_then(|ring| owner(ring, *key)));
            moved += u64::from(owner != next);
            owner.into_iter().for_each(|id| counted.entry(id).or_default().0 += 1);
            next.into_iter().for_each(|id| counted.entry(id).or_default().1 += 1);
        }
        let requests = keys.len() as u64;
        let share = moved as f64 / requests.max(1) as f64;
        let named = |(id, (before, after)): (&str, _)| EndpointTraffic {
            upstream: upstream.clone(),
            id: id.into(),
            before,
            after,
        };
        Self {
            upstream: upstream.clone(),
            requests,
            moved: share,
            error: (share * (1.0 - share) / requests.max(1) as f64).sqrt(),
            why: why.map(str::to_string),
            endpoints: counted.into_iter().map(named).collect(),
        }
    }
}

fn owner(built: &Built, key: u64) -> Option<&str> {
    built.ring.owner(key).map(|slot| built.ring.id(slot).as_str())
}
