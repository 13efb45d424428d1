//! The immutable view of one moment: how it is made and how it is used is not known here.
pub mod diff;
pub mod endpoint;
pub mod gate;
pub mod handle;
pub mod heat;
pub mod membership;
pub mod past;
pub mod places;
pub mod sample;
pub mod settings;
pub mod stats;
pub mod transition;
pub mod upstream;

use crate::base::ids::ListenerName;
use crate::base::ids::UpstreamName;
use crate::base::token::Token;
use crate::limit::Limiter;
use crate::lock::service::Service;
use crate::route::RouteIndex;
use crate::route::RouteTable;
use std::sync::Arc;
use upstream::Upstream;

/// Everything a request needs to know, frozen. Parts that did not change are shared with the snapshot before.
#[derive(Debug)]
pub struct Snapshot {
    /// Rises by one when settings or membership are published.
    pub generation: u64,
    /// Rises by one at each publish, verdicts of health included.
    pub serial: u64,
    /// What is matched to what.
    pub routes: Arc<RouteTable>,
    /// For each route, in the table's order, its upstream's place in `upstreams`, if it has one.
    pub targets: Vec<Option<UpstreamIndex>>,
    /// All upstreams, by name.
    pub upstreams: Vec<Arc<Upstream>>,
    /// Counters of each listener and what it leads to.
    pub listeners: Vec<Listener>,
    /// For each route, in the table's order, its own counters; the last one is for requests that found no route.
    pub route_stats: Vec<Arc<stats::Route>>,
    /// For each route, in the table's order, what counts its requests when it has a limit.
    pub limiters: Vec<Option<Arc<Limiter>>>,
    /// What a client shows with a request to be told about it; `None`: nobody is told.
    pub debug_token: Option<Token>,
    /// For each route, in the table's order, what makes its requests take turns if they do.
    pub serials: Vec<Option<Serial>>,
    /// For each route, in the table's order, what has the exchanges that its requests share made by one proxy at a time, if a
    /// store does.
    pub shared: Vec<Option<Serial>>,
}

/// What makes the requests of a route take turns, or the proxies of a fleet that ask for the same.
#[derive(Debug, Clone)]
pub struct Serial {
    /// Whose locks.
    pub service: Arc<Service>,
    /// What happens.
    pub stats: Arc<stats::Serial>,
}

/// A place in [`Snapshot::upstreams`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamIndex(pub u32);

/// A listener as counted: its connections, and its requests by route.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Its name.
    pub name: ListenerName,
    /// What happens at its door.
    pub stats: Arc<stats::Listener>,
    /// Requests by route, in the table's order; the last one is for requests that found no route.
    pub requests: Vec<Arc<stats::Requests>>,
}

impl Snapshot {
    /// The upstream of a route, if it has one.
    #[inline]
    pub fn upstream_of(&self, route: RouteIndex) -> Option<UpstreamIndex> {
        self.targets[route.0 as usize]
    }

    /// An upstream by its place.
    #[inline]
    pub fn upstream(&self, index: UpstreamIndex) -> &Arc<Upstream> {
        &self.upstreams[index.0 as usize]
    }

    /// An upstream by its name.
    pub fn upstream_named(&self, name: &UpstreamName) -> Option<&Arc<Upstream>> {
        self.upstreams.iter().find(|upstream| upstream.name == *name)
    }

    /// Where requests of `listener` for `route` are counted; `None` when the listener is no longer in the settings.
    pub fn requests_of(&self, listener: &ListenerName, route: Option<RouteIndex>) -> Option<&stats::Requests> {
        let listener = self.listeners.iter().find(|candidate| candidate.name == *listener)?;
        let index = route.map_or(listener.requests.len() - 1, |route| route.0 as usize);
        Some(&listener.requests[index])
    }

    /// What counts the requests of a route, when it has a limit.
    #[inline]
    pub fn limiter_of(&self, route: RouteIndex) -> Option<&Limiter> {
        self.limiters[route.0 as usize].as_deref()
    }

    /// What makes the requests of a route take turns, if they do.
    #[inline]
    pub fn serial_of(&self, route: RouteIndex) -> Option<&Serial> {
        self.serials[route.0 as usize].as_ref()
    }

    /// What has one proxy of a fleet ask for what the requests of a route share, if a store does.
    pub fn shared_of(&self, route: RouteIndex) -> Option<&Serial> {
        self.shared[route.0 as usize].as_ref()
    }

    /// The counters of a route, or those for requests that found none.
    pub fn route_stats_of(&self, route: Option<RouteIndex>) -> &stats::Route {
        &self.route_stats[route.map_or(self.route_stats.len() - 1, |route| route.0 as usize)]
    }
}
