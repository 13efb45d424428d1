//! Room for one more connection to an endpoint: had at once, or waited for in line.
use crate::base::clock;
use crate::pool::Pool;
use crate::pool::connect::ConnectError;
use crate::pool::http1;
use crate::pool::security;
use crate::snapshot::endpoint::Endpoint;
use crate::snapshot::places::Place;
use crate::snapshot::settings;
use crate::worker::wheel::Deadline;
use std::future::Future;
use std::future::pending;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::Notify;

/// What came of asking for a place.
#[allow(clippy::large_enum_variant, reason = "it is taken apart where it is made")]
pub(super) enum Room {
    /// A place for a new connection.
    Place(Place),
    /// A connection that became idle meanwhile.
    Idle(Box<http1::Connection>),
    /// `freed` was told first.
    Freed,
}

impl Pool {
    /// Room at `endpoint`, with `is_fresh` only for a new connection, after waiting for at most `allowed`, which is lowered by what
    /// that took.
    pub(super) async fn room(
        &self,
        endpoint: &Endpoint,
        settings: &settings::Upstream,
        deadline: &Deadline,
        allowed: &mut Duration,
        is_fresh: bool,
        freed: Option<&Notify>,
    ) -> Result<Room, ConnectError> {
        if let Some(place) = endpoint.places.enter(self.worker.index, settings.max_connections) {
            return Ok(Room::Place(place));
        }
        // In a box: a request that need not wait should not carry its room.
        Box::pin(async move {
            let worker = self.worker.index;
            let is_full = || ConnectError::Full(endpoint.address.clone());
            let ticket = endpoint.places.queue(worker, settings.max_pending).ok_or_else(is_full)?;
            let started = clock::now();
            deadline.set(*allowed);
            let mut is_freed = pin!(async {
                match freed {
                    Some(freed) => freed.notified().await,
                    None => pending().await,
                }
            });
            let found = poll_fn(|cx| {
                if ticket.poll_first(cx) {
                    // One that may not serve is closed: its place is free then.
                    if let Some(connection) = self.take_idle(endpoint.uid, security(settings)).filter(|_| !is_fresh) {
                        return Poll::Ready(Ok(Room::Idle(connection)));
                    }
                    if let Some(place) = endpoint.places.take(worker, settings.max_connections) {
                        return Poll::Ready(Ok(Room::Place(place)));
                    }
                }
                if is_freed.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Ok(Room::Freed));
                }
                if deadline.poll_expired(cx) { Poll::Ready(Err(is_full())) } else { Poll::Pending }
            })
            .await;
            *allowed = allowed.saturating_sub(started.elapsed());
            found
        })
        .await
    }
}
