//! `/api/v1/fleet`: who the other proxies are, and who of them disagrees in what.
use super::view::Store;
use crate::base::clock;
use crate::fleet::notice::Notice;
use crate::fleet::peers::Known;
use crate::fleet::peers::Peers;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Instant;

/// The fleet as this proxy knows it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Fleet {
    /// This proxy's name for people.
    pub name: String,
    /// What tells it from all others, and from itself before a restart.
    pub instance: String,
    /// Where they meet.
    pub store: Store,
    /// What is wrong, in words; whether peers agree may not be known then.
    pub problem: Option<String>,
    /// Peers that give every key of the upstreams they share with this proxy to the same endpoints.
    pub agreeing: usize,
    /// Since when some peer has not; 0 when all do.
    pub disagreement_seconds: f64,
    /// The fingerprints that others are told, by upstream.
    pub rings: BTreeMap<String, String>,
    /// The other proxies, by instance.
    pub peers: Vec<Peer>,
}

/// Another proxy.
#[derive(Debug, Serialize, Deserialize)]
pub struct Peer {
    /// Its name for people.
    pub name: String,
    /// What tells it from all others.
    pub instance: String,
    /// Its program's version.
    pub version: String,
    /// Its published snapshot.
    pub generation: u64,
    /// Whether it agrees on who owns what.
    pub agrees: bool,
    /// What is otherwise there, in words; upstreams that only one of both has are told, and are no disagreement.
    pub differs: Vec<String>,
    /// Seconds since it last told something new.
    pub heard_seconds_ago: f64,
    /// How far its clock is ahead of this proxy's, in milliseconds; below 0 it is behind. Absent until both have heard of each other.
    pub clock_ahead_ms: Option<i64>,
    /// How wrong that may be.
    pub clock_error_ms: Option<i64>,
    /// Its fingerprints, by upstream.
    pub rings: BTreeMap<String, String>,
}

/// What is known now.
pub fn fleet(peers: &Peers) -> Fleet {
    let report = peers.report(clock::now());
    let (last_ok, up) = peers.health.seen();
    let own = report.own.clone();
    let ago = |at: Instant| (at.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    Fleet {
        name: own.name.clone(),
        instance: peers.instance.clone(),
        store: Store {
            name: peers.health.name.clone(),
            up,
            last_ok_seconds_ago: last_ok.map(ago),
            losses: peers.health.losses.get(),
        },
        problem: report.problem.clone(),
        agreeing: report.agreeing(),
        disagreement_seconds: report.disagreement.map_or(0.0, |since| since.as_secs_f64()),
        rings: fingerprints(&own),
        peers: report.peers.iter().map(|known| peer(&own, known)).collect(),
    }
}

fn peer(own: &Notice, known: &Known) -> Peer {
    let Known { instance, notice, heard, agrees, skew } = known;
    Peer {
        name: notice.name.clone(),
        instance: instance.clone(),
        version: notice.version.clone(),
        generation: notice.generation,
        agrees: *agrees,
        differs: own.differences(notice),
        heard_seconds_ago: (heard.as_secs_f64() * 10.0).round() / 10.0,
        clock_ahead_ms: skew.map(|skew| skew.ahead_ms),
        clock_error_ms: skew.map(|skew| skew.error_ms),
        rings: fingerprints(notice),
    }
}

fn fingerprints(notice: &Notice) -> BTreeMap<String, String> {
    notice.rings.iter().map(|(name, ring)| (name.clone(), ring.fingerprint.clone())).collect()
}
