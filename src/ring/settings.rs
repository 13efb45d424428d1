//! What decides a ring beside its members.
use crate::base::hash::PlacementHash;

/// How an upstream's endpoints are placed. Two rings agree only when all of this is equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Which placement.
    pub algorithm: Algorithm,
    /// Points of an endpoint for each unit of its weight, 1 to 10,000. Never scaled by the number of endpoints.
    pub vnodes: u32,
    /// Places a key is looked up from, 1 to 8; the nearest point wins.
    pub probes: u32,
    /// The hash: a public seed or a secret.
    pub hash: PlacementHash,
}

impl Settings {
    /// Those of `ketama`, which has no others.
    pub fn ketama() -> Self {
        Self {
            algorithm: Algorithm::Ketama,
            vnodes: super::ketama::POINTS_PER_WEIGHT,
            probes: 1,
            hash: PlacementHash::Crc32,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { algorithm: Algorithm::Ringway, vnodes: 160, probes: 2, hash: PlacementHash::default() }
    }
}

/// The placement algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Virtual nodes with several probes, placement version 1.
    Ringway,
    /// Keys have the first owner that nginx's `hash KEY consistent` gives them: see [`ketama`](super::ketama).
    Ketama,
}

impl Algorithm {
    /// As the configuration writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ringway => "ringway",
            Self::Ketama => "ketama",
        }
    }
}
