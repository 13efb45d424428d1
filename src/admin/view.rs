//! The JSON shapes of the API: what operators' scripts read, so they change only by adding.
use super::checks;
use super::checks::Elected;
use super::fleet;
use super::fleet::Fleet;
use super::ports::Process;
use super::turns;
use super::turns::Turns;
use crate::base::clock;
use crate::base::ids::ListenerName;
use crate::control::Drain;
use crate::control::apply;
use crate::control::history;
use crate::ring::Slot;
use crate::ring::fingerprint;
use crate::ring::movement;
use crate::snapshot::Snapshot;
use crate::snapshot::endpoint::Endpoint as Server;
use crate::snapshot::membership::Membership;
use crate::snapshot::upstream::Upstream as Group;
use crate::store::health::StoreHealth;
use serde::Deserialize;
use serde::Serialize;
use std::sync::Arc;
use std::time::Instant;

/// `/api/v1/status`
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// Seconds since it was started.
    pub uptime_seconds: u64,
    /// Whether `/readyz` says so.
    pub ready: bool,
    /// Number of workers.
    pub workers: usize,
    /// The published snapshot.
    pub generation: u64,
    /// What came of reloads.
    pub reloads: Reloads,
    /// Changes that wait for a person's word; the last good stays meanwhile.
    #[serde(default)]
    pub held: Vec<Held>,
    /// The other proxies; absent without `[fleet]`.
    #[serde(default)]
    pub fleet: Option<Fleet>,
    /// Listeners, in the file's order.
    pub listeners: Vec<Listener>,
    /// Routes whose requests take turns, in the file's order.
    #[serde(default)]
    pub serialize: Vec<Turns>,
    /// Routes whose requests share answers, in the file's order.
    #[serde(default)]
    pub coalesce: Vec<Turns>,
    /// Upstreams, by name.
    pub upstreams: Vec<Upstream>,
}

/// A change that waits for a person's word.
#[derive(Debug, Serialize, Deserialize)]
pub struct Held {
    /// The upstream whose members would be others; absent for a configuration.
    pub upstream: Option<String>,
    /// Since when, RFC 3339 in UTC.
    pub since: String,
    /// What is too much, in words.
    pub why: String,
    /// What would change, in words; of members alone.
    pub what: Vec<String>,
    /// Share of the key space that would get a new owner, 0 to 1; of members alone.
    pub moved: Option<f64>,
    /// The ring's fingerprint after it; of members alone.
    pub fingerprint: Option<String>,
}

/// What came of reloads.
#[derive(Debug, Serialize, Deserialize)]
pub struct Reloads {
    /// Taken up.
    pub successes: u64,
    /// Refused.
    pub failures: u64,
    /// Held until a person lets them through.
    #[serde(default)]
    pub held: u64,
    /// Whether the last one was taken up.
    pub last_succeeded: bool,
}

/// A listener.
#[derive(Debug, Serialize, Deserialize)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// Connections open now.
    pub connections: u64,
    /// Upgraded ones among them.
    pub tunnels: u64,
    /// The certificates it shows, in the file's order.
    pub certificates: Vec<Certificate>,
}

/// A certificate that clients are shown.
#[derive(Debug, Serialize, Deserialize)]
pub struct Certificate {
    /// The first name it is for.
    pub name: String,
    /// When it ends, in seconds since the epoch.
    pub not_after: i64,
}

/// An upstream.
#[derive(Debug, Serialize, Deserialize)]
pub struct Upstream {
    /// Its name.
    pub name: String,
    /// The hash of everything that decides ownership.
    pub fingerprint: String,
    /// Points on its ring.
    pub points: usize,
    /// Whether so few endpoints are available that verdicts are ignored.
    pub panic: bool,
    /// Keys that are hot now, and shared by several endpoints; absent where they are not looked for.
    #[serde(default)]
    pub hot_keys: Option<usize>,
    /// How it stands with the source of its members; absent when they are in the configuration.
    #[serde(default)]
    pub discovery: Option<Discovery>,
    /// How it stands with the proxy that checks for all; absent when each checks for itself, or none does.
    #[serde(default)]
    pub elect: Option<Elected>,
    /// Its endpoints, by id.
    pub endpoints: Vec<Endpoint>,
}

/// The source of an upstream's members.
#[derive(Debug, Serialize, Deserialize)]
pub struct Discovery {
    /// What it is: `file members.toml`.
    pub source: String,
    /// Seconds since it last gave a list that may be used; absent before the first.
    pub confirmed_seconds_ago: Option<f64>,
    /// What is wrong now, in words; the last good members stay meanwhile.
    pub problem: Option<String>,
    /// Members that are kept although it does not name them any more.
    pub waiting_to_go: usize,
    /// Whether requests are refused because the store is lost.
    #[serde(default)]
    pub refuses: bool,
    /// The store behind it, if there is one.
    #[serde(default)]
    pub store: Option<Store>,
}

/// How it stands with a store.
#[derive(Debug, Serialize, Deserialize)]
pub struct Store {
    /// Its name.
    pub name: String,
    /// Whether it answers.
    pub up: bool,
    /// Seconds since its last answer; absent before the first.
    pub last_ok_seconds_ago: Option<f64>,
    /// Times it was lost.
    pub losses: u64,
}

/// An endpoint.
#[derive(Debug, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its id.
    pub id: String,
    /// Its address, as written.
    pub address: String,
    /// The addresses its name stands for now; the one written when it is no name.
    pub addresses: Vec<String>,
    /// Its weight.
    pub weight: u32,
    /// Share of the key space it owns, 0 to 1.
    pub key_share: f64,
    /// `up`, `ejected` (it failed in real traffic), `down` (its health checks fail, or its name was never resolved) or
    /// `draining`.
    pub state: String,
    /// Share of its keys that it has by now, 0 to 1, while it comes or goes gradually or its weight changes; else absent.
    #[serde(default)]
    pub ramp: Option<f64>,
    /// What its last health check found; absent before the first, and without checks.
    pub last_check: Option<Check>,
    /// Requests on their way.
    pub in_flight: u64,
    /// Requests that wait for a place or a connection at it.
    pub pending: u64,
    /// Connections open to it.
    pub connections: u64,
    /// Exchanges that went well.
    pub ok: u64,
    /// Exchanges that failed.
    pub failed: u64,
}

/// One health check.
#[derive(Debug, Serialize, Deserialize)]
pub struct Check {
    /// Whether the answer was as wanted.
    pub ok: bool,
    /// What was wrong, in words.
    pub problem: Option<String>,
    /// Seconds since it ended.
    pub seconds_ago: f64,
}

/// `/api/v1/upstreams/U/endpoints/ID/drain` and `undrain`
#[derive(Debug, Serialize, Deserialize)]
pub struct Drained {
    /// The upstream's name.
    pub upstream: String,
    /// The endpoint's id.
    pub endpoint: String,
    /// Its state now.
    pub state: String,
    /// Whether the call changed anything.
    pub changed: bool,
    /// Requests on their way at it.
    pub in_flight: u64,
    /// Endpoints of the upstream that are available now.
    pub available: usize,
}

/// `/api/v1/approve`
#[derive(Debug, Serialize, Deserialize)]
pub struct Approved {
    /// What was held and is in force now, each in words; empty when nothing was held.
    pub approved: Vec<String>,
}

/// What a drain or its end did.
pub fn drained(snapshot: &Snapshot, drain: &Drain, drained: apply::Drained) -> Drained {
    let upstream = snapshot.upstream_named(&drain.upstream);
    let state = upstream.and_then(|upstream| {
        let slot = upstream.endpoints.iter().position(|endpoint| endpoint.id == drain.endpoint)?;
        Some(upstream.state(Slot(slot as u32)))
    });
    Drained {
        upstream: drain.upstream.to_string(),
        endpoint: drain.endpoint.to_string(),
        state: state.unwrap_or("gone").to_string(),
        changed: drained.has_changed,
        in_flight: drained.in_flight,
        available: drained.available,
    }
}

/// The whole of it.
pub fn status(snapshot: &Snapshot, process: &Process) -> Status {
    let listener = |listener: &crate::snapshot::Listener| Listener {
        name: listener.name.to_string(),
        connections: listener.stats.sum(|cell| cell.connections.get()),
        tunnels: listener.stats.sum(|cell| cell.tunnels.get()),
        certificates: certificates(process, &listener.name),
    };
    Status {
        version: env!("CARGO_PKG_VERSION").to_string(),
        uptime_seconds: process.uptime.as_secs(),
        ready: not_ready(snapshot, process).is_none(),
        workers: process.workers,
        generation: snapshot.generation,
        reloads: Reloads {
            successes: process.reloads.successes,
            failures: process.reloads.failures,
            held: process.reloads.held,
            last_succeeded: process.reloads.last_succeeded,
        },
        held: held(snapshot, process),
        fleet: process.fleet.as_ref().map(|peers| fleet::fleet(peers)),
        listeners: snapshot.listeners.iter().map(listener).collect(),
        serialize: turns::all(snapshot),
        coalesce: turns::sharing(snapshot),
        upstreams: upstreams(snapshot),
    }
}

/// What waits for a person's word: the configuration first.
fn held(snapshot: &Snapshot, process: &Process) -> Vec<Held> {
    let configuration = process.held.iter().map(|held| Held {
        upstream: None,
        since: clock::rfc3339(held.since),
        why: held.why.clone(),
        what: Vec::new(),
        moved: None,
        fingerprint: None,
    });
    let members = snapshot.upstreams.iter().filter_map(|group| {
        let held = group.membership.as_ref()?.seen().held?;
        Some(Held {
            upstream: Some(group.name.to_string()),
            since: clock::rfc3339(held.since),
            why: held.why,
            what: held.what,
            moved: Some(held.moved),
            fingerprint: Some(held.fingerprint.to_string()),
        })
    });
    configuration.chain(members).collect()
}

/// Why the proxy is not ready for requests; `None` when it is.
pub fn not_ready(snapshot: &Snapshot, process: &Process) -> Option<String> {
    let without = || snapshot.upstreams.iter().find(|upstream| !upstream.has_available());
    let told = process.not_ready.map(str::to_string);
    told.or_else(|| without().map(|upstream| format!("upstream {} has no available endpoint", upstream.name)))
}

fn last_check(endpoint: &Server) -> Option<Check> {
    let found = endpoint.last_check.get()?;
    let seconds_ago = (found.at.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    Some(Check { ok: found.problem.is_none(), problem: found.problem, seconds_ago })
}

fn discovery(membership: &Membership) -> Discovery {
    let seen = membership.seen();
    Discovery {
        source: seen.source,
        confirmed_seconds_ago: seen.confirmed.map(seconds_ago),
        problem: seen.problem,
        waiting_to_go: seen.waiting,
        refuses: seen.refuses,
        store: seen.store.map(|health| store(&health)),
    }
}

/// How it stands with one.
pub(super) fn store(health: &StoreHealth) -> Store {
    let (last_ok, up) = health.seen();
    let (name, losses) = (health.name.clone(), health.losses.get());
    Store { name, up, last_ok_seconds_ago: last_ok.map(seconds_ago), losses }
}

/// To the tenth of a second.
fn seconds_ago(at: Instant) -> f64 {
    (at.elapsed().as_secs_f64() * 10.0).round() / 10.0
}

/// `/api/v1/upstreams/U/ring`
#[derive(Debug, Serialize, Deserialize)]
pub struct Ring {
    /// The upstream's name.
    pub upstream: String,
    /// The placement.
    pub algorithm: String,
    /// The hash of everything that decides ownership.
    pub fingerprint: String,
    /// Points for each unit of weight.
    pub vnodes: u32,
    /// Places a key is looked up from.
    pub probes: u32,
    /// Points in all.
    pub points: usize,
    /// What they take in memory.
    pub memory_bytes: usize,
    /// The largest share of an endpoint over what its weight entitles it to; 1 is even.
    pub peak_to_mean: f64,
    /// Share of the key space that the last change moved, 0 to 1.
    pub moved: f64,
    /// Its endpoints, by id.
    pub endpoints: Vec<RingShare>,
}

/// An endpoint's part of a ring.
#[derive(Debug, Serialize, Deserialize)]
pub struct RingShare {
    /// Its id.
    pub id: String,
    /// Its weight.
    pub weight: u32,
    /// Share of the key space it owns, 0 to 1.
    pub share: f64,
    /// What its weight entitles it to, 0 to 1.
    pub entitled: f64,
}

/// One upstream's ring.
pub fn ring(group: &Group) -> Ring {
    let (ring, settings) = (&group.ring, group.ring.settings());
    let weights: f64 = ring.members().iter().map(|member| f64::from(member.weight)).sum();
    let share = |(slot, member): (usize, &crate::ring::Member)| RingShare {
        id: member.id.to_string(),
        weight: member.weight,
        share: group.change.shares.get(slot).copied().unwrap_or(0.0),
        entitled: f64::from(member.weight) / weights.max(1.0),
    };
    let endpoints: Vec<RingShare> = ring.members().iter().enumerate().map(share).collect();
    Ring {
        upstream: group.name.to_string(),
        algorithm: settings.algorithm.as_str().to_string(),
        fingerprint: fingerprint::of(settings, ring.members()).to_string(),
        vnodes: settings.vnodes,
        probes: settings.probes,
        points: ring.point_count(),
        memory_bytes: ring.memory_bytes(),
        peak_to_mean: movement::peak_to_mean(ring.members(), &group.change.shares),
        moved: group.change.moved,
        endpoints,
    }
}

/// `/api/v1/loglevel`
#[derive(Debug, Serialize, Deserialize)]
pub struct LogLevel {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
}

/// One of `/api/v1/history`
#[derive(Debug, Serialize, Deserialize)]
pub struct Change {
    /// When, RFC 3339 in UTC.
    pub time: String,
    /// What brought it about: `start`, `file`, `SIGHUP`, `admin`, `drain`, `undrain`, `discovery`, `held` (nothing has
    /// changed: what would be is told), `approved`.
    pub cause: String,
    /// What changed, in words.
    pub what: Vec<String>,
    /// The snapshot's generation after it; drains do not raise it.
    pub generation: u64,
    /// Each upstream whose ring changed.
    pub upstreams: Vec<Moved>,
}

/// What a change did to a ring.
#[derive(Debug, Serialize, Deserialize)]
pub struct Moved {
    /// The upstream's name.
    pub upstream: String,
    /// Share of the key space with a new owner, 0 to 1.
    pub moved: f64,
    /// The hash of everything that decides ownership, after it.
    pub fingerprint: String,
}

/// The last changes, newest first.
pub fn history(changes: &[Arc<history::Change>]) -> Vec<Change> {
    let moved = |ring: &history::RingChanged| Moved {
        upstream: ring.upstream.to_string(),
        moved: ring.moved,
        fingerprint: ring.fingerprint.to_string(),
    };
    let change = |change: &Arc<history::Change>| Change {
        time: clock::rfc3339(change.at),
        cause: change.cause.as_str().to_string(),
        what: change.what.clone(),
        generation: change.generation,
        upstreams: change.rings.iter().map(moved).collect(),
    };
    changes.iter().map(change).collect()
}

fn certificates(process: &Process, listener: &ListenerName) -> Vec<Certificate> {
    let own = process.certificates.iter().filter(|(name, _)| name == listener);
    own.map(|(_, own)| Certificate { name: own.name.clone(), not_after: own.not_after }).collect()
}

/// All upstreams.
pub fn upstreams(snapshot: &Snapshot) -> Vec<Upstream> {
    snapshot.upstreams.iter().map(|group| upstream(group)).collect()
}

fn upstream(group: &Group) -> Upstream {
    let endpoint = |(slot, member): (usize, &crate::ring::Member)| {
        let endpoint = &group.endpoints[slot];
        Endpoint {
            id: member.id.to_string(),
            address: endpoint.address.to_string(),
            addresses: endpoint.addresses.iter().map(ToString::to_string).collect(),
            weight: member.weight,
            key_share: group.change.shares.get(slot).copied().unwrap_or(0.0),
            state: group.state(Slot(slot as u32)).to_string(),
            ramp: group.ramp(Slot(slot as u32), clock::now()),
            last_check: group.settings.health_check.as_ref().and_then(|_| last_check(endpoint)),
            in_flight: endpoint.in_flight(),
            pending: endpoint.pending() as u64,
            connections: endpoint.places.open(),
            ok: endpoint.live.sum(|live| live.ok.get()),
            failed: endpoint.live.sum(|live| live.failed.get()),
        }
    };
    Upstream {
        name: group.name.to_string(),
        fingerprint: fingerprint::of(group.ring.settings(), group.ring.members()).to_string(),
        points: group.ring.point_count(),
        panic: group.mask.is_panic(),
        hot_keys: group.heat.as_ref().map(|heat| heat.len()),
        discovery: group.membership.as_ref().map(|membership| discovery(membership)),
        elect: checks::elected(group),
        endpoints: group.ring.members().iter().enumerate().map(endpoint).collect(),
    }
}
