//! Where operators come in, and who is one.
use crate::net::tls_server::TlsServer;
use ring::hmac;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use subtle::ConstantTimeEq;

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
}

impl Default for Settings {
    fn default() -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], 9900)), token: None, hosts: Vec::new(), tls: None }
    }
}

/// A secret that callers show. Never printed, and compared in a time that tells nothing but its length.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token of this text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// What signs in its name.
    pub(super) fn signing_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.0.as_bytes())
    }

    /// Whether this is it.
    pub fn is(&self, given: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(given).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(***)")
    }
}
