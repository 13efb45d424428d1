//! Notices in ZooKeeper: nodes that go with a session, told of by watches.
use crate::fleet::settings::Settings;
use crate::store::StoreError;
use crate::store::zookeeper::Events;
use crate::store::zookeeper::Zookeeper;
use crate::store::zookeeper::folder::Folder;
use std::time::Duration;

/// Longest time for a sign of life.
const MIN_ANSWER: Duration = Duration::from_millis(500);

/// The board of one fleet.
#[derive(Debug)]
pub struct Board {
    client: Zookeeper,
    events: Events,
    folder: Folder,
    path: String,
    /// What was posted, as long as it is there.
    posted: Option<String>,
    pause: Duration,
}

impl Board {
    pub(super) async fn open(settings: &Settings, number: usize) -> Result<Self, StoreError> {
        let (client, events) = Zookeeper::open(&settings.store, number, settings.peers_ttl, None).await?;
        let path = settings.prefix().trim_end_matches('/').to_string();
        let folder = Folder::new(path.clone());
        Ok(Self { client, events, folder, path, posted: None, pause: settings.peers_ttl / 3 })
    }

    pub(super) async fn post(&mut self, instance: &str, notice: &str) -> Result<(), StoreError> {
        let path = format!("{}/{instance}", self.path);
        if self.posted.is_none() || !self.client.set(&path, notice.as_bytes()).await? {
            self.client.put(&path, notice.as_bytes()).await?;
        }
        self.posted = Some(path);
        Ok(())
    }

    pub(super) async fn list(&mut self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let notices = self.folder.list(&self.client).await?;
        Ok(notices.iter().map(|(instance, notice)| (instance.clone(), notice.clone())).collect())
    }

    pub(super) async fn changed(&mut self) -> Result<(), StoreError> {
        self.folder.changed(&mut self.events).await
    }

    pub(super) async fn renew(&mut self) -> Result<(), StoreError> {
        let time = self.pause.max(MIN_ANSWER);
        let Some(path) = &self.posted else { return self.client.ping(time).await };
        match self.client.exists(time, path, false).await? {
            Some(_) => Ok(()),
            None => Err(StoreError::Ended("a notice".into())),
        }
    }

    pub(super) async fn leave(&self) -> Result<(), StoreError> {
        self.client.close().await
    }
}
