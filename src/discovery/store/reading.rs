//! How members are read from each engine: one line each here, the rest in a file of its own.
use super::Question;
use super::consul;
use super::entry::Entry;
use super::etcd;
#[cfg(feature = "store-redis")]
use super::redis;
use super::zookeeper;
use crate::store::StoreError;
use crate::store::settings::Engine;
use std::time::Duration;

/// Longest time for one sign of life: after it the next server is tried.
pub const SIGN_ANSWER: Duration = Duration::from_secs(2);

/// A full list.
#[derive(Debug, Default)]
pub struct Listed {
    /// Its members, or why something there is none.
    pub entries: Vec<Result<Entry, String>>,
    /// When the first of them goes if it gives no further sign of life, where the store tells nobody.
    pub expires: Option<Duration>,
    /// At which revision that was so, where one never goes back as long as the data are the same.
    pub revision: Option<u64>,
}

/// A connection to one server that is told of changes.
#[derive(Debug)]
pub enum Reading {
    /// etcd.
    Etcd(etcd::Reading),
    /// Redis.
    #[cfg(feature = "store-redis")]
    Redis(redis::Reading),
    /// Consul.
    Consul(consul::Reading),
    /// ZooKeeper.
    Zookeeper(zookeeper::Reading),
}

impl Reading {
    /// Connects to the server of this number, lists, and has changes told from there on.
    ///
    /// # Errors
    /// When the store is not reached, or refuses.
    pub async fn begin(question: &Question, number: usize) -> Result<(Self, Listed), StoreError> {
        match question.store.engine {
            Engine::Etcd => {
                let (reading, listed) = etcd::Reading::begin(question, number).await?;
                Ok((Self::Etcd(reading), listed))
            }
            #[cfg(feature = "store-redis")]
            Engine::Redis(_) => {
                let (reading, listed) = redis::Reading::begin(question, number).await?;
                Ok((Self::Redis(reading), listed))
            }
            Engine::Consul(_) => {
                let (reading, listed) = consul::Reading::begin(question, number).await?;
                Ok((Self::Consul(reading), listed))
            }
            Engine::Zookeeper => {
                let (reading, listed) = zookeeper::Reading::begin(question, number).await?;
                Ok((Self::Zookeeper(reading), listed))
            }
            #[cfg(not(feature = "store-redis"))]
            Engine::Redis(_) => Err(StoreError::LeftOut("redis")),
        }
    }

    /// Waits until something has changed since the last list. Cancelling it loses nothing.
    ///
    /// # Errors
    /// When nobody tells any more.
    pub async fn changed(&mut self) -> Result<(), StoreError> {
        match self {
            Self::Etcd(reading) => reading.changed().await,
            #[cfg(feature = "store-redis")]
            Self::Redis(reading) => reading.changed().await,
            Self::Consul(reading) => reading.changed().await,
            Self::Zookeeper(reading) => reading.changed().await,
        }
    }

    /// The list of now.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn list(&mut self) -> Result<Listed, StoreError> {
        match self {
            Self::Etcd(reading) => reading.list().await,
            #[cfg(feature = "store-redis")]
            Self::Redis(reading) => reading.list().await,
            Self::Consul(reading) => reading.list().await,
            Self::Zookeeper(reading) => reading.list().await,
        }
    }

    /// Asks for a sign of life.
    ///
    /// # Errors
    /// When there is none in time.
    pub async fn ping(&mut self) -> Result<(), StoreError> {
        match self {
            Self::Etcd(reading) => reading.ping().await,
            #[cfg(feature = "store-redis")]
            Self::Redis(reading) => reading.ping().await,
            Self::Consul(reading) => reading.ping().await,
            Self::Zookeeper(reading) => reading.ping().await,
        }
    }
}
