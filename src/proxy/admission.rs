//! Whether an endpoint takes one more request: `max_requests` over all workers, and the line of those who wait for a place.
//!
//! Each worker counts in its own cell and sums all of them, so there are never more than `max_requests`. Two workers that
//! reach for the last place at the same moment may both miss it: then both wait, or, without a line, both are turned away.
use crate::proxy::Proxy;
use crate::snapshot::endpoint::Endpoint;
use crate::snapshot::upstream::Upstream;
use crate::telemetry::labels::ErrorReason;
use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::sync::atomic::fence;
use std::task::Poll;
use std::time::Duration;

/// Counts one more request at `endpoint`, after waiting for at most what is `left` if it is full; `false` when there is no place.
/// Whoever was counted is taken out by [`leave`].
pub async fn enter(proxy: &Proxy, upstream: &Upstream, endpoint: &Endpoint, left: impl FnOnce() -> Duration) -> bool {
    let worker = proxy.worker.index;
    let Some(max) = upstream.settings.max_requests else {
        endpoint.live.of(worker).in_flight.inc();
        return true;
    };
    if endpoint.gate.waiting() == 0 {
        if try_enter(endpoint, worker, max) {
            return true;
        }
        // Whoever is first in line may have seen this try and taken it for a request.
        endpoint.gate.freed();
    }
    // In a box: requests that find a place should not carry the room of waiting for one.
    let allowed = left().min(upstream.settings.connect_timeout);
    let has_entered = Box::pin(wait(proxy, upstream, endpoint, max, allowed)).await;
    if !has_entered {
        // The endpoint did nothing wrong: this counts, and is not held against it.
        endpoint.stats.of(worker).errors[ErrorReason::Overloaded as usize].add(1);
    }
    has_entered
}

/// Takes one request out of the count.
pub fn leave(upstream: &Upstream, endpoint: &Endpoint, worker: usize) {
    endpoint.live.of(worker).in_flight.dec();
    if upstream.settings.max_requests.is_some() {
        endpoint.gate.freed();
    }
}

async fn wait(proxy: &Proxy, upstream: &Upstream, endpoint: &Endpoint, max: u64, allowed: Duration) -> bool {
    let Some(ticket) = endpoint.gate.queue(proxy.worker.index, upstream.settings.max_pending) else { return false };
    let deadline = proxy.worker.wheel.deadline();
    deadline.tag(endpoint.uid);
    deadline.set(allowed);
    poll_fn(|cx| {
        if ticket.poll_first(cx) && try_enter(endpoint, proxy.worker.index, max) {
            return Poll::Ready(true);
        }
        if deadline.poll_expired(cx) { Poll::Ready(false) } else { Poll::Pending }
    })
    .await
}

fn try_enter(endpoint: &Endpoint, worker: usize, max: u64) -> bool {
    let in_flight = &endpoint.live.of(worker).in_flight;
    in_flight.inc();
    // Of two workers that enter at once, at least one sees the other.
    fence(Ordering::SeqCst);
    let fits = endpoint.in_flight() <= max;
    if !fits {
        in_flight.dec();
    }
    fits
}
