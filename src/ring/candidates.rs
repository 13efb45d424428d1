//! Walks clockwise from all probes at once, every endpoint once.
use super::PLACE_MASK;
use super::Ring;
use super::SLOT_BITS;
use super::Slot;
use super::ramp::Hidden;
use super::slot_of;
use smallvec::SmallVec;

/// The endpoints of a key in ring order. See [`Ring::candidates`].
///
/// Order: the smaller distance from its probe wins, then the smaller id, then the smaller vnode number. The last rule never
/// decides anything here: equal distance and equal id is the same endpoint, which is given once.
#[derive(Debug)]
pub struct Candidates<'a> {
    ring: &'a Ring,
    key_hash: u64,
    /// Endpoints not given yet.
    left: u32,
    state: State<'a>,
}

/// Most requests need the owner alone, which takes no walk.
#[derive(Debug)]
enum State<'a> {
    Fresh,
    Given(Slot),
    /// In a box: a request that needs no walk should not carry its room.
    Walking(Box<Walks<'a>>),
}

#[derive(Debug)]
struct Walks<'a> {
    walks: SmallVec<[Walk; 2]>,
    seen: Seen,
    hidden: Hidden<'a>,
}

/// One probe's walk.
#[derive(Debug)]
struct Walk {
    start: u64,
    next: usize,
    /// Points not walked over yet.
    left: usize,
    /// Distance of the next point and its slot, packed as in a point.
    ahead: u64,
}

impl<'a> Candidates<'a> {
    #[inline]
    pub(super) fn new(ring: &'a Ring, key_hash: u64) -> Self {
        Self { ring, key_hash, left: ring.live_members, state: State::Fresh }
    }

    /// With these points passed over.
    #[cold]
    pub(super) fn without(ring: &'a Ring, key_hash: u64, hidden: Hidden<'a>) -> Self {
        Self {
            ring,
            key_hash,
            left: ring.live_members,
            state: State::Walking(Box::new(Walks::new(ring, key_hash, hidden))),
        }
    }

    /// Those after the owner.
    #[cold]
    fn further(&mut self) -> Option<Slot> {
        if let State::Given(owner) = self.state {
            let mut walks = Walks::new(self.ring, self.key_hash, Hidden::default());
            walks.seen.insert(owner);
            self.state = State::Walking(Box::new(walks));
        }
        match &mut self.state {
            State::Walking(walks) => walks.next(self.ring).or_else(|| walks.next_hidden(self.ring, self.key_hash)),
            State::Fresh | State::Given(_) => None,
        }
    }
}

impl Iterator for Candidates<'_> {
    type Item = Slot;

    #[inline]
    fn next(&mut self) -> Option<Slot> {
        self.left = self.left.checked_sub(1)?;
        if !matches!(self.state, State::Fresh) {
            return self.further();
        }
        let owner = self.ring.owner(self.key_hash)?;
        self.state = State::Given(owner);
        Some(owner)
    }
}

impl<'a> Walks<'a> {
    fn new(ring: &Ring, key_hash: u64, hidden: Hidden<'a>) -> Self {
        let walks = (0..ring.settings.probes).map(|number| Walk::new(ring, Ring::probe(key_hash, number)));
        Self { walks: walks.collect(), seen: Seen::default(), hidden }
    }

    fn next(&mut self, ring: &Ring) -> Option<Slot> {
        loop {
            let nearest = self.walks.iter_mut().filter(|walk| walk.left > 0).min_by_key(|walk| walk.ahead)?;
            let slot = slot_of(nearest.ahead);
            let is_hidden = !self.hidden.is_empty() && self.hidden.hides(slot, ring.points[nearest.next]);
            nearest.step(ring);
            if !is_hidden && self.seen.insert(slot) {
                return Some(slot);
            }
        }
    }

    /// Who was passed over comes after all others, in ring order: better than nobody.
    #[cold]
    fn next_hidden(&mut self, ring: &Ring, key_hash: u64) -> Option<Slot> {
        if self.hidden.is_empty() {
            return None;
        }
        let seen = std::mem::take(&mut self.seen);
        *self = Self { seen, ..Self::new(ring, key_hash, Hidden::default()) };
        self.next(ring)
    }
}

impl Walk {
    fn new(ring: &Ring, place: u64) -> Self {
        let start = (place & PLACE_MASK) << SLOT_BITS;
        let mut walk = Self { start, next: ring.first_at(place), left: ring.points.len(), ahead: 0 };
        walk.look(ring);
        walk
    }

    fn look(&mut self, ring: &Ring) {
        if self.next == ring.points.len() {
            self.next = 0;
        }
        self.ahead = ring.points[self.next].wrapping_sub(self.start);
    }

    fn step(&mut self, ring: &Ring) {
        self.next += 1;
        self.left -= 1;
        self.look(ring);
    }
}

/// Which slots were given already: a short list first, a bitmap when the walk gets long.
#[derive(Debug, Default)]
struct Seen {
    first: SmallVec<[Slot; 16]>,
    rest: Vec<u64>,
}

impl Seen {
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
