//! Where operators come in, and who is one.
use crate::base::token::Token;
use crate::net::tls_server::TlsServer;
use std::net::SocketAddr;
use std::sync::Arc;

/// The admin interface, as written.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where it listens; without a token a loopback address (default `127.0.0.1:9900`).
    pub address: SocketAddr,
    /// What callers must know; `None`: whoever reaches the address may call.
    pub token: Option<Token>,
    /// Names by which callers may call it, beside `localhost` and numbers.
    pub hosts: Vec<String>,
    /// What secures connections to it; `None` is in clear.
    pub tls: Option<Arc<TlsServer>>,
    /// What a client shows with a request to be told about it (`Ringway-Explain`); `None`: nobody is told.
    pub debug_token: Option<Token>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 9900)),
            token: None,
            hosts: Vec::new(),
            tls: None,
            debug_token: None,
        }
    }
}
