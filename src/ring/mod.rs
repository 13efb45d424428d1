//! Which endpoint does this key belong to. Pure: no health, no HTTP, no addresses, no async.
pub mod settings;
