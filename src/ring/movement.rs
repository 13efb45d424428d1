//! Exact shares of the key space, and how much of it moves between two rings of the same settings.
//!
//! Let a point's arc be the part of the circle before it that it is the first point of. A probe that falls anywhere is farther
//! than x from its point with the chance `S(x) = sum over all arcs q of max(0, q - x)`. With k independent probes the nearest
//! wins, so a point with an arc of length L owns `k * integral from 0 to L of S(x)^(k-1) dx`: its arc with one probe, less than
//! in proportion for long arcs with more. Between two lengths that occur S is a straight line, so one pass over the sorted
//! arcs gives all shares.
//!
//! What an endpoint keeps when rings change is what its points in both rings own in the union of the two rings, without the
//! points that it alone gained or lost: others' points there take from it in one ring or the other.
use super::Member;
use super::PLACE_BITS;
use super::Ring;
use super::SLOT_BITS;
use super::SLOT_MASK;
use super::place_of;
use super::slot_of;
use super::sort;
use super::union::Members;
use super::union::Touched;
use super::union::Union;
use crate::base::hash::mix64;

/// Keys that are looked up where no closed form is known; the error is about 0.001.
const SAMPLES: u64 = 1 << 17;
/// Points of re-weighted endpoints up to which movement is exact: more would take longer than a reload should.
const MAX_TOUCHED: usize = 1 << 20;

/// The share of the key space each endpoint owns, in slot order; together 1 unless the ring is empty.
pub fn shares(ring: &Ring) -> Vec<f64> {
    let mut shares = vec![0.0; ring.members.len()];
    let visit = |owned: Owned| shares[owned.slot] += owned.share;
    sweep(&ring.points, &sorted_arcs(&ring.points), &[], ring.settings.probes, visit);
    shares
}

/// The largest share of an endpoint, by weight, over the mean: 1 is even.
pub fn peak_to_mean(members: &[Member], shares: &[f64]) -> f64 {
    let total: f64 = members.iter().map(|member| f64::from(member.weight)).sum();
    let live = members.iter().zip(shares).filter(|(member, _)| member.weight > 0);
    live.map(|(member, share)| share * total / f64::from(member.weight)).fold(0.0, f64::max)
}

/// The share of the key space whose owner differs between two rings, 0 to 1. As exact as [`kept`].
pub fn moved(before: &Ring, after: &Ring) -> f64 {
    if before.points.is_empty() || after.points.is_empty() {
        return if before.points.len() == after.points.len() { 0.0 } else { 1.0 };
    }
    (1.0 - kept(before, after).shares.iter().sum::<f64>()).clamp(0.0, 1.0)
}

/// What endpoints keep when one ring follows another.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// The share of the key space that stays with each endpoint of either ring, in the order of ids.
    pub shares: Vec<f64>,
    /// Whether these are exact, not counted on samples.
    pub is_exact: bool,
}

/// What each endpoint keeps. Exact when the rings' settings are equal, unless weights change and there are more than two probes,
/// or more than a million points of such endpoints: then keys are sampled, to about 0.001.
pub fn kept(before: &Ring, after: &Ring) -> Kept {
    let probes = before.settings.probes;
    let union = (before.settings == after.settings).then(|| Union::of(before, after));
    let is_exact = |union: &Union| union.touched.len() <= MAX_TOUCHED && (probes <= 2 || union.reweighted.is_empty());
    match union.filter(is_exact) {
        Some(union) => Kept { shares: exact(&union, probes), is_exact: true },
        None => Kept { shares: sampled(before, after), is_exact: false },
    }
}

fn exact(union: &Union, probes: u32) -> Vec<f64> {
    let mut kept = vec![0.0; union.is_unchanged.len()];
    let Recut { alone, lengths } = Recut::of(union, probes);
    let visit = |Owned { slot, share, is_recut }: Owned| {
        if is_recut || union.is_unchanged[slot] {
            kept[slot] += share;
        }
    };
    sweep(&union.points, &sorted_arcs(&union.points), &lengths, probes, visit);
    for (slot, share) in alone {
        kept[slot] += share;
    }
    kept
}

fn sampled(before: &Ring, after: &Ring) -> Vec<f64> {
    let members = Members::of(&before.members, &after.members);
    let mut kept = vec![0.0; members.is_unchanged.len()];
    for number in 0..SAMPLES {
        let key = mix64(number + 1);
        let was = before.owner(key).map(|slot| members.old_slots[slot.0 as usize]);
        let is = after.owner(key).map(|slot| members.new_slots[slot.0 as usize]);
        if let (true, Some(slot)) = (was == is, was) {
            kept[slot as usize] += 1.0 / SAMPLES as f64;
        }
    }
    kept
}

/// Each point's arc, shortest first, packed as points are: its length, then the point's slot. Nothing when all points stand
/// at one place.
fn sorted_arcs(points: &[u64]) -> Vec<u64> {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return Vec::new() };
    if place_of(*first) == place_of(*last) {
        return Vec::new();
    }
    let mut arcs = Vec::with_capacity(points.len());
    let mut before = *last;
    for point in points {
        arcs.push((point & !SLOT_MASK).wrapping_sub(before & !SLOT_MASK) | point & SLOT_MASK);
        before = *point;
    }
    sort::by_place(&mut arcs);
    arcs
}

/// A packed arc's length as a fraction of the circle.
fn length_of(arc: u64) -> f64 {
    place_of(arc) as f64 / (1u64 << PLACE_BITS) as f64
}

/// What a point owns, or would with an arc of another length.
struct Owned {
    slot: usize,
    share: f64,
    /// The length was given, not the point's own.
    is_recut: bool,
}

/// Visits what each point owns, and what each further arc would own.
fn sweep(points: &[u64], arcs: &[u64], further: &[u64], probes: u32, mut visit: impl FnMut(Owned)) {
    if let (true, Some(first)) = (arcs.is_empty(), points.first()) {
        // The first of those at one place is the nearest from everywhere.
        return visit(Owned { slot: slot_of(*first).0 as usize, share: 1.0, is_recut: false });
    }
    let owned = |arc: u64, share: f64, is_recut| Owned { slot: (arc & SLOT_MASK) as usize, share, is_recut };
    let mut further = further.iter().peekable();
    let mut so_far = Swept { length: 0.0, share: 0.0, chance: 1.0, longer: arcs.len() as f64 };
    for arc in arcs {
        while let Some(recut) = further.next_if(|recut| place_of(**recut) <= place_of(*arc)) {
            visit(owned(*recut, so_far.at(length_of(*recut), probes).share, true));
        }
        so_far = so_far.at(length_of(*arc), probes);
        so_far.longer -= 1.0;
        visit(owned(*arc, so_far.share, false));
    }
    // Longer than all arcs: no probe is as far from its point, which matters only when there are several.
    further.for_each(|recut| visit(owned(*recut, so_far.at(length_of(*recut), probes).share, true)));
}

/// How far a sweep over the sorted arcs has come.
#[derive(Clone, Copy)]
struct Swept {
    length: f64,
    /// What a point with an arc of this length owns.
    share: f64,
    /// S at this length.
    chance: f64,
    /// Arcs that are longer, or as long and not yet passed.
    longer: f64,
}

impl Swept {
    /// On to a length up to which no arc ends: S is a straight line on the way.
    fn at(self, length: f64, probes: u32) -> Self {
        let step = length - self.length;
        let chance = (self.chance - self.longer * step).max(0.0);
        // k times the mean of the line's (k-1)th power, as a sum of products of its ends.
        let (mut powers, mut power) = (1.0, 1.0);
        for _ in 1..probes {
            power *= self.chance;
            powers = powers * chance + power;
        }
        Self { length, share: self.share + step * powers, chance, longer: self.longer }
    }
}

/// What re-weighted endpoints keep: each sees the union without the points that it alone has, where arcs are cut differently.
#[derive(Default)]
struct Recut {
    /// The arcs of their common points as they see them, packed with their slots and sorted: what these own in the union's own
    /// arcs is theirs.
    lengths: Vec<u64>,
    /// And what each slot owns more because arcs are cut differently.
    alone: Vec<(usize, f64)>,
}

impl Recut {
    fn of(union: &Union, probes: u32) -> Self {
        let mut recut = Self::default();
        for points in &union.reweighted {
            recut.add(union, &union.touched[points.clone()], probes);
        }
        sort::by_place(&mut recut.lengths);
        recut
    }

    fn add(&mut self, union: &Union, points: &[Touched], probes: u32) {
        let mut own: Vec<usize> = points.iter().filter(|point| !point.is_common).map(|point| point.index).collect();
        let next = |index: &usize| (index + 1) % union.points.len();
        // Begins with the first of a run of neighbours on the circle, so that no run is cut in two.
        let first = (0..own.len()).find(|at| next(&own[(at + own.len() - 1) % own.len()]) != own[*at]).unwrap_or(0);
        own.rotate_left(first);
        let mut changes: Vec<(u64, f64)> = Vec::new();
        let mut longer: Vec<(usize, u64)> = Vec::new();
        for run in own.chunk_by(|index, other| next(index) == *other) {
            // The arcs of a run of own points fall to the point after it.
            let after = next(&run[run.len() - 1]);
            let arcs = run.iter().copied().chain([after]).map(|index| union.arc(index));
            changes.extend(arcs.clone().map(|arc| (arc, -1.0)));
            let whole = arcs.sum();
            changes.push((whole, 1.0));
            longer.push((after, whole));
        }
        longer.sort_unstable_by_key(|(index, _)| *index);
        let changes = Sums::of(changes);
        let mut alone = 0.0;
        for point in points.iter().filter(|point| point.is_common) {
            let found = longer.binary_search_by_key(&point.index, |(index, _)| *index);
            let length = found.map_or_else(|_| union.arc(point.index), |found| longer[found].1);
            self.lengths.push(length << SLOT_BITS | u64::from(point.slot));
            if probes == 2 {
                alone += 2.0 * changes.integral(length);
            }
        }
        self.alone.extend(points.first().map(|point| (point.slot as usize, alone)));
    }
}

/// Sums over arcs up to each one, shortest first: of their signs, their lengths, and half the squares of these.
struct Sums {
    lengths: Vec<u64>,
    before: Vec<[f64; 3]>,
}

impl Sums {
    /// Of lengths, each counted with its sign.
    fn of(mut arcs: Vec<(u64, f64)>) -> Self {
        arcs.sort_unstable_by_key(|(length, _)| *length);
        let mut sum = [0.0; 3];
        let mut before = vec![sum];
        for (length, sign) in &arcs {
            let length = length_of(length << SLOT_BITS);
            sum = [sum[0] + sign, sum[1] + sign * length, sum[2] + sign * length * length / 2.0];
            before.push(sum);
        }
        Self { lengths: arcs.into_iter().map(|(length, _)| length).collect(), before }
    }

    /// The integral from 0 to `length` of `sum over arcs q of max(0, q - x)`.
    fn integral(&self, length: u64) -> f64 {
        let below = self.before[self.lengths.partition_point(|other| *other < length)];
        let all = self.before[self.lengths.len()];
        let length = length_of(length << SLOT_BITS);
        below[2] + (all[1] - below[1]) * length - (all[0] - below[0]) * length * length / 2.0
    }
}
