//! Every metric, declared once: name, kind, labels, help. When they are bumped is not known here.
use crate::telemetry::cells::HistogramSums;
use prometheus::Encoder;
use prometheus::TextEncoder;
use prometheus::proto;

/// Bounds of all durations in seconds: from half a millisecond, below which a proxied request on a local network rarely
/// is, to ten seconds, above which everybody has given up. Powers of two and a bit, so that any quantile is within 2.5 times.
pub const DURATION_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only rises.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Durations by bucket.
    Histogram,
}

/// One metric with all its series.
#[derive(Debug)]
pub struct Family {
    /// Its name, prefix included.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its labels, in order.
    pub labels: &'static [&'static str],
    /// What it tells, in a sentence.
    pub help: &'static str,
}

macro_rules! families {
    ($($(#[$doc:meta])* $constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $constant: Family =
                Family { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };
        )+

        /// All metrics, in the order they are shown.
        pub const ALL: &[&Family] = &[$(&$constant),+];
    };
}

families! {
    REQUESTS = Counter "ringway_requests_total" ["listener", "route", "upstream", "code"] "Requests that ended, by the status told to the client.";
    REQUEST_DURATION = Histogram "ringway_request_duration_seconds" ["route"] "Time from a request's head to the end of its response; of an upgraded connection to its 101.";
    UPSTREAM_REQUESTS = Counter "ringway_upstream_requests_total" ["upstream", "endpoint", "class"] "Responses of an endpoint, by the first digit of their status.";
    UPSTREAM_DURATION = Histogram "ringway_upstream_duration_seconds" ["upstream"] "Time from a request sent to its response head.";
    UPSTREAM_ERRORS = Counter "ringway_upstream_errors_total" ["upstream", "endpoint", "reason"] "Exchanges with an endpoint that failed.";
    POSITIONS = Counter "ringway_requests_by_position_total" ["upstream", "position"] "Attempts by what the endpoint is to the key; the share of owner is the affinity ratio.";
    HOT_KEYS = Gauge "ringway_hot_keys" ["upstream"] "Keys that are shared by several endpoints now, because each has too large a part of the requests; no series where hot_keys is off.";
    FILLS = Counter "ringway_fills_total" ["upstream", "result"] "What previous owners of keys were asked for the caches that own them now: hit, miss, failed (not reached, or no answer in time); returned: requests that a cache passed on although they were such questions, which went to the origin. No series unless a route fills the upstream.";
    RETRIES = Counter "ringway_retries_total" ["upstream", "reason"] "Further attempts, by why the one before failed.";
    BUDGET_EXHAUSTED = Counter "ringway_retry_budget_exhausted_total" ["upstream"] "Retries that the budget did not allow.";
    ENDPOINT_UP = Gauge "ringway_endpoint_up" ["upstream", "endpoint"] "1 when the endpoint may get requests, 0 when it is down, ejected or draining (a panic does not raise it).";
    ENDPOINT_IN_FLIGHT = Gauge "ringway_endpoint_in_flight" ["upstream", "endpoint"] "Requests on their way at an endpoint.";
    ENDPOINT_PENDING = Gauge "ringway_endpoint_pending" ["upstream", "endpoint"] "Requests that wait for a place at an endpoint of max_requests or max_connections.";
    ENDPOINT_CONNECTIONS = Gauge "ringway_endpoint_connections" ["upstream", "endpoint"] "Connections open to an endpoint, idle ones and tunnels included; not those of health checks.";
    ENDPOINT_KEY_SHARE = Gauge "ringway_endpoint_key_share" ["upstream", "endpoint"] "Share of the key space that an endpoint owns, 0 to 1.";
    TRANSITION_PROGRESS = Gauge "ringway_transition_progress" ["upstream", "endpoint"] "Share of its keys that an endpoint has by now, 0 to 1, while it comes or goes gradually or its weight changes; no series otherwise.";
    HEALTH_CHECKS = Counter "ringway_health_checks_total" ["upstream", "endpoint", "result"] "Active health checks by result: success, failure.";
    LOOK_UPS = Counter "ringway_look_ups_total" ["upstream", "endpoint", "result"] "Look-ups of an endpoint's host name; none for addresses of numbers.";
    MEMBERS = Gauge "ringway_members" ["upstream"] "Endpoints of an upstream now, whatever their health.";
    MEMBERSHIP_AGE = Gauge "ringway_membership_age_seconds" ["upstream"] "Time since the source of an upstream's members last gave a list that may be used; no series before the first.";
    MEMBERSHIP_APPLY = Histogram "ringway_membership_apply_seconds" ["upstream"] "Time from another list of members to its ring in force.";
    MEMBERSHIP_HELD_BACK = Counter "ringway_membership_held_back_total" ["upstream", "reason"] "Lists of members, or parts of them, that were not taken up as they came: unreadable, member (left out), unusable, min_members, max_members, max_drop (stay for settle), max_removed and max_moved (held by the guard).";
    MEMBERSHIP_HELD = Gauge "ringway_membership_held" ["upstream"] "1 while members of an upstream are held by its guard until a person approves them, else 0.";
    STORE_UP = Gauge "ringway_store_up" ["store"] "1 while a store answers all who ask it for members, else 0.";
    STORE_LAST_OK = Gauge "ringway_store_last_ok_seconds" ["store"] "Time since a store's last answer, the oldest of all who ask it; no series before the first.";
    STORE_RECONNECTS = Counter "ringway_store_reconnects_total" ["store"] "Times a store that had answered was lost.";
    STORE_STATE = Gauge "ringway_store_state" ["store", "state"] "1 for how it stands with a store by the worst of all who ask it, 0 for the rest: up; settling (it may have forgotten something: missing members are kept for settle, no locks are given); suspect (no answer the last time, nothing is given up yet); lost (what needs it goes on without, as on_store_loss says).";
    STORE_INCARNATIONS = Counter "ringway_store_incarnations_total" ["store"] "Times a store turned out to have lost its data, or to be an older copy or another store, since this proxy knew it: by what locks find there, and by the revision of members in etcd.";
    STORE_RTT = Histogram "ringway_store_rtt_seconds" ["store", "op"] "Time to a store's answers, by what it was asked for: list (members, notices of a fleet), ping (a sign of life, its own or a session's), acquire, renew and release (locks), publish and read (what an elected proxy tells; notices).";
    CAP_DEGRADED = Gauge "ringway_cap_degraded" ["use", "mode"] "What goes on without its store, by what it does meanwhile: upstreams whose last members serve (discovery, serve-last) or whose requests are refused (discovery, refuse); routes whose requests are refused, take turns within this proxy, or pass (serialize, refuse, local, bypass).";
    FLEET_PEERS = Gauge "ringway_fleet_peers" [] "Other proxies of the fleet that gave a sign of life within peers_ttl; 0 while the store is lost for longer. No series without a fleet table.";
    FLEET_AGREEING = Gauge "ringway_fleet_peers_agreeing" [] "Peers that give every key of the upstreams they share with this proxy to the same endpoints.";
    FLEET_DISAGREEMENT = Gauge "ringway_fleet_disagreement_seconds" [] "How long some peer has disagreed; 0 when all agree.";
    FLEET_SKEW = Gauge "ringway_fleet_clock_skew_seconds" [] "How far the clock of a peer that is farthest off is ahead of ours, below 0 behind; no series before it is known.";
    EJECTIONS = Counter "ringway_ejections_total" ["upstream", "endpoint"] "Times an endpoint was taken out for failing in real traffic.";
    KEY_MISSING = Counter "ringway_key_missing_total" ["route"] "Requests that had no key.";
    RATE_LIMITED = Counter "ringway_rate_limited_total" ["route"] "Requests that came too soon for the route's rate_limit and got 429.";
    SERIALIZE_QUEUE = Gauge "ringway_serialize_queue_depth" ["route"] "Requests that wait for their turn (route.serialize).";
    LOCK_ACQUIRE = Histogram "ringway_lock_acquire_seconds" ["use", "result"] "Time from asking for a lock to what came of it: granted, queue_full, timeout, store_lost, and without the store local or bypass.";
    LOCK_HELD = Histogram "ringway_lock_held_seconds" ["use"] "Time from a lock to its release.";
    LOCK_LOST = Counter "ringway_lock_lost_total" ["use", "reason"] "Locks lost while they were held: not renewed in time (deadline), with the store lost (store), or gone by the store's word (session).";
    LOCK_GHOSTS = Counter "ringway_lock_ghosts_reconciled_total" ["store"] "Locks of asks whose outcome was not known, that were taken back in the store.";
    FENCE_REJECTED = Counter "ringway_fence_rejected_total" ["route"] "Answers 409 or 412 to requests with a fencing token: the upstream has seen a higher one.";
    LOCK_QUARANTINE = Gauge "ringway_lock_quarantine_seconds" ["store"] "How long a store gives no locks because it may have forgotten some: it was started anew, or another server took over.";
    LOCK_WAITERS = Gauge "ringway_lock_waiters" ["use"] "Who waits for a lock now.";
    LEADER = Gauge "ringway_leader" ["job"] "1 when this proxy is elected to do a job for its fleet (health_check/UPSTREAM), else 0.";
    LEADER_TERMS = Counter "ringway_leader_terms_total" ["job"] "Times this proxy was elected.";
    LEADER_SILENCE = Gauge "ringway_leader_silence_seconds" ["job"] "Time since the elected proxy was last heard; 0 for itself.";
    COALESCED = Counter "ringway_coalesced_total" ["route", "role"] "Requests of a route with coalesce, by how they got their answer: filler (an endpoint was asked, for others too), peer (the same, once another proxy of the fleet had ended), local (by another's exchange), for themselves by timeout, hit_for_miss, unshared, failed, bypass, full, and refused as the store is lost.";
    COALESCE_WAITING = Gauge "ringway_coalesce_waiting" ["route"] "Requests that wait for another's answer to begin.";
    RING_GENERATION = Gauge "ringway_ring_generation" [] "The published snapshot; rises with each change of settings or membership.";
    RING_POINTS = Gauge "ringway_ring_points" ["upstream"] "Points on the ring.";
    RING_BUILD = Gauge "ringway_ring_build_seconds" ["upstream"] "Time the ring took to build and verify.";
    RING_MOVED = Gauge "ringway_ring_moved_share" ["upstream"] "Share of the key space that got a new owner by the last change, 0 to 1.";
    RING_FINGERPRINT = Gauge "ringway_ring_fingerprint_info" ["upstream", "fingerprint"] "Always 1; the label is a hash of everything that decides ownership.";
    CONFIG_RELOADS = Counter "ringway_config_reloads_total" ["result"] "Attempts to take up a configuration, by result: success, failure, held (by guards).";
    CONFIG_SUCCESSFUL = Gauge "ringway_config_last_reload_successful" [] "1 when the last attempt to take up a configuration succeeded.";
    CONFIG_TIMESTAMP = Gauge "ringway_config_last_reload_timestamp_seconds" [] "When a configuration was last taken up, in seconds since the epoch.";
    CONFIG_HELD = Gauge "ringway_config_held" [] "1 while a configuration is held by guards (guard_config) until a person approves it, else 0.";
    CONNECTIONS = Gauge "ringway_connections" ["listener"] "Connections of clients open now.";
    TUNNELS = Gauge "ringway_tunnels" ["listener"] "Upgraded connections (WebSocket) open now; each is a request that ends with it.";
    REFUSED = Counter "ringway_connections_refused_total" ["listener", "reason"] "Connections and requests turned away before a route was sought.";
    CERTIFICATE_NOT_AFTER = Gauge "ringway_tls_certificate_not_after_seconds" ["listener", "name"] "When a certificate that clients are shown ends, in seconds since the epoch; its name is the first it is for.";
    CERTIFICATE_RELOADS = Counter "ringway_tls_certificate_reloads_total" ["result"] "Changes of the files that TLS is made of, by whether they were taken up; after a failure the old ones stay.";
    LOG_DROPPED = Counter "ringway_access_log_dropped_total" [] "Lines of the access log that could not be written.";
    PANICS = Counter "ringway_panics_total" [] "Panics; each ended one connection.";
    BUILD_INFO = Gauge "ringway_build_info" ["version"] "Always 1; the label is this program's version.";
}

/// `docs/METRICS.md`: every metric with its labels and what it tells.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Metrics\n\nAll at `/metrics` of the admin address. Label values come from the configuration and from closed lists, never from\n\
         clients; series of removed endpoints go. Histograms go from 0.5 ms to 10 s.\n\n| metric | kind | labels | what it tells |\n|---|---|---|---|\n",
    );
    for family in ALL {
        let kind = format!("{:?}", family.kind).to_lowercase();
        text.push_str(&format!("| `{}` | {kind} | {} | {} |\n", family.name, family.labels.join(", "), family.help));
    }
    text
}

/// The text of a scrape, put together family by family.
#[derive(Debug, Default)]
pub struct Exposition {
    families: Vec<proto::MetricFamily>,
}

impl Exposition {
    /// Adds a family with its series.
    pub fn family(&mut self, family: &Family, fill: impl FnOnce(&mut Series<'_>)) {
        let mut series = Series { family, metrics: Vec::new() };
        fill(&mut series);
        if series.metrics.is_empty() {
            return;
        }
        let mut made = proto::MetricFamily::default();
        made.set_name(family.name.into());
        made.set_help(family.help.into());
        made.set_field_type(match family.kind {
            Kind::Counter => proto::MetricType::COUNTER,
            Kind::Gauge => proto::MetricType::GAUGE,
            Kind::Histogram => proto::MetricType::HISTOGRAM,
        });
        made.set_metric(series.metrics);
        self.families.push(made);
    }

    /// The text, in the format of Prometheus 0.0.4.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.families, &mut text)?;
        Ok(text)
    }
}

/// The series of one family.
#[derive(Debug)]
pub struct Series<'a> {
    family: &'a Family,
    metrics: Vec<proto::Metric>,
}

impl Series<'_> {
    /// Adds the value of one series of a counter or gauge.
    pub fn value(&mut self, labels: &[&str], value: f64) {
        let mut metric = self.metric(labels);
        match self.family.kind {
            Kind::Counter => {
                let mut counter = proto::Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            Kind::Gauge => {
                let mut gauge = proto::Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
            Kind::Histogram => unreachable!("a histogram has no single value"),
        }
        self.metrics.push(metric);
    }

    /// Adds the counts of one series of a histogram.
    pub fn histogram(&mut self, labels: &[&str], sums: &HistogramSums) {
        let mut histogram = proto::Histogram::default();
        let mut total = 0;
        let buckets = DURATION_BUCKETS.iter().zip(&sums.buckets).map(|(bound, count)| {
            total += count;
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(total);
            bucket
        });
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(sums.buckets.iter().sum());
        histogram.set_sample_sum(sums.seconds);
        let mut metric = self.metric(labels);
        metric.set_histogram(histogram);
        self.metrics.push(metric);
    }

    fn metric(&self, labels: &[&str]) -> proto::Metric {
        debug_assert_eq!(labels.len(), self.family.labels.len(), "{}", self.family.name);
        let pair = |(name, value): (&&str, &&str)| {
            let mut pair = proto::LabelPair::default();
            pair.set_name((*name).into());
            pair.set_value((*value).into());
            pair
        };
        let mut metric = proto::Metric::default();
        metric.set_label(self.family.labels.iter().zip(labels).map(pair).collect());
        metric
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_reads_as_prometheus_wants_it() {
        let mut exposition = Exposition::default();
        exposition.family(&RETRIES, |series| series.value(&["cache", "502"], 3.0));
        exposition.family(&RING_GENERATION, |_| {});
        let mut sums = HistogramSums::default();
        (sums.buckets[0], sums.buckets[14], sums.seconds) = (2, 1, 12.5);
        exposition.family(&REQUEST_DURATION, |series| series.histogram(&["/"], &sums));
        let text = String::from_utf8(exposition.render().unwrap()).unwrap();
        assert!(
            text.contains(
                "# TYPE ringway_retries_total counter\nringway_retries_total{upstream=\"cache\",reason=\"502\"} 3\n"
            ),
            "{text}"
        );
        assert!(!text.contains("generation"));
        assert!(text.contains("ringway_request_duration_seconds_bucket{route=\"/\",le=\"10\"} 2\n"));
        assert!(
            text.contains("le=\"+Inf\"} 3\n")
                && text.contains("_sum{route=\"/\"} 12.5\n")
                && text.contains("_count{route=\"/\"} 3\n")
        );
    }

    #[test]
    fn the_page_of_metrics_comes_from_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/METRICS.md");
        if std::env::var_os("RINGWAY_BLESS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), markdown());
    }

    #[test]
    fn names_follow_the_rules() {
        for family in ALL {
            assert!(family.name.starts_with("ringway_"));
            assert_eq!(family.kind == Kind::Counter, family.name.ends_with("_total"), "{}", family.name);
            assert!(family.help.ends_with('.'), "{}", family.name);
        }
    }
}
