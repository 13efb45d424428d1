//! Exact shares of the key space, and how much of it moves between two rings of the same settings.
//!
//! With one probe a point's share is its arc. With two independent probes the nearer point wins: the share of a point whose arc
//! (distance to its predecessor, as a fraction of the circle) is L is `2L - 2*sum_q G(L, L_q)` over all points q, with
//! `G(L, L_q) = L^2/2 if L_q >= L else L_q*L - L_q^2/2`. More probes are sampled.
use super::Ring;
use super::place_of;
use super::slot_of;
use crate::base::hash::mix64;
use crate::base::ids::EndpointId;
use std::collections::HashMap;
use std::collections::HashSet;

/// Keys that are looked up where no closed form is known; the error is about 0.0003.
const SAMPLES: u64 = 1 << 20;
/// Changed endpoints for which the closed form is worked out; each costs a pass over all points.
const MAX_EXACT: usize = 64;

/// The share of the key space each endpoint owns, in slot order; together 1 unless the ring is empty.
pub fn shares(ring: &Ring) -> Vec<f64> {
    let mut shares = vec![0.0; ring.members.len()];
    if ring.settings.probes > 2 {
        for number in 0..SAMPLES {
            if let Some(owner) = ring.owner(mix64(number + 1)) {
                shares[owner.0 as usize] += 1.0 / SAMPLES as f64;
            }
        }
        return shares;
    }
    let weigh = point_shares(&ring.points, ring.settings.probes);
    for (point, share) in ring.points.iter().zip(weigh) {
        shares[slot_of(*point).0 as usize] += share;
    }
    shares
}

/// The largest share of an endpoint, by weight, over the mean: 1 is even.
pub fn peak_to_mean(ring: &Ring) -> f64 {
    let total: f64 = ring.members.iter().map(|member| f64::from(member.weight)).sum();
    let shares = shares(ring);
    let live = ring.members.iter().zip(shares).filter(|(member, _)| member.weight > 0);
    live.map(|(member, share)| share * total / f64::from(member.weight)).fold(0.0, f64::max)
}

/// The share of the key space whose owner differs between two rings, 0 to 1.
pub fn moved(before: &Ring, after: &Ring) -> f64 {
    if before.settings != after.settings || before.settings.probes > 2 {
        return sampled(before, after);
    }
    if before.points.is_empty() || after.points.is_empty() {
        return if before.points.len() == after.points.len() { 0.0 } else { 1.0 };
    }
    let old: HashMap<&EndpointId, u32> = before.members.iter().map(|member| (&member.id, member.weight)).collect();
    let new: HashMap<&EndpointId, u32> = after.members.iter().map(|member| (&member.id, member.weight)).collect();
    let changed: HashSet<&EndpointId> =
        old.keys().chain(new.keys()).copied().filter(|id| old.get(id) != new.get(id)).collect();
    if changed.len() > MAX_EXACT {
        return sampled(before, after);
    }
    let union = Union::of(before, after);
    let mut unmoved = 0.0;
    let weigh = point_shares(&union.places, before.settings.probes);
    for (owner, share) in union.owners.iter().zip(&weigh) {
        if !changed.contains(owner.id) {
            unmoved += share;
        }
    }
    // A changed endpoint keeps what its common points own in the union without the points it gained or lost itself.
    for id in changed {
        let kept = union.without_own_changes(id);
        let places: Vec<u64> = kept.iter().map(|(place, _)| *place).collect();
        let weigh = point_shares(&places, before.settings.probes);
        unmoved += kept.iter().zip(weigh).filter(|((_, is_own), _)| *is_own).map(|(_, share)| share).sum::<f64>();
    }
    (1.0 - unmoved).clamp(0.0, 1.0)
}

fn sampled(before: &Ring, after: &Ring) -> f64 {
    let owner = |ring: &Ring, key| ring.owner(key).map(|slot| ring.id(slot).clone());
    let moved = (0..SAMPLES / 8).filter(|number| {
        let key = mix64(number + 1);
        owner(before, key) != owner(after, key)
    });
    moved.count() as f64 / (SAMPLES / 8) as f64
}

/// The points of two rings together, each once.
struct Union<'a> {
    places: Vec<u64>,
    owners: Vec<Owner<'a>>,
}

struct Owner<'a> {
    id: &'a EndpointId,
    is_common: bool,
}

impl<'a> Union<'a> {
    fn of(before: &'a Ring, after: &'a Ring) -> Self {
        let mut all: Vec<(u64, &EndpointId, bool)> = Vec::with_capacity(before.points.len() + after.points.len());
        for (ring, is_after) in [(before, false), (after, true)] {
            all.extend(ring.points.iter().map(|point| (place_of(*point), ring.id(slot_of(*point)), is_after)));
        }
        all.sort_unstable();
        let mut union = Self { places: Vec::new(), owners: Vec::new() };
        let mut at = 0;
        while at < all.len() {
            let (place, id, is_after) = all[at];
            // The same point in both rings stands side by side, first the old one.
            let is_common = !is_after && all.get(at + 1).is_some_and(|next| *next == (place, id, true));
            union.places.push(place << super::SLOT_BITS);
            union.owners.push(Owner { id, is_common });
            at += if is_common { 2 } else { 1 };
        }
        union
    }

    fn without_own_changes(&self, id: &EndpointId) -> Vec<(u64, bool)> {
        let points = self.places.iter().zip(&self.owners);
        points
            .filter(|(_, owner)| owner.id != id || owner.is_common)
            .map(|(place, owner)| (*place, owner.id == id))
            .collect()
    }
}

/// The share of each of the sorted points.
fn point_shares(points: &[u64], probes: u32) -> Vec<f64> {
    let circle = (1u64 << super::PLACE_BITS) as f64;
    let arc = |index: usize| {
        let place = place_of(points[index]);
        let previous = place_of(points[if index == 0 { points.len() - 1 } else { index - 1 }]);
        // A single point has the whole circle.
        let distance =
            if points.len() == 1 { 1 << super::PLACE_BITS } else { place.wrapping_sub(previous) & super::PLACE_MASK };
        distance as f64 / circle
    };
    let arcs: Vec<f64> = (0..points.len()).map(arc).collect();
    if probes == 1 {
        return arcs;
    }
    let mut sorted = arcs.clone();
    sorted.sort_unstable_by(f64::total_cmp);
    // Sums over the arcs below a length: of L_q, and of L_q^2 / 2.
    let mut sums = Vec::with_capacity(sorted.len() + 1);
    let (mut linear, mut square) = (0.0, 0.0);
    sums.push((linear, square));
    for length in &sorted {
        linear += length;
        square += length * length / 2.0;
        sums.push((linear, square));
    }
    let share = |length: &f64| {
        let below = sorted.partition_point(|other| other < length);
        let (linear, square) = sums[below];
        let above = (sorted.len() - below) as f64;
        2.0 * length - 2.0 * (above * length * length / 2.0 + linear * length - square)
    };
    arcs.iter().map(share).collect()
}
