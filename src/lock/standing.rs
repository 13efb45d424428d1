//! How it stands with the store of locks: told by its recipe, looked at by everybody who wants a lock.
use crate::store::health::StoreHealth;
use crate::telemetry::cells::Counter;
use std::time::Duration;
use tokio::sync::watch;

/// How it stands. All who tell run on the thread of locks.
#[derive(Debug)]
pub struct Standing {
    /// The age of its last answer.
    pub health: StoreHealth,
    /// Asks whose outcome was not known, and that were taken back.
    pub ghosts: Counter,
    is_lost: watch::Sender<bool>,
}

impl Standing {
    /// A store of this name that nobody has asked yet: it is not lost.
    pub fn new(name: String) -> Self {
        Self { health: StoreHealth::new(name), ghosts: Counter::default(), is_lost: watch::Sender::new(false) }
    }

    /// It has answered, after so long, and there is a session if one is needed.
    pub fn answered(&self, rtt: Duration) {
        self.health.answered(rtt);
        self.is_lost.send_if_modified(|is_lost| std::mem::replace(is_lost, false));
    }

    /// No lease can be had or kept. Says whether that is news.
    pub fn lost(&self) -> bool {
        self.health.lost();
        self.is_lost.send_if_modified(|is_lost| !std::mem::replace(is_lost, true))
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
