//! All flights of the process by what they ask for, and how often what they ask for was changed. In shards with a lock each, held
//! while one entry is looked up; only routes that coalesce come here.
use crate::head::Head;
use crate::proxy::coalesce::flight::Budget;
use crate::proxy::coalesce::flight::Flight;
use crate::proxy::coalesce::flight::Seat;
use crate::proxy::coalesce::memo::Memos;
use crate::route::host;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// Locks: far more than workers.
const SHARDS: usize = 64;
/// Flights at one time; whoever would begin one more asks for itself.
const MAX_FLIGHTS: usize = 16_384;
/// Bytes that all flights keep together before answers are passed on without being kept whole.
const MAX_KEPT: usize = 256 << 20;
/// Counters of changes. Two paths that share one are taken for changed together, which costs an exchange and no more.
const CHANGES: usize = 4096;

/// All flights.
#[derive(Debug)]
pub struct Flights {
    // Keyed by chance: nobody outside can choose what meets in one place.
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
    changes: Box<[AtomicU64]>,
    budget: Arc<Budget>,
    /// What earlier answers said.
    pub memos: Memos,
}

type Shard = HashMap<Box<[u8]>, Arc<Flight>>;

/// How somebody gets to an answer.
#[derive(Debug)]
pub enum Joined {
    /// By an exchange that has to begin.
    First(Seat),
    /// By one that is under way.
    Later(Seat),
    /// By none: there are too many.
    Full,
}

/// The counter of changes of one host and path.
#[derive(Debug, Clone, Copy)]
pub struct Counter(usize);

impl Default for Flights {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            changes: (0..CHANGES).map(|_| AtomicU64::new(0)).collect(),
            budget: Arc::new(Budget { max_kept: MAX_KEPT, ..Budget::default() }),
            memos: Memos::default(),
        }
    }
}

impl Flights {
    /// A number for what is asked for that nobody outside can foresee.
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        self.hasher.hash_one(bytes)
    }

    /// What counts the changes of a request's host and path, whatever its query.
    pub fn counter(&self, head: &Head) -> Counter {
        Counter(self.hasher.hash_one((&host::of(head)[..], head.path())) as usize % CHANGES)
    }

    /// How often what a counter counts was changed so far.
    pub fn generation(&self, counter: Counter) -> u64 {
        self.changes[counter.0].load(Ordering::SeqCst)
    }

    /// What was asked for before now is not good for who asks from now on.
    pub fn change(&self, counter: Counter) {
        self.changes[counter.0].fetch_add(1, Ordering::SeqCst);
    }

    /// A place in the flight that asks for this, if it began after the last change; else in one that has to begin.
    pub fn join(&self, identity: &[u8], counter: Counter, max_body: u64) -> Joined {
        let generation = self.generation(counter);
        let mut shard = self.shard(identity);
        let known = shard.get(identity).filter(|flight| flight.generation == generation);
        if let Some(seat) = known.and_then(|flight| flight.join(false)) {
            return Joined::Later(seat);
        }
        if self.budget.flights.load(Ordering::Relaxed) >= MAX_FLIGHTS {
            return Joined::Full;
        }
        let flight = Flight::new(generation, max_body, &self.budget);
        let Some(seat) = flight.join(true) else { return Joined::Full };
        // One that was there goes on for those who are in it.
        shard.insert(identity.into(), flight);
        Joined::First(seat)
    }

    /// Takes a flight out, if it is still the one that asks for this.
    pub fn remove(&self, identity: &[u8], flight: &Arc<Flight>) {
        let mut shard = self.shard(identity);
        if shard.get(identity).is_some_and(|known| Arc::ptr_eq(known, flight)) {
            shard.remove(identity);
        }
    }

    // A poisoned shard is still a shard: an entry is there or not.
    fn shard(&self, identity: &[u8]) -> MutexGuard<'_, Shard> {
        self.shards[self.hash(identity) as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
