//! Randomness enough to keep things apart that would otherwise happen at one moment. Not for secrets.
use super::hash::mix64;
use std::time::Duration;

/// By how much an interval differs from its setting: a tenth more or less.
const JITTER: f64 = 0.1;

/// A sequence of random numbers from a seed.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Anywhere in an interval.
    pub fn within(&mut self, interval: Duration) -> Duration {
        interval.mul_f64(self.roll())
    }

    /// A tenth around an interval.
    pub fn around(&mut self, interval: Duration) -> Duration {
        interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * self.roll())
    }

    /// From 0 up to, not including, 1.
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        (mix64(self.0) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_spread_over_an_interval_and_then_a_tenth_around_it() {
        let mut dice = Dice::new(7);
        let second = Duration::from_secs(1);
        let first: Vec<Duration> = (0..1000).map(|_| dice.within(second)).collect();
        for tenth in 0..10 {
            let (from, to) = (second / 10 * tenth, second / 10 * (tenth + 1));
            assert!(first.iter().any(|pause| (from..to).contains(pause)), "none in {from:?}..{to:?}");
        }
        for _ in 0..1000 {
            let pause = dice.around(second);
            assert!((Duration::from_millis(900)..=Duration::from_millis(1100)).contains(&pause), "{pause:?}");
        }
    }
}
