//! Notices in etcd: keys below one prefix, under a lease, told of by a watch.
use crate::fleet::settings::Settings;
use crate::store::StoreError;
use crate::store::etcd::Changes;
use crate::store::etcd::Etcd;
use std::time::Duration;

/// Longest time for a sign of life.
const MIN_ANSWER: Duration = Duration::from_millis(500);

/// The board of one fleet.
#[derive(Debug)]
pub struct Board {
    calls: Etcd,
    changes: Changes,
    lease: String,
    prefix: String,
    /// The revision of the last list: what has changed until then is in it.
    revision: u64,
    pause: Duration,
    server: usize,
}

impl Board {
    /// Connects to the server of this number; what is posted lasts as long as it is renewed each third of `peers_ttl`.
    ///
    /// # Errors
    /// When there is no answer.
    pub(super) async fn open(settings: &Settings, number: usize) -> Result<Self, StoreError> {
        let (store, prefix) = (&settings.store, settings.prefix());
        let mut calls = Etcd::open(store, number).await?;
        let lease = calls.grant(settings.peers_ttl).await?;
        let (_, revision) = calls.list(&prefix).await?;
        let changes = Etcd::open(store, number).await?.watch(&prefix, revision).await?;
        Ok(Self { calls, changes, lease, prefix, revision, pause: settings.peers_ttl / 3, server: number })
    }

    /// Puts a notice up, in place of the one before.
    ///
    /// # Errors
    /// When that is not certain.
    pub(super) async fn post(&mut self, instance: &str, notice: &str) -> Result<(), StoreError> {
        self.calls.put(&format!("{}{instance}", self.prefix), notice, &self.lease).await
    }

    /// All notices, by instance.
    ///
    /// # Errors
    /// When there is no answer.
    pub(super) async fn list(&mut self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let (pairs, revision) = self.calls.list(&self.prefix).await?;
        self.revision = revision;
        Ok(pairs.into_iter().map(|pair| (String::from_utf8_lossy(&pair.key).into_owned(), pair.value)).collect())
    }

    /// Waits until something has changed since the last list. Cancelling it loses nothing.
    ///
    /// # Errors
    /// When nobody tells any more.
    pub(super) async fn changed(&mut self) -> Result<(), StoreError> {
        self.changes.next(self.revision).await
    }

    /// A sign of life.
    ///
    /// # Errors
    /// When there is no answer in time, or what was posted is gone.
    pub(super) async fn renew(&mut self) -> Result<(), StoreError> {
        match self.calls.keep_alive(self.pause.max(MIN_ANSWER), &self.lease).await? {
            true => Ok(()),
            false => Err(StoreError::Ended("a lease".into())),
        }
    }

    /// Takes the notice down, by a connection of its own: a call that was broken off leaves the other one useless.
    ///
    /// # Errors
    /// When that is not certain; then it goes by itself in time.
    pub(super) async fn leave(&self, settings: &Settings) -> Result<(), StoreError> {
        Etcd::open(&settings.store, self.server).await?.revoke(&self.lease).await
    }
}
