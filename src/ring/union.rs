//! The points of two rings together, each once, under slots that both share.
use super::Member;
use super::PLACE_MASK;
use super::Ring;
use super::SLOT_MASK;
use super::place_of;
use super::slot_of;
use std::cmp::Ordering;
use std::ops::Range;

/// Two rings of the same settings as one.
pub(super) struct Union {
    /// Sorted; a point of both rings is there once.
    pub points: Vec<u64>,
    /// For each slot of the union, whether its member is the same in both rings.
    pub is_unchanged: Vec<bool>,
    /// Points of members that have points in both rings and another weight, member by member, each in the order of places.
    pub touched: Vec<Touched>,
    /// Which of `touched` belong to one member.
    pub reweighted: Vec<Range<usize>>,
}

/// A point of a member whose weight changed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Touched {
    /// Its member's slot in the union.
    pub slot: u32,
    /// Its place in [`Union::points`].
    pub index: usize,
    /// Whether both rings have it.
    pub is_common: bool,
}

impl Union {
    pub(super) fn of(before: &Ring, after: &Ring) -> Self {
        let members = Members::of(&before.members, &after.members);
        let renumbered = |points: &[u64], index: usize, slots: &[u32]| {
            points.get(index).map(|point| point & !SLOT_MASK | u64::from(slots[slot_of(*point).0 as usize]))
        };
        let mut points = Vec::with_capacity(before.points.len().max(after.points.len()));
        let mut touched = Vec::new();
        let (mut old, mut new) = (0, 0);
        let (mut was, mut is) =
            (renumbered(&before.points, 0, &members.old_slots), renumbered(&after.points, 0, &members.new_slots));
        loop {
            let (point, order) = match (was, is) {
                (None, None) => break,
                (Some(was), Some(is)) => (was.min(is), was.cmp(&is)),
                (Some(was), None) => (was, Ordering::Less),
                (None, Some(is)) => (is, Ordering::Greater),
            };
            if order.is_le() {
                old += 1;
                was = renumbered(&before.points, old, &members.old_slots);
            }
            if order.is_ge() {
                new += 1;
                is = renumbered(&after.points, new, &members.new_slots);
            }
            let slot = slot_of(point).0;
            if members.is_reweighted[slot as usize] {
                touched.push(Touched { slot, index: points.len(), is_common: order.is_eq() });
            }
            points.push(point);
        }
        touched.sort_by_key(|touched| touched.slot);
        let mut reweighted = Vec::new();
        for run in touched.chunk_by(|a, b| a.slot == b.slot) {
            let start = reweighted.last().map_or(0, |last: &Range<usize>| last.end);
            reweighted.push(start..start + run.len());
        }
        Self { points, is_unchanged: members.is_unchanged, touched, reweighted }
    }

    /// The length of a point's arc: from the point before it, around the circle.
    pub(super) fn arc(&self, index: usize) -> u64 {
        let before = self.points[index.checked_sub(1).unwrap_or(self.points.len() - 1)];
        place_of(self.points[index]).wrapping_sub(place_of(before)) & PLACE_MASK
    }
}

/// The members of two rings in the order of ids.
#[derive(Default)]
pub(super) struct Members {
    /// For each slot of the old ring the union's.
    pub old_slots: Vec<u32>,
    /// For each slot of the new ring the union's.
    pub new_slots: Vec<u32>,
    /// For each slot of the union, whether its member is the same in both rings.
    pub is_unchanged: Vec<bool>,
    is_reweighted: Vec<bool>,
}

impl Members {
    pub(super) fn of(old: &[Member], new: &[Member]) -> Self {
        let mut members = Self::default();
        loop {
            let (was, is) = (old.get(members.old_slots.len()), new.get(members.new_slots.len()));
            let order = match (was, is) {
                (None, None) => return members,
                (Some(was), Some(is)) => was.id.cmp(&is.id),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
            };
            let slot = members.is_unchanged.len() as u32;
            let weight = |member: Option<&Member>, is_here: bool| member.filter(|_| is_here).map_or(0, |it| it.weight);
            let (had, has) = (weight(was, order.is_le()), weight(is, order.is_ge()));
            if order.is_le() {
                members.old_slots.push(slot);
            }
            if order.is_ge() {
                members.new_slots.push(slot);
            }
            members.is_unchanged.push(had == has);
            members.is_reweighted.push(had != has && had > 0 && has > 0);
        }
    }
}
