//! What a route does; doing it is `proxy`'s.
use super::coalesce::Coalesce;
use super::fields::FieldEdits;
use super::rewrite::PathEdit;
use super::serialize::Serialize;
use super::template::Facts;
use super::template::Template;
use crate::base::ids::UpstreamName;
use crate::key::KeySpec;
use crate::retry::policy;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// What happens to a request.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "most routes forward: a box would be one more step of each request")]
pub enum Action {
    /// It goes to an upstream.
    Forward(Forward),
    /// The client is sent elsewhere.
    Redirect(Redirect),
    /// The same answer for everybody.
    Respond(Respond),
}

/// Where a client is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// Where to: with a scheme, or beginning with a slash.
    pub to: Template,
}

/// An answer that no endpoint gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Respond {
    /// 200 to 599.
    pub status: u16,
    /// Its body; empty for 204 and 304.
    pub body: Bytes,
    /// Its fields, names and values checked.
    pub fields: Vec<(String, String)>,
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
    /// Whose caches fetch by it, if they do.
    pub fill: Option<Fill>,
    /// What is changed in the path before an endpoint is asked. The key is that of the path as it came.
    pub path: PathEdit,
    /// What is changed in a request's fields, after everything Ringway changes itself.
    pub request_headers: FieldEdits,
    /// Protocols a connection may be upgraded to, in lower case (default `websocket`).
    pub upgrade: Vec<Arc<str>>,
    /// Longest silence in both directions of an upgraded connection (default 1 h).
    pub tunnel_timeout: Duration,
    /// Which requests take turns, if any do.
    pub serialize: Option<Arc<Serialize>>,
    /// How requests that ask for the same are answered by one exchange, if they are. In a box: most routes have none.
    pub coalesce: Option<Box<Coalesce>>,
}

/// The caches that fetch by a route: one that has only just come to own a key gets it from whoever owned it before.
#[derive(Debug, Clone)]
pub struct Fill {
    /// The caches' upstream.
    pub upstream: UpstreamName,
    /// What their requests are keyed by there; `None` only while a configuration is read.
    pub key: Option<KeySpec>,
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
    /// How it goes to an upstream, if it does.
    pub fn forward(&self) -> Option<&Forward> {
        match self {
            Self::Forward(forward) => Some(forward),
            Self::Redirect(_) | Self::Respond(_) => None,
        }
    }
}

impl Action {
    /// The same, to be changed.
    pub fn forward_mut(&mut self) -> Option<&mut Forward> {
        match self {
            Self::Forward(forward) => Some(forward),
            Self::Redirect(_) | Self::Respond(_) => None,
        }
    }
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Forward(forward) => write!(f, "{}", forward.upstream),
            Self::Redirect(redirect) => write!(f, "{} to {}", redirect.status, redirect.to.text()),
            Self::Respond(respond) => write!(f, "{} with {} bytes", respond.status, respond.body.len()),
        }
    }
}

impl Redirect {
    /// The value of `Location`; `None` when the request names no host and one is needed.
    pub fn location(&self, facts: Facts<'_>) -> Option<Vec<u8>> {
        if self.to.names_host() && facts.head.authority().is_none_or(<[u8]>::is_empty) {
            return None;
        }
        let mut location = Vec::new();
        self.to.write_url(facts, &mut location);
        // Two slashes at the beginning would make a path that the client chose another host.
        let slashes = location.iter().take_while(|byte| **byte == b'/').count();
        location.drain(1.min(slashes)..slashes);
        Some(location)
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
            fill: None,
            path: PathEdit::default(),
            request_headers: FieldEdits::default(),
            upgrade: vec![Arc::from("websocket")],
            tunnel_timeout: Duration::from_secs(3600),
            serialize: None,
            coalesce: None,
        }
    }
}
