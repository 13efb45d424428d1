//! How it stands with the source of an upstream's members. One task writes it, anybody reads it.
use crate::store::health::StoreHealth;
use crate::telemetry::cells::Counter;
use crate::telemetry::cells::HistogramCells;
use crate::telemetry::labels::HeldBack;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
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
