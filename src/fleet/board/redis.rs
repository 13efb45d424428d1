//! Notices in Redis: values that last as long as they are renewed, told of by a message.
use crate::base::clock;
use crate::fleet::settings::Settings;
use crate::store::StoreError;
use crate::store::redis::ANSWER;
use crate::store::redis::Redis;
use crate::store::redis::values::Told;
use crate::store::redis::values::Values;
use std::collections::HashMap;
use std::time::Duration;
use std::time::Instant;

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
    /// When the first of those that were listed comes to its end.
    ends: Option<Instant>,
    server: usize,
}

impl Board {
    pub(super) async fn open(settings: &Settings, number: usize) -> Result<Self, StoreError> {
        let values = Values::new(&format!("{}:fleet", settings.store.root));
        let mut redis = Redis::open(&settings.store, number).await?;
        redis.subscribe(values.channel()).await?;
        Ok(Self { redis, values, ttl: settings.peers_ttl, posted: None, ends: None, server: number })
    }

    pub(super) async fn post(&mut self, instance: &str, notice: &str) -> Result<(), StoreError> {
        self.posted = Some((instance.to_string(), notice.to_string()));
        self.values.hold(&self.redis, ANSWER, instance, notice, self.ttl).await
    }

    pub(super) async fn list(&mut self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let asked = clock::now();
        let (there, left) = standing(self.values.list(&self.redis).await?);
        self.ends = left.map(|left| asked + left);
        Ok(there)
    }

    pub(super) fn is_outdated(&self) -> bool {
        self.ends.is_some_and(|end| end <= clock::now())
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

/// Notices that have not come to their end, and how long the first of them lasts: Redis tells nobody when it is over.
fn standing((now, values, ends): Told) -> (Vec<(String, Vec<u8>)>, Option<Duration>) {
    let end = |pair: &[Vec<u8>]| Some((pair[0].clone(), std::str::from_utf8(&pair[1]).ok()?.parse().ok()?));
    let ends: HashMap<Vec<u8>, f64> = ends.chunks_exact(2).filter_map(end).collect();
    let (mut there, mut first) = (Vec::new(), None);
    for pair in values.chunks_exact(2) {
        // What has no end was put there by hand.
        if let Some(end) = ends.get(&pair[0]) {
            let left = end - now as f64;
            if left <= 0.0 {
                continue;
            }
            let left = Duration::from_millis(left.min(u32::MAX.into()) as u64 + 1);
            first = Some(first.map_or(left, |sooner: Duration| sooner.min(left)));
        }
        there.push((String::from_utf8_lossy(&pair[0]).into_owned(), pair[1].clone()));
    }
    (there, first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_look_is_when_the_first_of_those_that_are_there_ends() {
        let bytes = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
        let ends = bytes(&["a", "1000", "b", "2500", "d", "9000", "x", "1001"]);
        let (there, left) = standing((1000, bytes(&["a", "1", "b", "2", "c", "3", "d", "4"]), ends));
        assert_eq!(there.iter().map(|(instance, _)| &**instance).collect::<String>(), "bcd");
        assert_eq!(left, Some(Duration::from_millis(1501)));
        assert_eq!(standing((1000, bytes(&["c", "3"]), Vec::new())).1, None, "it stays");
    }
}
