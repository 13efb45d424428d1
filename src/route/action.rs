//! What a route does; doing it is `proxy`'s.
use crate::base::ids::UpstreamName;
use crate::key::KeySpec;
use crate::retry::policy;
use std::sync::Arc;
use std::time::Duration;

/// What happens to a request.
#[derive(Debug, Clone)]
pub enum Action {
    /// It goes to an upstream.
    Forward(Forward),
}

/// How a request goes to an upstream.
#[derive(Debug, Clone)]
pub struct Forward {
    /// Where to.
    pub upstream: UpstreamName,
    /// What it is keyed by; `None` only when the upstream has one endpoint.
    pub key: Option<KeySpec>,
    /// What to do without a key.
    pub on_missing_key: OnMissingKey,
    /// Longest time to the response head, all attempts together; starts anew with each piece of a request's body.
    pub timeout: Duration,
    /// What is tried again.
    pub retry: policy::Settings,
    /// Whether `Via` is added.
    pub via: bool,
    /// Protocols a connection may be upgraded to, in lower case (default `websocket`).
    pub upgrade: Vec<Arc<str>>,
    /// Longest silence in both directions of an upgraded connection (default 1 h).
    pub tunnel_timeout: Duration,
}

/// What to do with a request that has no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMissingKey {
    /// Two endpoints at random, the one with fewer requests on their way.
    Random,
    /// 400.
    Reject,
    /// The client's address is the key.
    ClientIp,
}

impl Action {
    /// How it goes to an upstream.
    pub fn forward(&self) -> &Forward {
        match self {
            Self::Forward(forward) => forward,
        }
    }
}

impl Forward {
    /// To `upstream` by `key`, with every policy at its default.
    pub fn new(upstream: UpstreamName, key: Option<KeySpec>) -> Self {
        Self {
            upstream,
            key,
            on_missing_key: OnMissingKey::Random,
            timeout: Duration::from_secs(60),
            retry: policy::Settings::default(),
            via: true,
            upgrade: vec![Arc::from("websocket")],
            tunnel_timeout: Duration::from_secs(3600),
        }
    }
}
