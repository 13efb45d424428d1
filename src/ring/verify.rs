//! Is this ring fit to publish: every eligible member is there with its points, and walks reach all. Costs a few passes over
//! the points and a few walks; nothing is built twice.
use super::Member;
use super::Ring;
use super::build;
use super::slot_of;
use crate::base::hash::mix64;
use crate::base::ids::EndpointId;
use thiserror::Error;

/// Keys whose walks are tried, fewer for large rings.
const MAX_WALKS: usize = 256;

/// Members of which points are made anew, and how many of each.
const MAX_REMADE: usize = 64;

/// What is wrong with a ring.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum VerifyError {
    /// The members are not those it should be made of.
    #[error("the ring's members are not those of the upstream")]
    Members,
    /// The points are not in order, or twice the same.
    #[error("the ring's points are not in order")]
    Order,
    /// A member has not the points it should have.
    #[error("{id} has {found} points instead of {expected}")]
    Points {
        /// Whose.
        id: EndpointId,
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// A member's point is not where it should be.
    #[error("a point of {0} is not where it should be")]
    Place(EndpointId),
    /// A point belongs to nobody.
    #[error("a point belongs to nobody")]
    Stray,
    /// The table of first points is wrong.
    #[error("the ring's table is wrong")]
    Table,
    /// A walk does not reach everybody exactly once.
    #[error("a walk does not reach every endpoint once")]
    Walk,
}

/// Checks `ring` against what it should have been built of.
///
/// # Errors
/// The first thing found wrong.
pub fn verify(ring: &Ring, members: &[Member]) -> Result<(), VerifyError> {
    let mut expected = members.to_vec();
    expected.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    if expected != ring.members {
        return Err(VerifyError::Members);
    }
    if ring.points.windows(2).any(|pair| pair[0] > pair[1]) {
        return Err(VerifyError::Order);
    }
    check_points(ring)?;
    check_places(ring)?;
    if !build::is_prefix_table(&ring.prefixes, &ring.points, ring.prefix_shift) {
        return Err(VerifyError::Table);
    }
    check_walks(ring)
}

fn check_points(ring: &Ring) -> Result<(), VerifyError> {
    let mut found = vec![0usize; ring.members.len()];
    for point in &ring.points {
        *found.get_mut(slot_of(*point).0 as usize).ok_or(VerifyError::Stray)? += 1;
    }
    for (member, found) in ring.members.iter().zip(found) {
        let expected = build::points_of(&ring.settings, member);
        if found != expected {
            return Err(VerifyError::Points { id: member.id.clone(), found, expected });
        }
    }
    let live = ring.members.iter().filter(|member| member.weight > 0).count();
    if live == ring.live_members as usize { Ok(()) } else { Err(VerifyError::Members) }
}

/// Some points of some members are made anew and looked for.
fn check_places(ring: &Ring) -> Result<(), VerifyError> {
    let step = ring.members.len().div_ceil(MAX_REMADE).max(1);
    for (slot, member) in ring.members.iter().enumerate().step_by(step) {
        let numbers = 0..build::points_of(&ring.settings, member).min(MAX_REMADE);
        let mut points = Vec::with_capacity(numbers.end);
        build::add_points(&ring.settings, member, numbers, slot as u64, &mut points);
        if points.iter().any(|point| ring.points.binary_search(point).is_err()) {
            return Err(VerifyError::Place(member.id.clone()));
        }
    }
    Ok(())
}

fn check_walks(ring: &Ring) -> Result<(), VerifyError> {
    let walks = (100_000 / ring.points.len().max(1)).clamp(1, MAX_WALKS);
    for number in 0..walks as u64 {
        let mut reached: Vec<_> = ring.candidates(mix64(number + 1)).collect();
        let count = reached.len();
        reached.sort_unstable();
        reached.dedup();
        let is_live = |slot: &super::Slot| ring.members[slot.0 as usize].weight > 0;
        if count != ring.live_members() || reached.len() != count || !reached.iter().all(is_live) {
            return Err(VerifyError::Walk);
        }
    }
    Ok(())
}
