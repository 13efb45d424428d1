//! Members in Redis: values that each last until a moment.
use super::Question;
use super::entry::Entry;
use super::reading::Listed;
use super::reading::SIGN_ANSWER;
use crate::store::StoreError;
use crate::store::redis::ANSWER;
use crate::store::redis::Redis;
use crate::store::redis::values::Told;
use crate::store::redis::values::Values;
use std::time::Duration;

fn values(question: &Question) -> Values {
    Values::new(&format!("{}:{{{}}}", question.store.root, question.name))
}

/// The key that has the members.
pub fn key(question: &Question) -> String {
    values(question).key().to_string()
}

/// One connection, for calls and messages.
#[derive(Debug)]
pub struct Reading {
    values: Values,
    redis: Redis,
}

impl Reading {
    pub(super) async fn begin(question: &Question, number: usize) -> Result<(Self, Listed), StoreError> {
        let values = values(question);
        let mut redis = Redis::open(&question.store, number).await?;
        // First, so that no change between the list and this is missed.
        redis.subscribe(values.channel()).await?;
        let mut reading = Self { values, redis };
        let listed = reading.list().await?;
        Ok((reading, listed))
    }

    pub(super) async fn changed(&mut self) -> Result<(), StoreError> {
        self.redis.message().await
    }

    pub(super) async fn list(&mut self) -> Result<Listed, StoreError> {
        Ok(read(self.values.list(&self.redis).await?))
    }

    pub(super) async fn ping(&mut self) -> Result<(), StoreError> {
        self.redis.ping(SIGN_ANSWER).await
    }
}

/// Whoever has no end was put there by hand, and stays; whoever has come to it is gone.
fn read((now, members, ends): Told) -> Listed {
    let mut ends: std::collections::HashMap<&[u8], f64> =
        ends.chunks_exact(2).filter_map(|pair| Some((&*pair[0], str_of(&pair[1])?.parse().ok()?))).collect();
    let mut listed = Listed::default();
    for pair in members.chunks_exact(2) {
        if let Some(end) = ends.remove(&*pair[0]) {
            let left = end - now as f64;
            if left <= 0.0 {
                continue;
            }
            let left = Duration::from_millis(left.min(u32::MAX.into()) as u64 + 1);
            listed.expires = Some(listed.expires.map_or(left, |sooner| sooner.min(left)));
        }
        listed.entries.push(Entry::read(&pair[0], &pair[1]));
    }
    listed
}

fn str_of(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// A member with an end that moves on.
#[derive(Debug)]
pub struct Holding {
    values: Values,
    redis: Redis,
    id: String,
    value: String,
    ttl: Duration,
}

impl Holding {
    pub(super) async fn begin(question: &Question, entry: &Entry, number: usize) -> Result<Self, StoreError> {
        let redis = Redis::open(&question.store, number).await?;
        let (values, ttl) = (values(question), question.store.lease_ttl);
        let mut holding = Self { values, redis, id: entry.id.clone(), value: entry.write(), ttl };
        holding.keep_alive(ANSWER).await?;
        Ok(holding)
    }

    /// Where it was lost, it is there again after this.
    pub(super) async fn keep_alive(&mut self, time: Duration) -> Result<bool, StoreError> {
        self.values.hold(&self.redis, time, &self.id, &self.value, self.ttl).await?;
        Ok(true)
    }

    pub(super) async fn end(&mut self) -> Result<(), StoreError> {
        self.values.end(&self.redis, &self.id, &self.value).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_come_to_its_end_is_gone_and_who_has_none_stays() {
        let bytes = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
        let members = bytes(&["a", "10.0.0.1:80", "b", "10.0.0.2:80", "c", "10.0.0.3:80", "d", "{"]);
        let ends = bytes(&["a", "1000", "b", "2500", "x", "9", "d", "9000"]);
        let listed = read((1000, members, ends));
        let ids: Vec<_> = listed.entries.iter().map(|entry| entry.as_ref().map(|entry| &*entry.id)).collect();
        assert_eq!(ids[..2], [Ok("b"), Ok("c")]);
        assert!(ids[2].is_err_and(|why| why.starts_with("endpoint d")) && ids.len() == 3);
        assert_eq!(listed.expires, Some(Duration::from_millis(1501)));
    }
}
