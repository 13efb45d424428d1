//! `/metrics`: cells of all workers summed, family by family.
mod stores;

use super::ports::Process;
use crate::base::address::Location;
use crate::base::clock;
use crate::health::Availability;
use crate::ring::fingerprint;
use crate::route::Route;
use crate::snapshot::Snapshot;
use crate::snapshot::endpoint::Endpoint;
use crate::snapshot::upstream::Upstream;
use crate::telemetry::cells::HistogramSums;
use crate::telemetry::labels::CheckResult;
use crate::telemetry::labels::Coalesced;
use crate::telemetry::labels::ErrorReason;
use crate::telemetry::labels::FillResult;
use crate::telemetry::labels::HeldBack;
use crate::telemetry::labels::Position;
use crate::telemetry::labels::RefusedReason;
use crate::telemetry::labels::RetryReason;
use crate::telemetry::labels::StatusClass;
use crate::telemetry::metrics;
use crate::telemetry::metrics::Exposition;
use std::collections::BTreeMap;

/// What stands for a route or an upstream where none was found.
const NONE: &str = "none";

/// The text of a scrape.
pub fn render(snapshot: &Snapshot, process: &Process) -> Result<Vec<u8>, prometheus::Error> {
    let mut exposition = Exposition::default();
    requests(&mut exposition, snapshot);
    upstreams(&mut exposition, snapshot);
    endpoints(&mut exposition, snapshot);
    members(&mut exposition, snapshot);
    held(&mut exposition, snapshot);
    let fleet = process.fleet.as_deref();
    stores::stores(&mut exposition, snapshot, fleet);
    stores::fleet(&mut exposition, fleet);
    stores::locks(&mut exposition, snapshot);
    stores::elections(&mut exposition, snapshot);
    rings(&mut exposition, snapshot);
    listeners(&mut exposition, snapshot);
    self::process(&mut exposition, process);
    exposition.render()
}

fn route_name(snapshot: &Snapshot, index: usize) -> &str {
    snapshot.routes.routes().get(index).map_or(NONE, |route| route.name.as_str())
}

fn requests(exposition: &mut Exposition, snapshot: &Snapshot) {
    exposition.family(&metrics::REQUESTS, |series| {
        for listener in &snapshot.listeners {
            for (index, requests) in listener.requests.iter().enumerate() {
                let upstream = snapshot.targets.get(index).copied().flatten();
                let upstream = upstream.map_or(NONE, |index| snapshot.upstream(index).name.as_str());
                let mut codes: BTreeMap<u16, u64> = BTreeMap::new();
                requests.iter().for_each(|cell| cell.each(|code, count| *codes.entry(code).or_default() += count));
                for (code, count) in codes {
                    let code = if code == 0 { "other".to_string() } else { code.to_string() };
                    let labels = [listener.name.as_str(), route_name(snapshot, index), upstream, &code];
                    series.value(&labels, count as f64);
                }
            }
        }
    });
    exposition.family(&metrics::REQUEST_DURATION, |series| {
        for (index, route) in snapshot.route_stats.iter().enumerate() {
            let mut sums = HistogramSums::default();
            route.iter().for_each(|cell| cell.duration.add_to(&mut sums));
            series.histogram(&[route_name(snapshot, index)], &sums);
        }
    });
    exposition.family(&metrics::KEY_MISSING, |series| {
        for (index, route) in snapshot.route_stats.iter().enumerate().take(snapshot.routes.routes().len()) {
            series.value(&[route_name(snapshot, index)], route.sum(|cell| cell.key_missing.get()) as f64);
        }
    });
    exposition.family(&metrics::RATE_LIMITED, |series| {
        for (index, route) in
            snapshot.routes.routes().iter().enumerate().filter(|(_, route)| route.rate_limit.is_some())
        {
            let count = snapshot.route_stats[index].sum(|cell| cell.rate_limited.get());
            series.value(&[route.name.as_str()], count as f64);
        }
    });
    let coalescing = || {
        let coalesces = |route: &Route| route.action.forward().is_some_and(|forward| forward.coalesce.is_some());
        snapshot.routes.routes().iter().enumerate().filter(move |(_, route)| coalesces(route))
    };
    exposition.family(&metrics::COALESCE_WAITING, |series| {
        for (index, route) in coalescing() {
            let count = snapshot.route_stats[index].sum(|cell| cell.waiting.get());
            series.value(&[route.name.as_str()], count as f64);
        }
    });
    exposition.family(&metrics::COALESCED, |series| {
        for (index, route) in coalescing() {
            for role in Coalesced::ALL {
                let count = snapshot.route_stats[index].sum(|cell| cell.coalesced[*role as usize].get());
                series.value(&[route.name.as_str(), role.as_str()], count as f64);
            }
        }
    });
}

fn upstreams(exposition: &mut Exposition, snapshot: &Snapshot) {
    exposition.family(&metrics::UPSTREAM_DURATION, |series| {
        for upstream in &snapshot.upstreams {
            let mut sums = HistogramSums::default();
            upstream.stats.iter().for_each(|cell| cell.duration.add_to(&mut sums));
            series.histogram(&[upstream.name.as_str()], &sums);
        }
    });
    exposition.family(&metrics::POSITIONS, |series| {
        for (upstream, position) in each(snapshot, Position::ALL) {
            let count = upstream.stats.sum(|cell| cell.positions[*position as usize].get());
            series.value(&[upstream.name.as_str(), position.as_str()], count as f64);
        }
    });
    exposition.family(&metrics::HOT_KEYS, |series| {
        for upstream in &snapshot.upstreams {
            if let Some(heat) = &upstream.heat {
                series.value(&[upstream.name.as_str()], heat.len() as f64);
            }
        }
    });
    exposition.family(&metrics::FILLS, |series| {
        for (upstream, result) in each(snapshot, FillResult::ALL).filter(|(upstream, _)| upstream.past.is_some()) {
            let count = upstream.stats.sum(|cell| cell.fills[*result as usize].get());
            series.value(&[upstream.name.as_str(), result.as_str()], count as f64);
        }
    });
    exposition.family(&metrics::RETRIES, |series| {
        for (upstream, reason) in each(snapshot, RetryReason::ALL) {
            let count = upstream.stats.sum(|cell| cell.retries[*reason as usize].get());
            series.value(&[upstream.name.as_str(), reason.as_str()], count as f64);
        }
    });
    exposition.family(&metrics::BUDGET_EXHAUSTED, |series| {
        for upstream in &snapshot.upstreams {
            series.value(&[upstream.name.as_str()], upstream.stats.sum(|cell| cell.budget_exhausted.get()) as f64);
        }
    });
}

fn each<'a, T>(snapshot: &'a Snapshot, labels: &'a [T]) -> impl Iterator<Item = (&'a Upstream, &'a T)> {
    snapshot.upstreams.iter().flat_map(move |upstream| labels.iter().map(move |label| (&**upstream, label)))
}

fn endpoints(exposition: &mut Exposition, snapshot: &Snapshot) {
    let all = || {
        let endpoints = |upstream: &'_ std::sync::Arc<Upstream>| -> Vec<(String, usize, std::sync::Arc<Endpoint>)> {
            let name = upstream.name.to_string();
            upstream
                .endpoints
                .iter()
                .enumerate()
                .map(|(slot, endpoint)| (name.clone(), slot, endpoint.clone()))
                .collect()
        };
        snapshot.upstreams.iter().flat_map(move |upstream| {
            let upstream_ref = upstream.clone();
            endpoints(upstream)
                .into_iter()
                .map(move |(name, slot, endpoint)| (upstream_ref.clone(), name, slot, endpoint))
        })
    };
    exposition.family(&metrics::UPSTREAM_REQUESTS, |series| {
        for (_, name, _, endpoint) in all() {
            for class in StatusClass::ALL {
                let count = endpoint.stats.sum(|cell| cell.classes[*class as usize].get());
                series.value(&[&name, endpoint.id.as_str(), class.as_str()], count as f64);
            }
        }
    });
    exposition.family(&metrics::UPSTREAM_ERRORS, |series| {
        for (_, name, _, endpoint) in all() {
            for reason in ErrorReason::ALL {
                let count = endpoint.stats.sum(|cell| cell.errors[*reason as usize].get());
                series.value(&[&name, endpoint.id.as_str(), reason.as_str()], count as f64);
            }
        }
    });
    exposition.family(&metrics::ENDPOINT_UP, |series| {
        for (upstream, name, slot, endpoint) in all() {
            let is_up = upstream.mask.availability(crate::ring::Slot(slot as u32)) == Availability::Open;
            series.value(&[&name, endpoint.id.as_str()], f64::from(u8::from(is_up)));
        }
    });
    exposition.family(&metrics::ENDPOINT_IN_FLIGHT, |series| {
        for (_, name, _, endpoint) in all() {
            series.value(&[&name, endpoint.id.as_str()], endpoint.in_flight() as f64);
        }
    });
    exposition.family(&metrics::ENDPOINT_PENDING, |series| {
        for (_, name, _, endpoint) in all().filter(|(upstream, ..)| upstream.settings.has_limit()) {
            series.value(&[&name, endpoint.id.as_str()], endpoint.pending() as f64);
        }
    });
    exposition.family(&metrics::ENDPOINT_CONNECTIONS, |series| {
        for (_, name, _, endpoint) in all() {
            series.value(&[&name, endpoint.id.as_str()], endpoint.places.open() as f64);
        }
    });
    exposition.family(&metrics::ENDPOINT_KEY_SHARE, |series| {
        for (upstream, name, slot, endpoint) in all() {
            series.value(&[&name, endpoint.id.as_str()], upstream.change.shares.get(slot).copied().unwrap_or(0.0));
        }
    });
    let now = clock::now();
    exposition.family(&metrics::TRANSITION_PROGRESS, |series| {
        for (upstream, name, slot, endpoint) in all() {
            if let Some(share) = upstream.ramp(crate::ring::Slot(slot as u32), now) {
                series.value(&[&name, endpoint.id.as_str()], share);
            }
        }
    });
    exposition.family(&metrics::HEALTH_CHECKS, |series| {
        for (_, name, _, endpoint) in all().filter(|(upstream, ..)| upstream.settings.health_check.is_some()) {
            for result in CheckResult::ALL {
                let count = endpoint.verdicts.checks[*result as usize].get();
                series.value(&[&name, endpoint.id.as_str(), result.as_str()], count as f64);
            }
        }
    });
    exposition.family(&metrics::LOOK_UPS, |series| {
        for (_, name, _, endpoint) in all().filter(|(.., endpoint)| matches!(endpoint.address, Location::Named(_))) {
            for result in CheckResult::ALL {
                let count = endpoint.verdicts.look_ups[*result as usize].get();
                series.value(&[&name, endpoint.id.as_str(), result.as_str()], count as f64);
            }
        }
    });
    exposition.family(&metrics::EJECTIONS, |series| {
        for (_, name, _, endpoint) in all() {
            series.value(&[&name, endpoint.id.as_str()], endpoint.verdicts.ejections.get() as f64);
        }
    });
}

fn members(exposition: &mut Exposition, snapshot: &Snapshot) {
    exposition.family(&metrics::MEMBERS, |series| {
        for upstream in &snapshot.upstreams {
            series.value(&[upstream.name.as_str()], upstream.endpoints.len() as f64);
        }
    });
    let sources = || {
        let discovered =
            |upstream: &'_ std::sync::Arc<Upstream>| Some((upstream.clone(), upstream.membership.clone()?));
        snapshot.upstreams.iter().filter_map(discovered)
    };
    exposition.family(&metrics::MEMBERSHIP_AGE, |series| {
        for (upstream, membership) in sources() {
            if let Some(confirmed) = membership.seen().confirmed {
                series.value(&[upstream.name.as_str()], confirmed.elapsed().as_secs_f64());
            }
        }
    });
    exposition.family(&metrics::MEMBERSHIP_APPLY, |series| {
        for (upstream, membership) in sources() {
            let mut sums = HistogramSums::default();
            membership.apply.add_to(&mut sums);
            series.histogram(&[upstream.name.as_str()], &sums);
        }
    });
    exposition.family(&metrics::MEMBERSHIP_HELD_BACK, |series| {
        for (upstream, membership) in sources() {
            for reason in HeldBack::ALL {
                let count = membership.held_back[*reason as usize].get();
                series.value(&[upstream.name.as_str(), reason.as_str()], count as f64);
            }
        }
    });
}

fn held(exposition: &mut Exposition, snapshot: &Snapshot) {
    exposition.family(&metrics::MEMBERSHIP_HELD, |series| {
        for upstream in &snapshot.upstreams {
            if let Some(membership) = &upstream.membership {
                series.value(&[upstream.name.as_str()], f64::from(u8::from(membership.seen().held.is_some())));
            }
        }
    });
}

fn rings(exposition: &mut Exposition, snapshot: &Snapshot) {
    exposition.family(&metrics::RING_GENERATION, |series| series.value(&[], snapshot.generation as f64));
    exposition.family(&metrics::RING_POINTS, |series| {
        for upstream in &snapshot.upstreams {
            series.value(&[upstream.name.as_str()], upstream.ring.point_count() as f64);
        }
    });
    exposition.family(&metrics::RING_BUILD, |series| {
        for upstream in &snapshot.upstreams {
            series.value(&[upstream.name.as_str()], upstream.change.build.as_secs_f64());
        }
    });
    exposition.family(&metrics::RING_MOVED, |series| {
        for upstream in &snapshot.upstreams {
            series.value(&[upstream.name.as_str()], upstream.change.moved);
        }
    });
    exposition.family(&metrics::RING_FINGERPRINT, |series| {
        for upstream in &snapshot.upstreams {
            let fingerprint = fingerprint::of(upstream.ring.settings(), upstream.ring.members());
            series.value(&[upstream.name.as_str(), &fingerprint.to_string()], 1.0);
        }
    });
}

fn listeners(exposition: &mut Exposition, snapshot: &Snapshot) {
    exposition.family(&metrics::CONNECTIONS, |series| {
        for listener in &snapshot.listeners {
            series.value(&[listener.name.as_str()], listener.stats.sum(|cell| cell.connections.get()) as f64);
        }
    });
    exposition.family(&metrics::TUNNELS, |series| {
        for listener in &snapshot.listeners {
            series.value(&[listener.name.as_str()], listener.stats.sum(|cell| cell.tunnels.get()) as f64);
        }
    });
    exposition.family(&metrics::REFUSED, |series| {
        for listener in &snapshot.listeners {
            for reason in RefusedReason::ALL {
                let count = listener.stats.sum(|cell| cell.refused[*reason as usize].get());
                series.value(&[listener.name.as_str(), reason.as_str()], count as f64);
            }
        }
    });
}

fn process(exposition: &mut Exposition, process: &Process) {
    let reloads = &process.reloads;
    exposition.family(&metrics::CONFIG_RELOADS, |series| {
        series.value(&["success"], reloads.successes as f64);
        series.value(&["failure"], reloads.failures as f64);
        series.value(&["held"], reloads.held as f64);
    });
    exposition.family(&metrics::CONFIG_HELD, |series| {
        series.value(&[], f64::from(u8::from(process.held.is_some())));
    });
    exposition.family(&metrics::CONFIG_SUCCESSFUL, |series| {
        series.value(&[], f64::from(u8::from(reloads.last_succeeded)));
    });
    exposition.family(&metrics::CONFIG_TIMESTAMP, |series| series.value(&[], reloads.last_success.as_secs_f64()));
    exposition.family(&metrics::CERTIFICATE_NOT_AFTER, |series| {
        // Two certificates for one name (of two kinds of keys) are one series: the one that ends first.
        let mut ends: BTreeMap<(&str, &str), i64> = BTreeMap::new();
        for (listener, certificate) in &process.certificates {
            let end = ends.entry((listener.as_str(), &certificate.name)).or_insert(certificate.not_after);
            *end = certificate.not_after.min(*end);
        }
        ends.iter().for_each(|((listener, name), end)| series.value(&[listener, name], *end as f64));
    });
    exposition.family(&metrics::CERTIFICATE_RELOADS, |series| {
        series.value(&["success"], process.renewals.successes as f64);
        series.value(&["failure"], process.renewals.failures as f64);
    });
    exposition.family(&metrics::LOG_DROPPED, |series| {
        series.value(&[], process.access_log.as_ref().map_or(0, |log| log.dropped()) as f64);
    });
    exposition.family(&metrics::PANICS, |series| series.value(&[], process.panics as f64));
    exposition.family(&metrics::BUILD_INFO, |series| series.value(&[env!("CARGO_PKG_VERSION")], 1.0));
}
