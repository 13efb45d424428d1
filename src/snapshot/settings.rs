//! What makes an upstream: its endpoints and its policies.
use crate::base::address::Location;
use crate::base::ids::{EndpointId, UpstreamName};
use crate::base::units::Ratio;
use crate::health::check::HealthCheck;
use crate::health::outlier;
use crate::hotkeys;
use crate::net::tls_client::TlsClient;
use crate::ring;
use std::sync::Arc;
use std::time::Duration;

/// A named group of endpoints and its policies, as written.
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    /// Its name.
    pub name: UpstreamName,
    /// Its endpoints, in the order written (which decides nothing).
    pub endpoints: Vec<Endpoint>,
    /// How keys are placed.
    pub ring: ring::settings::Settings,
    /// How many candidates after the first may serve; `None` means all.
    pub failover: Option<usize>,
    /// What secures connections to its endpoints; `None` is in clear.
    pub tls: Option<Arc<TlsClient>>,
    /// What is spoken with its endpoints (default [`Protocol::Auto`]).
    pub protocol: Protocol,
    /// How many requests in flight over the mean by weight, as a factor, make an endpoint be asked after others; `None` is off.
    pub load_bound: Option<Ratio>,
    /// When a key is hot, and how many endpoints share it then; `None` is off.
    pub hot_keys: Option<hotkeys::Settings>,
    /// How long keys take to go over to new owners (default 0 s: they go at once).
    pub ramp: Duration,
    /// What one change of its members may do before a person is asked.
    pub guard: Guard,
    /// How long after a key went over its previous owner is asked first for what the new one fetches through Ringway (default 60 s).
    pub fill_window: Duration,
    /// Longest time to connect, a TLS handshake included (default 1 s).
    pub connect_timeout: Duration,
    /// Longest time from a request sent to its response head, for each attempt; `None`: the route's timeout alone.
    pub response_timeout: Option<Duration>,
    /// Longest silence within a response's body (default 5 min).
    pub body_timeout: Duration,
    /// Age at which an idle connection is closed (default 60 s).
    pub idle_timeout: Duration,
    /// Idle connections kept for each endpoint and worker (default 64).
    pub max_idle: usize,
    /// Connections open to one endpoint, over all workers; `None` is no limit.
    pub max_connections: Option<u64>,
    /// Requests on their way at one endpoint, over all workers; `None` is no limit.
    pub max_requests: Option<u64>,
    /// Requests that may wait for a place or a connection at one endpoint, over all workers (default 0).
    pub max_pending: usize,
    /// When fewer than this share of endpoints is available, verdicts are ignored (default 20 %).
    pub panic_below: Ratio,
    /// How often the names of endpoints are looked up (default 10 s).
    pub resolve: Duration,
    /// Passive ejection.
    pub outlier: outlier::Settings,
    /// Active checks; `None`: there are none.
    pub health_check: Option<HealthCheck>,
}

/// What one change of members may do without a person's word.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guard {
    /// Largest share of the endpoints that own keys which may go (default 50 %).
    pub max_removed: Ratio,
    /// Largest share of the key space that may get a new owner; `None`: any (default).
    pub max_moved: Option<Ratio>,
}

impl Default for Guard {
    fn default() -> Self {
        Self { max_removed: Ratio(0.5), max_moved: None }
    }
}

/// What is spoken with endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// What is agreed on by ALPN on TLS, HTTP/1.1 in clear.
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: by ALPN on TLS, by prior knowledge in clear.
    H2,
}

/// One server of an upstream, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The stable text that is hashed.
    pub id: EndpointId,
    /// Where it listens.
    pub address: Location,
    /// 0 to 1000; 0 keeps it out of the ring.
    pub weight: u32,
}

impl Upstream {
    /// An upstream with every policy at its default.
    pub fn new(name: UpstreamName, endpoints: Vec<Endpoint>) -> Self {
        Self {
            name,
            endpoints,
            ring: ring::settings::Settings::default(),
            failover: None,
            tls: None,
            protocol: Protocol::Auto,
            load_bound: None,
            hot_keys: None,
            ramp: Duration::ZERO,
            guard: Guard::default(),
            fill_window: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(1),
            response_timeout: None,
            body_timeout: Duration::from_secs(300),
            idle_timeout: Duration::from_secs(60),
            max_idle: 64,
            max_connections: None,
            max_requests: None,
            max_pending: 0,
            panic_below: Ratio(0.2),
            resolve: Duration::from_secs(10),
            outlier: outlier::Settings::default(),
            health_check: None,
        }
    }

    /// Whether an endpoint may turn a request away because it has enough.
    pub fn has_limit(&self) -> bool {
        self.max_requests.is_some() || self.max_connections.is_some()
    }
}
