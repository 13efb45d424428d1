//! State to snapshot, reusing rings, endpoints and counters that did not change. Nothing of the state changes on an error.
use crate::base::address::Address;
use crate::base::address::HostPort;
use crate::base::address::Location;
use crate::base::clock;
use crate::base::ids::ListenerName;
use crate::base::ids::UpstreamName;
use crate::control::Published;
use crate::control::apply;
use crate::control::guard;
use crate::control::guard::Breach;
use crate::control::heat;
use crate::control::history::RingChanged;
use crate::control::state::Counters;
use crate::control::state::Desired;
use crate::control::state::Group;
use crate::control::state::Known;
use crate::control::state::State;
use crate::health::threshold::Threshold;
use crate::limit::Limiter;
use crate::lock::election::Seat;
use crate::lock::registry::Locks;
use crate::lock::service::Service;
use crate::ring;
use crate::ring::Member;
use crate::ring::Ring;
use crate::ring::movement;
use crate::ring::verify;
use crate::route::EqualRoutes;
use crate::route::Route;
use crate::route::RouteTable;
use crate::snapshot::Listener;
use crate::snapshot::Serial;
use crate::snapshot::Snapshot;
use crate::snapshot::UpstreamIndex;
use crate::snapshot::endpoint::Endpoint;
use crate::snapshot::endpoint::LastCheck;
use crate::snapshot::gate::Gate;
use crate::snapshot::places::Places;
use crate::snapshot::sample;
use crate::snapshot::settings;
use crate::snapshot::upstream::Balance;
use crate::snapshot::upstream::Mask;
use crate::snapshot::upstream::RingChange;
use crate::snapshot::upstream::Upstream;
use crate::telemetry::cells::PerWorker;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use thiserror::Error;

/// Why a snapshot cannot be built.
#[derive(Debug, Error)]
pub enum BuildError {
    /// A ring cannot be built.
    #[error("build the ring of upstream {0}: {1}")]
    Ring(UpstreamName, #[source] ring::build::BuildError),
    /// A ring was built wrong: never published.
    #[error("verify the ring of upstream {0}: {1}")]
    Verify(UpstreamName, #[source] verify::VerifyError),
    /// Two routes are equal.
    #[error(transparent)]
    Routes(#[from] EqualRoutes),
    /// A route leads nowhere.
    #[error("find upstream {0}")]
    NoUpstream(UpstreamName),
    /// Guards want a person's word first.
    #[error("pass the guards: {}", guard::told(.0))]
    Held(Vec<(UpstreamName, Breach)>),
    /// A route takes turns nowhere.
    #[error("find store {0}")]
    NoStore(String),
}

/// Builds what is desired. The state takes it over only when all of it could be built and verified, and, unless it `is_forced`, no
/// guard of the settings in force holds it.
///
/// # Errors
/// Why not; then nothing changes.
pub fn build(
    state: &mut State,
    desired: Desired,
    is_forced: bool,
    now: Instant,
) -> Result<(Snapshot, Published), BuildError> {
    let mut last_uid = state.last_uid;
    let wanted = desired.names();
    let mut groups = BTreeMap::new();
    let (mut rings, mut breaches) = (Vec::new(), Vec::new());
    for settings in &desired.upstreams {
        let before = state.groups.get(&settings.name);
        let is_discovered = desired.discoveries.contains_key(&settings.name);
        let members = state.members_of(&settings.name).filter(|_| is_discovered);
        let settings = match members {
            Some(members) => &settings::Upstream { endpoints: members.to_vec(), ..settings.clone() },
            None => settings,
        };
        let mut group = build_group(before, settings, &state.names, state.workers, &mut last_uid, now)?;
        group.membership = state.memberships.get(&settings.name).filter(|_| is_discovered).cloned();
        group.is_lost &= is_discovered;
        group.election = election(state, &desired, settings)?;
        group.key_kind = sample::kind(&settings.name, &settings.ring, &desired.routes);
        let breach = before.and_then(|before| guard::breach(&before.settings.guard, before, &group));
        breaches.extend(breach.map(|breach| (settings.name.clone(), breach)));
        group.remember_for(desired.fill_window(settings), before, now);
        if before.is_none_or(|before| !Arc::ptr_eq(&before.ring, &group.ring)) {
            let ring = before.map(|before| &*before.ring);
            rings.push(RingChanged::of(&settings.name, ring, &group.ring, group.change.moved));
        }
        groups.insert(settings.name.clone(), group);
    }
    if !breaches.is_empty() && state.guard_config && !is_forced {
        return Err(BuildError::Held(breaches));
    }
    let mut counters = Counters::default();
    let world = World { groups: &groups, workers: state.workers, old: &state.counters, locks: &state.locks };
    let mut snapshot = world.snapshot(&desired, &mut counters)?;

    (state.drain_timeout, state.guard_config) = (desired.drain_timeout, desired.guard_config);
    remove(state, &groups, now);
    state.names.retain(|name, _| wanted.contains_key(name));
    state.members.retain(|name, _| desired.discoveries.contains_key(name));
    (state.groups, state.counters, state.last_uid) = (groups, counters, last_uid);
    state.generation += 1;
    state.serial += 1;
    (snapshot.generation, snapshot.serial) = (state.generation, state.serial);
    Ok((snapshot, Published { generation: state.generation, rings, breaches }))
}

/// The same world after a name was looked up; `None` when that changes nothing: the same addresses in any order, or nobody's
/// name.
pub fn readdress(
    state: &mut State,
    last: &Snapshot,
    name: &HostPort,
    found: Vec<Address>,
    now: Instant,
) -> Option<Snapshot> {
    if state.names.get(name).is_some_and(|known| is_same_set(known, &found)) {
        return None;
    }
    state.names.insert(name.clone(), found.into());
    let last_uid = state.last_uid;
    let mut groups = state.groups.clone();
    for group in groups.values_mut() {
        let is_named = |endpoint: &&settings::Endpoint| matches!(&endpoint.address, Location::Named(it) if it == name);
        for endpoint in group.settings.clone().endpoints.iter().filter(is_named) {
            let known =
                known(group.members.get(&endpoint.id), endpoint, &state.names, state.workers, &mut state.last_uid);
            group.members.insert(endpoint.id.clone(), known);
        }
        group.mask = apply::mask_of(group);
    }
    if state.last_uid == last_uid {
        return None;
    }
    remove(state, &groups, now);
    state.groups = groups;
    state.generation += 1;
    Some(Snapshot { generation: state.generation, ..rebuild_masks(state, last) })
}

/// What came of other members.
#[derive(Debug)]
pub enum Repopulated {
    /// They are the same.
    Same,
    /// They do more than the guard allows; nothing has changed.
    Held(Breach),
    /// The world with them.
    Changed(Box<Snapshot>, Published),
}

/// The same world after an upstream has other members, if its guard lets them pass or somebody has approved them.
///
/// # Errors
/// When its ring cannot be built; then nothing changes.
pub fn repopulate(
    state: &mut State,
    last: &Snapshot,
    upstream: &UpstreamName,
    members: Arc<[settings::Endpoint]>,
    is_approved: bool,
    now: Instant,
) -> Result<Repopulated, BuildError> {
    let Some(before) = state.groups.get(upstream).filter(|group| group.settings.endpoints[..] != members[..]) else {
        return Ok(Repopulated::Same);
    };
    let settings = settings::Upstream { endpoints: members.to_vec(), ..(*before.settings).clone() };
    let mut group = build_group(Some(before), &settings, &state.names, state.workers, &mut state.last_uid, now)?;
    if !is_approved && let Some(breach) = guard::breach(&before.settings.guard, before, &group) {
        return Ok(Repopulated::Held(breach));
    }
    group.membership = before.membership.clone();
    group.election = before.election.clone();
    group.remember_for(before.past.as_ref().map(|past| past.window), Some(before), now);
    let mut rings = Vec::new();
    if !Arc::ptr_eq(&before.ring, &group.ring) {
        rings.push(RingChanged::of(upstream, Some(&before.ring), &group.ring, group.change.moved));
    }
    state.members.insert(upstream.clone(), members);
    let before = state.groups.insert(upstream.clone(), group);
    let before = BTreeMap::from_iter(before.map(|before| (upstream.clone(), before)));
    let until = now + state.drain_timeout;
    let gone = removed(&before, &state.groups);
    state.removed.extend(gone.into_iter().map(|uid| (uid, until)));
    state.generation += 1;
    let generation = state.generation;
    let snapshot = Snapshot { generation, ..rebuild_masks(state, last) };
    Ok(Repopulated::Changed(Box::new(snapshot), Published { generation, rings, breaches: Vec::new() }))
}

/// Notes which endpoints are in use no more, so that what still hangs on them ends in time.
fn remove(state: &mut State, after: &BTreeMap<UpstreamName, Group>, now: Instant) {
    let until = now + state.drain_timeout;
    state.removed.extend(removed(&state.groups, after).into_iter().map(|uid| (uid, until)));
}

fn is_same_set(one: &[Address], other: &[Address]) -> bool {
    one.len() == other.len() && one.iter().all(|address| other.contains(address))
}

/// The same world with the masks of now.
pub fn rebuild_masks(state: &mut State, last: &Snapshot) -> Snapshot {
    state.serial += 1;
    let now = clock::now();
    state.groups.values_mut().for_each(|group| group.note_era(now));
    Snapshot {
        generation: last.generation,
        serial: state.serial,
        routes: last.routes.clone(),
        targets: last.targets.clone(),
        upstreams: state.groups.values().map(|group| Arc::new(upstream_of(group))).collect(),
        listeners: last.listeners.clone(),
        route_stats: last.route_stats.clone(),
        limiters: last.limiters.clone(),
        debug_token: last.debug_token.clone(),
        serials: last.serials.clone(),
        shared: last.shared.clone(),
    }
}

/// This proxy's place in the election of the one that checks an upstream, if one does for all.
fn election(state: &State, desired: &Desired, settings: &settings::Upstream) -> Result<Option<Arc<Seat>>, BuildError> {
    let Some(check) = &settings.health_check else { return Ok(None) };
    let Some(elect) = &check.elect else { return Ok(None) };
    let store = desired.stores.get(&elect.store).ok_or_else(|| BuildError::NoStore(elect.store.clone()))?;
    let job = format!("health_check/{}", settings.name);
    Ok(Some(state.locks.seat(store, job, state.own_name.clone(), check.interval)))
}

fn build_group(
    before: Option<&Group>,
    settings: &settings::Upstream,
    names: &Addresses,
    workers: usize,
    last_uid: &mut u64,
    now: Instant,
) -> Result<Group, BuildError> {
    let (ring, change) = build_ring(before, settings)?;
    let mut members = BTreeMap::new();
    for endpoint in &settings.endpoints {
        let old = before.and_then(|before| before.members.get(&endpoint.id));
        let mut known = known(old, endpoint, names, workers, last_uid);
        if settings.health_check.is_none() {
            // Nobody asks any more: what was found last would stay for ever.
            known.threshold = Threshold::default();
        }
        members.insert(endpoint.id.clone(), known);
    }
    let mut settings = settings.clone();
    if let Some(same) = before.filter(|before| before.settings.tls == settings.tls) {
        // Its sessions can be resumed, and idle connections stay good.
        settings.tls = same.settings.tls.clone();
    }
    let mut group = Group {
        settings: Arc::new(settings),
        ring,
        change,
        members,
        mask: Mask::default(),
        transition: None,
        heat: None,
        past: None,
        key_kind: before.map_or(0, |before| before.key_kind),
        budget: before.map_or_else(Default::default, |before| before.budget.clone()),
        stats: before.map_or_else(|| Arc::new(PerWorker::new(workers)), |before| before.stats.clone()),
        membership: None,
        is_lost: before.is_some_and(|before| before.is_lost),
        election: None,
    };
    let heat_before = before.and_then(|before| before.heat.as_ref());
    group.heat = group.settings.hot_keys.map(|settings| heat::Known::new(settings, heat_before, || next(last_uid)));
    if let Some(before) = before {
        group.begin_ramps(before, now);
    }
    group.mask = apply::mask_of(&group);
    Ok(group)
}

fn next(last_uid: &mut u64) -> u64 {
    *last_uid += 1;
    *last_uid
}

/// Where names lead.
type Addresses = HashMap<HostPort, Arc<[Address]>>;

/// An endpoint with all it was, unless its addresses are new: then its health and connections start afresh. The order that a
/// resolver names them in means nothing. What an operator wants of it stays.
fn known(
    old: Option<&Known>,
    endpoint: &settings::Endpoint,
    names: &Addresses,
    workers: usize,
    last_uid: &mut u64,
) -> Known {
    let addresses = match &endpoint.address {
        Location::At(address) => Arc::from([address.clone()]),
        Location::Named(name) => names.get(name).cloned().unwrap_or_default(),
    };
    let is_same =
        |old: &&Known| old.endpoint.address == endpoint.address && is_same_set(&old.endpoint.addresses, &addresses);
    if let Some(same) = old.filter(is_same) {
        return same.clone();
    }
    let fresh = Endpoint {
        uid: next(last_uid),
        id: endpoint.id.clone(),
        address: endpoint.address.clone(),
        addresses,
        gate: Gate::default(),
        places: Arc::new(Places::new(workers)),
        live: PerWorker::new(workers),
        stats: old.map_or_else(|| Arc::new(PerWorker::new(workers)), |old| old.endpoint.stats.clone()),
        verdicts: old.map_or_else(Default::default, |old| old.endpoint.verdicts.clone()),
        last_check: LastCheck::default(),
    };
    let fresh = Known::new(Arc::new(fresh));
    match old {
        None => fresh,
        Some(Known { is_draining, presence, weights, .. }) => {
            Known { is_draining: *is_draining, presence: *presence, weights: weights.clone(), ..fresh }
        }
    }
}

fn build_ring(
    before: Option<&Group>,
    settings: &settings::Upstream,
) -> Result<(Arc<Ring>, Arc<RingChange>), BuildError> {
    let member = |endpoint: &settings::Endpoint| Member { id: endpoint.id.clone(), weight: endpoint.weight };
    let mut members: Vec<Member> = settings.endpoints.iter().map(member).collect();
    members.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    let is_same = |group: &&Group| group.ring.settings() == &settings.ring && group.ring.members() == members;
    if let Some(same) = before.filter(is_same) {
        return Ok((same.ring.clone(), same.change.clone()));
    }
    let started = clock::now();
    let ring = match before.filter(|before| before.ring.settings() == &settings.ring) {
        Some(before) => before.ring.change(&members),
        None => Ring::build(&settings.ring, &members),
    };
    let ring = ring.map_err(|error| BuildError::Ring(settings.name.clone(), error))?;
    verify::verify(&ring, &members).map_err(|error| BuildError::Verify(settings.name.clone(), error))?;
    let build = started.elapsed();
    let moved = before.map_or(0.0, |before| movement::moved(&before.ring, &ring));
    let change = RingChange { build, moved, shares: movement::shares(&ring) };
    Ok((Arc::new(ring), Arc::new(change)))
}

/// Endpoints that are no longer there, by uid.
fn removed(before: &BTreeMap<UpstreamName, Group>, after: &BTreeMap<UpstreamName, Group>) -> Vec<u64> {
    let uids = |groups: &BTreeMap<UpstreamName, Group>| -> std::collections::HashSet<u64> {
        groups.values().flat_map(|group| group.members.values().map(|known| known.endpoint.uid)).collect()
    };
    uids(before).difference(&uids(after)).copied().collect()
}

fn upstream_of(group: &Group) -> Upstream {
    Upstream {
        name: group.settings.name.clone(),
        settings: group.settings.clone(),
        ring: group.ring.clone(),
        change: group.change.clone(),
        endpoints: group.members.values().map(|known| known.endpoint.clone()).collect(),
        balance: group.settings.load_bound.map(|bound| Balance::new(bound, &group.ring, &group.mask)),
        mask: group.mask.clone(),
        heat: group.heat.as_ref().map(|known| known.view.clone()),
        transition: group.transition.clone(),
        past: group.past.clone(),
        key_kind: group.key_kind,
        budget: group.budget.clone(),
        stats: group.stats.clone(),
        membership: group.membership.clone(),
        is_lost: group.is_lost,
        election: group.election.clone(),
    }
}

/// What a snapshot is put together from.
struct World<'a> {
    groups: &'a BTreeMap<UpstreamName, Group>,
    workers: usize,
    old: &'a Counters,
    locks: &'a Locks,
}

impl World<'_> {
    fn snapshot(&self, desired: &Desired, counters: &mut Counters) -> Result<Snapshot, BuildError> {
        let place = |route: &Route| {
            let Some(forward) = route.action.forward() else { return Ok(None) };
            match self.groups.keys().position(|name| *name == forward.upstream) {
                Some(index) => Ok(Some(UpstreamIndex(index as u32))),
                None => Err(BuildError::NoUpstream(forward.upstream.clone())),
            }
        };
        let targets = desired.routes.iter().map(place).collect::<Result<Vec<_>, _>>()?;
        let listeners = desired.listeners.iter().map(|name| self.listener(name, &desired.routes, counters)).collect();
        let names = desired.routes.iter().map(|route| Some(route.name.clone())).chain([None]);
        let route_stats = names.map(|name| keep(&self.old.routes, &mut counters.routes, name, self.workers)).collect();
        Ok(Snapshot {
            generation: 0,
            serial: 0,
            routes: Arc::new(RouteTable::new(desired.routes.clone())?),
            targets,
            upstreams: self.groups.values().map(|group| Arc::new(upstream_of(group))).collect(),
            listeners,
            route_stats,
            limiters: desired.routes.iter().map(|route| self.limiter(route, counters)).collect(),
            debug_token: desired.debug_token.clone(),
            serials: desired
                .routes
                .iter()
                .map(|route| self.serial(desired, route, counters))
                .collect::<Result<_, _>>()?,
            shared: desired
                .routes
                .iter()
                .map(|route| self.shared(desired, route, counters))
                .collect::<Result<_, _>>()?,
        })
    }

    /// What counts a route's requests: as it was when the limit is the same, afresh when it is another.
    fn limiter(&self, route: &Route, counters: &mut Counters) -> Option<Arc<Limiter>> {
        let limit = route.rate_limit.as_ref()?;
        let old = self.old.limiters.get(&route.name).filter(|(old, _)| old.is_same(limit));
        let limiter = match old {
            Some((_, limiter)) => limiter.clone(),
            None => Arc::new(Limiter::new(limit.rate, clock::now())),
        };
        counters.limiters.insert(route.name.clone(), (limit.clone(), limiter.clone()));
        Some(limiter)
    }

    /// What makes a route's requests take turns.
    fn serial(&self, desired: &Desired, route: &Route, counters: &mut Counters) -> Result<Option<Serial>, BuildError> {
        let serialize = route.action.forward().and_then(|forward| forward.serialize.as_ref());
        let Some(serialize) = serialize else { return Ok(None) };
        let stats = keep(&self.old.serials, &mut counters.serials, route.name.clone(), self.workers);
        let service = match &serialize.stored {
            None => self.locks.here(),
            Some(stored) => self.locks_of(desired, &stored.store, stored.lease)?,
        };
        Ok(Some(Serial { service, stats }))
    }

    /// What has one proxy ask for what a route's requests share.
    fn shared(&self, desired: &Desired, route: &Route, counters: &mut Counters) -> Result<Option<Serial>, BuildError> {
        let coalesce = route.action.forward().and_then(|forward| forward.coalesce.as_ref());
        let Some(stored) = coalesce.and_then(|coalesce| coalesce.stored.as_ref()) else { return Ok(None) };
        let stats = keep(&self.old.shared, &mut counters.shared, route.name.clone(), self.workers);
        Ok(Some(Serial { service: self.locks_of(desired, &stored.store, stored.lease)?, stats }))
    }

    fn locks_of(&self, desired: &Desired, store: &str, lease: Duration) -> Result<Arc<Service>, BuildError> {
        let settings = desired.stores.get(store).ok_or_else(|| BuildError::NoStore(store.to_string()))?;
        Ok(self.locks.of_store(settings, lease))
    }

    fn listener(&self, name: &ListenerName, routes: &[Route], counters: &mut Counters) -> Listener {
        let led_to =
            |route: &Route| Some((route.name.clone(), route.action.forward().map(|forward| forward.upstream.clone())));
        let keys = routes.iter().map(led_to).chain([None]).map(|led_to| (name.clone(), led_to));
        let requests = keys.map(|key| keep(&self.old.requests, &mut counters.requests, key, self.workers)).collect();
        let stats = keep(&self.old.listeners, &mut counters.listeners, name.clone(), self.workers);
        Listener { name: name.clone(), stats, requests }
    }
}

/// The cells counted so far under this key, or fresh ones.
fn keep<K: std::hash::Hash + Eq + Clone, T: Default>(
    old: &std::collections::HashMap<K, Arc<PerWorker<T>>>,
    new: &mut std::collections::HashMap<K, Arc<PerWorker<T>>>,
    key: K,
    workers: usize,
) -> Arc<PerWorker<T>> {
    let cells = old.get(&key).cloned().unwrap_or_else(|| Arc::new(PerWorker::new(workers)));
    new.entry(key).or_insert(cells).clone()
}
