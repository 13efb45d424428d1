//! How it stands with a store: the age of its last answer, never a watch that says nothing.
use crate::base::clock;
use crate::telemetry::cells::Counter;
use crate::telemetry::cells::HistogramCells;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

/// How it stands with a store, by what it answers.
#[derive(Debug)]
pub struct StoreHealth {
    /// Its name.
    pub name: String,
    seen: Mutex<(Option<Instant>, bool)>,
    /// Times it was lost.
    pub losses: Counter,
    /// Time to its answers.
    pub rtt: HistogramCells,
}

impl StoreHealth {
    /// A store that has not answered yet.
    pub fn new(name: String) -> Self {
        let (losses, rtt) = (Counter::default(), HistogramCells::default());
        Self { name, seen: Mutex::new((None, false)), losses, rtt }
    }

    /// It has answered, after so long.
    pub fn answered(&self, rtt: Duration) {
        self.rtt.observe(rtt);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = (Some(clock::now()), true);
    }

    /// It did not answer, or nothing that can be used.
    pub fn lost(&self) {
        let was_up = std::mem::replace(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner).1, false);
        self.losses.add(u64::from(was_up));
    }

    /// When it last answered, and whether it is connected.
    pub fn seen(&self) -> (Option<Instant>, bool) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
