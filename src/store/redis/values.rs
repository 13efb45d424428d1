//! Values in Redis that each last until a moment: a hash of them, a sorted set of the moments, a channel that tells of changes. The
//! server's clock alone counts.
use super::ANSWER;
use super::Redis;
use crate::store::StoreError;
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

/// Puts a value there, or gives it a sign of life; takes those away that have expired.
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

/// Takes a value away, unless somebody else has put another one in its place.
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

/// The moment, ids with their values, and ids with their ends; the moments in milliseconds.
pub type Told = (u64, Vec<Vec<u8>>, Vec<Vec<u8>>);

/// Values below one beginning of keys, which has braces where a cluster is to keep them on one server.
#[derive(Debug)]
pub struct Values([String; 3]);

impl Values {
    /// Those below `base`.
    pub fn new(base: &str) -> Self {
        Self(["m", "x", "ev"].map(|part| format!("{base}:{part}")))
    }

    /// The key that has the values.
    pub fn key(&self) -> &str {
        &self.0[0]
    }

    /// The channel that tells of changes.
    pub fn channel(&self) -> &str {
        &self.0[2]
    }

    fn all(&self) -> [&str; 3] {
        self.0.each_ref().map(String::as_str)
    }

    /// All there are, those that have come to their end included.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn list(&self, redis: &Redis) -> Result<Told, StoreError> {
        let [values, ends, _] = self.all();
        redis.run(ANSWER, &LIST, &[values, ends], &[MAX_MEMBERS]).await
    }

    /// Puts a value there, or gives it a sign of life. Where it was lost, it is there again after this.
    ///
    /// # Errors
    /// When that is not certain.
    pub async fn hold(
        &self,
        redis: &Redis,
        time: Duration,
        id: &str,
        value: &str,
        ttl: Duration,
    ) -> Result<(), StoreError> {
        let ttl_ms = ttl.as_millis().to_string();
        redis.run::<i64>(time, &HOLD, &self.all(), &[id, value, &ttl_ms]).await.map(drop)
    }

    /// Takes a value away, unless it is another one by now.
    ///
    /// # Errors
    /// When that is not certain.
    pub async fn end(&self, redis: &Redis, id: &str, value: &str) -> Result<(), StoreError> {
        redis.run::<i64>(ANSWER, &END, &self.all(), &[id, value]).await.map(drop)
    }
}
