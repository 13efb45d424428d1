//! How often one key may ask, over all workers. Touched only by requests of routes with a limit. What the key is made of is not
//! known here.
//!
//! Each key has a moment at which all it asked for is paid off (GCRA: a token bucket in one number). The moments lie in a table of
//! fixed size, in shards with a lock each; where a place is needed, the key that is nearest to owing nothing goes. So memory is
//! bounded, and whoever is being refused stays refused however many other keys come.
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

/// Locks: far more than workers.
const SHARDS: usize = 64;
/// Sets of places in a shard.
const SETS: usize = 128;
/// Places in a set: a key may be in any of its set's.
const WAYS: usize = 8;

/// How many requests in what time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests in each `per`, evenly spread; at least 1.
    pub requests: u64,
    /// The time for them.
    pub per: Duration,
    /// Requests that may come at once after a pause; at least 1.
    pub burst: u64,
}

/// The state of one limit: at most 65,536 keys, 16 KiB for each shard that is in use.
#[derive(Debug)]
pub struct Limiter {
    rate: Rate,
    // Keyed by chance: nobody outside can choose keys that meet in one place.
    hasher: RandomState,
    epoch: Instant,
    shards: Box<[Mutex<Vec<Place>>]>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    key: u64,
    /// Nanoseconds since the epoch at which the key owes nothing; 0 when the place was never taken.
    clear_at: u64,
}

impl Limiter {
    /// A limit that nobody has used yet. `now` is its epoch.
    pub fn new(rate: Rate, now: Instant) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { rate, hasher: RandomState::new(), epoch: now, shards }
    }

    /// Takes one request of `key`, which came from its alternative number `source`.
    ///
    /// # Errors
    /// When it comes too early: how long to wait.
    pub fn admit(&self, source: Option<usize>, key: &[u8], now: Instant) -> Result<(), Duration> {
        let hash = self.hasher.hash_one((source, key));
        let now = now.saturating_duration_since(self.epoch).as_nanos() as u64;
        let interval = (self.rate.per.as_nanos() as u64 / self.rate.requests).max(1);
        let latest = now.saturating_add(interval.saturating_mul(self.rate.burst));
        let shard = &self.shards[hash as usize % SHARDS];
        // A poisoned shard is still a shard: a place is written whole or not at all.
        let mut places = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if places.is_empty() {
            places.resize(SETS * WAYS, Place::default());
        }
        let set = (hash as usize / SHARDS) % SETS * WAYS;
        let set = &mut places[set..set + WAYS];
        let known = set.iter().position(|place| place.key == hash && place.clear_at > 0);
        let clear_at = known.map_or(now, |at| set[at].clear_at.max(now)).saturating_add(interval);
        if clear_at > latest {
            return Err(Duration::from_nanos(clear_at - latest));
        }
        let freest = || (0..WAYS).min_by_key(|at| set[*at].clear_at).expect("a set has places");
        set[known.unwrap_or_else(freest)] = Place { key: hash, clear_at };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock;

    fn limiter(requests: u64, per: Duration, burst: u64) -> (Limiter, Instant) {
        let now = clock::now();
        (Limiter::new(Rate { requests, per, burst }, now), now)
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let (limiter, start) = limiter(10, Duration::from_secs(1), 5);
        let ask = |millis: u64| limiter.admit(Some(0), b"k", start + Duration::from_millis(millis));
        assert!((0..5).all(|_| ask(0).is_ok()));
        assert_eq!(ask(0), Err(Duration::from_millis(100)));
        assert_eq!(ask(40), Err(Duration::from_millis(60)));
        assert!(ask(100).is_ok());
        assert_eq!(ask(150), Err(Duration::from_millis(50)));
        // After a pause the burst is whole again, and never more.
        assert!((0..5).all(|_| ask(60_000).is_ok()));
        assert!(ask(60_000).is_err());
        // In the long run exactly the rate passes: one in each tenth of a second.
        let passed = (0..10_000).filter(|tick| ask(120_000 + tick * 10).is_ok()).count();
        assert_eq!(passed, 5 + 999);
    }

    #[test]
    fn keys_and_sources_have_limits_of_their_own() {
        let (limiter, now) = limiter(1, Duration::from_secs(60), 1);
        assert!(limiter.admit(Some(0), b"a", now).is_ok());
        assert!(limiter.admit(Some(0), b"b", now).is_ok());
        assert!(limiter.admit(Some(1), b"a", now).is_ok());
        assert!(limiter.admit(None, b"a", now).is_ok());
        assert!(limiter.admit(Some(0), b"a", now).is_err());
    }

    #[test]
    fn memory_is_bounded_and_a_flood_of_keys_frees_nobody() {
        let (limiter, now) = limiter(1000, Duration::from_secs(100), 1000);
        while limiter.admit(Some(0), b"greedy", now).is_ok() {}
        for number in 0..300_000u32 {
            assert!(limiter.admit(Some(0), &number.to_le_bytes(), now).is_ok());
        }
        let places: usize = limiter.shards.iter().map(|shard| shard.lock().unwrap().capacity()).sum();
        assert_eq!(places, SHARDS * SETS * WAYS);
        assert!(limiter.admit(Some(0), b"greedy", now).is_err());
    }
}
