//! Start, replace, stop. Knows no requests.
pub mod descriptors;
pub mod settings;
pub mod shutdown;
pub mod signals;
pub mod systemd;
