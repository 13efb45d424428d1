//! What a replay came to.
use super::Group;
use super::Replay;
use crate::analysis::reckon::Lack;
use crate::hotkeys::Counted;
use crate::ring::Ring;
use serde::Serialize;

/// What a log comes to by one configuration. Shares and ratios are 0 to 1.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Requests that an endpoint owns.
    pub requests: u64,
    /// Requests that no endpoint is asked for.
    pub elsewhere: u64,
    /// Requests whose owner cannot be told from this log.
    pub unknown: u64,
    /// Why not.
    pub why: Vec<&'static str>,
    /// The upstreams, in the file's order.
    pub upstreams: Vec<UpstreamReport>,
}

/// What one upstream sees.
#[derive(Debug, Serialize)]
pub struct UpstreamReport {
    /// Its name.
    pub upstream: String,
    /// Requests that one of its endpoints serves.
    pub requests: u64,
    /// Requests without a key: the less busy of two at random.
    pub keyless: u64,
    /// The busiest endpoint over the mean, by weight and requests; absent without any.
    pub peak_to_mean: Option<f64>,
    /// That endpoint.
    pub busiest: Option<String>,
    /// Share of the requests a cache may answer that it would have; absent without caches.
    pub hit_ratio: Option<f64>,
    /// The same of bytes.
    pub byte_hit_ratio: Option<f64>,
    /// Requests that would go to the origin.
    pub origin_requests: Option<u64>,
    /// Share of requests of hot keys that another one of their replicas serves than the owner; absent where keys are not spread.
    pub hot_replica: Option<f64>,
    /// Share of requests that the load bound sends on; absent where it is off or the log has no durations.
    pub overflow: Option<f64>,
    /// The hottest keys, the hottest first.
    pub hot_keys: Vec<HotKey>,
    /// Its endpoints, by id.
    pub endpoints: Vec<EndpointReport>,
}

/// A key that many requests have.
#[derive(Debug, Serialize)]
pub struct HotKey {
    /// Its hash, 16 digits.
    pub hash: String,
    /// Its share of the upstream's requests, never less than it is.
    pub share: f64,
    /// The path of one of its requests.
    pub example: String,
    /// Who owns it.
    pub owner: String,
}

/// What one endpoint sees.
#[derive(Debug, Serialize)]
pub struct EndpointReport {
    /// Its id.
    pub id: String,
    /// Requests it serves.
    pub requests: u64,
    /// Its share of the upstream's requests.
    pub share: f64,
    /// That share over the one its weight would give it.
    pub over_fair: f64,
    /// Bytes of the answers' bodies.
    pub bytes: u64,
    /// Share of the requests its cache may answer that it would have.
    pub hit_ratio: Option<f64>,
}

impl Replay {
    /// What it came to.
    pub fn finish(self) -> Report {
        let upstreams: Vec<UpstreamReport> = self
            .reckoner
            .rings
            .iter()
            .zip(&self.upstreams)
            .map(|((name, ring), group)| upstream(name, ring, group, self.has_durations))
            .collect();
        Report {
            requests: upstreams.iter().map(|upstream| upstream.requests).sum(),
            elsewhere: self.elsewhere,
            unknown: self.unknown,
            why: self.lacks.into_iter().map(Lack::as_str).collect(),
            upstreams,
        }
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn upstream(name: &str, ring: &Ring, group: &Group, has_durations: bool) -> UpstreamReport {
    let sum = |of: fn(&super::Server) -> u64| group.endpoints.iter().map(of).sum::<u64>();
    let requests = sum(|server| server.requests);
    let has_cache = group.endpoints.iter().any(|server| server.cache.is_some());
    let (cacheable, hits) = (sum(|server| server.cacheable), sum(|server| server.hits));
    let endpoints: Vec<EndpointReport> = ring
        .members()
        .iter()
        .zip(&group.endpoints)
        .map(|(member, server)| EndpointReport {
            id: member.id.to_string(),
            requests: server.requests,
            share: share(server.requests, requests),
            over_fair: match server.weight {
                0.0 => 0.0,
                weight => share(server.requests, requests) * group.weight / weight,
            },
            bytes: server.bytes,
            hit_ratio: server.cache.as_ref().map(|_| share(server.hits, server.cacheable)),
        })
        .collect();
    let busiest = endpoints.iter().max_by(|a, b| a.over_fair.total_cmp(&b.over_fair)).filter(|_| requests > 0);
    UpstreamReport {
        upstream: name.to_string(),
        requests,
        keyless: group.keyless,
        peak_to_mean: busiest.map(|endpoint| endpoint.over_fair),
        busiest: busiest.map(|endpoint| endpoint.id.clone()),
        hit_ratio: has_cache.then(|| share(hits, cacheable)),
        byte_hit_ratio: has_cache.then(|| share(sum(|server| server.hit_bytes), sum(|server| server.cacheable_bytes))),
        origin_requests: has_cache.then(|| requests - hits),
        hot_replica: group.load.spreads().then(|| share(group.hot_replica, requests)),
        overflow: (group.load.is_bounded() && has_durations).then(|| share(group.overflow, requests)),
        hot_keys: hot_keys(ring, group),
        endpoints,
    }
}

fn hot_keys(ring: &Ring, group: &Group) -> Vec<HotKey> {
    let total = group.sketch.total();
    let hot = |(place, Counted { key, count, .. }): (usize, &Counted)| {
        let key_of = HotKey {
            hash: format!("{key:016x}"),
            share: share(u64::from(*count), total),
            example: group.examples.get(place).cloned().unwrap_or_default(),
            owner: ring.owner(*key).map_or_else(String::new, |slot| ring.id(slot).to_string()),
        };
        (std::cmp::Reverse(*count), key_of)
    };
    let mut keys: Vec<_> = group.sketch.places().iter().enumerate().map(hot).collect();
    keys.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.hash.cmp(&b.1.hash)));
    keys.into_iter().map(|(_, key)| key).collect()
}
