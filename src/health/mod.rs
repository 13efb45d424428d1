//! May this endpoint get requests. Pure: no sockets, no clock, no ring.
pub mod floor;
pub mod outlier;
pub mod streak;
