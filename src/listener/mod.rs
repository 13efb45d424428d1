//! Front doors. Knows no routes and no upstreams.
pub mod settings;
