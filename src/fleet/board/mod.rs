//! Where proxies of a fleet put their notices and read those of others: each gone when its writer is. One line for each engine here,
//! the rest in a file of its own.
mod consul;
mod etcd;
#[cfg(feature = "store-redis")]
mod redis;
mod zookeeper;

use super::settings::Settings;
use crate::store::StoreError;
use crate::store::settings::Engine;

/// The board of one fleet.
#[derive(Debug)]
pub enum Board {
    /// In etcd.
    Etcd(etcd::Board),
    /// In ZooKeeper.
    Zookeeper(zookeeper::Board),
    /// In Redis.
    #[cfg(feature = "store-redis")]
    Redis(redis::Board),
    /// In Consul.
    Consul(consul::Board),
}

impl Board {
    /// Connects to the server of this number; what is posted lasts as long as it is renewed each third of `peers_ttl`.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn open(settings: &Settings, number: usize) -> Result<Self, StoreError> {
        match settings.store.engine {
            Engine::Etcd => etcd::Board::open(settings, number).await.map(Self::Etcd),
            Engine::Zookeeper => zookeeper::Board::open(settings, number).await.map(Self::Zookeeper),
            #[cfg(feature = "store-redis")]
            Engine::Redis(_) => redis::Board::open(settings, number).await.map(Self::Redis),
            Engine::Consul(_) => consul::Board::open(settings, number).await.map(Self::Consul),
            #[cfg(not(feature = "store-redis"))]
            Engine::Redis(_) => Err(StoreError::LeftOut("redis")),
        }
    }

    /// Puts a notice up, in place of the one before.
    ///
    /// # Errors
    /// When that is not certain.
    pub async fn post(&mut self, instance: &str, notice: &str) -> Result<(), StoreError> {
        match self {
            Self::Etcd(board) => board.post(instance, notice).await,
            Self::Zookeeper(board) => board.post(instance, notice).await,
            #[cfg(feature = "store-redis")]
            Self::Redis(board) => board.post(instance, notice).await,
            Self::Consul(board) => board.post(instance, notice).await,
        }
    }

    /// All notices, by instance.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn list(&mut self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        match self {
            Self::Etcd(board) => board.list().await,
            Self::Zookeeper(board) => board.list().await,
            #[cfg(feature = "store-redis")]
            Self::Redis(board) => board.list().await,
            Self::Consul(board) => board.list().await,
        }
    }

    /// Waits until something has changed since the last list. Cancelling it loses nothing.
    ///
    /// # Errors
    /// When nobody tells any more.
    pub async fn changed(&mut self) -> Result<(), StoreError> {
        match self {
            Self::Etcd(board) => board.changed().await,
            Self::Zookeeper(board) => board.changed().await,
            #[cfg(feature = "store-redis")]
            Self::Redis(board) => board.changed().await,
            Self::Consul(board) => board.changed().await,
        }
    }

    /// Whether a notice of the last list has come to an end that nobody tells of.
    pub fn is_outdated(&self) -> bool {
        match self {
            #[cfg(feature = "store-redis")]
            Self::Redis(board) => board.is_outdated(),
            // These tell of ends as of all changes.
            Self::Etcd(_) | Self::Zookeeper(_) | Self::Consul(_) => false,
        }
    }

    /// A sign of life.
    ///
    /// # Errors
    /// When there is no answer in time, or what was posted is gone.
    pub async fn renew(&mut self) -> Result<(), StoreError> {
        match self {
            Self::Etcd(board) => board.renew().await,
            Self::Zookeeper(board) => board.renew().await,
            #[cfg(feature = "store-redis")]
            Self::Redis(board) => board.renew().await,
            Self::Consul(board) => board.renew().await,
        }
    }

    /// Takes the notice down.
    ///
    /// # Errors
    /// When that is not certain; then it goes by itself in time.
    pub async fn leave(&self, settings: &Settings) -> Result<(), StoreError> {
        match self {
            Self::Etcd(board) => board.leave(settings).await,
            Self::Zookeeper(board) => board.leave().await,
            #[cfg(feature = "store-redis")]
            Self::Redis(board) => board.leave(settings).await,
            Self::Consul(board) => board.leave(settings).await,
        }
    }
}
