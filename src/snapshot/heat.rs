//! The hot keys of an upstream at one moment. Who decides that they are, and what is done about them, is not known here.
use crate::hotkeys::Settings;
use crate::hotkeys::meter::Hot;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

/// What requests need to know of an upstream's hot keys. Never changes; other keys are another one.
#[derive(Debug)]
pub struct Heat {
    /// Never used twice in a process: workers know by it whose keys they count.
    pub uid: u64,
    /// When a key is hot, and how many endpoints share it.
    pub settings: Settings,
    /// What operators are told, the same for all that follow one another.
    pub report: Arc<Report>,
    /// Hashes of the hot keys, sorted.
    keys: Box<[u64]>,
}

impl Heat {
    /// That of these keys, sorted by hash.
    pub fn new(uid: u64, settings: Settings, report: Arc<Report>, keys: &[u64]) -> Self {
        Self { uid, settings, report, keys: keys.into() }
    }

    /// Whether a key is hot.
    #[inline]
    pub fn is_hot(&self, key_hash: u64) -> bool {
        !self.keys.is_empty() && self.keys.binary_search(&key_hash).is_ok()
    }

    /// How many are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

/// The rates of the last second; written by `control` alone, never looked at by a request.
#[derive(Debug, Default)]
pub struct Report(Mutex<Rates>);

/// Rates of an upstream's keys.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rates {
    /// Requests a second, of all keys.
    pub all: f64,
    /// The hot keys, the hottest first.
    pub hot: Vec<Hot>,
}

impl Report {
    /// The last rates.
    pub fn get(&self) -> Rates {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces them.
    pub fn set(&self, rates: Rates) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = rates;
    }
}
