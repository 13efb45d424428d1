//! How it stands with a store: the age of its last answer, never a watch that says nothing.
use crate::base::clock;
use crate::telemetry::cells::Counter;
use crate::telemetry::cells::HistogramCells;
use crate::telemetry::labels::StoreOp;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

/// How it stands with a store, by what it answers.
#[derive(Debug)]
pub struct StoreHealth {
    /// Its name.
    pub name: String,
    seen: Mutex<(Option<Instant>, bool)>,
    life: Mutex<Option<u64>>,
    /// Times it was lost.
    pub losses: Counter,
    /// Times its data were found to be others.
    pub incarnations: Counter,
    /// Time to its answers, by [`StoreOp`].
    pub rtt: [HistogramCells; StoreOp::ALL.len()],
}

impl StoreHealth {
    /// A store that has not answered yet.
    pub fn new(name: String) -> Self {
        Self {
            name,
            seen: Mutex::new((None, false)),
            life: Mutex::default(),
            losses: Counter::default(),
            incarnations: Counter::default(),
            rtt: Default::default(),
        }
    }

    /// A question was answered after so long.
    pub fn took(&self, op: StoreOp, rtt: Duration) {
        self.rtt[op as usize].observe(rtt);
    }

    /// It has answered what shows that it is well.
    pub fn answers(&self) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = (Some(clock::now()), true);
    }

    /// Both: it has answered after so long, which shows that it is well.
    pub fn answered(&self, op: StoreOp, rtt: Duration) {
        self.took(op, rtt);
        self.answers();
    }

    /// Its data began at this moment, or are known by this number: another one than before is another life.
    pub fn is_of(&self, life: u64) {
        let before = self.life.lock().unwrap_or_else(PoisonError::into_inner).replace(life);
        self.incarnations.add(u64::from(before.is_some_and(|before| before != life)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_life_is_counted_and_the_first_is_not() {
        let health = StoreHealth::new("s".into());
        [7, 7, 8, 8, 7].into_iter().for_each(|life| health.is_of(life));
        assert_eq!(health.incarnations.get(), 2);
    }
}
