//! A request to its route, its key, its candidates, and why each would be used or skipped.
use crate::base::clock;
use crate::base::ids::EndpointId;
use crate::base::ids::ListenerName;
use crate::base::ids::UpstreamName;
use crate::head::Client;
use crate::head::Head;
use crate::head::edits::Edits;
use crate::health::Availability;
use crate::http1::limits::Limits;
use crate::http1::parse;
use crate::key::HashKey;
use crate::ring::Ring;
use crate::ring::Slot;
use crate::ring::fingerprint;
use crate::route::Miss;
use crate::route::action::Action;
use crate::route::action::Forward;
use crate::route::coalesce::Coalesce;
use crate::route::template::Facts;
use crate::snapshot::Snapshot;
use crate::snapshot::upstream::Upstream;
use serde::Serialize;
use thiserror::Error;

/// Where a request goes, and why.
#[derive(Debug, Default, Serialize)]
pub struct Explanation {
    /// The route's name.
    pub route: String,
    /// What Ringway answers itself, with its status first; absent when an endpoint is asked.
    pub answer: Option<String>,
    /// The upstream's name, when one is asked.
    pub upstream: Option<String>,
    /// The target the endpoint is asked for, when it is another than the request's.
    pub target: Option<String>,
    /// The key's bytes, those that are not printable as `\x00`; absent without a key.
    pub key: Option<String>,
    /// Which alternative gave it, as written.
    pub source: Option<String>,
    /// Its hash, 16 digits.
    pub hash: Option<String>,
    /// Whether the key is hot now: then the first candidates share it.
    pub hot: bool,
    /// The cache that is asked first since it owned the key until lately, on a route that fills others; absent when there is none.
    pub fill_from: Option<String>,
    /// The first candidate; absent without a key.
    pub owner: Option<String>,
    /// Whether its answer may be that of others who ask for the same, or why not; absent where the route does not coalesce.
    pub coalesce: Option<String>,
    /// All candidates in order; without a key the order is that of the ring's endpoints.
    pub candidates: Vec<Candidate>,
    /// The moment it is about, RFC 3339 in UTC; absent: now. Then nothing is known of health and load, and the routes are those of
    /// now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Since when that ring was in force, and by what: `start`, `file`, `discovery` ...
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<(String, &'static str)>,
    /// The snapshot it was explained by.
    pub generation: u64,
    /// The ring's fingerprint, when there is one.
    pub fingerprint: Option<String>,
    /// The key's bytes.
    #[serde(skip)]
    pub key_bytes: Option<Vec<u8>>,
}

/// One candidate.
#[derive(Debug, Serialize)]
pub struct Candidate {
    /// The endpoint's id.
    pub id: String,
    /// Its address.
    pub address: String,
    /// Why it would be skipped now; absent when it would be used.
    pub skipped: Option<String>,
    /// What it is to the key beside its place; absent most of the time.
    pub role: Option<String>,
}

/// Why nothing can be explained.
#[derive(Debug, Error)]
pub enum ExplainError {
    /// The request cannot be made of what was given.
    #[error("{0}")]
    Request(String),
    /// No route takes it.
    #[error("no route matches this request")]
    NoRoute,
    /// A route would take it with another method.
    #[error("the route that matches does not take this method")]
    Method,
    /// The path means something else than it says.
    #[error("the path means another route than it says; Ringway answers 400")]
    Ambiguous,
    /// The request has no key and the route wants one.
    #[error("the request has no key, and the route rejects such requests")]
    KeyMissing,
}

/// A request made of a URL (`http://host/path`, or a path alone), a method and fields; and whether it is for TLS. It is read as
/// if it had come over HTTP/1.1: what Ringway refuses there is refused here.
///
/// # Errors
/// What is wrong with it.
pub fn request(url: &str, method: &str, fields: &[(String, String)]) -> Result<(Head, bool), ExplainError> {
    let wrong = |what: &str| ExplainError::Request(format!("{what}; write http://example.com/path"));
    // A fragment stays with the browser.
    let url = url.split('#').next().unwrap_or_default();
    let (secure, authority, target) = match url.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => {
            let at = rest.find(['/', '?']).unwrap_or(rest.len());
            (scheme == "https", Some(&rest[..at]), &rest[at..])
        }
        Some(_) => return Err(wrong("the URL's scheme is neither http nor https")),
        None => (false, None, url),
    };
    let target = match target.chars().next() {
        None => "/".to_string(),
        Some('?') => format!("/{target}"),
        Some('/') => target.to_string(),
        Some('*') if target == "*" => target.to_string(),
        Some(_) => return Err(wrong("the URL's path does not begin with a slash")),
    };
    let named = fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("host")).map(|(_, value)| value.as_str());
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", named.or(authority).unwrap_or("localhost"));
    for (name, value) in fields.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("host")) {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    let mut head = Head::default();
    match parse::request(text.as_bytes(), &Limits::default(), &mut head) {
        Ok(parse::Progress::Complete { consumed }) if consumed == text.len() => {}
        Ok(_) => return Err(wrong("a line ends within the request")),
        Err(refusal) => return Err(ExplainError::Request(format!("Ringway refuses this request: {refusal}"))),
    }
    Ok((head, secure))
}

/// Explains a request that came in by `listener` (any, if `None`).
///
/// # Errors
/// When no endpoint would be asked.
pub fn explain(
    snapshot: &Snapshot,
    listener: Option<&str>,
    head: &Head,
    client: &Client,
) -> Result<Explanation, ExplainError> {
    let first = snapshot.listeners.first().map(|listener| listener.name.clone());
    let listener = listener.map(ListenerName::new).or(first).unwrap_or_else(|| ListenerName::new(""));
    let index = snapshot.routes.find(&listener, head).map_err(|miss| match miss {
        Miss::NoRoute => ExplainError::NoRoute,
        Miss::MethodNotAllowed => ExplainError::Method,
        Miss::AmbiguousPath => ExplainError::Ambiguous,
    })?;
    let route = snapshot.routes.get(index);
    let own = |answer: String| Explanation {
        route: route.name.to_string(),
        answer: Some(answer),
        generation: snapshot.generation,
        ..Explanation::default()
    };
    if !route.access.permits(client.ip) {
        return Ok(own(format!("403 denied: {} may not use this route", client.ip)));
    }
    let forward = match &route.action {
        Action::Forward(forward) => forward,
        Action::Redirect(redirect) => {
            let location = redirect.location(Facts { head, client, id: b"(request id)" }).unwrap_or_default();
            return Ok(own(format!("{} to {}", redirect.status, String::from_utf8_lossy(&location))));
        }
        Action::Respond(_) => return Ok(own(route.action.to_string())),
    };
    let Some(upstream) = snapshot.upstream_of(index).map(|index| snapshot.upstream(index)) else {
        return Err(ExplainError::NoRoute);
    };
    let target = forward.path.target(head).map_err(|_| ExplainError::Ambiguous)?;
    let mut scratch = Vec::new();
    let extracted = forward.key.as_ref().and_then(|key| {
        key.extract(head, client, &mut scratch).or_else(|| match forward.on_missing_key {
            crate::route::action::OnMissingKey::ClientIp => Some(key.of_client(client, &mut scratch)),
            _ => None,
        })
    });
    if extracted.is_none()
        && forward.key.is_some()
        && forward.on_missing_key == crate::route::action::OnMissingKey::Reject
    {
        return Err(ExplainError::KeyMissing);
    }
    let source = extracted.and_then(|extracted| forward.key.as_ref().map(|key| key.source_text(extracted.source)));
    let mut explanation = of_key(snapshot, upstream, extracted.map(|extracted| extracted.key));
    explanation.route = route.name.to_string();
    explanation.fill_from = fill_from(snapshot, forward, head, client);
    explanation.target = target.map(|target| target.escape_ascii().to_string());
    explanation.key = extracted.map(|_| scratch.escape_ascii().to_string());
    explanation.key_bytes = extracted.map(|_| scratch);
    explanation.source = source.map(str::to_string);
    explanation.coalesce = forward.coalesce.as_ref().map(|coalesce| coalesced(coalesce, forward, head, client));
    Ok(explanation)
}

/// Whom the caches' routes ask before their origin.
fn fill_from(snapshot: &Snapshot, forward: &Forward, head: &Head, client: &Client) -> Option<String> {
    let fill = forward.fill.as_ref()?;
    let upstream = snapshot.upstream_named(&fill.upstream)?;
    let key = fill.key.as_ref()?.extract(head, client, &mut Vec::new())?;
    let previous = upstream.previous_owner(key.key.0, clock::now())?;
    Some(previous.id.to_string())
}

fn coalesced(coalesce: &Coalesce, forward: &Forward, head: &Head, client: &Client) -> String {
    let mut edits = Edits::default();
    forward.request_headers.apply(head, &mut edits, Facts { head, client, id: b"" });
    match coalesce.hindrance(head, &edits, false) {
        Some(why) => format!("asked for itself: {why}"),
        None => "one exchange for all who ask for the same at one time".into(),
    }
}

/// Explains a key given by its bytes, whatever route it would come by.
pub fn explain_key(snapshot: &Snapshot, name: &UpstreamName, key: &[u8]) -> Option<Explanation> {
    let upstream = snapshot.upstream_named(name)?;
    let hash = HashKey(upstream.settings.ring.hash.hash(key));
    let mut explanation = of_key(snapshot, upstream, Some(hash));
    explanation.key = Some(key.escape_ascii().to_string());
    explanation.key_bytes = Some(key.to_vec());
    Some(explanation)
}

impl Explanation {
    /// The same key in another ring of its upstream, of which nothing but the ring is known: neither health nor load.
    pub fn in_ring(mut self, upstream: &Upstream, ring: &Ring) -> Self {
        let address = |id: &EndpointId| {
            let slot = upstream.ring.slot(id).map(|slot| upstream.endpoint(slot).address.to_string());
            slot.unwrap_or_else(|| "(gone)".into())
        };
        let hash = self.key_bytes.as_deref().map(|key| ring.settings().hash.hash(key));
        let candidate = |slot: Slot| {
            let id = ring.id(slot);
            Candidate { id: id.to_string(), address: address(id), role: None, skipped: None }
        };
        self.candidates = ring.candidates(hash.unwrap_or_default()).map(candidate).collect();
        self.owner = hash.and_then(|hash| ring.owner(hash)).map(|slot| ring.id(slot).to_string());
        self.hash = hash.map(|hash| format!("{hash:016x}"));
        self.fingerprint = Some(fingerprint::of(ring.settings(), ring.members()).to_string());
        self
    }
}

fn of_key(snapshot: &Snapshot, upstream: &Upstream, key: Option<HashKey>) -> Explanation {
    let reach = upstream.settings.failover.map_or(usize::MAX, |further| further.saturating_add(1));
    let (hash, now) = (key.map_or(0, |key| key.0), clock::now());
    let slots: Vec<_> = upstream.candidates(hash, now).collect();
    let heat = key.and(upstream.heat.as_ref()).filter(|heat| heat.is_hot(hash));
    let most = heat.map_or(0, |heat| heat.settings.replicas.min(reach));
    let replicas: Vec<_> = upstream.replicas(hash, now).take(most).map(|(_, slot)| slot).collect();
    let mut candidates = Vec::new();
    for (rank, slot) in slots.iter().enumerate() {
        let endpoint = upstream.endpoint(*slot);
        let skipped = match upstream.mask.availability(*slot) {
            why if !upstream.mask.is_open(*slot) => Some(skipped_for(why).to_string()),
            _ if rank >= reach => Some(format!("beyond failover = {}", reach - 1)),
            _ if upstream.hides(hash, *slot, now) => Some(ramping(upstream.ramp(*slot, now))),
            _ if upstream.is_over(*slot, heat.is_some()) => {
                Some("asked after others: too many requests in flight".into())
            }
            _ => None,
        };
        let role =
            replicas.contains(slot).then(|| format!("hot replica: one of {} that share this key", replicas.len()));
        let address = endpoint.address.to_string();
        candidates.push(Candidate { id: endpoint.id.to_string(), address, skipped, role });
    }
    for (slot, member) in upstream.ring.members().iter().enumerate().filter(|(_, member)| member.weight == 0) {
        let address = upstream.endpoints[slot].address.to_string();
        let skipped = Some("weight 0".into());
        candidates.push(Candidate { id: member.id.to_string(), address, skipped, role: None });
    }
    let fingerprint = fingerprint::of(upstream.ring.settings(), upstream.ring.members());
    Explanation {
        upstream: Some(upstream.name.to_string()),
        hash: key.map(|key| format!("{:016x}", key.0)),
        hot: heat.is_some(),
        owner: key.and(slots.first()).map(|slot| upstream.endpoint(*slot).id.to_string()),
        candidates,
        generation: snapshot.generation,
        fingerprint: Some(fingerprint.to_string()),
        ..Explanation::default()
    }
}

/// Why an endpoint that comes or goes gradually is asked after all others.
fn ramping(share: Option<f64>) -> String {
    let percent = share.unwrap_or(0.0) * 100.0;
    format!("asked after others: it has {percent:.1}% of its keys in a gradual change, not this key yet or no more")
}

fn skipped_for(availability: Availability) -> &'static str {
    match availability {
        Availability::Open => "up",
        Availability::Ejected => "ejected: it failed in real traffic",
        Availability::Down => "down: its health checks fail",
        Availability::Unresolved => "down: its name was never resolved",
        Availability::Draining => "draining: an operator sent it away",
    }
}
