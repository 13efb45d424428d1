//! A hash of everything that decides ownership: two proxies with the same one give every key to the same endpoint.
use super::Member;
use super::settings::Settings;
use crate::base::hash::PLACEMENT_VERSION;
use crate::base::hash::PlacementHash;
use std::fmt;

/// What decides ownership, in 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub u64);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The fingerprint of a ring of these members. Members of weight 0 own nothing and are left out; order does not matter.
pub fn of(settings: &Settings, members: &[Member]) -> Fingerprint {
    let mut text = format!(
        "v{PLACEMENT_VERSION}\0{}\0{}\0{}\0{}\0",
        settings.algorithm.as_str(),
        settings.vnodes,
        settings.probes,
        hash_name(&settings.hash),
    );
    let mut members: Vec<&Member> = members.iter().filter(|member| member.weight > 0).collect();
    members.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    for member in members {
        text.push_str(&format!("{}\0{}\0", member.id, member.weight));
    }
    Fingerprint(PlacementHash::Seeded(0).hash(text.as_bytes()))
}

/// What decides ownership beside the members, for people: `ringway, 160 vnodes, 2 probes, seed 0`.
pub fn settings_text(settings: &Settings) -> String {
    let Settings { algorithm, vnodes, probes, hash } = settings;
    format!("{}, {vnodes} vnodes, {probes} probes, {}", algorithm.as_str(), hash_name(hash))
}

/// Tells hashes apart without giving a secret away: a keyed one is named by what it makes of a fixed text.
fn hash_name(hash: &PlacementHash) -> String {
    match hash {
        PlacementHash::Seeded(seed) => format!("seed {seed}"),
        PlacementHash::Crc32 => "crc32".to_string(),
        PlacementHash::Keyed(_) => format!("keyed {:016x}", hash.hash(b"ringway fingerprint")),
    }
}
