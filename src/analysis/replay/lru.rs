//! A cache that forgets what was not asked for the longest: objects by the hash of their names, each with its size.
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::hash::Hasher;

/// What an object takes beside its body: its head, and its entry in the cache.
const OVERHEAD: u64 = 256;
/// Stands for no entry.
const NONE: u32 = u32::MAX;

/// A simulated cache of so many bytes.
#[derive(Debug)]
pub(super) struct Lru {
    capacity: u64,
    used: u64,
    places: HashMap<u64, u32, BuildHasherDefault<AsItIs>>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    newest: u32,
    oldest: u32,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    object: u64,
    size: u64,
    newer: u32,
    older: u32,
}

/// Objects are hashes already.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0 << 8 | u64::from(*byte));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

impl Lru {
    pub(super) fn new(capacity: u64) -> Self {
        Self {
            capacity,
            used: 0,
            places: HashMap::default(),
            entries: Vec::new(),
            free: Vec::new(),
            newest: NONE,
            oldest: NONE,
        }
    }

    /// Asks for an object with a body of so many bytes, and says whether it was there. It is from now on, if it fits at all.
    pub(super) fn ask(&mut self, object: u64, bytes: u64) -> bool {
        if let Some(&place) = self.places.get(&object) {
            self.unlink(place);
            self.link(place);
            return true;
        }
        let size = bytes + OVERHEAD;
        if size > self.capacity {
            return false;
        }
        while self.used + size > self.capacity {
            self.forget_oldest();
        }
        let entry = Entry { object, size, newer: NONE, older: NONE };
        let place = match self.free.pop() {
            Some(place) => {
                self.entries[place as usize] = entry;
                place
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        };
        self.link(place);
        self.places.insert(object, place);
        self.used += size;
        false
    }

    fn forget_oldest(&mut self) {
        let place = self.oldest;
        self.unlink(place);
        let Entry { object, size, .. } = self.entries[place as usize];
        self.places.remove(&object);
        self.free.push(place);
        self.used -= size;
    }

    fn link(&mut self, place: u32) {
        let older = self.newest;
        self.entries[place as usize].older = older;
        self.entries[place as usize].newer = NONE;
        match older {
            NONE => self.oldest = place,
            older => self.entries[older as usize].newer = place,
        }
        self.newest = place;
    }

    fn unlink(&mut self, place: u32) {
        let Entry { newer, older, .. } = self.entries[place as usize];
        match newer {
            NONE => self.newest = older,
            newer => self.entries[newer as usize].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.entries[older as usize].newer = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash::mix64;
    use std::collections::VecDeque;

    #[test]
    fn what_was_not_asked_for_the_longest_goes_first() {
        let mut cache = Lru::new(3 * (OVERHEAD + 100));
        assert_eq!(
            [1, 2, 3, 1, 4, 2, 1].map(|object| cache.ask(object, 100)),
            [false, false, false, true, false, false, true]
        );
        assert!(!cache.ask(9, 4 * 356) && cache.ask(1, 100), "what does not fit pushes nobody out");
    }

    #[test]
    fn it_is_the_list_that_anybody_would_write() {
        let (mut cache, mut list) = (Lru::new(50 * (OVERHEAD + 10)), VecDeque::new());
        for number in 0..20_000u64 {
            let object = mix64(number) % 80;
            let found = list.iter().position(|it| *it == object);
            assert_eq!(cache.ask(object, 10), found.is_some(), "{number}");
            found.and_then(|at| list.remove(at));
            list.push_back(object);
            if list.len() > 50 {
                list.pop_front();
            }
        }
    }
}
