//! Try again? Pure: no pool, no ring, no sleeping.
pub mod policy;
