//! Notices in Redis: values that last as long as they are renewed, told of by a message.
use crate::fleet::settings::Settings;
use crate::store::StoreError;
use crate::store::redis::ANSWER;
use crate::store::redis::Redis;
use crate::store::redis::values::Values;
use std::collections::HashMap;
use std::time::Duration;

/// Longest time for a sign of life.
const MIN_ANSWER: Duration = Duration::from_millis(500);

/// The board of one fleet.
#[derive(Debug)]
pub struct Board {
    redis: Redis,
    values: Values,
    ttl: Duration,
    /// What was posted, and by whom.
    posted: Option<(String, String)>,
    server: usize,
}

impl Board {
    pub(super) async fn open(settings: &Settings, number: usize) -> Result<Self, StoreError> {
        let values = Values::new(&format!("{}:fleet", settings.store.root));
        let mut redis = Redis::open(&settings.store, number).await?;
        redis.subscribe(values.channel()).await?;
        Ok(Self { redis, values, ttl: settings.peers_ttl, posted: None, server: number })
    }

    pub(super) async fn post(&mut self, instance: &str, notice: &str) -> Result<(), StoreError> {
        self.posted = Some((instance.to_string(), notice.to_string()));
        self.values.hold(&self.redis, ANSWER, instance, notice, self.ttl).await
    }

    pub(super) async fn list(&mut self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let (now, values, ends) = self.values.list(&self.redis).await?;
        let end = |pair: &[Vec<u8>]| Some((pair[0].clone(), std::str::from_utf8(&pair[1]).ok()?.parse().ok()?));
        let ends: HashMap<Vec<u8>, f64> = ends.chunks_exact(2).filter_map(end).collect();
        // What has no end was put there by hand.
        let is_there = |pair: &&[Vec<u8>]| ends.get(&pair[0]).is_none_or(|end| *end > now as f64);
        let there = values.chunks_exact(2).filter(is_there);
        Ok(there.map(|pair| (String::from_utf8_lossy(&pair[0]).into_owned(), pair[1].clone())).collect())
    }

    pub(super) async fn changed(&mut self) -> Result<(), StoreError> {
        self.redis.message().await
    }

    pub(super) async fn renew(&mut self) -> Result<(), StoreError> {
        let time = (self.ttl / 3).max(MIN_ANSWER);
        match &self.posted {
            Some((instance, notice)) => self.values.hold(&self.redis, time, instance, notice, self.ttl).await,
            None => self.redis.ping(time).await,
        }
    }

    pub(super) async fn leave(&self, settings: &Settings) -> Result<(), StoreError> {
        let Some((instance, notice)) = &self.posted else { return Ok(()) };
        let redis = Redis::open(&settings.store, self.server).await?;
        self.values.end(&redis, instance, notice).await
    }
}
