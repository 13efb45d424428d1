//! What goes over to new owners key by key, of one upstream at one moment. Requests reckon with the time themselves.
use crate::ring::Ring;
use crate::ring::Slot;
use crate::ring::candidates::Candidates;
use crate::ring::ramp::Ramps;
use std::sync::Arc;
use std::time::Instant;

/// Ramps that run, and the ring that has all points they may need.
#[derive(Debug)]
pub struct Transition {
    /// Slots as in the upstream's own ring; an endpoint whose weight goes down still has the points it had.
    pub ring: Arc<Ring>,
    /// What of it is over.
    pub ramps: Ramps,
}

impl Transition {
    /// The candidates of a key at a moment.
    pub fn candidates(&self, key_hash: u64, now: Instant) -> Candidates<'_> {
        self.ring.candidates_without(key_hash, self.ramps.hidden(key_hash, now))
    }

    /// The share of its keys on the move that an endpoint has by now; `None` when none of its are.
    pub fn share(&self, slot: Slot, now: Instant) -> Option<f64> {
        let (sum, count) = self
            .ramps
            .shares(now)
            .filter(|(ramping, _)| *ramping == slot)
            .fold((0.0, 0u32), |(sum, count), (_, share)| (sum + share, count + 1));
        (count > 0).then(|| sum / f64::from(count))
    }
}
