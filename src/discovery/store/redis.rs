//! Members in Redis: a hash of values, a sorted set of the moments at which they expire, a channel that tells of changes. The
//! server's clock alone counts.
use super::Question;
use super::entry::Entry;
use super::reading::Listed;
use super::reading::SIGN_ANSWER;
use crate::store::StoreError;
use crate::store::redis::ANSWER;
use crate::store::redis::Redis;
use redis::Script;
use std::sync::LazyLock;
use std::time::Duration;

/// More than any list that could be taken up.
const MAX_MEMBERS: &str = "10000000";

/// The moment in milliseconds, what is there, and until when.
static LIST: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local time = redis.call('TIME')
        local count = redis.call('HLEN', KEYS[1])
        if count > tonumber(ARGV[1]) then
            return redis.error_reply('TOOMANY ' .. KEYS[1] .. ' has ' .. count .. ' fields')
        end
        local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
        return { now, redis.call('HGETALL', KEYS[1]), redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES') }
        ",
    )
});

/// Puts a member there, or gives it a sign of life; takes those away that have expired.
static HOLD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local time = redis.call('TIME')
        local now = time[1] * 1000 + math.floor(time[2] / 1000)
        local is_news = redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2]
        local before = redis.call('ZSCORE', KEYS[2], ARGV[1])
        is_news = is_news or not before or tonumber(before) <= now
        redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
        redis.call('ZADD', KEYS[2], string.format('%.0f', now + ARGV[3]), ARGV[1])
        local gone = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now), 'LIMIT', 0, 100)
        for _, id in ipairs(gone) do
            redis.call('HDEL', KEYS[1], id)
            redis.call('ZREM', KEYS[2], id)
        end
        if is_news or #gone > 0 then
            redis.call('PUBLISH', KEYS[3], ARGV[1])
        end
        return 1
        ",
    )
});

/// Takes a member away, unless somebody else has put another one in its place.
static END: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then
            redis.call('HDEL', KEYS[1], ARGV[1])
            redis.call('ZREM', KEYS[2], ARGV[1])
            redis.call('PUBLISH', KEYS[3], ARGV[1])
        end
        return 1
        ",
    )
});

/// The three keys of an upstream; the braces keep them on one server of a cluster.
#[derive(Debug)]
struct Keys([String; 3]);

impl Keys {
    fn of(question: &Question) -> Self {
        Self(["m", "x", "ev"].map(|part| format!("{}:{{{}}}:{part}", question.store.root, question.name)))
    }

    fn all(&self) -> [&str; 3] {
        self.0.each_ref().map(String::as_str)
    }

    fn channel(&self) -> &str {
        &self.0[2]
    }
}

/// The key that has the members.
pub fn key(question: &Question) -> String {
    let Keys([members, ..]) = Keys::of(question);
    members
}

/// One connection, for calls and messages.
#[derive(Debug)]
pub struct Reading {
    keys: Keys,
    redis: Redis,
}

impl Reading {
    pub(super) async fn begin(question: &Question, number: usize) -> Result<(Self, Listed), StoreError> {
        let keys = Keys::of(question);
        let mut redis = Redis::open(&question.store, number).await?;
        // First, so that no change between the list and this is missed.
        redis.subscribe(keys.channel()).await?;
        let mut reading = Self { keys, redis };
        let listed = reading.list().await?;
        Ok((reading, listed))
    }

    pub(super) async fn changed(&mut self) -> Result<(), StoreError> {
        self.redis.message().await
    }

    pub(super) async fn list(&mut self) -> Result<Listed, StoreError> {
        let [members, expiries, _] = self.keys.all();
        let told = self.redis.run(ANSWER, &LIST, &[members, expiries], &[MAX_MEMBERS]).await?;
        Ok(read(told))
    }

    pub(super) async fn ping(&mut self) -> Result<(), StoreError> {
        self.redis.ping(SIGN_ANSWER).await
    }
}

/// The moment, members with their values, and members with their ends.
type Told = (u64, Vec<Vec<u8>>, Vec<Vec<u8>>);

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
    keys: Keys,
    redis: Redis,
    id: String,
    value: String,
    ttl_ms: String,
}

impl Holding {
    pub(super) async fn begin(question: &Question, entry: &Entry, number: usize) -> Result<Self, StoreError> {
        let redis = Redis::open(&question.store, number).await?;
        let ttl_ms = question.store.lease_ttl.as_millis().to_string();
        let mut holding = Self { keys: Keys::of(question), redis, id: entry.id.clone(), value: entry.write(), ttl_ms };
        holding.keep_alive(ANSWER).await?;
        Ok(holding)
    }

    /// Where it was lost, it is there again after this.
    pub(super) async fn keep_alive(&mut self, time: Duration) -> Result<bool, StoreError> {
        let arguments = [&*self.id, &self.value, &self.ttl_ms];
        self.redis.run::<i64>(time, &HOLD, &self.keys.all(), &arguments).await?;
        Ok(true)
    }

    pub(super) async fn end(&mut self) -> Result<(), StoreError> {
        let arguments = [&*self.id, &*self.value];
        self.redis.run::<i64>(ANSWER, &END, &self.keys.all(), &arguments).await.map(drop)
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
