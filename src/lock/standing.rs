//! How it stands with the store of locks: told by its recipe, looked at by everybody who wants a lock.
use crate::base::clock;
use crate::store::StoreError;
use crate::store::health::StoreHealth;
use crate::telemetry::cells::Counter;
use crate::telemetry::labels::StoreOp;
use crate::telemetry::labels::StoreState;
use std::mem;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::watch;

/// How it stands. All who tell run on the thread of locks.
#[derive(Debug)]
pub struct Standing {
    /// The age of its last answer.
    pub health: StoreHealth,
    /// Asks whose outcome was not known, and that were taken back.
    pub ghosts: Counter,
    is_lost: watch::Sender<bool>,
    /// Until when it gives no locks because it may have forgotten some.
    quarantine: Mutex<Option<Instant>>,
    /// The highest number of a token that was seen.
    highest: AtomicU64,
}

impl Standing {
    /// A store of this name that nobody has asked yet: it is not lost.
    pub fn new(name: String) -> Self {
        let (health, is_lost) = (StoreHealth::new(name), watch::Sender::new(false));
        Self { health, ghosts: Counter::default(), is_lost, quarantine: Mutex::default(), highest: AtomicU64::new(0) }
    }

    /// It has given a sign of life, after so long, and there is a session if one is needed.
    pub fn answered(&self, rtt: Duration) {
        self.heard(rtt, Duration::ZERO);
    }

    /// As [`answered`](Self::answered), and it gives no locks for so long: none, as a rule. Until then it is as if it were lost.
    pub fn heard(&self, rtt: Duration, quarantine: Duration) {
        self.health.took(StoreOp::Ping, rtt);
        self.gives_none(quarantine);
    }

    /// It has said that it gives no locks for so long.
    pub fn gives_none(&self, quarantine: Duration) {
        let is_in = !quarantine.is_zero();
        let till = is_in.then(|| clock::now() + quarantine);
        let was_in = mem::replace(&mut *self.quarantine.lock().unwrap_or_else(PoisonError::into_inner), till).is_some();
        self.health.answers();
        self.is_lost.send_if_modified(|is_lost| mem::replace(is_lost, is_in) != is_in);
        if is_in && !was_in {
            let seconds = quarantine.as_secs_f64();
            tracing::warn!(
                store = self.health.name,
                seconds,
                "The store may have forgotten locks: it gives none for a time."
            );
        }
    }

    /// How long it gives no locks because it may have forgotten some.
    pub fn quarantine(&self) -> Duration {
        let till = *self.quarantine.lock().unwrap_or_else(PoisonError::into_inner);
        till.map_or(Duration::ZERO, |till| till.saturating_duration_since(clock::now()))
    }

    /// A token of this number was given.
    pub fn saw(&self, index: u64) {
        self.highest.fetch_max(index, Ordering::Relaxed);
    }

    /// The highest number of a token that was given.
    pub fn highest(&self) -> u64 {
        self.highest.load(Ordering::Relaxed)
    }

    /// No lease can be had or kept. Says whether that is news.
    pub fn lost(&self) -> bool {
        self.health.lost();
        self.is_lost.send_if_modified(|is_lost| !mem::replace(is_lost, true))
    }

    /// A session has ended, or could not begin for the `failures + 1`th time. One may end while the store is well: the next one is tried
    /// before the store counts as lost.
    pub fn ended(&self, why: &StoreError, failures: u32) {
        let is_loss = !matches!(why, StoreError::Ended(_)) || failures > 0;
        if is_loss && self.lost() {
            tracing::error!(store = %self.health.name, why = why.told(), "The store of locks is lost.");
        } else if failures == 0 {
            tracing::warn!(store = %self.health.name, why = why.told(), "All locks were lost.");
        }
    }

    /// How it stands, as those see it who want locks.
    pub fn state(&self) -> StoreState {
        match (self.is_lost(), self.health.seen().1) {
            (true, _) if !self.quarantine().is_zero() => StoreState::Settling,
            (true, _) => StoreState::Lost,
            (false, true) => StoreState::Up,
            (false, false) => StoreState::Suspect,
        }
    }

    /// Whether no lease can be had or kept now.
    pub fn is_lost(&self) -> bool {
        *self.is_lost.borrow()
    }

    /// Waits until it is lost.
    pub async fn until_lost(&self) {
        let mut changes = self.is_lost.subscribe();
        // The sender is held here: it does not end.
        if changes.wait_for(|is_lost| *is_lost).await.is_err() {
            std::future::pending().await
        }
    }
}
