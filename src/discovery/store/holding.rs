//! How a membership is held in each engine: one line each here, the rest in a file of its own.
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

/// Shortest time that a sign of life is waited for.
const MIN_ANSWER: Duration = Duration::from_millis(500);

/// A membership that is in the store for as long as it is given signs of life.
#[derive(Debug)]
pub enum Holding {
    /// etcd.
    Etcd(etcd::Holding),
    /// Redis.
    #[cfg(feature = "store-redis")]
    Redis(redis::Holding),
    /// Consul.
    Consul(consul::Holding),
    /// ZooKeeper.
    Zookeeper(zookeeper::Holding),
}

impl Holding {
    /// Puts a member there, by the server of this number.
    ///
    /// # Errors
    /// When that is not certain.
    pub async fn begin(question: &Question, entry: &Entry, number: usize) -> Result<Self, StoreError> {
        match question.store.engine {
            Engine::Etcd => etcd::Holding::begin(question, entry, number).await.map(Self::Etcd),
            #[cfg(feature = "store-redis")]
            Engine::Redis(_) => redis::Holding::begin(question, entry, number).await.map(Self::Redis),
            Engine::Consul(_) => consul::Holding::begin(question, entry, number).await.map(Self::Consul),
            Engine::Zookeeper => zookeeper::Holding::begin(question, entry, number).await.map(Self::Zookeeper),
            #[cfg(not(feature = "store-redis"))]
            Engine::Redis(_) => Err(StoreError::LeftOut("redis")),
        }
    }

    /// Gives signs of life, three in `ttl`; says why there are no more. Who waits longer for one than that has no time left for
    /// the next server.
    pub async fn keep(&mut self, ttl: Duration) -> String {
        let pause = ttl / 3;
        loop {
            tokio::time::sleep(pause).await;
            match self.keep_alive(pause.max(MIN_ANSWER)).await {
                Ok(true) => {}
                Ok(false) => return "the store has given it up".into(),
                Err(error) => return error.told(),
            }
        }
    }

    async fn keep_alive(&mut self, time: Duration) -> Result<bool, StoreError> {
        match self {
            Self::Etcd(holding) => holding.keep_alive(time).await,
            #[cfg(feature = "store-redis")]
            Self::Redis(holding) => holding.keep_alive(time).await,
            Self::Consul(holding) => holding.keep_alive(time).await,
            Self::Zookeeper(holding) => holding.keep_alive(time).await,
        }
    }

    /// Takes it back.
    ///
    /// # Errors
    /// When that is not certain.
    pub async fn end(&mut self) -> Result<(), StoreError> {
        match self {
            Self::Etcd(holding) => holding.end().await,
            #[cfg(feature = "store-redis")]
            Self::Redis(holding) => holding.end().await,
            Self::Consul(holding) => holding.end().await,
            Self::Zookeeper(holding) => holding.end().await,
        }
    }
}
