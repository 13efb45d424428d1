//! What Redis is asked: each a script, so that nobody else comes between its steps. Its own clock alone counts there.
use crate::store::StoreError;
use redis::Script;
use std::sync::LazyLock;
use std::time::Duration;

/// The moment in microseconds and in milliseconds; and for how many milliseconds no lock is given, because this is another life of
/// the data: the server is another one or was started anew, or the key that says which it was is gone; and when that life was first
/// seen.
///
/// `boot` has the life, when it was first seen, and until when no lock is given; `-` once that is over.
const BASE: &str = r"
    local time = redis.call('TIME')
    local now = time[1] * 1000000 + time[2]
    local now_ms = math.floor(now / 1000)
    local function whole(number) return string.format('%.0f', number) end
    local function quarantine(boot, length, is_durable)
        local life = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
        local told = redis.call('GET', boot) or ''
        local known, since, till = string.match(told, '^(%x+)|(%d+)|([%d-]+)$')
        since = tonumber(since)
        if known ~= life then
            if known and is_durable then till = '-' else till = 0 end
            since = now_ms
        end
        if till ~= '-' then
            -- A clock that was set back begins it anew.
            if since > now_ms then since, till = now_ms, 0 end
            till = math.max(tonumber(till), since + length)
            if till <= now_ms then till = '-' end
        end
        local left = till == '-' and 0 or till - now_ms
        if till ~= '-' then till = whole(till) end
        local new = life .. '|' .. whole(since) .. '|' .. till
        if new ~= told then redis.call('SET', boot, new) end
        return left, since
    end
    -- Whoever gave no sign of life is forgotten; the first of the others.
    local function first(queue, alive)
        while true do
            local head = redis.call('ZRANGE', queue, 0, 0)[1]
            if not head then return nil end
            local till = redis.call('ZSCORE', alive, head)
            if till and tonumber(till) > now_ms then return head end
            redis.call('ZREM', queue, head)
            redis.call('ZREM', alive, head)
        end
    end
    local function owner_of(value) return value and string.match(value, '^([^|]*)|') end
";

/// Gives a lock to whoever is first, or a place in the line. KEYS: the lock, its line, who there is alive, the last token, the life.
/// ARGV: the owner, the lease, how long a place lasts, the quarantine, whether the server is durable, until when this may be done, what is told.
const ACQUIRE: &str = r"
    if now > tonumber(ARGV[6]) then return { 'late', '0' } end
    local left = quarantine(KEYS[5], tonumber(ARGV[4]), ARGV[5] == '1')
    if left > 0 then return { 'quarantine', whole(left) } end
    local held = redis.call('GET', KEYS[1])
    if held and owner_of(held) == ARGV[1] then
        redis.call('PEXPIRE', KEYS[1], ARGV[2])
        return { 'granted', string.match(held, '^[^|]*|(%d+)') }
    end
    if not held then
        redis.call('ZADD', KEYS[3], 'XX', whole(now_ms + ARGV[3]), ARGV[1])
        local head = first(KEYS[2], KEYS[3])
        if not head or head == ARGV[1] then
            redis.call('ZREM', KEYS[2], ARGV[1])
            redis.call('ZREM', KEYS[3], ARGV[1])
            local last = tonumber(redis.call('GET', KEYS[4]) or 0)
            local token = whole(math.max(last + 1, now))
            redis.call('SET', KEYS[4], token)
            redis.call('SET', KEYS[1], ARGV[1] .. '|' .. token .. '|' .. ARGV[7], 'PX', ARGV[2])
            return { 'granted', token }
        end
    end
    redis.call('ZADD', KEYS[2], 'NX', whole(now), ARGV[1])
    redis.call('ZADD', KEYS[3], whole(now_ms + ARGV[3]), ARGV[1])
    redis.call('PEXPIRE', KEYS[2], 10 * ARGV[3])
    redis.call('PEXPIRE', KEYS[3], 10 * ARGV[3])
    return { 'queued', whole(redis.call('PTTL', KEYS[1])) }
";

/// Makes a lease longer. KEYS: the lock. ARGV: the owner, the lease.
const RENEW: &str = r"
    if owner_of(redis.call('GET', KEYS[1])) ~= ARGV[1] then return 0 end
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    return 1
";

/// Takes back whatever an owner has, and wakes whoever is first then. KEYS: the lock, its line, who there is alive. ARGV: the owner,
/// what channels begin with.
const RELEASE: &str = r"
    redis.call('ZREM', KEYS[2], ARGV[1])
    redis.call('ZREM', KEYS[3], ARGV[1])
    local holder = owner_of(redis.call('GET', KEYS[1]))
    if holder == ARGV[1] then redis.call('DEL', KEYS[1]) end
    if not holder or holder == ARGV[1] then
        local head = first(KEYS[2], KEYS[3])
        if head then
            local who, number = string.match(head, '^(.*):(%d+)$')
            if who then redis.call('PUBLISH', ARGV[2] .. who, number) end
        end
    end
    return 1
";

/// Publishes while an owner has a lock. KEYS: the lock, what is published. ARGV: the owner, the text, how long it lasts.
const PUBLISH: &str = r"
    if owner_of(redis.call('GET', KEYS[1])) ~= ARGV[1] then return 0 end
    local last = string.match(redis.call('GET', KEYS[2]) or '', '^(%d+)|')
    redis.call('SET', KEYS[2], whole(math.max((tonumber(last) or 0) + 1, now)) .. '|' .. ARGV[2], 'PX', ARGV[3])
    return 1
";

/// What is published. KEYS: where.
const READ: &str = r"return redis.call('GET', KEYS[1]) or ''";

/// A sign of life. It writes, so that a server which may not is none; and the last token is none below those that were seen, also
/// when the data are of an earlier time. KEYS: the last token, the life, locks that are held. ARGV: the quarantine, whether the server is
/// durable, the highest token seen. Tells the moment, the rest of the quarantine, when this life was first seen, and who has those locks.
const SIGN: &str = r"
    local last = tonumber(redis.call('GET', KEYS[1]) or 0)
    redis.call('SET', KEYS[1], whole(math.max(last, tonumber(ARGV[3]))))
    local left, since = quarantine(KEYS[2], tonumber(ARGV[1]), ARGV[2] == '1')
    local told = { whole(now), whole(left), whole(since) }
    for i = 3, #KEYS do
        told[i + 1] = owner_of(redis.call('GET', KEYS[i])) or ''
    end
    return told
";

/// Which keys are thrown away when the server's memory is full.
const EVICTION: &str = r"
    local told = redis.call('INFO', 'memory')
    return { string.match(told, 'maxmemory:(%d+)') or '0', string.match(told, 'maxmemory_policy:([%w-]+)') or '' }
";

pub(super) static ACQUIRING: LazyLock<Script> = LazyLock::new(|| script(ACQUIRE));
pub(super) static RENEWING: LazyLock<Script> = LazyLock::new(|| script(RENEW));
pub(super) static RELEASING: LazyLock<Script> = LazyLock::new(|| script(RELEASE));
pub(super) static PUBLISHING: LazyLock<Script> = LazyLock::new(|| script(PUBLISH));
pub(super) static READING: LazyLock<Script> = LazyLock::new(|| Script::new(READ));
pub(super) static SIGNING: LazyLock<Script> = LazyLock::new(|| script(SIGN));
pub(super) static EVICTING: LazyLock<Script> = LazyLock::new(|| Script::new(EVICTION));

fn script(own: &str) -> Script {
    Script::new(&format!("{BASE}{own}"))
}

/// What came of asking for a lock.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// It is ours, with this token.
    Granted(u64),
    /// Others are before us; the holder's lease lasts so long, if there is one.
    Queued(Option<Duration>),
    /// No lock is given for so long.
    Quarantine(Duration),
    /// The question came too late to be obeyed: nothing was done.
    Late,
}

impl Answered {
    pub(super) fn read((kind, number): (String, String)) -> Result<Self, StoreError> {
        let strange = || StoreError::Answer(format!("\"{kind} {number}\" of a script"));
        let number: i64 = number.parse().map_err(|_| strange())?;
        let ms = Duration::from_millis(number.max(0).unsigned_abs());
        match &*kind {
            "granted" => Ok(Self::Granted(number.unsigned_abs())),
            "queued" => Ok(Self::Queued((number >= 0).then_some(ms))),
            "quarantine" => Ok(Self::Quarantine(ms)),
            "late" => Ok(Self::Late),
            _ => Err(strange()),
        }
    }
}
