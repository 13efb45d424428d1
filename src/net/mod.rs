//! Sockets and TLS. Knows no HTTP, no routes, no upstreams.
pub mod settings;
