//! Words everyone uses: ids, hash, units, clock. Knows nothing of the rest of the crate.
pub mod address;
pub mod backoff;
pub mod clock;
pub mod dice;
pub mod files;
pub mod hash;
pub mod ids;
pub mod moment;
pub mod token;
pub mod units;
