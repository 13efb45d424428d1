//! A line of a log to its owner by one configuration: which route takes it, what its key is, whose it is. Where the log does not
//! have what the key is made of, that is said.
use crate::base::ids::ListenerName;
use crate::head::Client;
use crate::head::Head;
use crate::head::Method;
use crate::key::Extracted;
use crate::key::HashKey;
use crate::ring::Member;
use crate::ring::Ring;
use crate::ring::build::BuildError;
use crate::route::EqualRoutes;
use crate::route::Route;
use crate::route::RouteTable;
use crate::route::action::Forward;
use crate::route::action::OnMissingKey;
use crate::snapshot::settings::Endpoint;
use crate::snapshot::settings::Upstream;
use crate::telemetry::access_log;
use crate::telemetry::log_line::LogLine;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use thiserror::Error;

/// Bytes that stand for what was no UTF-8 when the line was written: the path is not what was asked for.
const REPLACED: &[u8] = "\u{fffd}".as_bytes();

/// What a request is by one configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reckoned {
    /// It belongs to whom the key's hash falls to on the ring of this upstream, by its place.
    Keyed(usize, u64),
    /// It has no key: two endpoints of this upstream at random, the less busy one.
    Keyless(usize),
    /// No endpoint is asked.
    Elsewhere,
    /// The log does not say enough.
    Unknown(Lack),
}

/// What a log lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lack {
    /// Fields of the request that the key is made of.
    Fields,
    /// The host that the key is made of.
    Host,
    /// An address of the client that the key is made of.
    Client,
    /// Fields that a route matches by.
    Route,
}

impl Lack {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fields => {
                "the key is made of fields that this log does not have; Ringway's own JSON log has the key's hash"
            }
            Self::Host => "the key is made of the host, which this log does not have",
            Self::Client => "the key is made of the client's address, which this log does not have",
            Self::Route => "routes match by fields that this log does not have",
        }
    }
}

/// Why a configuration cannot be reckoned with.
#[derive(Debug, Error)]
pub enum ReckonError {
    /// A ring cannot be built.
    #[error("build the ring of upstream {0}: {1}")]
    Ring(String, #[source] BuildError),
    /// Two routes are equal.
    #[error(transparent)]
    Routes(#[from] EqualRoutes),
}

/// Reckons by one configuration.
#[derive(Debug)]
pub struct Reckoner {
    routes: RouteTable,
    /// By route, in the table's order.
    keys: Vec<Keys>,
    /// Routes by their names as the log has them, where some match by fields.
    by_name: BTreeMap<Vec<u8>, usize>,
    has_fields: bool,
    takes_all: bool,
    /// The upstreams' names and rings, in the order given.
    pub rings: Vec<(String, Ring)>,
    /// The listener of lines that do not tell theirs: the first that a route names.
    first_listener: Vec<u8>,
    listener: ListenerName,
    head: Head,
    scratch: Vec<u8>,
}

/// Where the key of one route's requests can be had from.
#[derive(Debug)]
struct Keys {
    upstream: Option<usize>,
    /// The alternatives, as the log has them.
    texts: Vec<Vec<u8>>,
}

impl Reckoner {
    /// One for a configuration's routes and upstreams.
    ///
    /// # Errors
    /// When a ring cannot be built.
    pub fn new(routes: &[Route], upstreams: &[Upstream]) -> Result<Self, ReckonError> {
        let member = |endpoint: &Endpoint| Member { id: endpoint.id.clone(), weight: endpoint.weight };
        let ring = |upstream: &Upstream| {
            let members: Vec<Member> = upstream.endpoints.iter().map(member).collect();
            let ring = Ring::build(&upstream.ring, &members);
            let ring = ring.map_err(|error| ReckonError::Ring(upstream.name.to_string(), error))?;
            Ok((upstream.name.to_string(), ring))
        };
        let rings = upstreams.iter().map(ring).collect::<Result<Vec<_>, ReckonError>>()?;
        let keys = routes.iter().map(|route| keys(route, upstreams)).collect();
        let name = |(index, route): (usize, &Route)| (escaped(route.name.as_str()), index);
        Ok(Self {
            by_name: routes.iter().enumerate().map(name).collect(),
            has_fields: routes.iter().any(|route| !route.matcher.headers.is_empty()),
            takes_all: matches!(routes, [route] if route.matcher == crate::route::Matcher::any()),
            routes: RouteTable::new(routes.to_vec())?,
            keys,
            rings,
            first_listener: routes
                .iter()
                .find_map(|route| route.matcher.listeners.first())
                .map_or_else(Vec::new, |listener| listener.as_str().into()),
            listener: ListenerName::new(""),
            head: Head::default(),
            scratch: Vec::new(),
        })
    }

    /// What a request is.
    pub fn reckon(&mut self, line: &LogLine<'_>) -> Reckoned {
        // Answers of Ringway's own, to what no endpoint was asked for: refused by the same rules again.
        let is_refused = line.is_own && line.upstream.is_none() && line.status >= 400;
        if is_refused || !matches!(line.target.first(), Some(b'/' | b'*')) {
            return Reckoned::Elsewhere;
        }
        self.head.clear();
        self.head.set_request(Method::of(line.method), line.method, line.target);
        if let Some(host) = line.host {
            let authority = self.head.append(host);
            self.head.set_authority(authority);
        }
        let route = match self.route(line) {
            Ok(Some(route)) => route,
            Ok(None) => return Reckoned::Elsewhere,
            Err(lack) => return Reckoned::Unknown(lack),
        };
        let (Some(forward), Some(upstream)) = (self.routes.routes()[route].action.forward(), self.keys[route].upstream)
        else {
            return Reckoned::Elsewhere;
        };
        match key(forward, &self.keys[route], line, &self.head, &mut self.scratch) {
            Err(lack) => Reckoned::Unknown(lack),
            Ok(Some(HashKey(hash))) => Reckoned::Keyed(upstream, hash),
            // The only endpoint there is.
            Ok(None) if forward.key.is_none() => Reckoned::Keyed(upstream, 0),
            Ok(None) if forward.on_missing_key == OnMissingKey::Reject => Reckoned::Elsewhere,
            Ok(None) => Reckoned::Keyless(upstream),
        }
    }

    fn route(&mut self, line: &LogLine<'_>) -> Result<Option<usize>, Lack> {
        if self.takes_all {
            return Ok(Some(0));
        }
        if self.has_fields {
            let named = line.route.and_then(|name| self.by_name.get(name));
            return named.map(|index| Some(*index)).ok_or(Lack::Route);
        }
        let listener = line.listener.unwrap_or(&self.first_listener);
        if listener != self.listener.as_str().as_bytes() {
            self.listener = ListenerName::new(&String::from_utf8_lossy(listener));
        }
        Ok(self.routes.find(&self.listener, &self.head).ok().map(|index| index.0 as usize))
    }
}

fn keys(route: &Route, upstreams: &[Upstream]) -> Keys {
    let forward = route.action.forward();
    let upstream = forward.and_then(|forward| upstreams.iter().position(|it| it.name == forward.upstream));
    let texts = forward.and_then(|forward| forward.key.as_ref()).map(|key| key.texts().map(escaped).collect());
    Keys { upstream, texts: texts.unwrap_or_default() }
}

fn escaped(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    access_log::escape(text.as_bytes(), &mut out);
    out
}

/// The key of a request; `None` when it has none.
fn key(
    forward: &Forward,
    keys: &Keys,
    line: &LogLine<'_>,
    head: &Head,
    scratch: &mut Vec<u8>,
) -> Result<Option<HashKey>, Lack> {
    let Some(spec) = &forward.key else { return Ok(None) };
    let ip = std::str::from_utf8(line.client_ip).ok().and_then(|text| text.parse::<IpAddr>().ok());
    let client = Client { ip: ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), secure: false };
    let lack = |source: usize| match spec.needs(source) {
        needs if needs.fields => Some(Lack::Fields),
        needs if needs.host && line.host.is_none() => Some(Lack::Host),
        needs if needs.client && ip.is_none() => Some(Lack::Client),
        _ => None,
    };
    let hash = |extracted: Extracted| extracted.key;
    if let (Some(source), Some(logged)) = (line.key_source, line.key_hash) {
        if let Some(known) = keys.texts.iter().position(|text| text == source) {
            // By the key itself, so that another seed gives another hash; by the one it had, where the log has no more.
            let is_exact = lack(known).is_none() && memchr::memmem::find(line.target, REPLACED).is_none();
            let again = is_exact.then(|| spec.extract_by(known, head, &client, scratch)).flatten();
            return Ok(Some(again.map_or(HashKey(logged), hash)));
        }
        if source == b"client_ip" && forward.on_missing_key == OnMissingKey::ClientIp {
            return Ok(Some(HashKey(logged)));
        }
    }
    let had_none = line.is_own && line.upstream.is_some() && line.key_source.is_none();
    for source in 0..keys.texts.len() {
        match lack(source) {
            // Where no key was found, none of its fields was there.
            Some(Lack::Fields) if had_none => continue,
            Some(lack) => return Err(lack),
            None => {}
        }
        if let Some(extracted) = spec.extract_by(source, head, &client, scratch) {
            return Ok(Some(extracted.key));
        }
    }
    match forward.on_missing_key {
        OnMissingKey::ClientIp if ip.is_none() => Err(Lack::Client),
        OnMissingKey::ClientIp => Ok(Some(spec.of_client(&client, scratch).key)),
        OnMissingKey::Random | OnMissingKey::Reject => Ok(None),
    }
}
