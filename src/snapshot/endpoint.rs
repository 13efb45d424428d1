//! An endpoint: its address and live counters that outlive swaps. Who reads and writes them is not known here.
use crate::base::address::Address;
use crate::base::ids::EndpointId;
use crate::snapshot::stats;
use crate::telemetry::cells::Counter;
use crate::telemetry::cells::Gauge;
use crate::telemetry::cells::PerWorker;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// One server of an upstream at one address. A new address under an old id is a new `Endpoint` with the old counters:
/// its connections, streaks and health start afresh.
#[derive(Debug)]
pub struct Endpoint {
    /// Never used twice in a process: pools and deadlines know an endpoint by it.
    pub uid: u64,
    /// The stable text that is hashed.
    pub id: EndpointId,
    /// Where it listens.
    pub address: Address,
    /// What each worker sees of it now.
    pub live: PerWorker<Live>,
    /// What it did, under this address and those before.
    pub stats: Arc<stats::Endpoint>,
    /// How often it was ejected; written by `control` alone.
    pub ejections: Arc<AtomicU64>,
}

/// One worker's own sight of an endpoint.
#[derive(Debug, Default)]
pub struct Live {
    /// Requests on their way.
    pub in_flight: Gauge,
    /// Exchanges that went well.
    pub ok: Counter,
    /// Exchanges that count against it.
    pub failed: Counter,
    /// Failures since the last success.
    streak: AtomicU32,
}

impl Live {
    /// Records an exchange that went well.
    #[inline]
    pub fn succeed(&self) {
        self.ok.add(1);
        if self.streak.load(Ordering::Relaxed) != 0 {
            self.streak.store(0, Ordering::Relaxed);
        }
    }

    /// Records one that counts against the endpoint and says how many there were in a row, in this worker.
    pub fn fail(&self) -> u32 {
        self.failed.add(1);
        let streak = self.streak.load(Ordering::Relaxed).saturating_add(1);
        self.streak.store(streak, Ordering::Relaxed);
        streak
    }

    /// Failures since the last success.
    pub fn streak(&self) -> u32 {
        self.streak.load(Ordering::Relaxed)
    }
}

impl Endpoint {
    /// Requests on their way over all workers.
    pub fn in_flight(&self) -> u64 {
        self.live.iter().map(|live| live.in_flight.get()).sum()
    }
}
