//! Members and weights to sorted points. Previous rings are not known here.
use super::Member;
use super::PLACE_BITS;
use super::Ring;
use super::SLOT_BITS;
use super::ketama;
use super::place_of;
use super::settings::Algorithm;
use super::settings::Settings;
use super::sort;
use crate::base::ids::EndpointId;
use std::ops::Range;
use thiserror::Error;

/// Most points of a ring: 16 M, which are 192 MiB with their table.
pub const MAX_POINTS: usize = 1 << 24;
/// Largest weight.
pub const MAX_WEIGHT: u32 = 1000;

/// Why a ring cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BuildError {
    /// Two members have one id.
    #[error("two endpoints have the id {0}")]
    DuplicateId(EndpointId),
    /// A weight is out of range.
    #[error("the weight {1} of {0} is above {MAX_WEIGHT}")]
    Weight(EndpointId, u32),
    /// The ring would be too large.
    #[error("{0} points are more than {MAX_POINTS}")]
    TooManyPoints(usize),
    /// A setting is out of range.
    #[error("vnodes are 1 to 10000 and probes 1 to 8")]
    Settings,
    /// Ketama was asked for with settings of its own.
    #[error("ketama has 160 points for each unit of weight, one probe and no seed")]
    Ketama,
}

impl Ring {
    /// Builds a ring. Cost: a hash for each point and a sort in four passes; [`Ring::change`] is cheaper when there is one.
    ///
    /// # Errors
    /// When ids repeat, weights or settings are out of range, or there would be more than [`MAX_POINTS`] points.
    pub fn build(settings: &Settings, members: &[Member]) -> Result<Self, BuildError> {
        let (members, count) = checked(settings, members)?;
        let mut points = Vec::with_capacity(count);
        for (slot, member) in members.iter().enumerate() {
            add_points(settings, member, 0..points_of(settings, member), slot as u64, &mut points);
        }
        // Made slot by slot, so that points of one place are in the order of ids.
        sort::by_place(&mut points);
        let prefix_shift = prefix_shift(points.len());
        let prefixes = prefix_table(&points, prefix_shift);
        Ok(Self::of(settings, members, points, prefixes, prefix_shift))
    }

    /// Puts together what was made and sorted.
    pub(super) fn of(
        settings: &Settings,
        members: Vec<Member>,
        points: Vec<u64>,
        prefixes: Vec<u32>,
        prefix_shift: u32,
    ) -> Self {
        let live_members = members.iter().filter(|member| member.weight > 0).count() as u32;
        Self { settings: settings.clone(), members, points, prefixes, prefix_shift, live_members }
    }
}

/// The members in the order of ids, and how many points they have.
pub(super) fn checked(settings: &Settings, members: &[Member]) -> Result<(Vec<Member>, usize), BuildError> {
    if !(1..=10_000).contains(&settings.vnodes) || !(1..=8).contains(&settings.probes) {
        return Err(BuildError::Settings);
    }
    if settings.algorithm == Algorithm::Ketama && *settings != Settings::ketama() {
        return Err(BuildError::Ketama);
    }
    let mut members = members.to_vec();
    members.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    if let Some(pair) = members.windows(2).find(|pair| pair[0].id == pair[1].id) {
        return Err(BuildError::DuplicateId(pair[0].id.clone()));
    }
    if let Some(member) = members.iter().find(|member| member.weight > MAX_WEIGHT) {
        return Err(BuildError::Weight(member.id.clone(), member.weight));
    }
    let count = members.iter().map(|member| points_of(settings, member)).fold(0, usize::saturating_add);
    if count > MAX_POINTS || members.len() >= 1 << SLOT_BITS {
        return Err(BuildError::TooManyPoints(count));
    }
    Ok((members, count))
}

/// How many points a member has: never scaled by what others have.
pub(super) fn points_of(settings: &Settings, member: &Member) -> usize {
    settings.vnodes as usize * member.weight as usize
}

/// Adds the points of a member with these numbers, for its slot.
pub(super) fn add_points(
    settings: &Settings,
    member: &Member,
    numbers: Range<usize>,
    slot: u64,
    points: &mut Vec<u64>,
) {
    match settings.algorithm {
        Algorithm::Ringway => add_ringway_points(settings, member, numbers, slot, points),
        Algorithm::Ketama => ketama::add_points(member.id.as_str(), numbers, slot, points),
    }
}

/// Point i: `H("p1" 0x00 id 0x00 u32le(i)) >> 24`.
fn add_ringway_points(settings: &Settings, member: &Member, numbers: Range<usize>, slot: u64, points: &mut Vec<u64>) {
    let mut text = Vec::with_capacity(member.id.as_str().len() + 8);
    text.extend_from_slice(b"p1\0");
    text.extend_from_slice(member.id.as_str().as_bytes());
    text.extend_from_slice(b"\0\0\0\0\0");
    let number_at = text.len() - 4;
    for number in numbers {
        text[number_at..].copy_from_slice(&(number as u32).to_le_bytes());
        // Shifting out 24 bits and in as many leaves room for the slot.
        let place = settings.hash.hash(&text) >> SLOT_BITS;
        points.push(place << SLOT_BITS | slot);
    }
}

/// How far a place is shifted for its entry of the table: about one entry for each point.
pub(super) fn prefix_shift(count: usize) -> u32 {
    let bits = usize::BITS - count.leading_zeros();
    PLACE_BITS - bits.min(24)
}

/// For each prefix, how many points have a smaller one: a look-up reads one entry and one or two points.
pub(super) fn prefix_table(points: &[u64], shift: u32) -> Vec<u32> {
    let mut table = vec![0u32; (1 << (PLACE_BITS - shift)) + 1];
    for point in points {
        table[(place_of(*point) >> shift) as usize + 1] += 1;
    }
    table.pop();
    let mut sum = 0;
    for entry in &mut table {
        sum += *entry;
        *entry = sum;
    }
    table
}

/// Whether `table` is what [`prefix_table`] makes of these points.
pub(super) fn is_prefix_table(table: &[u32], points: &[u64], shift: u32) -> bool {
    let prefix = |index: usize| place_of(points[index]) >> shift;
    let is_right = |(wanted, first): (usize, &u32)| {
        let (wanted, first) = (wanted as u64, *first as usize);
        first <= points.len()
            && (first == 0 || prefix(first - 1) < wanted)
            && (first == points.len() || prefix(first) >= wanted)
    };
    shift == prefix_shift(points.len())
        && table.len() == 1 << (PLACE_BITS - shift)
        && table.iter().enumerate().all(is_right)
}
