//! Walks clockwise from all probes at once, every endpoint once.
use super::PLACE_MASK;
use super::Ring;
use super::Slot;
use super::place_of;
use super::slot_of;
use smallvec::SmallVec;

/// The endpoints of a key in ring order. See [`Ring::candidates`].
///
/// Order: the smaller distance from its probe wins, then the smaller id, then the smaller vnode number. The last rule never
/// decides anything here: equal distance and equal id is the same endpoint, which is given once.
#[derive(Debug)]
pub struct Candidates<'a> {
    ring: &'a Ring,
    walks: SmallVec<[Walk; 2]>,
    seen: Seen,
    left: u32,
}

/// One probe's walk.
#[derive(Debug)]
struct Walk {
    start: u64,
    next: usize,
    /// Points not walked over yet.
    left: usize,
    /// Distance of the next point, and its slot.
    ahead: (u64, Slot),
}

impl<'a> Candidates<'a> {
    #[inline]
    pub(super) fn new(ring: &'a Ring, key_hash: u64) -> Self {
        let mut walks = SmallVec::new();
        if !ring.points.is_empty() {
            for number in 0..ring.settings.probes {
                walks.push(Walk::new(ring, Ring::probe(key_hash, number)));
            }
        }
        Self { ring, walks, seen: Seen::default(), left: ring.live_members }
    }
}

impl Walk {
    #[inline]
    fn new(ring: &Ring, start: u64) -> Self {
        let mut walk = Self { start, next: ring.first_at(start), left: ring.points.len(), ahead: (0, Slot(0)) };
        walk.look(ring);
        walk
    }

    #[inline]
    fn look(&mut self, ring: &Ring) {
        if self.next == ring.points.len() {
            self.next = 0;
        }
        let point = ring.points[self.next];
        self.ahead = (place_of(point).wrapping_sub(self.start) & PLACE_MASK, slot_of(point));
    }

    fn step(&mut self, ring: &Ring) {
        self.next += 1;
        self.left -= 1;
        self.look(ring);
    }
}

impl Iterator for Candidates<'_> {
    type Item = Slot;

    #[inline]
    fn next(&mut self) -> Option<Slot> {
        while self.left > 0 {
            // Slots are in the order of ids, so comparing (distance, slot) is the rule.
            let nearest = self.walks.iter_mut().filter(|walk| walk.left > 0).min_by_key(|walk| walk.ahead)?;
            let slot = nearest.ahead.1;
            nearest.step(self.ring);
            if self.seen.insert(slot) {
                self.left -= 1;
                return Some(slot);
            }
        }
        None
    }
}

/// Which slots were given already: a short list first, a bitmap when the walk gets long.
#[derive(Debug, Default)]
struct Seen {
    first: SmallVec<[Slot; 16]>,
    rest: Vec<u64>,
}

impl Seen {
    #[inline]
    fn insert(&mut self, slot: Slot) -> bool {
        if self.rest.is_empty() {
            if self.first.contains(&slot) {
                return false;
            }
            if self.first.len() < 16 {
                self.first.push(slot);
                return true;
            }
            for index in 0..self.first.len() {
                self.mark(self.first[index]);
            }
        }
        self.mark(slot)
    }

    fn mark(&mut self, slot: Slot) -> bool {
        let (word, bit) = (slot.0 as usize / 64, 1u64 << (slot.0 % 64));
        if word >= self.rest.len() {
            self.rest.resize(word + 1, 0);
        }
        let is_new = self.rest[word] & bit == 0;
        self.rest[word] |= bit;
        is_new
    }
}
