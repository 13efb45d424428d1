//! An upstream: its ring, its endpoints, who of them may get requests now. How it was discovered is not known here.
use crate::base::ids::UpstreamName;
use crate::retry::budget::RetryBudget;
use crate::ring::Ring;
use crate::ring::Slot;
use crate::snapshot::endpoint::Endpoint;
use crate::snapshot::settings;
use crate::snapshot::stats;
use std::sync::Arc;
use std::time::Duration;

/// A group of endpoints and its policies at one moment.
#[derive(Debug)]
pub struct Upstream {
    /// Its name.
    pub name: UpstreamName,
    /// Its policies, as written.
    pub settings: Arc<settings::Upstream>,
    /// Who owns which key.
    pub ring: Arc<Ring>,
    /// What building the ring cost and moved.
    pub change: Arc<RingChange>,
    /// The endpoints, in the ring's slot order.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// For each slot, until when it is left out; a mask over the ring, never part of it.
    pub mask: Mask,
    /// Retries granted, over all workers.
    pub budget: Arc<RetryBudget>,
    /// Its counters.
    pub stats: Arc<stats::Upstream>,
}

/// What the last change of a ring cost.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RingChange {
    /// Time to build and verify it.
    pub build: Duration,
    /// Share of the key space with a new owner, 0 to 1.
    pub moved: f64,
    /// Share of the key space each endpoint owns, by slot.
    pub shares: Vec<f64>,
}

/// Which endpoints are left out now, and whether that is ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mask {
    closed: Vec<bool>,
    panic: bool,
}

impl Mask {
    /// A mask that leaves out the slots whose `closed` is true, unless `panic`: too few are left, so verdicts are ignored.
    pub fn new(closed: Vec<bool>, panic: bool) -> Self {
        Self { closed, panic }
    }

    /// Whether this slot may get requests.
    #[inline]
    pub fn is_open(&self, slot: Slot) -> bool {
        self.panic || !self.closed.get(slot.0 as usize).copied().unwrap_or(false)
    }

    /// Whether a verdict leaves this slot out, panic or not.
    pub fn is_closed(&self, slot: Slot) -> bool {
        self.closed.get(slot.0 as usize).copied().unwrap_or(false)
    }

    /// Whether verdicts are ignored.
    pub fn is_panic(&self) -> bool {
        self.panic
    }
}

impl Upstream {
    /// The endpoint of a slot.
    #[inline]
    pub fn endpoint(&self, slot: Slot) -> &Arc<Endpoint> {
        &self.endpoints[slot.0 as usize]
    }
}
