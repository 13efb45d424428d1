//! What is wanted (settings) and what is seen (health, counters that outlive snapshots).
use crate::base::address::Address;
use crate::base::address::HostPort;
use crate::base::address::Location;
use crate::base::ids::EndpointId;
use crate::base::ids::ListenerName;
use crate::base::ids::RouteName;
use crate::base::ids::UpstreamName;
use crate::base::token::Token;
use crate::control::heat;
use crate::discovery::settings::Settings as Discovery;
use crate::fleet;
use crate::health::Availability;
use crate::health::outlier::Ejection;
use crate::health::share::Window;
use crate::health::streak::Merger;
use crate::health::threshold::Threshold;
use crate::limit::Limiter;
use crate::lock::election::Seat;
use crate::lock::registry::Locks;
use crate::retry::budget::RetryBudget;
use crate::ring::Ring;
use crate::ring::ramp::Ramp;
use crate::ring::ramp::Weights;
use crate::route::Route;
use crate::route::rate_limit::RateLimit;
use crate::snapshot::endpoint::Endpoint;
use crate::snapshot::membership::Membership;
use crate::snapshot::past::Past;
use crate::snapshot::settings;
use crate::snapshot::stats;
use crate::snapshot::transition::Transition;
use crate::snapshot::upstream::Mask;
use crate::snapshot::upstream::RingChange;
use crate::store::settings::Settings as Store;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

/// What people want: settings that were checked, not yet built.
#[derive(Debug, Clone)]
pub struct Desired {
    /// Stores, by name.
    pub stores: BTreeMap<String, Arc<Store>>,
    /// Listeners, by name.
    pub listeners: Vec<ListenerName>,
    /// Routes, in the file's order.
    pub routes: Vec<Route>,
    /// Upstreams.
    pub upstreams: Vec<settings::Upstream>,
    /// Where the members of upstreams come from that have none of their own.
    pub discoveries: BTreeMap<UpstreamName, Arc<Discovery>>,
    /// How long a request may hang on an endpoint that was removed.
    pub drain_timeout: Duration,
    /// What a client shows with a request to be told about it.
    pub debug_token: Option<Token>,
    /// Whether what does more than a guard allows waits for a person's word, settings included.
    pub guard_config: bool,
}

/// Everything that outlives a snapshot.
#[derive(Debug)]
pub struct State {
    /// Number of workers: cells of everything that is counted.
    pub workers: usize,
    /// The last generation.
    pub generation: u64,
    /// The last serial.
    pub serial: u64,
    /// The last endpoint's uid.
    pub last_uid: u64,
    /// Upstreams, by name.
    pub groups: BTreeMap<UpstreamName, Group>,
    /// Where names of endpoints led when they were last looked up with success.
    pub names: HashMap<HostPort, Arc<[Address]>>,
    /// The members of discovered upstreams.
    pub members: HashMap<UpstreamName, Arc<[settings::Endpoint]>>,
    /// How it stands with their sources.
    pub memberships: HashMap<UpstreamName, Arc<Membership>>,
    /// How long a request may hang on an endpoint that was removed.
    pub drain_timeout: Duration,
    /// Whether settings that do more than a guard allows wait for a person's word.
    pub guard_config: bool,
    /// Endpoints that were removed, by uid, and when what still hangs on them is closed.
    pub removed: Vec<(u64, Instant)>,
    /// Counters.
    pub counters: Counters,
    /// Locks.
    pub locks: Arc<Locks>,
    /// What other proxies call this one.
    pub own_name: String,
}

/// Has something done with the state that may take seconds, as the building of a large ring does, on another thread: those who talk to
/// stores share this one. It has to be awaited to its end: until then another, empty state stands in, and would stay if it were dropped. So
/// no deadline goes around it.
///
/// # Panics
/// When the work does.
pub(super) async fn aside<T: Send + 'static>(
    state: &mut State,
    work: impl FnOnce(&mut State) -> T + Send + 'static,
) -> T {
    let stands_in = State::new(state.workers);
    let mut taken = std::mem::replace(state, stands_in);
    let working = tokio::task::spawn_blocking(move || {
        let done = work(&mut taken);
        (taken, done)
    });
    match working.await {
        Ok((taken, done)) => {
            *state = taken;
            done
        }
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Counters by name.
#[derive(Debug, Default, Clone)]
pub struct Counters {
    /// Of listeners.
    pub listeners: HashMap<ListenerName, Arc<stats::Listener>>,
    /// Of requests, by listener, route and upstream.
    pub requests: HashMap<Path, Arc<stats::Requests>>,
    /// Of routes; `None` is for requests that found none.
    pub routes: HashMap<Option<RouteName>, Arc<stats::Route>>,
    /// Rate limits of routes, and what they were counted under.
    pub limiters: HashMap<RouteName, (RateLimit, Arc<Limiter>)>,
    /// Of routes whose requests take turns.
    pub serials: HashMap<RouteName, Arc<stats::Serial>>,
    /// Of routes whose requests share answers over a fleet.
    pub shared: HashMap<RouteName, Arc<stats::Serial>>,
}

/// A listener, and where its requests led: a route, and its upstream if it has one; `None` is for those that found no route.
pub type Path = (ListenerName, Option<(RouteName, Option<UpstreamName>)>);

/// One upstream.
#[derive(Debug, Clone)]
pub struct Group {
    /// Its policies, as written.
    pub settings: Arc<settings::Upstream>,
    /// Its ring.
    pub ring: Arc<Ring>,
    /// What the ring's last change cost.
    pub change: Arc<RingChange>,
    /// Its endpoints, by id: the ring's slot order.
    pub members: BTreeMap<EndpointId, Known>,
    /// Who is left out now.
    pub mask: Mask,
    /// What goes over to new owners just now.
    pub transition: Option<Arc<Transition>>,
    /// Its hot keys, where they are looked for.
    pub heat: Option<heat::Known>,
    /// Who owned which key a moment ago, if a route fills its caches.
    pub past: Option<Past>,
    /// What its keys are made of.
    pub key_kind: u64,
    /// Its retries.
    pub budget: Arc<RetryBudget>,
    /// Its counters.
    pub stats: Arc<stats::Upstream>,
    /// How it stands with the source of its members, if it has one.
    pub membership: Option<Arc<Membership>>,
    /// Whether its requests are refused, because the store of its members is lost.
    pub is_lost: bool,
    /// Who of the fleet checks it, if one does for all.
    pub election: Option<Arc<Seat>>,
}

/// One endpoint and what is known of its health.
#[derive(Debug, Clone)]
pub struct Known {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// Its ejections.
    pub ejection: Ejection,
    /// Its failures in a row.
    pub streak: Merger,
    /// Its failures as a share.
    pub window: Window,
    /// What its health checks say.
    pub threshold: Threshold,
    /// Whether an operator sends it away.
    pub is_draining: bool,
    /// Whether nobody accepted its last health check's connection: what comes back then was started anew, and knows nothing.
    pub was_refused: bool,
    /// Its coming or going, while that lasts.
    pub presence: Option<Ramp>,
    /// Changes of its weight, while they last.
    pub weights: Weights,
}

impl Known {
    /// An endpoint nothing is known of.
    pub fn new(endpoint: Arc<Endpoint>) -> Self {
        Self {
            endpoint,
            ejection: Ejection::default(),
            streak: Merger::default(),
            window: Window::default(),
            threshold: Threshold::default(),
            is_draining: false,
            was_refused: false,
            presence: None,
            weights: Weights::default(),
        }
    }

    /// Whether its health speaks for it, whatever an operator wants.
    pub fn is_sound(&self) -> bool {
        !self.threshold.is_down() && !self.ejection.is_out() && !self.endpoint.addresses.is_empty()
    }

    /// Whether it may get requests.
    pub fn availability(&self) -> Availability {
        match Availability::of(self.threshold.is_down(), self.ejection.is_out(), self.is_draining && !self.is_leaving())
        {
            Availability::Draining => Availability::Draining,
            _ if self.endpoint.addresses.is_empty() => Availability::Unresolved,
            availability => availability,
        }
    }
}

impl Desired {
    /// How far back it is noted who owned which key of an upstream; `None` when no route fills its caches.
    pub fn fill_window(&self, upstream: &settings::Upstream) -> Option<Duration> {
        let fills = |route: &Route| {
            let fill = route.action.forward().and_then(|forward| forward.fill.as_ref());
            fill.is_some_and(|fill| fill.upstream == upstream.name)
        };
        let is_wanted = !upstream.fill_window.is_zero() && self.routes.iter().any(fills);
        is_wanted.then_some(upstream.fill_window)
    }

    /// The names to look up, and how often; the shorter time when two upstreams want the same name.
    pub fn names(&self) -> HashMap<HostPort, Duration> {
        let mut names = HashMap::new();
        for upstream in &self.upstreams {
            for endpoint in &upstream.endpoints {
                let Location::Named(name) = &endpoint.address else { continue };
                let every = names.entry(name.clone()).or_insert(upstream.resolve);
                *every = upstream.resolve.min(*every);
            }
        }
        names
    }
}

impl State {
    /// A state in which nothing is looked up and every name counts as resolved: for questions about a file alone.
    pub fn offline(desired: &Desired) -> Self {
        let nowhere = |name: &HostPort| Arc::from([Address::Ip(SocketAddr::from(([0, 0, 0, 0], name.port)))]);
        let names = desired.names().keys().map(|name| (name.clone(), nowhere(name))).collect();
        Self { names, ..Self::new(1) }
    }

    /// The members of an upstream whose source was asked; before its first answer those it had in the file.
    pub fn members_of(&self, upstream: &UpstreamName) -> Option<&[settings::Endpoint]> {
        let in_force = || self.groups.get(upstream).map(|group| group.settings.endpoints.as_slice());
        self.members.get(upstream).map(|members| &**members).or_else(in_force)
    }

    /// A state in which nothing is wanted yet.
    pub fn new(workers: usize) -> Self {
        Self {
            workers,
            generation: 0,
            serial: 0,
            last_uid: 0,
            groups: BTreeMap::new(),
            names: HashMap::new(),
            members: HashMap::new(),
            memberships: HashMap::new(),
            drain_timeout: Duration::ZERO,
            guard_config: false,
            removed: Vec::new(),
            counters: Counters::default(),
            locks: Arc::default(),
            own_name: format!("{}-{}", fleet::settings::host(), std::process::id()),
        }
    }
}
