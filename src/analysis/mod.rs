//! PURE answers about rings, for commands and the admin interface alike.
pub mod explain;
pub mod plan;
pub mod reckon;
pub mod replay;
pub mod ring;
pub mod traffic;
