//! How it stands with the source of an upstream's members. One task writes it, anybody reads it.
use crate::ring::fingerprint::Fingerprint;
use crate::store::health::StoreHealth;
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
    /// The list that is not in force because it does more than the guard allows, if there is one.
    pub held: Option<Held>,
    /// Whether requests are refused because it is lost.
    pub refuses: bool,
    /// The store behind it, if there is one.
    pub store: Option<Arc<StoreHealth>>,
}

/// A change that waits for a person's word.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// Since when, in time since the epoch.
    pub since: Duration,
    /// What is too much, in words.
    pub why: String,
    /// What it would change, in words.
    pub what: Vec<String>,
    /// Share of the key space that it would give to new owners, 0 to 1.
    pub moved: f64,
    /// The ring's fingerprint after it.
    pub fingerprint: Fingerprint,
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
