//! A ring from the one before: only points of members that came, went or changed their weight are made; all others are
//! copied over. The result is what a full build gives, bit by bit.
use super::Member;
use super::Ring;
use super::SLOT_MASK;
use super::build;
use super::build::BuildError;
use super::place_of;
use super::settings::Settings;
use super::slot_of;
use super::sort;
use std::cmp::Ordering;

/// What differs between the members of two rings.
#[derive(Default)]
struct Difference {
    /// For each old slot its new one; for members that went, where they would be.
    slots: Vec<u32>,
    /// Points of the old ring that go, with their old slots.
    gone: Vec<u64>,
    /// Points that come, with their new slots.
    fresh: Vec<u64>,
}

/// How slots change from one ring to the next.
#[derive(Clone, Copy)]
enum Renumbering {
    /// As when a weight changes.
    None,
    /// Those from one on by the same, as when one member comes or goes. Costs no look-up for each point.
    Shift {
        from: u64,
        by: u64,
    },
    Each,
}

impl Ring {
    /// The ring that [`Ring::build`] makes of `members` with this ring's settings. Costs a pass over memory and a hash for
    /// each point that comes or goes.
    ///
    /// # Errors
    /// As [`Ring::build`].
    pub fn change(&self, members: &[Member]) -> Result<Self, BuildError> {
        let (members, count) = build::checked(&self.settings, members)?;
        let difference = Difference::between(&self.settings, &self.members, &members);
        if difference.gone.len() + difference.fresh.len() > self.points.len() / 4 {
            return Self::build(&self.settings, &members);
        }
        let points = self.edited(&difference, count);
        let shift = build::prefix_shift(count);
        let prefixes = if shift == self.prefix_shift {
            self.edited_table(&difference)
        } else {
            build::prefix_table(&points, shift)
        };
        Ok(Self::of(&self.settings, members, points, prefixes, shift))
    }

    fn edited(&self, difference: &Difference, count: usize) -> Vec<u64> {
        let renumbering = difference.renumbering();
        let mut points = Vec::with_capacity(count);
        let copy = |points: &mut Vec<u64>, from: usize, to: usize| {
            let span = &self.points[from..to];
            match renumbering {
                Renumbering::None => points.extend_from_slice(span),
                Renumbering::Shift { from, by } => {
                    let shifted = |point: &u64| point.wrapping_add(if point & SLOT_MASK < from { 0 } else { by });
                    points.extend(span.iter().map(shifted));
                }
                Renumbering::Each => points.extend(span.iter().map(|point| difference.renumbered(*point))),
            }
        };
        let mut fresh = difference.fresh.iter().map(|point| (self.place_for(*point, difference), *point)).peekable();
        let mut taken = 0;
        for gone in self.indexes_of(&difference.gone).chain([self.points.len()]) {
            while let Some((at, point)) = fresh.next_if(|(at, _)| *at <= gone) {
                copy(&mut points, taken, at);
                points.push(point);
                taken = at;
            }
            copy(&mut points, taken, gone);
            taken = gone + 1;
        }
        points
    }

    /// Where these sorted points of this ring stand; one that is asked for twice stands there twice.
    fn indexes_of(&self, points: &[u64]) -> impl Iterator<Item = usize> {
        let mut last = None;
        points.iter().map(move |point| {
            let mut index = self.first_at(place_of(*point));
            while self.points[index] != *point || last.is_some_and(|last| index <= last) {
                index += 1;
            }
            last = Some(index);
            index
        })
    }

    /// The index of the first old point that a new one stands before.
    fn place_for(&self, fresh: u64, difference: &Difference) -> usize {
        let mut index = self.first_at(place_of(fresh));
        while index < self.points.len()
            && place_of(self.points[index]) == place_of(fresh)
            && difference.renumbered(self.points[index]) < fresh
        {
            index += 1;
        }
        index
    }

    /// The table with each entry raised by what comes and lowered by what goes before its prefix.
    fn edited_table(&self, difference: &Difference) -> Vec<u32> {
        let step = |point: &u64, step: i32| ((place_of(*point) >> self.prefix_shift) as usize + 1, step);
        let mut steps: Vec<(usize, i32)> = difference.fresh.iter().map(|point| step(point, 1)).collect();
        steps.extend(difference.gone.iter().map(|point| step(point, -1)));
        steps.sort_unstable();
        let mut table = Vec::with_capacity(self.prefixes.len());
        let mut moved = 0i32;
        for (prefix, step) in steps.into_iter().chain([(self.prefixes.len(), 0)]) {
            let span = &self.prefixes[table.len()..prefix];
            table.extend(span.iter().map(|first| first.wrapping_add_signed(moved)));
            moved += step;
        }
        table
    }
}

impl Difference {
    /// Both lists are in the order of ids.
    fn between(settings: &Settings, old: &[Member], new: &[Member]) -> Self {
        let mut difference = Self { slots: Vec::with_capacity(old.len()), ..Self::default() };
        let (mut old_slot, mut new_slot) = (0, 0);
        let points = |member: &Member| build::points_of(settings, member);
        loop {
            let (before, after) = (old.get(old_slot), new.get(new_slot));
            let order = match (before, after) {
                (None, None) => break,
                (Some(before), Some(after)) => before.id.cmp(&after.id),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
            };
            let before = before.filter(|_| order.is_le());
            let after = after.filter(|_| order.is_ge());
            let (had, has) = (before.map_or(0, points), after.map_or(0, points));
            if let Some(before) = before {
                difference.slots.push(new_slot as u32);
                build::add_points(settings, before, has.min(had)..had, old_slot as u64, &mut difference.gone);
                old_slot += 1;
            }
            if let Some(after) = after {
                build::add_points(settings, after, had.min(has)..has, new_slot as u64, &mut difference.fresh);
                new_slot += 1;
            }
        }
        sort::by_place(&mut difference.gone);
        sort::by_place(&mut difference.fresh);
        difference
    }

    fn renumbering(&self) -> Renumbering {
        let step = |old: usize| u64::from(self.slots[old]).wrapping_sub(old as u64);
        let Some(from) = (0..self.slots.len()).find(|old| step(*old) != 0) else { return Renumbering::None };
        let by = step(from);
        if (from..self.slots.len()).all(|old| step(old) == by) {
            Renumbering::Shift { from: from as u64, by }
        } else {
            Renumbering::Each
        }
    }

    /// An old point with its new slot.
    fn renumbered(&self, point: u64) -> u64 {
        point & !SLOT_MASK | u64::from(self.slots[slot_of(point).0 as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::EndpointId;

    fn member(id: &str, weight: u32) -> Member {
        Member { id: EndpointId::new(id), weight }
    }

    /// A ring of points made by hand, as `(place, slot)`.
    fn ring(members: Vec<Member>, points: &[(u64, u64)]) -> Ring {
        let points: Vec<u64> = points.iter().map(|(place, slot)| place << 24 | slot).collect();
        let shift = build::prefix_shift(points.len());
        let prefixes = build::prefix_table(&points, shift);
        Ring::of(&Settings::default(), members, points, prefixes, shift)
    }

    #[test]
    fn points_of_one_place_stay_in_the_order_of_ids() {
        // Three stand at place 5, b twice; b loses one of them, and another one elsewhere, while aa comes to place 5.
        let old = ring(
            vec![member("a", 1), member("b", 1), member("c", 1)],
            &[(2, 1), (5, 0), (5, 1), (5, 1), (5, 2), (9, 0)],
        );
        let point = |place: u64, slot: u64| place << 24 | slot;
        let difference = Difference {
            slots: vec![0, 2, 3],
            gone: vec![point(2, 1), point(5, 1)],
            fresh: vec![point(1, 1), point(5, 1), point(5, 1), point(10, 1)],
        };
        let points = old.edited(&difference, 8);
        let expected = [(1, 1), (5, 0), (5, 1), (5, 1), (5, 2), (5, 3), (9, 0), (10, 1)];
        assert_eq!(points, expected.map(|(place, slot)| point(place, slot)));
    }

    #[test]
    fn twins_go_both() {
        let old = ring(vec![member("a", 1), member("b", 1)], &[(5, 0), (5, 1), (5, 1), (6, 0)]);
        let difference = Difference { slots: vec![0, 1], gone: vec![5 << 24 | 1, 5 << 24 | 1], fresh: Vec::new() };
        assert_eq!(old.edited(&difference, 2), [5 << 24, 6 << 24]);
    }
}
