//! Operators' door: a JSON API on a separate address.
pub mod settings;
