//! Notices in Consul: keys below one prefix that hang on a session, told of by a query that waits.
use crate::fleet::settings::Settings;
use crate::store::StoreError;
use crate::store::consul::Changes;
use crate::store::consul::Consul;
use serde_json::Value;
use std::time::Duration;

/// Longest time for a sign of life.
const MIN_ANSWER: Duration = Duration::from_millis(500);

/// The board of one fleet.
#[derive(Debug)]
pub struct Board {
    calls: Consul,
    changes: Changes,
    session: String,
    prefix: String,
    /// The index of the last list: what has changed until then is in it.
    index: u64,
    pause: Duration,
    server: usize,
}

impl Board {
    pub(super) async fn open(settings: &Settings, number: usize) -> Result<Self, StoreError> {
        let (store, prefix) = (&settings.store, settings.prefix());
        let mut calls = Consul::open(store, number).await?;
        let session = calls.create_session(settings.peers_ttl, Duration::ZERO).await?;
        let (_, index) = calls.entries(&prefix).await?;
        let changes = Consul::open(store, number).await?.watch_keys(&prefix, index);
        Ok(Self { calls, changes, session, prefix, index, pause: settings.peers_ttl / 3, server: number })
    }

    pub(super) async fn post(&mut self, instance: &str, notice: &str) -> Result<(), StoreError> {
        let key = format!("{}{instance}", self.prefix);
        let value: Value = serde_json::from_str(notice).map_err(|_| StoreError::Answer(key.clone()))?;
        match self.calls.put_held(&key, &value, &self.session).await? {
            true => Ok(()),
            false => Err(StoreError::Ended("a session".into())),
        }
    }

    pub(super) async fn list(&mut self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let (entries, index) = self.calls.entries(&self.prefix).await?;
        self.index = index;
        let named = entries.into_iter().map(|entry| (entry.key[self.prefix.len()..].to_string(), entry.value));
        Ok(named.collect())
    }

    pub(super) async fn changed(&mut self) -> Result<(), StoreError> {
        self.changes.next(self.index).await
    }

    pub(super) async fn renew(&mut self) -> Result<(), StoreError> {
        match self.calls.renew_session(self.pause.max(MIN_ANSWER), &self.session).await? {
            true => Ok(()),
            false => Err(StoreError::Ended("a session".into())),
        }
    }

    pub(super) async fn leave(&self, settings: &Settings) -> Result<(), StoreError> {
        Consul::open(&settings.store, self.server).await?.destroy_session(&self.session).await
    }
}
