//! Start, replace, stop. Knows no requests.
pub mod settings;
