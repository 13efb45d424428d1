//! Two configurations to what moves between them: of the key space, exactly, by upstream and endpoint. Pure: files are not known
//! here, and nothing is changed.
mod handover;
mod live;
mod world;

pub use live::LiveTraffic;
pub use live::Seen;
pub use world::World;
pub use world::WorldError;

use crate::analysis::traffic::Traffic;
use crate::base::ids::EndpointId;
use crate::ring::Ring;
use crate::ring::fingerprint;
use crate::ring::movement;
use crate::ring::settings::Settings;
use crate::route::Route;
use crate::route::action::Forward;
use handover::handover;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use world::Built;

/// What a change does. All shares are 0 to 1.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The largest share that moves: of an upstream's key space, or of a route's requests where these are keyed or sent otherwise.
    pub moved: f64,
    /// The upstreams of both configurations, by name.
    pub upstreams: Vec<UpstreamPlan>,
    /// Routes whose requests are keyed otherwise, or go to another upstream.
    pub routes: Vec<RoutePlan>,
    /// What moves of a log's requests, when there is one.
    pub traffic: Option<Traffic>,
    /// What moves of the running proxy's last requests, by upstream; empty when it is not a running proxy that plans.
    pub live: Vec<LiveTraffic>,
}

/// Before and after; absent where there is nothing to tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pair<T> {
    /// By the configuration that is.
    pub before: Option<T>,
    /// By the one that will be.
    pub after: Option<T>,
}

/// Whether something stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// It is in the new configuration only.
    Added,
    /// It is in the old configuration only.
    Removed,
    /// It decides ownership otherwise than before.
    Changed,
    /// It stays as it is.
    Same,
}

/// What a change does to one upstream.
#[derive(Debug, Serialize, Deserialize)]
pub struct UpstreamPlan {
    /// Its name.
    pub upstream: String,
    /// Whether its ring stays.
    pub change: Fate,
    /// Settings of the ring that change, in words: such a change moves nearly everything.
    pub settings: Vec<String>,
    /// Share of the key space with a new owner.
    pub moved: f64,
    /// What has to move at least, so that each endpoint gets the share it will have.
    pub least: f64,
    /// What moves beyond that.
    pub excess: f64,
    /// Whether these are exact; otherwise keys were sampled, to about 0.001.
    pub exact: bool,
    /// Equal on all proxies that agree on every key.
    pub fingerprint: Pair<String>,
    /// Points on the ring.
    pub points: Pair<usize>,
    /// Bytes of the points and their table.
    pub memory_bytes: Pair<usize>,
    /// Time to build the ring.
    pub build_seconds: Pair<f64>,
    /// The largest share by weight over the mean: 1 is even.
    pub peak_to_mean: Pair<f64>,
    /// Its endpoints of both configurations, by id.
    pub endpoints: Vec<EndpointPlan>,
}

/// What a change does to one endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndpointPlan {
    /// Its id.
    pub id: String,
    /// Whether it stays, and with the same weight.
    pub change: Fate,
    /// Its weight.
    pub weight: Pair<u32>,
    /// Its share of the key space.
    pub share: Pair<f64>,
    /// Share of the key space that comes to it.
    pub gains: f64,
    /// Share of the key space that leaves it.
    pub loses: f64,
}

/// What a change does to the requests of one route.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct RoutePlan {
    /// Its name.
    pub route: String,
    /// What changes, in words.
    pub what: String,
    /// Share of its requests that go to another endpoint, when keys are taken to be even.
    pub moved: f64,
}

impl Plan {
    /// What happens when `after` follows `before`.
    pub fn of(before: &World<'_>, after: &World<'_>) -> Self {
        let names: BTreeSet<&str> = before.rings.keys().chain(after.rings.keys()).map(String::as_str).collect();
        let upstreams: Vec<UpstreamPlan> =
            names.into_iter().map(|name| upstream(name, before.rings.get(name), after.rings.get(name))).collect();
        let routes = routes(before, after);
        let moved = upstreams.iter().map(|upstream| upstream.moved).chain(routes.iter().map(|route| route.moved));
        Self { moved: moved.fold(0.0, f64::max), upstreams, routes, traffic: None, live: Vec::new() }
    }
}

fn upstream(name: &str, before: Option<&Built>, after: Option<&Built>) -> UpstreamPlan {
    let rings = (before.map(|built| &*built.ring), after.map(|built| &*built.ring));
    let handover = handover(before, after);
    let pair = |of: &dyn Fn(&Built) -> f64| Pair { before: before.map(of), after: after.map(of) };
    let count = |of: &dyn Fn(&Ring) -> usize| Pair { before: rings.0.map(of), after: rings.1.map(of) };
    let fingerprint = |ring: &Ring| fingerprint::of(ring.settings(), ring.members()).to_string();
    let change = match rings {
        (None, _) => Fate::Added,
        (_, None) => Fate::Removed,
        (Some(old), Some(new)) if old == new => Fate::Same,
        _ => Fate::Changed,
    };
    UpstreamPlan {
        upstream: name.to_string(),
        change,
        settings: match rings {
            (Some(old), Some(new)) => settings(old.settings(), new.settings()),
            _ => Vec::new(),
        },
        moved: handover.moved,
        least: handover.least,
        excess: handover.excess,
        exact: handover.is_exact,
        fingerprint: Pair { before: rings.0.map(fingerprint), after: rings.1.map(fingerprint) },
        points: count(&Ring::point_count),
        memory_bytes: count(&Ring::memory_bytes),
        build_seconds: pair(&|built| built.build.as_secs_f64()),
        peak_to_mean: pair(&|built| movement::peak_to_mean(built.ring.members(), &built.shares)),
        endpoints: handover.endpoints,
    }
}

/// What differs between the settings of two rings, in words.
fn settings(before: &Settings, after: &Settings) -> Vec<String> {
    let mut words = Vec::new();
    let mut compare = |name: &str, before: String, after: String| {
        if before != after {
            words.push(format!("{name} {before} -> {after}"));
        }
    };
    compare("algorithm", before.algorithm.as_str().into(), after.algorithm.as_str().into());
    compare("vnodes", before.vnodes.to_string(), after.vnodes.to_string());
    compare("probes", before.probes.to_string(), after.probes.to_string());
    if words.is_empty() && before.hash != after.hash {
        words.push("another seed or secret".into());
    }
    words
}

/// Routes whose requests find their endpoint otherwise.
fn routes(before: &World<'_>, after: &World<'_>) -> Vec<RoutePlan> {
    let by_name = |routes: &'_ [Route]| -> BTreeMap<String, Option<Forward>> {
        routes.iter().map(|route| (route.name.to_string(), route.action.forward().cloned())).collect()
    };
    let (old, new) = (by_name(before.routes), by_name(after.routes));
    let both = old.iter().filter_map(|(name, old)| Some((name, old.as_ref(), new.get(name)?.as_ref())));
    both.filter_map(|(name, old, new)| {
        let (what, moved) = route(old, new, before, after)?;
        Some(RoutePlan { route: name.clone(), what, moved })
    })
    .collect()
}

fn route(old: Option<&Forward>, new: Option<&Forward>, before: &World<'_>, after: &World<'_>) -> Option<(String, f64)> {
    let (old, new) = match (old, new) {
        (None, _) => return None,
        (Some(old), None) => return Some((format!("leads to upstream {} no more", old.upstream), 1.0)),
        (Some(old), Some(new)) => (old, new),
    };
    if old.upstream != new.upstream {
        return Some((format!("upstream {} -> {}", old.upstream, new.upstream), 1.0));
    }
    let texts = |forward: &Forward| -> Vec<String> {
        forward.key.iter().flat_map(|key| key.texts().map(|text| format!("{text:?}"))).collect()
    };
    let (was, is) = (texts(old).join(", "), texts(new).join(", "));
    if was == is {
        return None;
    }
    // Keys of another kind fall anywhere: a request stays where it was only by chance.
    let rings = (before.rings.get(old.upstream.as_str())?, after.rings.get(new.upstream.as_str())?);
    let later: BTreeMap<&EndpointId, f64> = rings.1.endpoints().map(|(member, share)| (&member.id, share)).collect();
    let stays: f64 = rings.0.endpoints().map(|(member, share)| share * later.get(&member.id).unwrap_or(&0.0)).sum();
    Some((format!("key [{was}] -> [{is}]"), (1.0 - stays).clamp(0.0, 1.0)))
}

#[cfg(test)]
mod tests;
