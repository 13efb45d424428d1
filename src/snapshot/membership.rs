//! How it stands with the source of an upstream's members. One task writes it, anybody reads it.
use crate::base::clock;
use crate::telemetry::cells::Counter;
use crate::telemetry::cells::HistogramCells;
use crate::telemetry::labels::HeldBack;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

/// What is known of a source.
#[derive(Debug, Default)]
pub struct Membership {
    seen: Mutex<Seen>,
    /// Lists, or parts of them, that were not taken up, by reason.
    pub held_back: [Counter; HeldBack::ALL.len()],
    /// Time from a list's coming to the ring in force.
    pub apply: HistogramCells,
}

/// The last that was seen of a source.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// What it is: `file members.toml`.
    pub source: String,
    /// When it last gave a list that was taken up.
    pub confirmed: Option<Instant>,
    /// What is wrong now, in words.
    pub problem: Option<String>,
    /// Members that are kept although the source does not name them any more.
    pub waiting: usize,
    /// Whether requests are refused because it is lost.
    pub refuses: bool,
    /// The store behind it, if there is one.
    pub store: Option<Arc<StoreHealth>>,
}

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

impl Membership {
    /// The last that was seen.
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes what was seen.
    pub fn update<T>(&self, change: impl FnOnce(&mut Seen) -> T) -> T {
        change(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
