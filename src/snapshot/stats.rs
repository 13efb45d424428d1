//! Counters that outlive swaps: a new snapshot holds the same ones as the last. Each worker writes its own cells only.
use crate::snapshot::sample::Sample;
use crate::telemetry::cells::Counter;
use crate::telemetry::cells::Gauge;
use crate::telemetry::cells::HistogramCells;
use crate::telemetry::cells::LockCell;
use crate::telemetry::cells::PerWorker;
use crate::telemetry::cells::StatusCells;
use crate::telemetry::labels::CheckResult;
use crate::telemetry::labels::Coalesced;
use crate::telemetry::labels::ErrorReason;
use crate::telemetry::labels::FillResult;
use crate::telemetry::labels::Position;
use crate::telemetry::labels::RefusedReason;
use crate::telemetry::labels::RetryReason;
use crate::telemetry::labels::StatusClass;

/// What happens at one listener's door.
pub type Listener = PerWorker<ListenerCell>;
/// Requests of one listener for one route, by status.
pub type Requests = PerWorker<StatusCells>;
/// What happens on one route.
pub type Route = PerWorker<RouteCell>;
/// What happens to requests of one route that take turns, or to exchanges that they share over a fleet.
pub type Serial = PerWorker<LockCell>;
/// What happens in one upstream.
pub type Upstream = PerWorker<UpstreamCell>;
/// What one endpoint did, under whatever address.
pub type Endpoint = PerWorker<EndpointCell>;

/// One worker's count of a listener.
#[derive(Debug, Default)]
pub struct ListenerCell {
    /// Connections open now.
    pub connections: Gauge,
    /// Upgraded connections open now.
    pub tunnels: Gauge,
    /// Connections and requests refused before a route was sought, by [`RefusedReason`].
    pub refused: [Counter; RefusedReason::ALL.len()],
}

/// One worker's count of a route.
#[derive(Debug, Default)]
pub struct RouteCell {
    /// From a request's first byte to its response's last.
    pub duration: HistogramCells,
    /// Requests whose key was missing.
    pub key_missing: Counter,
    /// Requests that came too soon for the route's limit.
    pub rate_limited: Counter,
    /// Requests by how they got another's answer, or why they did not.
    pub coalesced: [Counter; Coalesced::ALL.len()],
    /// Requests that wait for another's answer to begin.
    pub waiting: Gauge,
}

/// One worker's count of an upstream.
#[derive(Debug, Default)]
pub struct UpstreamCell {
    /// Requests that chose this upstream: what the retry budget is a share of.
    pub requests: Counter,
    /// Requests on their way to endpoints; counted only where the load is bounded.
    pub in_flight: Gauge,
    /// From a request sent to its response head.
    pub duration: HistogramCells,
    /// Exchanges by [`Position`] of the endpoint.
    pub positions: [Counter; Position::ALL.len()],
    /// Questions to previous owners of keys by [`FillResult`].
    pub fills: [Counter; FillResult::ALL.len()],
    /// Retries by [`RetryReason`].
    pub retries: [Counter; RetryReason::ALL.len()],
    /// Retries that the budget refused.
    pub budget_exhausted: Counter,
    /// Keys of its last minute.
    pub sample: Sample,
}

/// One worker's count of an endpoint.
#[derive(Debug, Default)]
pub struct EndpointCell {
    /// Responses by [`StatusClass`].
    pub classes: [Counter; StatusClass::ALL.len()],
    /// Failures by [`ErrorReason`].
    pub errors: [Counter; ErrorReason::ALL.len()],
}

/// What `control` found of one endpoint; it alone writes.
#[derive(Debug, Default)]
pub struct Verdicts {
    /// Times it was ejected.
    pub ejections: Counter,
    /// Health checks by [`CheckResult`].
    pub checks: [Counter; CheckResult::ALL.len()],
    /// Look-ups of its name by [`CheckResult`].
    pub look_ups: [Counter; CheckResult::ALL.len()],
}
