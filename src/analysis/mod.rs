//! PURE answers about rings, for commands and the admin interface alike.
pub mod explain;
pub mod plan;
pub mod ring;
