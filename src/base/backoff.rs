//! Exponential delay with full jitter from a seed. It computes; the caller sleeps.
use crate::base::hash::mix64;
use std::time::Duration;

/// Delays that grow from `first` to `max`, each drawn evenly from zero to its ceiling ("full jitter").
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    attempt: u32,
    state: u64,
}

impl Backoff {
    /// A backoff whose ceiling starts at `first` and doubles up to `max`; `seed` fixes the jitter.
    pub fn new(first: Duration, max: Duration, seed: u64) -> Self {
        Self { first, max, attempt: 0, state: seed }
    }

    /// The next delay.
    pub fn next_delay(&mut self) -> Duration {
        let ceiling = self.first.saturating_mul(1 << self.attempt.min(20)).min(self.max);
        self.attempt += 1;
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let share = (mix64(self.state) >> 11) as f64 / (1u64 << 53) as f64;
        ceiling.mul_f64(share)
    }

    /// Back to the first delay, after a success.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_and_stay_under_the_ceiling() {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2), 7);
        let ceilings = [50, 100, 200, 400, 800, 1600, 2000, 2000];
        for ceiling in ceilings {
            assert!(backoff.next_delay() <= Duration::from_millis(ceiling));
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_millis(50));
    }
}
