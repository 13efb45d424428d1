//! `/api/v1/upstreams/U/hotkeys`: the hot keys of an upstream, by their hashes. Keys may be secrets; whoever knows one finds its hash by
//! `explain`.
use crate::base::clock;
use crate::hotkeys::meter::Hot;
use crate::snapshot::heat::Heat;
use crate::snapshot::upstream::Upstream;
use serde::Deserialize;
use serde::Serialize;

/// The hot keys of an upstream.
#[derive(Debug, Serialize, Deserialize)]
pub struct HotKeys {
    /// The upstream's name.
    pub upstream: String,
    /// Whether they are looked for at all.
    pub on: bool,
    /// The share of the requests, 0 to 1, above which a key is hot.
    pub above: f64,
    /// Endpoints that share a hot key, at most.
    pub replicas: usize,
    /// Requests with a key, a second, lately.
    pub requests_per_second: f64,
    /// The hot keys, the hottest first.
    pub keys: Vec<HotKey>,
}

/// A hot key.
#[derive(Debug, Serialize, Deserialize)]
pub struct HotKey {
    /// Its hash, 16 digits, as in `explain` and the access log.
    pub hash: String,
    /// Requests a second, lately.
    pub requests_per_second: f64,
    /// Its share of the requests, 0 to 1.
    pub share: f64,
    /// Who owns it.
    pub owner: Option<String>,
    /// The endpoints that share it now, by id, in the order of candidates.
    pub replicas: Vec<String>,
}

/// One upstream's.
pub fn hotkeys(upstream: &Upstream) -> HotKeys {
    let name = upstream.name.to_string();
    let Some(heat) = &upstream.heat else {
        let (on, above, replicas, requests_per_second) = (false, 0.0, 0, 0.0);
        return HotKeys { upstream: name, on, above, replicas, requests_per_second, keys: Vec::new() };
    };
    let rates = heat.report.get();
    HotKeys {
        upstream: name,
        on: true,
        above: heat.settings.share.0 / upstream.ring.live_members().max(1) as f64,
        replicas: heat.settings.replicas,
        requests_per_second: tenths(rates.all),
        keys: rates.hot.iter().map(|hot| key(upstream, heat, hot, rates.all)).collect(),
    }
}

fn key(upstream: &Upstream, heat: &Heat, hot: &Hot, all: f64) -> HotKey {
    let now = clock::now();
    let id = |slot| upstream.endpoint(slot).id.to_string();
    let replicas = upstream.replicas(hot.key, now).take(heat.settings.replicas);
    HotKey {
        hash: format!("{:016x}", hot.key),
        requests_per_second: tenths(hot.rate),
        share: (hot.rate / all.max(1e-9)).min(1.0),
        owner: upstream.candidates(hot.key, now).next().map(id),
        replicas: replicas.map(|(_, slot)| id(slot)).collect(),
    }
}

fn tenths(rate: f64) -> f64 {
    (rate * 10.0).round() / 10.0
}
