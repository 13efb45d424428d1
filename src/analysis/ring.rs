//! What a ring amounts to: who owns how much, how evenly, at what cost. Pure; printing and drawing are not known here.
use crate::ring::Ring;
use crate::ring::fingerprint;
use crate::ring::movement;
use serde::Serialize;
use std::time::Duration;

/// One upstream's ring in numbers.
#[derive(Debug, Serialize)]
pub struct RingReport {
    /// The upstream's name.
    pub upstream: String,
    /// The placement: `ringway` or `ketama`.
    pub algorithm: &'static str,
    /// Points for each unit of weight.
    pub vnodes: u32,
    /// Places a key is looked up from.
    pub probes: u32,
    /// Equal on all proxies that agree on every key.
    pub fingerprint: String,
    /// Points on the ring.
    pub points: usize,
    /// Bytes of the points and their table.
    pub memory_bytes: usize,
    /// Time to build it just now.
    pub build_seconds: f64,
    /// The largest share by weight over the mean: 1 is even.
    pub peak_to_mean: f64,
    /// In the order of ids.
    pub endpoints: Vec<EndpointShare>,
}

/// What one endpoint owns.
#[derive(Debug, Serialize)]
pub struct EndpointShare {
    /// Its id.
    pub id: String,
    /// Its weight.
    pub weight: u32,
    /// Its share of the key space, 0 to 1.
    pub share: f64,
    /// That share over the one its weight would give it; 0 without a weight.
    pub over_fair: f64,
}

impl RingReport {
    /// The numbers of a ring that took so long to build.
    pub fn of(upstream: &str, ring: &Ring, build: Duration) -> Self {
        let (settings, members) = (ring.settings(), ring.members());
        let shares = movement::shares(ring);
        let total: f64 = members.iter().map(|member| f64::from(member.weight)).sum();
        let endpoints = members.iter().zip(&shares).map(|(member, share)| EndpointShare {
            id: member.id.to_string(),
            weight: member.weight,
            share: *share,
            over_fair: if member.weight == 0 { 0.0 } else { share * total / f64::from(member.weight) },
        });
        Self {
            upstream: upstream.to_string(),
            algorithm: settings.algorithm.as_str(),
            vnodes: settings.vnodes,
            probes: settings.probes,
            fingerprint: fingerprint::of(settings, members).to_string(),
            points: ring.point_count(),
            memory_bytes: ring.memory_bytes(),
            build_seconds: build.as_secs_f64(),
            peak_to_mean: movement::peak_to_mean(members, &shares),
            endpoints: endpoints.collect(),
        }
    }
}
