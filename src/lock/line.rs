//! The line for each key within this process: first in, first out, over all workers. Only requests that take turns come here.
use super::LockError;
use super::key::LockKey;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use tokio::sync::oneshot;

/// Locks: far more than workers.
const SHARDS: usize = 64;

/// The lines of all keys. A key whose turn nobody has takes no room.
#[derive(Debug)]
pub struct Lines {
    hasher: RandomState,
    shards: Box<[Shard]>,
}

type Shard = Mutex<HashMap<LockKey, VecDeque<oneshot::Sender<Turn>>>>;

/// It is one's turn, until this is dropped.
#[derive(Debug)]
pub struct Turn(Option<(Arc<Lines>, LockKey)>);

/// A place in a line.
#[derive(Debug)]
pub enum Place {
    /// Before all others.
    First(Turn),
    /// Behind others; the turn comes by itself, unless this is dropped.
    Behind(oneshot::Receiver<Turn>),
}

impl Default for Lines {
    fn default() -> Self {
        Self { hasher: RandomState::new(), shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl Lines {
    /// Takes a place in the line for a key, behind at most `max` who wait.
    ///
    /// # Errors
    /// When as many wait already.
    pub fn join(self: &Arc<Self>, key: LockKey, max: usize) -> Result<Place, LockError> {
        let mut shard = self.shard(&key);
        let Some(waiting) = shard.get_mut(&key) else {
            shard.insert(key, VecDeque::new());
            return Ok(Place::First(Turn(Some((self.clone(), key)))));
        };
        if waiting.len() >= max {
            waiting.retain(|waiter| !waiter.is_closed());
        }
        if waiting.len() >= max {
            return Err(LockError::QueueFull);
        }
        let (sender, receiver) = oneshot::channel();
        waiting.push_back(sender);
        Ok(Place::Behind(receiver))
    }

    /// Who is next; when nobody waits the line is over.
    fn next(&self, key: &LockKey) -> Option<oneshot::Sender<Turn>> {
        let mut shard = self.shard(key);
        let next = shard.get_mut(key)?.pop_front();
        if next.is_none() {
            shard.remove(key);
        }
        next
    }

    fn shard(&self, key: &LockKey) -> MutexGuard<'_, HashMap<LockKey, VecDeque<oneshot::Sender<Turn>>>> {
        let index = self.hasher.hash_one(key) as usize % SHARDS;
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some((lines, key)) = self.0.take() else { return };
        while let Some(next) = lines.next(&key) {
            match next.send(Turn(Some((lines.clone(), key)))) {
                Ok(()) => return,
                // That one has left; this turn is nobody's.
                Err(mut turn) => turn.0 = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::labels::LockUse;

    fn key(text: &str) -> LockKey {
        LockKey::new(LockUse::Serialize, &[text.as_bytes()])
    }

    fn first(place: Place) -> Turn {
        let Place::First(turn) = place else { panic!("others are first") };
        turn
    }

    fn behind(place: Place) -> oneshot::Receiver<Turn> {
        let Place::Behind(coming) = place else { panic!("nobody was there") };
        coming
    }

    #[test]
    fn turns_come_in_the_order_of_asking_and_keys_do_not_wait_for_each_other() {
        let lines = Arc::new(Lines::default());
        let turn = first(lines.join(key("a"), 2).unwrap());
        let mut coming = [1, 2].map(|_| behind(lines.join(key("a"), 2).unwrap()));
        assert_eq!(lines.join(key("a"), 2).unwrap_err(), LockError::QueueFull);
        let other = first(lines.join(key("b"), 0).unwrap());
        assert!(coming[0].try_recv().is_err());
        drop(turn);
        let turn = coming[0].try_recv().unwrap();
        assert!(coming[1].try_recv().is_err());
        drop(turn);
        drop(coming[1].try_recv().unwrap());
        drop(other);
        assert!(lines.shards.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }

    #[test]
    fn who_has_left_holds_nobody_up_and_takes_nobodys_place() {
        let lines = Arc::new(Lines::default());
        let turn = first(lines.join(key("a"), 2).unwrap());
        let [gone, mut stays] = [1, 2].map(|_| behind(lines.join(key("a"), 2).unwrap()));
        drop(gone);
        let late = behind(lines.join(key("a"), 2).unwrap());
        drop(turn);
        drop(stays.try_recv().unwrap());
        // The turn had come, and nobody took it.
        drop(late);
        first(lines.join(key("a"), 0).unwrap());
    }
}
