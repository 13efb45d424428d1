//! What earlier answers said of what is asked for: which fields they depend on, that the next ones are not for others either, and how
//! long a cache has them.
//! In a table of fixed size; where a place is needed, the one that was written longest ago goes.
use crate::proxy::coalesce::identity::Names;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

/// Locks: far more than workers.
const SHARDS: usize = 64;
/// Sets of places in a shard.
const SETS: usize = 64;
/// Places in a set: what is asked for may be in any of its set's.
const WAYS: usize = 8;
/// How long an answer that may not be shared keeps others from waiting for the next.
pub const MISS: Duration = Duration::from_secs(2);

/// At most 32,768 memories; a shard's places come with its first.
#[derive(Debug)]
pub struct Memos {
    shards: Box<[Mutex<Vec<Option<Memo>>>]>,
}

#[derive(Debug, Clone)]
struct Memo {
    asked: u64,
    names: Option<Names>,
    missed: Option<Instant>,
    /// Until when a cache has the answer, and how often what is asked for had been changed when it came.
    cached: Option<(Instant, u64)>,
    written: Instant,
}

impl Default for Memos {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl Memos {
    /// Whether what is asked for had an answer a moment ago that may not be shared; and the fields that answers depend on.
    pub fn look(&self, asked: u64, now: Instant) -> (bool, Option<Names>) {
        let shard = self.shard(asked);
        let set = shard.get(set_of(asked)..set_of(asked) + WAYS).unwrap_or_default();
        let Some(memo) = set.iter().flatten().find(|memo| memo.asked == asked) else { return (false, None) };
        let is_missed = memo.missed.is_some_and(|at| now.saturating_duration_since(at) < MISS);
        (is_missed, memo.names.clone())
    }

    /// Notes an answer that may not be shared.
    pub fn miss(&self, asked: u64, now: Instant) {
        self.write(asked, now, |memo| memo.missed = Some(now));
    }

    /// Notes the fields that an answer depends on; those of earlier ones are still good.
    pub fn vary(&self, asked: u64, names: &Names, now: Instant) {
        if names.is_empty() {
            return;
        }
        self.write(asked, now, |memo| {
            let known = memo.names.iter().flat_map(|names| names.iter());
            if known.clone().count() > 0 && names.iter().all(|name| known.clone().any(|known| known == name)) {
                return;
            }
            let mut all: Vec<_> = known.chain(names.iter()).cloned().collect();
            all.sort_unstable();
            all.dedup();
            // An endpoint that names others each time gets what it named last.
            memo.names = Some(if all.len() > 2 * names.len().max(WAYS) { names.clone() } else { all.into() });
        });
    }

    /// Notes that a cache has the answer until then, unless what is asked for is changed.
    pub fn cache(&self, asked: u64, until: Instant, generation: u64, now: Instant) {
        self.write(asked, now, |memo| memo.cached = Some((until, generation)));
    }

    /// Whether a cache has the answer, by its own word.
    pub fn is_cached(&self, asked: u64, generation: u64, now: Instant) -> bool {
        let shard = self.shard(asked);
        let set = shard.get(set_of(asked)..set_of(asked) + WAYS).unwrap_or_default();
        let memo = set.iter().flatten().find(|memo| memo.asked == asked);
        memo.and_then(|memo| memo.cached).is_some_and(|(until, of)| of == generation && now < until)
    }

    fn write(&self, asked: u64, now: Instant, write: impl FnOnce(&mut Memo)) {
        let mut shard = self.shard(asked);
        if shard.is_empty() {
            shard.resize(SETS * WAYS, None);
        }
        let set = &mut shard[set_of(asked)..set_of(asked) + WAYS];
        let known = set.iter().position(|place| place.as_ref().is_some_and(|memo| memo.asked == asked));
        let oldest = || (0..WAYS).min_by_key(|at| set[*at].as_ref().map(|memo| memo.written)).unwrap_or(0);
        let place = &mut set[known.unwrap_or_else(oldest)];
        let fresh = Memo { asked, names: None, missed: None, cached: None, written: now };
        let memo = place.take_if(|memo| memo.asked == asked).unwrap_or(fresh);
        let memo = place.insert(memo);
        memo.written = now;
        write(memo);
    }

    // A poisoned shard is still a shard: a memory that was lost is made anew.
    fn shard(&self, asked: u64) -> MutexGuard<'_, Vec<Option<Memo>>> {
        self.shards[asked as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn set_of(asked: u64) -> usize {
    asked as usize / SHARDS % SETS * WAYS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock;

    fn names(names: &[&str]) -> Names {
        names.iter().map(|name| Box::from(name.as_bytes())).collect()
    }

    #[test]
    fn a_miss_is_kept_in_mind_for_two_seconds() {
        let (memos, now) = (Memos::default(), clock::now());
        assert_eq!(memos.look(7, now), (false, None));
        memos.miss(7, now);
        assert!(memos.look(7, now).0 && !memos.look(7 + (SHARDS * SETS) as u64, now).0);
        assert!(memos.look(7, now + Duration::from_millis(1999)).0);
        assert!(!memos.look(7, now + MISS).0);
    }

    #[test]
    fn what_a_cache_has_is_known_until_it_ends_or_is_changed() {
        let (memos, now) = (Memos::default(), clock::now());
        let end = now + Duration::from_secs(9);
        assert!(!memos.is_cached(7, 1, now));
        memos.cache(7, end, 1, now);
        memos.miss(7, now);
        assert!(memos.is_cached(7, 1, now) && memos.look(7, now).0);
        assert!(!memos.is_cached(7, 2, now) && !memos.is_cached(8, 1, now) && !memos.is_cached(7, 1, end));
    }

    #[test]
    fn the_fields_of_all_answers_are_kept_in_mind() {
        let (memos, now) = (Memos::default(), clock::now());
        memos.vary(7, &names(&["b"]), now);
        memos.vary(7, &names(&["a", "b"]), now);
        memos.vary(7, &names(&[]), now);
        memos.miss(7, now);
        assert_eq!(memos.look(7, now), (true, Some(names(&["a", "b"]))));
        for number in 0..1000 {
            memos.vary(7, &names(&[&format!("x-{number}")]), now);
        }
        let (_, kept) = memos.look(7, now);
        assert!(kept.is_some_and(|kept| kept.len() <= 16 && kept.contains(&Box::from(&b"x-999"[..]))));
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_goes() {
        let (memos, now) = (Memos::default(), clock::now());
        let step = (SHARDS * SETS) as u64;
        for number in 0..=WAYS as u64 {
            memos.miss(number * step, now + Duration::from_millis(number));
        }
        assert!(!memos.look(0, now).0);
        assert!((1..=WAYS as u64).all(|number| memos.look(number * step, now).0));
        assert_eq!(memos.shards.iter().map(|shard| shard.lock().unwrap().len()).sum::<usize>(), SETS * WAYS);
    }
}
