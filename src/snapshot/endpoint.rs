//! An endpoint: its address and live counters that outlive swaps. Who reads and writes them is not known here.
use crate::base::address::Address;
use crate::base::address::Location;
use crate::base::ids::EndpointId;
use crate::snapshot::gate::Gate;
use crate::snapshot::places::Places;
use crate::snapshot::stats;
use crate::telemetry::cells::Counter;
use crate::telemetry::cells::Gauge;
use crate::telemetry::cells::PerWorker;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

/// One server of an upstream, at one address or at all that its name stands for. New addresses under an old id are a new
/// `Endpoint` with the old counters: its connections, streaks and health start afresh.
#[derive(Debug)]
pub struct Endpoint {
    /// Never used twice in a process: pools and deadlines know an endpoint by it.
    pub uid: u64,
    /// The stable text that is hashed.
    pub id: EndpointId,
    /// Where it listens, as written.
    pub address: Location,
    /// The addresses that stands for: tried in turn, none when a name was never resolved.
    pub addresses: Arc<[Address]>,
    /// Who waits for a place at it.
    pub gate: Gate,
    /// The connections open to it, and who waits for one.
    pub places: Arc<Places>,
    /// What each worker sees of it now.
    pub live: PerWorker<Live>,
    /// What it did, under this address and those before.
    pub stats: Arc<stats::Endpoint>,
    /// What was found of it, under this address and those before; written by `control` alone.
    pub verdicts: Arc<stats::Verdicts>,
    /// What its last health check found; written by `control` alone, never looked at by a request.
    pub last_check: LastCheck,
}

/// What a health check found.
#[derive(Debug, Clone)]
pub struct Found {
    /// When it ended.
    pub at: Instant,
    /// Nothing, or what was wrong.
    pub problem: Option<String>,
}

/// The last of an endpoint's health checks.
#[derive(Debug, Default)]
pub struct LastCheck(Mutex<Option<Found>>);

impl LastCheck {
    /// What it found; `None` before the first.
    pub fn get(&self) -> Option<Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces it.
    pub fn set(&self, found: Found) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
    }
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
    /// Which of its addresses took the last connection.
    preferred: AtomicU32,
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

    /// Which of its addresses took the last connection.
    pub fn preferred(&self) -> usize {
        self.preferred.load(Ordering::Relaxed) as usize
    }

    /// Remembers which of its addresses took a connection.
    pub fn prefer(&self, index: usize) {
        self.preferred.store(index as u32, Ordering::Relaxed);
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

    /// Failures since the last success, over all workers.
    pub fn in_a_row(&self) -> u64 {
        self.live.iter().map(|live| u64::from(live.streak())).sum()
    }

    /// Requests that wait for a place or a connection.
    pub fn pending(&self) -> usize {
        self.gate.waiting() + self.places.waiting()
    }
}
