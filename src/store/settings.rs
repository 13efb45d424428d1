//! Where a store is and how it lets us in.
use super::StoreError;
use crate::base::address::Location;
use crate::base::files;
use crate::net::tls_client::TlsClient;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// `[store.NAME]`
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Its name.
    pub name: String,
    /// What it is.
    pub engine: Engine,
    /// Its servers, tried in turn.
    pub servers: Vec<Location>,
    /// What secures connections to it; `None` is in clear.
    pub tls: Option<Arc<TlsClient>>,
    /// Who we are (empty where the word alone says it), and the file with the word that proves it; read again at each connection.
    /// With ZooKeeper the scheme by which we say who we are, and the file with both.
    pub login: Option<(String, PathBuf)>,
    /// Before all keys: `/ringway`; with Redis `ringway`.
    pub root: String,
    /// How long what we put there stays after our last sign of life.
    pub lease_ttl: Duration,
}

/// What a store is, and what only that kind has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// etcd, by its JSON gateway.
    Etcd,
    /// Redis.
    Redis(Redis),
    /// Consul.
    Consul(Consul),
    /// ZooKeeper.
    Zookeeper,
}

/// What only Redis has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redis {
    /// The number of its database.
    pub database: u16,
    /// The longest lease of all proxies: when Redis may have forgotten locks, none is given for so long.
    pub max_lease: Duration,
    /// Whether it keeps all it has confirmed, so that it forgets nothing when it is started again.
    pub is_durable: bool,
}

/// What only Consul has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Consul {
    /// How its lists are to be read.
    pub consistency: Consistency,
    /// How long nobody gets a lock whose holder was lost, after that was noticed.
    pub lock_delay: Duration,
}

/// Which of Consul's servers may answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Consistency {
    /// The leader, as it believes itself to be.
    #[default]
    Default,
    /// Any server, be its list an old one.
    Stale,
    /// The leader, once others have confirmed that it is.
    Consistent,
}

impl Engine {
    /// As the configuration calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Redis(_) => "redis",
            Self::Consul(_) => "consul",
            Self::Zookeeper => "zookeeper",
        }
    }
}

impl Settings {
    /// The server of this number, counted round.
    pub fn server(&self, number: usize) -> &Location {
        &self.servers[number % self.servers.len()]
    }

    /// Who we are and the word that proves it; `None` when nobody asks.
    ///
    /// # Errors
    /// When the word's file cannot be read.
    pub fn credentials(&self) -> Result<Option<(&str, String)>, StoreError> {
        let Some((user, file)) = &self.login else { return Ok(None) };
        let word = files::read_text(file, files::MAX_WORD);
        let word = word.map_err(|error| StoreError::Credentials(file.display().to_string(), error))?;
        Ok(Some((user, word.trim_end_matches(['\r', '\n']).to_string())))
    }
}
