//! Words everyone uses: ids, hash, units, clock, backoff, drain. Knows nothing of the rest of the crate.
pub mod backoff;
pub mod clock;
pub mod drain;
pub mod hash;
pub mod ids;
pub mod units;
