//! The last changes of what is wanted: when, why, what, and how many keys moved. Verdicts of health are not among them: they
//! move no key for good, and a flapping endpoint would push all else out; the log has them.
use crate::base::ids::UpstreamName;
use crate::ring::fingerprint::Fingerprint;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

/// Changes that are kept.
const MAX_CHANGES: usize = 100;

/// What brought a change about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The program's start.
    Start,
    /// The configuration's file changed.
    File,
    /// SIGHUP.
    Signal,
    /// The admin interface was asked to reload.
    Admin,
    /// An operator sent an endpoint away.
    Drain,
    /// An operator took it back.
    Undrain,
    /// An upstream's source has other members.
    Discovery,
    /// They do more than the guard allows: nothing has changed.
    Held,
    /// An operator has let through what was held.
    Approved,
}

impl Cause {
    /// Whether the rings of such a change are in force after it.
    pub fn is_in_force(self) -> bool {
        self != Self::Held
    }
}

impl Cause {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::File => "file",
            Self::Signal => "SIGHUP",
            Self::Admin => "admin",
            Self::Drain => "drain",
            Self::Undrain => "undrain",
            Self::Discovery => "discovery",
            Self::Held => "held",
            Self::Approved => "approved",
        }
    }
}

/// One change.
#[derive(Debug, Clone)]
pub struct Change {
    /// When it was published, since the epoch.
    pub at: Duration,
    /// What brought it about.
    pub cause: Cause,
    /// What changed, in words.
    pub what: Vec<String>,
    /// The snapshot's generation after it.
    pub generation: u64,
    /// Each upstream whose ring changed: its name, the share of the key space that moved, its fingerprint now. Of what is held:
    /// what would be.
    pub rings: Vec<(UpstreamName, f64, Fingerprint)>,
}

/// The last changes; clones see the same.
#[derive(Debug, Clone, Default)]
pub struct History(Arc<Mutex<VecDeque<Change>>>);

impl History {
    /// The changes, newest first.
    pub fn changes(&self) -> Vec<Change> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }

    /// Adds the newest; the oldest goes when there are too many.
    pub fn add(&self, change: Change) {
        let mut changes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if changes.len() == MAX_CHANGES {
            changes.pop_front();
        }
        changes.push_back(change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_hundred_are_kept_newest_first() {
        let history = History::default();
        for generation in 1..=150 {
            let (at, what, rings) = (Duration::ZERO, Vec::new(), Vec::new());
            history.add(Change { at, cause: Cause::File, what, generation, rings });
        }
        let kept: Vec<u64> = history.changes().iter().map(|change| change.generation).collect();
        assert_eq!(kept, (51..=150).rev().collect::<Vec<u64>>());
    }
}
