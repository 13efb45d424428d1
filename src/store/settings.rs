//! Where a store is and how it lets us in.
use crate::base::address::Location;
use crate::net::tls_client::TlsClient;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// `[store.NAME]`
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Its name.
    pub name: String,
    /// Its servers, tried in turn.
    pub servers: Vec<Location>,
    /// What secures connections to it; `None` is in clear.
    pub tls: Option<Arc<TlsClient>>,
    /// Who we are, and the file with the word that proves it; read again at each connection.
    pub login: Option<(String, PathBuf)>,
    /// Before all keys: `/ringway`.
    pub root: String,
    /// How long what we put there stays after our last sign of life.
    pub lease_ttl: Duration,
}
