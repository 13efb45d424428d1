//! Until when something in a store is ours, by our own clock: moved on by whoever keeps it, looked at by whoever relies on it.
use crate::base::clock;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::watch;

/// A term that is moved on as long as all goes well. One for all leases of a session, or one for each lease.
#[derive(Debug)]
pub struct Term(watch::Sender<State>);

#[derive(Debug, Clone, Copy)]
struct State {
    until: Instant,
    is_gone: bool,
}

/// Why something is ours no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Nobody confirmed it in time: it may still be ours, and must not be relied on.
    TimeUp,
    /// The store says that it is gone.
    Gone,
}

impl Term {
    /// A term that ends at this moment. It is reckoned from before the store was asked, and with a margin for clocks that differ.
    pub fn until(until: Instant) -> Arc<Self> {
        Arc::new(Self(watch::Sender::new(State { until, is_gone: false })))
    }

    /// Moves its end on. What has ended stays so.
    pub fn extend(&self, until: Instant) {
        let now = clock::now();
        // Nobody is woken: who sleeps until the old end looks again then.
        self.0.send_if_modified(|state| {
            if state.ended(now).is_none() {
                state.until = until.max(state.until);
            }
            false
        });
    }

    /// Ends it now: the store says that it is gone.
    pub fn end(&self) {
        self.0.send_if_modified(|state| {
            let was_ours = state.ended(clock::now()).is_none();
            state.is_gone |= was_ours;
            was_ours
        });
    }

    /// How much of it is left.
    pub fn remaining(&self) -> Duration {
        let state = *self.0.borrow();
        if state.is_gone { Duration::ZERO } else { state.until.saturating_duration_since(clock::now()) }
    }

    /// Why it is over, if it is.
    pub fn ended(&self) -> Option<Ended> {
        self.0.borrow().ended(clock::now())
    }

    /// Waits for its end.
    pub async fn over(&self) -> Ended {
        let mut changes = self.0.subscribe();
        loop {
            let state = *changes.borrow_and_update();
            if let Some(ended) = state.ended(clock::now()) {
                return ended;
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep_until(state.until.into()) => {}
            }
        }
    }
}

impl State {
    fn ended(&self, now: Instant) -> Option<Ended> {
        match self.is_gone {
            true => Some(Ended::Gone),
            false => (self.until <= now).then_some(Ended::TimeUp),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_term_goes_on_until_it_is_up_or_gone_and_never_comes_back() {
        let now = clock::now();
        let (term, gone) = (Term::until(now + LONG), Term::until(now + LONG));
        assert!(term.ended().is_none() && term.remaining() > LONG / 2);
        term.extend(now + 2 * LONG);
        assert!(term.remaining() > LONG);
        let waiting = tokio::spawn({
            let gone = gone.clone();
            async move { gone.over().await }
        });
        gone.end();
        assert_eq!((waiting.await.unwrap(), gone.remaining()), (Ended::Gone, Duration::ZERO));
        let up = Term::until(now);
        up.extend(now + LONG);
        up.end();
        assert_eq!((up.over().await, up.ended()), (Ended::TimeUp, Some(Ended::TimeUp)));
    }

    #[tokio::test]
    async fn whoever_waits_for_the_end_is_not_told_the_old_one() {
        let term = Term::until(clock::now() + Duration::from_millis(30));
        let over = term.over();
        let mut over = std::pin::pin!(over);
        assert!(tokio::time::timeout(Duration::from_millis(1), &mut over).await.is_err());
        term.extend(clock::now() + Duration::from_millis(200));
        let began = clock::now();
        assert_eq!(over.await, Ended::TimeUp);
        assert!(began.elapsed() >= Duration::from_millis(190));
    }
}
