//! The last changes of what is wanted: when, why, what, and how many keys moved. Verdicts of health are not among them: they
//! move no key for good, and a flapping endpoint would push all else out; the log has them.
use crate::base::ids::UpstreamName;
use crate::control::archive::Before;
use crate::ring::Ring;
use crate::ring::fingerprint;
use crate::ring::fingerprint::Fingerprint;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

/// Changes that are kept.
const MAX_CHANGES: usize = 100;
/// Members that came, went or changed their weight, of all changes: some 20 MiB.
const MAX_BEFORE: usize = 1 << 19;

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

/// What a change did to a ring; of what is held: what it would do.
#[derive(Debug, Clone)]
pub struct RingChanged {
    /// Whose ring it is.
    pub upstream: UpstreamName,
    /// Share of the key space that moved, 0 to 1.
    pub moved: f64,
    /// Its fingerprint now.
    pub fingerprint: Fingerprint,
    /// What it was before.
    pub before: Before,
}

impl RingChanged {
    /// From one ring to another.
    pub fn of(upstream: &UpstreamName, before: Option<&Ring>, after: &Ring, moved: f64) -> Self {
        let fingerprint = fingerprint::of(after.settings(), after.members());
        Self { upstream: upstream.clone(), moved, fingerprint, before: Before::of(before, after) }
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
    /// Each upstream whose ring changed.
    pub rings: Vec<RingChanged>,
}

/// The last changes; clones see the same.
#[derive(Debug, Clone, Default)]
pub struct History(Arc<Mutex<VecDeque<Arc<Change>>>>);

impl History {
    /// The changes, newest first.
    pub fn changes(&self) -> Vec<Arc<Change>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }

    /// Adds the newest; the oldest goes when there are too many.
    pub fn add(&self, change: Change) {
        let mut changes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if changes.len() == MAX_CHANGES {
            changes.pop_front();
        }
        changes.push_back(Arc::new(change));
        forget(&mut changes);
    }
}

/// Forgets what the oldest changes were before, when all of that is too much: many members that come and go.
fn forget(changes: &mut VecDeque<Arc<Change>>) {
    let mut kept: usize = changes.iter().flat_map(|change| &change.rings).map(|ring| ring.before.weight()).sum();
    for change in changes.iter_mut() {
        if kept <= MAX_BEFORE {
            return;
        }
        for ring in &mut Arc::make_mut(change).rings {
            kept -= ring.before.weight();
            ring.before = Before::Forgotten;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::EndpointId;

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

    #[test]
    fn what_the_oldest_were_before_is_forgotten_when_it_is_too_much() {
        let history = History::default();
        let many = vec![(EndpointId::new("a"), None); MAX_BEFORE / 3];
        for _ in 0..5 {
            let ring = RingChanged {
                upstream: UpstreamName::new("u"),
                moved: 0.0,
                fingerprint: Fingerprint(0),
                before: Before::Ring(None, many.clone()),
            };
            let (at, what) = (Duration::ZERO, Vec::new());
            history.add(Change { at, cause: Cause::Discovery, what, generation: 1, rings: vec![ring] });
        }
        let is_known = |change: &Arc<Change>| change.rings[0].before != Before::Forgotten;
        assert_eq!(history.changes().iter().filter(|change| is_known(change)).count(), 3, "newest first");
        assert!(is_known(&history.changes()[0]));
    }
}
