//! Keys that requests had in the last minute, a bounded part of them: what a plan is told by. One worker writes, anybody may read; no
//! lock, no message. What is done with them is not known here.
use crate::base::hash::PlacementHash;
use crate::base::hash::mix64;
use crate::base::ids::UpstreamName;
use crate::ring::settings::Settings;
use crate::route::Route;
use crate::route::action::OnMissingKey;
use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Keys of one worker and upstream: 64 KiB, taken with the first of them.
const KEYS: u64 = 8192;
/// After so many the pace is judged anew.
const LAP: u64 = 512;
/// Milliseconds that a lap should take, so that all keys together are of a minute.
const LAP_MS: u64 = 60_000 * LAP / KEYS;
/// Of so many requests one is taken at least.
const MAX_EVERY: u64 = 1 << 20;

/// One worker's sample of one upstream's keys.
#[derive(Debug, Default)]
pub struct Sample {
    /// Requests that are passed over until the next one is taken.
    left: AtomicU64,
    taken: OnceLock<Box<Taken>>,
}

#[derive(Debug)]
struct Taken {
    keys: Box<[AtomicU64]>,
    /// Keys taken since its kind is this.
    count: AtomicU64,
    kind: AtomicU64,
    every: AtomicU64,
    begun: Instant,
    /// When the lap began, in milliseconds since then.
    lap: AtomicU64,
}

impl Sample {
    /// A request has this key, of this kind.
    #[inline]
    pub fn note(&self, key: u64, kind: u64, now: Instant) {
        match self.left.load(Ordering::Relaxed) {
            0 => self.take(key, kind, now),
            left => self.left.store(left - 1, Ordering::Relaxed),
        }
    }

    #[cold]
    fn take(&self, key: u64, kind: u64, now: Instant) {
        let taken = self.taken.get_or_init(|| {
            let keys = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
            let (count, kind, every, lap) =
                (AtomicU64::new(0), AtomicU64::new(kind), AtomicU64::new(1), AtomicU64::new(0));
            Box::new(Taken { keys, count, kind, every, begun: now, lap })
        });
        let (get, set) =
            (|of: &AtomicU64| of.load(Ordering::Relaxed), |of: &AtomicU64, to| of.store(to, Ordering::Relaxed));
        if get(&taken.kind) != kind {
            // Hashes of other keys, or by another seed: they mean nothing beside these.
            set(&taken.count, 0);
            taken.kind.store(kind, Ordering::Release);
        }
        let count = get(&taken.count);
        set(&taken.keys[(count % KEYS) as usize], key);
        taken.count.store(count + 1, Ordering::Release);
        if (count + 1).is_multiple_of(LAP) {
            let at = now.saturating_duration_since(taken.begun).as_millis() as u64;
            let took = at.saturating_sub(get(&taken.lap)).max(1);
            set(&taken.every, (get(&taken.every) * LAP_MS / took).clamp(1, MAX_EVERY));
            set(&taken.lap, at);
        }
        // By chance, and one of so many on the mean: keys that come in a rhythm are not missed by the same one.
        set(&self.left, mix64(key ^ count) % (2 * get(&taken.every) - 1));
    }

    /// The keys of this kind, in no order.
    pub fn keys(&self, kind: u64) -> Vec<u64> {
        let Some(taken) = self.taken.get() else { return Vec::new() };
        let count = taken.count.load(Ordering::Acquire).min(KEYS) as usize;
        if taken.kind.load(Ordering::Acquire) != kind {
            return Vec::new();
        }
        taken.keys[..count].iter().map(|key| key.load(Ordering::Relaxed)).collect()
    }
}

/// What keys of an upstream are made of, and what they are hashed by: hashes of two kinds cannot be compared.
pub fn kind(upstream: &UpstreamName, ring: &Settings, routes: &[Route]) -> u64 {
    let mut texts = BTreeSet::new();
    for forward in routes.iter().filter_map(|route| route.action.forward()).filter(|it| it.upstream == *upstream) {
        texts.extend(forward.key.iter().flat_map(|key| key.texts()).map(str::to_string));
        texts.extend((forward.on_missing_key == OnMissingKey::ClientIp).then(|| "client_ip".to_string()));
    }
    let texts: Vec<String> = texts.into_iter().collect();
    PlacementHash::Seeded(ring.hash.hash(b"kind")).hash(texts.join("\0").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock;
    use std::time::Duration;

    /// Asks so often a second for so many seconds; the key is the second.
    fn ask(sample: &Sample, kind: u64, rate: u32, seconds: std::ops::Range<u64>) {
        let start = clock::now();
        for second in seconds {
            for request in 0..rate {
                sample.note(
                    second,
                    kind,
                    start + Duration::from_secs(second) + Duration::from_secs(1) * request / rate,
                );
            }
        }
    }

    #[test]
    fn few_requests_are_all_kept_and_many_are_of_the_last_minute() {
        let sample = Sample::default();
        assert!(sample.keys(1).is_empty());
        ask(&sample, 1, 10, 0..20);
        assert_eq!(sample.keys(1).len(), 200);
        for rate in [1000, 20_000] {
            let sample = Sample::default();
            ask(&sample, 1, rate, 0..300);
            let keys = sample.keys(1);
            assert_eq!(keys.len(), KEYS as usize);
            let of = |seconds: std::ops::Range<u64>| keys.iter().filter(|key| seconds.contains(key)).count();
            assert!(of(0..225) < 100, "{rate}: what is old is gone: {}", of(0..225));
            for second in [250, 270, 290] {
                assert!(
                    (900..1900).contains(&of(second..second + 10)),
                    "{rate}: {} of ten seconds",
                    of(second..second + 10)
                );
            }
        }
    }

    #[test]
    fn keys_of_another_kind_are_forgotten() {
        let sample = Sample::default();
        ask(&sample, 1, 10, 0..3);
        ask(&sample, 2, 1, 5..7);
        assert!(sample.keys(1).is_empty());
        assert_eq!(sample.keys(2), [5, 6]);
    }
}
