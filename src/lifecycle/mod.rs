//! Start, replace, stop. Knows no requests.
pub mod descriptors;
pub mod handoff;
pub mod inheritance;
pub mod program;
pub mod settings;
pub mod shutdown;
pub mod signals;
pub mod systemd;
pub mod upgrade;
