//! Members and weights to sorted points. Previous rings are not known here.
use super::Member;
use super::PLACE_BITS;
use super::Ring;
use super::SLOT_BITS;
use super::ketama;
use super::place_of;
use super::settings::Algorithm;
use super::settings::Settings;
use crate::base::ids::EndpointId;
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
    /// Builds a ring. Cost: a hash for each point and a sort, about 4.5 ms for 1,000 endpoints of 160 points.
    ///
    /// # Errors
    /// When ids repeat, weights or settings are out of range, or there would be more than [`MAX_POINTS`] points.
    pub fn build(settings: &Settings, members: &[Member]) -> Result<Self, BuildError> {
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
        let mut points = Vec::with_capacity(count);
        for (slot, member) in members.iter().enumerate() {
            add_points(settings, member, slot as u64, &mut points);
        }
        points.sort_unstable();
        let live_members = members.iter().filter(|member| member.weight > 0).count() as u32;
        let (prefixes, prefix_shift) = prefix_table(&points);
        Ok(Self { settings: settings.clone(), members, points, prefixes, prefix_shift, live_members })
    }
}

/// How many points a member has: never scaled by what others have.
pub(super) fn points_of(settings: &Settings, member: &Member) -> usize {
    settings.vnodes as usize * member.weight as usize
}

fn add_points(settings: &Settings, member: &Member, slot: u64, points: &mut Vec<u64>) {
    match settings.algorithm {
        Algorithm::Ringway => add_ringway_points(settings, member, slot, points),
        Algorithm::Ketama => ketama::add_points(member.id.as_str(), points_of(settings, member), slot, points),
    }
}

/// Point i: `H("p1" 0x00 id 0x00 u32le(i)) >> 24`.
fn add_ringway_points(settings: &Settings, member: &Member, slot: u64, points: &mut Vec<u64>) {
    let mut text = Vec::with_capacity(member.id.as_str().len() + 8);
    text.extend_from_slice(b"p1\0");
    text.extend_from_slice(member.id.as_str().as_bytes());
    text.extend_from_slice(b"\0\0\0\0\0");
    let number_at = text.len() - 4;
    for number in 0..points_of(settings, member) as u32 {
        text[number_at..].copy_from_slice(&number.to_le_bytes());
        // Shifting out 24 bits and in as many leaves room for the slot.
        let place = settings.hash.hash(&text) >> SLOT_BITS;
        points.push(place << SLOT_BITS | slot);
    }
}

/// About one entry for each point, so that a look-up reads one entry and one or two points.
pub(super) fn prefix_table(points: &[u64]) -> (Vec<u32>, u32) {
    let bits = usize::BITS - points.len().leading_zeros();
    let shift = PLACE_BITS - bits.min(24);
    let size = 1usize << (PLACE_BITS - shift);
    let mut table = Vec::with_capacity(size);
    let mut index = 0;
    for prefix in 0..size {
        while index < points.len() && place_of(points[index]) >> shift < prefix as u64 {
            index += 1;
        }
        table.push(index as u32);
    }
    (table, shift)
}
