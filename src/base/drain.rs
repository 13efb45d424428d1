//! Stop taking work, wait until idle: a signal that anyone may watch and guards that count what still runs.
use tokio::sync::watch;

/// Tells holders of its [`DrainGuard`]s to finish, and waits until the last guard is gone.
#[derive(Debug)]
pub struct DrainSignal {
    draining: watch::Sender<bool>,
}

/// Held while one piece of work runs; knows when to finish.
#[derive(Debug, Clone)]
pub struct DrainGuard {
    draining: watch::Receiver<bool>,
}

impl Default for DrainSignal {
    fn default() -> Self {
        Self { draining: watch::Sender::new(false) }
    }
}

impl DrainSignal {
    /// A guard for one more piece of work.
    pub fn guard(&self) -> DrainGuard {
        DrainGuard { draining: self.draining.subscribe() }
    }

    /// Asks every holder to finish. Repeating it changes nothing.
    pub fn start(&self) {
        self.draining.send_replace(true);
    }

    /// How many guards are held.
    pub fn held(&self) -> usize {
        self.draining.receiver_count()
    }

    /// Waits until no guard is held; the caller sets the deadline.
    pub async fn idle(&self) {
        self.draining.closed().await;
    }
}

impl DrainGuard {
    /// Whether the holder should finish.
    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Waits until the holder should finish.
    pub async fn draining(&mut self) {
        // An error means the signal itself is gone: nobody is left to take new work for.
        if self.draining.wait_for(|draining| *draining).await.is_err() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn idle_waits_for_the_last_guard() {
        let signal = DrainSignal::default();
        let mut guard = signal.guard();
        assert!(!guard.is_draining());
        signal.start();
        guard.draining().await;
        assert_eq!(signal.held(), 1);
        drop(guard);
        signal.idle().await;
    }
}
