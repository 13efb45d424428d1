//! Sockets and TLS. Knows no HTTP, no routes, no upstreams.
pub mod certs;
pub mod pipe;
pub mod proxy_protocol;
pub mod settings;
pub mod socket;
pub mod stream;
pub mod subject;
pub mod tls_client;
pub mod tls_server;
pub mod unix;
