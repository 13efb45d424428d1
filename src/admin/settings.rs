//! Where operators come in.
use std::net::SocketAddr;

/// The admin interface, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where it listens: a loopback address (default `127.0.0.1:9900`).
    pub address: SocketAddr,
}

impl Default for Settings {
    fn default() -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], 9900)) }
    }
}
