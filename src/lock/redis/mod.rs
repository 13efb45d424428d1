//! Locks in Redis: a key with a time limit for each lock, a line of those who wait, and a token that rises whatever was forgotten.
//! One connection for all of a process; whoever is next is woken by a message.
mod scripts;

use super::Ask;
use super::Grant;
use super::Later;
use super::LeaseStore;
use super::Post;
use super::Published;
use super::standing::Standing;
use super::term::Term;
use super::token::Token;
use crate::base::clock;
use crate::base::dice::Dice;
use crate::store;
use crate::store::StoreError;
use crate::store::redis::Redis as Client;
use crate::store::settings::Redis as Own;
use crate::store::settings::Settings;
use crate::telemetry::labels::StoreOp;
use ring::rand::SecureRandom;
use ring::rand::SystemRandom;
use scripts::Answered;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::Notify;
use tokio::sync::watch;

/// Time between two signs of life, and for the answer to one.
const SIGN: Duration = Duration::from_secs(1);
/// Without an answer for so long the store is lost.
const LOSS: Duration = Duration::from_secs(2);
/// Longest time for the answer about a lock. What is done later than that, because it lay about meanwhile, is not done.
const CALL: Duration = Duration::from_secs(2);
/// Time after which who waits asks again, whatever it was told: a sign of life, too.
const LOOK: Duration = Duration::from_millis(500);
/// How long a place in a line lasts after one.
const PLACE: Duration = Duration::from_secs(2);
/// Locks that are looked after at each sign of life; others are when they are renewed.
const MAX_LOOKED_AT: usize = 500;

/// Locks in one Redis.
#[derive(Debug)]
pub struct Redis {
    settings: Arc<Settings>,
    own: Own,
    ttl: Duration,
    standing: Arc<Standing>,
    /// What tells this process from all others, and from itself before a restart.
    instance: String,
    connection: watch::Sender<Option<Arc<Connection>>>,
    /// When it last answered.
    heard: watch::Sender<Instant>,
    asks: Arc<Asks>,
    /// Asks that were given back, but may yet be done: they are taken back once more when they cannot be any more.
    ghosts: Mutex<Vec<(Instant, String, u64)>>,
    /// A call failed: the connection may be of no use.
    doubt: Notify,
}

/// What is asked now, by owner.
type Asks = Mutex<HashMap<u64, Entry>>;

/// An ask that the store may know of.
#[derive(Debug)]
struct Entry {
    key: String,
    wake: Arc<Notify>,
    /// Whether the outcome of a call is not known.
    is_asking: bool,
    /// Once it is ours: until when, and since when.
    held: Option<(Arc<Term>, Instant)>,
}

/// A connection, and what time it is there.
#[derive(Debug)]
struct Connection {
    client: Client,
    /// The server's clock in microseconds at a moment of ours.
    clock: Mutex<(Instant, u64)>,
}

impl Connection {
    /// Until when, by the server's clock, what is sent now may be done.
    fn deadline(&self) -> String {
        let (at, there) = *lock(&self.clock);
        (there + (at.elapsed() + CALL).as_micros() as u64).to_string()
    }
}

impl Redis {
    /// Locks in this store, with leases of this length.
    pub fn new(settings: Arc<Settings>, own: Own, lease: Duration, standing: Arc<Standing>) -> Self {
        Self {
            settings,
            own,
            ttl: lease.min(own.max_lease),
            standing,
            instance: instance(),
            connection: watch::Sender::new(None),
            heard: watch::Sender::new(clock::now()),
            asks: Arc::default(),
            ghosts: Mutex::default(),
            doubt: Notify::new(),
        }
    }

    fn key(&self, what: &str) -> String {
        format!("{}:{what}", self.settings.root)
    }

    fn lock_key(&self, ask: &Ask) -> String {
        self.key(&format!("lock:{}", ask.key))
    }

    fn owner(&self, number: u64) -> String {
        format!("{}:{number}", self.instance)
    }

    /// Channels by which processes are told whose turn it is begin so.
    fn wake(&self) -> String {
        self.key("lock:wake:")
    }

    /// Until when what was confirmed to a question that was sent at this moment is surely ours.
    fn until(&self, sent: Instant) -> Instant {
        sent + self.ttl * 2 / 3
    }

    /// Connects, and serves as long as there are answers; says why there are none.
    async fn live(&self, number: usize, failures: &mut u32) -> Result<Infallible, StoreError> {
        let connection = tokio::time::timeout(LOSS, self.connect(number)).await;
        let connection = Arc::new(connection.unwrap_or_else(|_| Err(StoreError::Timeout(self.settings.name.clone())))?);
        let mut left = self.sign(&connection).await?;
        self.connection.send_replace(Some(connection.clone()));
        *failures = 0;
        let mut is_told = false;
        loop {
            if left.is_zero() && !std::mem::replace(&mut is_told, true) {
                tracing::info!(store = %self.settings.name, "Locks can be had.");
            }
            let pause = if left.is_zero() { SIGN } else { left.min(SIGN) };
            // Too late is as good: then it signs.
            tokio::time::timeout(pause, self.doubt.notified()).await.unwrap_or_default();
            left = self.sign(&connection).await?;
        }
    }

    async fn connect(&self, number: usize) -> Result<Connection, StoreError> {
        let asks = self.asks.clone();
        let tell = move |text: &[u8]| {
            let owner = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
            if let Some(entry) = owner.and_then(|owner: u64| lock(&asks).get(&owner).map(|entry| entry.wake.clone())) {
                entry.notify_one();
            }
        };
        let mut client = Client::open_told(&self.settings, number, tell).await?;
        client.subscribe(&format!("{}{}", self.wake(), self.instance)).await?;
        let (most, policy): (String, String) = client.run(SIGN, &scripts::EVICTING, &[], &[]).await?;
        if most != "0" && policy != "noeviction" {
            tracing::warn!(
                store = %self.settings.name,
                policy,
                "This Redis throws keys away when its memory is full, and locks are keys: set maxmemory-policy noeviction."
            );
        }
        Ok(Connection { client, clock: Mutex::new((clock::now(), 0)) })
    }

    /// A sign of life, and a look at what is ours; how long no lock is given.
    async fn sign(&self, connection: &Connection) -> Result<Duration, StoreError> {
        let (fence, boot) = (self.key("fence"), self.key("boot"));
        let sent = clock::now();
        let held = self.held();
        let keys: Vec<&str> =
            [&fence, &boot].into_iter().chain(held.iter().map(|(_, key)| key)).map(|it| &**it).collect();
        let arguments = self.quarantine();
        let seen = self.standing.highest().to_string();
        let arguments = [&*arguments.0, arguments.1, &seen];
        let told: Vec<String> = connection.client.run(SIGN, &scripts::SIGNING, &keys, &arguments).await?;
        let number = |index: usize| told.get(index).and_then(|number| number.parse::<u64>().ok());
        let numbers = number(0).zip(number(1)).zip(number(2));
        let ((there, left), life) = numbers.ok_or_else(|| StoreError::Answer("a sign of life".into()))?;
        *lock(&connection.clock) = (sent, there);
        let left = Duration::from_millis(left);
        // One that forgets nothing was merely started anew, unless it says otherwise.
        if !self.own.is_durable || !left.is_zero() {
            self.standing.health.is_of(life);
        }
        self.heard.send_replace(clock::now());
        self.standing.heard(sent.elapsed(), left);
        self.compare(&held, &told[3..], sent);
        self.exorcise(connection).await?;
        Ok(left)
    }

    /// The length of the quarantine in milliseconds, and whether a server that is known again needs none.
    fn quarantine(&self) -> (String, &'static str) {
        (self.own.max_lease.as_millis().to_string(), if self.own.is_durable { "1" } else { "0" })
    }

    /// Owners and keys of what is ours.
    fn held(&self) -> Vec<(u64, String)> {
        let asks = lock(&self.asks);
        let held = asks.iter().filter(|(_, entry)| entry.held.is_some());
        held.take(MAX_LOOKED_AT).map(|(owner, entry)| (*owner, entry.key.clone())).collect()
    }

    /// Ends what was ours before we looked, and is somebody else's or nobody's now.
    fn compare(&self, held: &[(u64, String)], told: &[String], looked: Instant) {
        let mut asks = lock(&self.asks);
        for ((owner, key), told) in held.iter().zip(told) {
            let term = asks.get(owner).and_then(|entry| entry.held.as_ref());
            let Some((term, _)) = term.filter(|(_, since)| *since < looked && *told != self.owner(*owner)) else {
                continue;
            };
            if term.ended().is_some() {
                // Whoever gave it up has nothing there.
                asks.remove(owner);
                continue;
            }
            tracing::warn!(key, "A lock was taken from us in the store.");
            term.end();
        }
    }

    /// Takes back what may have been done after it was given up.
    async fn exorcise(&self, connection: &Connection) -> Result<(), StoreError> {
        let now = clock::now();
        let due: Vec<_> = lock(&self.ghosts).extract_if(.., |(at, ..)| *at <= now).collect();
        for (index, (_, key, owner)) in due.iter().enumerate() {
            if let Err(error) = self.give_back(connection, key, *owner).await {
                lock(&self.ghosts).extend_from_slice(&due[index..]);
                return Err(error);
            }
        }
        Ok(())
    }

    async fn give_back(&self, connection: &Connection, key: &str, owner: u64) -> Result<(), StoreError> {
        let keys = [key, &format!("{key}:q"), &format!("{key}:a")];
        let arguments = [&*self.owner(owner), &self.wake()];
        connection.client.run::<i64>(CALL, &scripts::RELEASING, &keys, &arguments).await.map(drop)
    }

    /// The connection, once there is one.
    async fn connection(&self) -> Result<Arc<Connection>, StoreError> {
        let mut changes = self.connection.subscribe();
        let connection = changes.wait_for(Option::is_some).await.ok().and_then(|connection| connection.clone());
        connection.ok_or_else(|| StoreError::Ended("a connection".into()))
    }

    /// Waits for an answer about a lock; when there is none, the connection is looked at.
    async fn asked<T>(&self, op: StoreOp, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let sent = clock::now();
        let answer = call.await;
        match &answer {
            Ok(_) => self.standing.health.took(op, sent.elapsed()),
            Err(_) => self.doubt.notify_one(),
        }
        answer
    }

    /// Notes an ask before anything is sent; the same again while it lasts.
    fn begin(&self, ask: &Ask) -> (String, Arc<Notify>) {
        let mut asks = lock(&self.asks);
        let fresh = || Entry { key: self.lock_key(ask), wake: Arc::default(), is_asking: true, held: None };
        let entry = asks.entry(ask.owner).or_insert_with(fresh);
        entry.is_asking = true;
        (entry.key.clone(), entry.wake.clone())
    }

    async fn wait(&self, ask: &Ask) -> Result<Grant, StoreError> {
        let (key, wake) = self.begin(ask);
        let (line, alive) = (format!("{key}:q"), format!("{key}:a"));
        let (fence, boot, owner) = (self.key("fence"), self.key("boot"), self.owner(ask.owner));
        let [ttl, place] = [self.ttl, PLACE].map(|time| time.as_millis().to_string());
        let (quarantine, is_durable) = self.quarantine();
        loop {
            let connection = self.connection().await?;
            let deadline = connection.deadline();
            let keys = [&*key, &line, &alive, &fence, &boot];
            let arguments = [&*owner, &ttl, &place, &quarantine, is_durable, &deadline, &ask.told];
            let sent = clock::now();
            let told = self
                .asked(StoreOp::Acquire, connection.client.run(CALL, &scripts::ACQUIRING, &keys, &arguments))
                .await?;
            match Answered::read(told)? {
                Answered::Granted(token) => return self.hold(ask, sent, token),
                Answered::Queued(left) => {
                    ask.waits();
                    let look = left.map_or(LOOK, |left| left + Duration::from_millis(1)).min(LOOK);
                    // Too late is as good: then it asks.
                    tokio::time::timeout(look, wake.notified()).await.unwrap_or_default();
                }
                Answered::Quarantine(left) => {
                    self.standing.gives_none(left);
                    tokio::time::sleep(left.min(LOOK)).await;
                }
                Answered::Late => {
                    // What it thinks the time is there is wrong.
                    self.doubt.notify_one();
                    return Err(StoreError::Timeout(self.settings.name.clone()));
                }
            }
        }
    }

    fn hold(&self, ask: &Ask, sent: Instant, token: u64) -> Result<Grant, StoreError> {
        self.standing.saw(token);
        let until = self.until(sent);
        let mut asks = lock(&self.asks);
        let entry = asks.get_mut(&ask.owner).filter(|_| until > clock::now());
        let Some(entry) = entry else { return Err(StoreError::Timeout(self.settings.name.clone())) };
        let term = Term::until(until);
        (entry.is_asking, entry.held) = (false, Some((term.clone(), clock::now())));
        Ok(Grant { token: Token::new(0, token), term })
    }

    async fn prolong(&self, ask: &Ask) -> Result<Option<Instant>, StoreError> {
        let connection = self.connection().await?;
        let (key, owner, ttl) = (self.lock_key(ask), self.owner(ask.owner), self.ttl.as_millis().to_string());
        let sent = clock::now();
        let (keys, arguments) = ([&*key], [&*owner, &*ttl]);
        let call = connection.client.run::<i64>(CALL, &scripts::RENEWING, &keys, &arguments);
        Ok((self.asked(StoreOp::Renew, call).await? == 1).then(|| self.until(sent)))
    }

    fn published_key(&self, post: &Post) -> String {
        self.key(&format!("elect:{}", post.name))
    }

    async fn write(&self, owner: u64, post: &Post, text: &str) -> Result<bool, StoreError> {
        let Some(key) = lock(&self.asks).get(&owner).map(|entry| entry.key.clone()) else { return Ok(false) };
        let connection = self.connection().await?;
        let (published, lasts) = (self.published_key(post), post.lasts.as_millis().to_string());
        let (keys, arguments) = ([&*key, &*published], [&*self.owner(owner), text, &*lasts]);
        let call = connection.client.run::<i64>(CALL, &scripts::PUBLISHING, &keys, &arguments);
        Ok(self.asked(StoreOp::Publish, call).await? == 1)
    }

    async fn read(&self, post: &Post) -> Result<Published, StoreError> {
        let connection = self.connection().await?;
        let key = self.published_key(post);
        let keys = [&*key];
        let call = connection.client.run(CALL, &scripts::READING, &keys, &[]);
        let told: Vec<u8> = self.asked(StoreOp::Read, call).await?;
        let Some(bar) = told.iter().position(|byte| *byte == b'|') else { return Ok(None) };
        let number = std::str::from_utf8(&told[..bar]).ok().and_then(|number| number.parse().ok());
        Ok(number.map(|number| (number, told[bar + 1..].to_vec())))
    }

    async fn forget(&self, ask: &Ask) -> Result<(), StoreError> {
        let Some(was_asking) = lock(&self.asks).get(&ask.owner).map(|entry| entry.is_asking) else { return Ok(()) };
        let connection = self.connection().await?;
        let key = self.lock_key(ask);
        self.asked(StoreOp::Release, self.give_back(&connection, &key, ask.owner)).await?;
        lock(&self.asks).remove(&ask.owner);
        if was_asking {
            lock(&self.ghosts).push((clock::now() + CALL, key, ask.owner));
        }
        Ok(())
    }

    /// One connection after the other, for ever.
    async fn live_on(&self) {
        let mut dice = Dice::new(clock::since_epoch().as_nanos() as u64);
        let mut failures = 0;
        for number in 0.. {
            let Err(why) = self.live(number, &mut failures).await;
            self.connection.send_replace(None);
            self.standing.health.lost();
            tracing::debug!(store = %self.settings.name, why = why.told(), "The connection for locks has ended.");
            failures += 1;
            tokio::time::sleep(store::pause(failures, &mut dice)).await;
        }
    }

    /// Says when it is lost.
    async fn judge(&self) {
        let mut heard = self.heard.subscribe();
        loop {
            let by = *heard.borrow_and_update() + LOSS;
            tokio::select! {
                biased;
                Ok(()) = heard.changed() => {}
                () = tokio::time::sleep_until(by.into()) => {
                    if self.standing.lost() {
                        tracing::error!(store = %self.settings.name, "The store of locks is lost.");
                    }
                    // The sender is held here: it does not end.
                    if heard.changed().await.is_err() {
                        return std::future::pending().await;
                    }
                }
            }
        }
    }
}

impl LeaseStore for Redis {
    fn run(&self) -> Later<'_, ()> {
        Box::pin(async {
            self.heard.send_replace(clock::now());
            tokio::select! {
                () = self.live_on() => {}
                () = self.judge() => {}
            }
        })
    }

    fn acquire<'a>(&'a self, ask: &'a Ask) -> Later<'a, Result<Grant, StoreError>> {
        Box::pin(self.wait(ask))
    }

    fn release<'a>(&'a self, ask: &'a Ask) -> Later<'a, Result<(), StoreError>> {
        Box::pin(self.forget(ask))
    }

    fn abandon(&self, ask: &Ask) {
        lock(&self.asks).remove(&ask.owner);
    }

    fn publish<'a>(&'a self, owner: u64, post: &'a Post, text: String) -> Later<'a, Result<bool, StoreError>> {
        Box::pin(async move { self.write(owner, post, &text).await })
    }

    fn published<'a>(&'a self, post: &'a Post) -> Later<'a, Result<Published, StoreError>> {
        Box::pin(self.read(post))
    }

    fn renew<'a>(&'a self, ask: &'a Ask) -> Option<Later<'a, Result<Option<Instant>, StoreError>>> {
        Some(Box::pin(self.prolong(ask)))
    }
}

/// A name that nobody else has.
fn instance() -> String {
    let mut bytes = [0; 8];
    if SystemRandom::new().fill(&mut bytes).is_err() {
        // There is none only on machines without a source of it.
        bytes = (clock::since_epoch().as_nanos() as u64 ^ u64::from(std::process::id()) << 40).to_be_bytes();
    }
    bytes.map(|byte| format!("{byte:02x}")).concat()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
