//! Who loses keys and who gains them when one ring follows another.
use super::EndpointPlan;
use super::Fate;
use super::Pair;
use super::world::Built;
use crate::ring::movement;
use crate::ring::movement::Kept;
use std::collections::BTreeMap;

/// What changes hands. All shares are of the key space, 0 to 1.
#[derive(Debug)]
pub(super) struct Handover {
    pub moved: f64,
    /// What has to move at least for the shares that endpoints will have.
    pub least: f64,
    pub excess: f64,
    pub is_exact: bool,
    /// By id.
    pub endpoints: Vec<EndpointPlan>,
}

/// What changes hands between two rings. Keys of an upstream that goes all move; one that comes takes none from an endpoint.
pub(super) fn handover(before: Option<&Built>, after: Option<&Built>) -> Handover {
    let (kept, moved, is_exact) = match (before, after) {
        (Some(old), Some(new)) if old.ring == new.ring => (old.shares.clone(), 0.0, true),
        (Some(old), Some(new)) => {
            let Kept { shares, is_exact } = movement::kept(&old.ring, &new.ring);
            let has_points = old.ring.point_count() + new.ring.point_count() > 0;
            let moved = if has_points { 1.0 - shares.iter().sum::<f64>() } else { 0.0 };
            (shares, moved, is_exact)
        }
        (Some(_), None) => (Vec::new(), 1.0, true),
        (None, _) => (Vec::new(), 0.0, true),
    };
    let mut endpoints = Vec::new();
    for (slot, (id, side)) in sides(before, after).into_iter().enumerate() {
        endpoints.push(side.endpoint(id, kept.get(slot).copied().unwrap_or(0.0)));
    }
    let share = |share: Option<f64>| share.unwrap_or(0.0);
    let shrinks = |it: &EndpointPlan| (share(it.share.before) - share(it.share.after)).max(0.0);
    let moved = clean(moved);
    // What moves is never less; rounding could make it look so.
    let least = clean(endpoints.iter().map(shrinks).sum::<f64>()).min(moved);
    Handover { moved, least, excess: clean(moved - least), is_exact, endpoints }
}

/// A share without the noise of adding up many.
fn clean(share: f64) -> f64 {
    if share < 1e-9 { 0.0 } else { share.min(1.0) }
}

/// An endpoint's weight and share in either ring.
#[derive(Default)]
struct Side {
    before: Option<(u32, f64)>,
    after: Option<(u32, f64)>,
}

/// The endpoints of two rings, in the order of ids.
fn sides<'a>(before: Option<&'a Built>, after: Option<&'a Built>) -> BTreeMap<&'a str, Side> {
    let mut sides: BTreeMap<&str, Side> = BTreeMap::new();
    for (member, share) in before.iter().flat_map(|built| built.endpoints()) {
        sides.entry(member.id.as_str()).or_default().before = Some((member.weight, share));
    }
    for (member, share) in after.iter().flat_map(|built| built.endpoints()) {
        sides.entry(member.id.as_str()).or_default().after = Some((member.weight, share));
    }
    sides
}

impl Side {
    fn endpoint(self, id: &str, kept: f64) -> EndpointPlan {
        let weight = |side: Option<(u32, f64)>| side.map(|(weight, _)| weight);
        let share = |side: Option<(u32, f64)>| side.map(|(_, share)| share);
        let moves = |side: Option<(u32, f64)>| clean(share(side).unwrap_or(0.0) - kept);
        EndpointPlan {
            id: id.to_string(),
            change: match (weight(self.before), weight(self.after)) {
                (None, _) => Fate::Added,
                (_, None) => Fate::Removed,
                (before, after) if before == after => Fate::Same,
                _ => Fate::Changed,
            },
            weight: Pair { before: weight(self.before), after: weight(self.after) },
            share: Pair { before: share(self.before), after: share(self.after) },
            gains: moves(self.after),
            loses: moves(self.before),
        }
    }
}
