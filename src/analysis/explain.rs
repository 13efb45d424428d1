//! A request to its route, its key, its candidates, and why each would be used or skipped.
use crate::base::clock;
use crate::base::ids::ListenerName;
use crate::base::ids::UpstreamName;
use crate::head::Client;
use crate::head::Head;
use crate::head::edits::Edits;
use crate::health::Availability;
use crate::http1::limits::Limits;
use crate::http1::parse;
use crate::key::HashKey;
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
    /// The first candidate; absent without a key.
    pub owner: Option<String>,
    /// Whether its answer may be that of others who ask for the same, or why not; absent where the route does not coalesce.
    pub coalesce: Option<String>,
    /// All candidates in order; without a key the order is that of the ring's endpoints.
    pub candidates: Vec<Candidate>,
    /// The snapshot it was explained by.
    pub generation: u64,
    /// The ring's fingerprint, when there is one.
    pub fingerprint: Option<String>,
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
    explanation.target = target.map(|target| target.escape_ascii().to_string());
    explanation.key = extracted.map(|_| scratch.escape_ascii().to_string());
    explanation.source = source.map(str::to_string);
    explanation.coalesce = forward.coalesce.as_ref().map(|coalesce| coalesced(coalesce, forward, head, client));
    Ok(explanation)
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
    Some(explanation)
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
    let fingerprint = crate::ring::fingerprint::of(upstream.ring.settings(), upstream.ring.members());
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
