//! Which endpoint does this key belong to. Pure: no health, no HTTP, no addresses, no async.
//!
//! Placement version 1: an endpoint of weight w has `vnodes * w` points, each the hash of its id and a number, on a circle of
//! 2^40 places. A key is looked up from several probes; the point nearest after any of them wins. Points never depend on
//! other endpoints, so adding, removing or re-weighting one moves no key between two others, and leaving an endpoint out by
//! a mask gives the ring without it.
//!
//! ```
//! use ringway::base::ids::EndpointId;
//! use ringway::ring::{Member, Ring, settings::Settings};
//! let member = |id: &str| Member { id: EndpointId::new(id), weight: 1 };
//! let ring = Ring::build(&Settings::default(), &[member("b"), member("a")]).unwrap();
//! let order: Vec<_> = ring.candidates(42).map(|slot| ring.id(slot).as_str()).collect();
//! assert_eq!(order.len(), 2);
//! ```
pub mod bounded;
pub mod build;
pub mod candidates;
pub mod change;
pub mod fingerprint;
pub mod ketama;
pub mod movement;
pub mod ramp;
pub mod settings;
mod sort;
mod union;
pub mod verify;

#[cfg(test)]
mod tests;

use crate::base::hash::mix64;
use crate::base::ids::EndpointId;
use candidates::Candidates;
use settings::Settings;

/// An endpoint's place in a ring: its number in the order of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

/// Who takes part, and how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The stable text that is hashed.
    pub id: EndpointId,
    /// 0 to 1000; 0 has a slot but no points.
    pub weight: u32,
}

/// Sorted points of one upstream. Never changes once built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ring {
    settings: Settings,
    /// In the order of ids.
    members: Vec<Member>,
    /// Each is 40 bits of place and 24 of slot, sorted: ties of place go to the smaller id.
    points: Vec<u64>,
    /// For each value of the place's leading bits, the first point that has them or more.
    prefixes: Vec<u32>,
    prefix_shift: u32,
    live_members: u32,
}

const PLACE_BITS: u32 = 40;
const SLOT_BITS: u32 = 24;
const PLACE_MASK: u64 = (1 << PLACE_BITS) - 1;
const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;

fn place_of(point: u64) -> u64 {
    point >> SLOT_BITS
}

fn slot_of(point: u64) -> Slot {
    Slot((point & SLOT_MASK) as u32)
}

impl Ring {
    /// The endpoints in ring order for a key: the owner first, each once, those without points never. The second is the
    /// owner when the first is gone, and so on. Finding the first costs one look-up for each probe, 10 to 30 ns.
    #[inline]
    pub fn candidates(&self, key_hash: u64) -> Candidates<'_> {
        Candidates::new(self, key_hash)
    }

    /// The first endpoint in ring order.
    #[inline]
    pub fn owner(&self, key_hash: u64) -> Option<Slot> {
        if self.points.is_empty() {
            return None;
        }
        let mut nearest = self.ahead(key_hash >> SLOT_BITS);
        for number in 1..self.settings.probes {
            nearest = nearest.min(self.ahead(Self::probe(key_hash, number)));
        }
        Some(slot_of(nearest))
    }

    /// What decided the placement beside the members.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// All endpoints in slot order, also those without points.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The id of a slot.
    pub fn id(&self, slot: Slot) -> &EndpointId {
        &self.members[slot.0 as usize].id
    }

    /// The slot of an id.
    pub fn slot(&self, id: &EndpointId) -> Option<Slot> {
        self.members.binary_search_by(|member| member.id.cmp(id)).ok().map(|index| Slot(index as u32))
    }

    /// Each point's place as a fraction of the circle, in order, and its slot.
    pub fn points(&self) -> impl ExactSizeIterator<Item = (f64, Slot)> {
        self.points.iter().map(|point| (place_of(*point) as f64 / (1u64 << PLACE_BITS) as f64, slot_of(*point)))
    }

    /// Number of points.
    pub fn point_count(&self) -> usize {
        self.points.len()
    }

    /// Endpoints that have points.
    pub fn live_members(&self) -> usize {
        self.live_members as usize
    }

    /// Bytes of the points and their table.
    pub fn memory_bytes(&self) -> usize {
        self.points.len() * 8 + self.prefixes.len() * 4
    }

    /// Where the look-up with this number starts.
    #[inline]
    fn probe(key_hash: u64, number: u32) -> u64 {
        match number {
            0 => key_hash >> SLOT_BITS,
            _ => mix64(key_hash ^ 0x9E37_79B9_7F4A_7C15u64.wrapping_mul(u64::from(number))) >> SLOT_BITS,
        }
    }

    /// The distance to the first point at or after a place and its slot, packed as points are: comparing two is the rule,
    /// because slots are in the order of ids.
    #[inline]
    fn ahead(&self, place: u64) -> u64 {
        let start = place << SLOT_BITS;
        let index = self.prefixes[(place >> self.prefix_shift) as usize] as usize;
        // It is one of three nearly always. Which one is chance, and a wrong guess would cost more than to read all.
        if let Some([first, second, third]) = self.points.get(index..index + 3) {
            let nearest = if *first < start { *second } else { *first };
            let nearest = if *second < start { *third } else { nearest };
            if nearest >= start {
                return nearest - start;
            }
        }
        self.ahead_of_many(place)
    }

    #[cold]
    fn ahead_of_many(&self, place: u64) -> u64 {
        let index = self.first_at(place);
        let point = self.points[if index == self.points.len() { 0 } else { index }];
        point.wrapping_sub(place << SLOT_BITS)
    }

    /// The index of the first point at or after a place; the number of points when there is none before the circle closes.
    #[inline]
    fn first_at(&self, place: u64) -> usize {
        let mut index = self.prefixes[(place >> self.prefix_shift) as usize] as usize;
        while index < self.points.len() && place_of(self.points[index]) < place {
            index += 1;
        }
        index
    }
}
