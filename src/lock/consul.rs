//! Locks in Consul: one session for all of a process, a key for each lock, and whoever has it locked by a session that is alive has
//! it. Consul keeps no line: those who wait try again when the key has changed.
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
use crate::store::consul::Consul as Client;
use crate::store::consul::kv::Entry as Stored;
use crate::store::consul::kv::Locked;
use crate::store::settings::Consul as Own;
use crate::store::settings::Settings;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::Notify;
use tokio::sync::Semaphore;
use tokio::sync::SemaphorePermit;
use tokio::sync::watch;

/// Calls under way at one time, each on a connection of its own.
const MAX_CALLS: usize = 16;
/// Those who wait for a change by a call that waits with them; others look again after [`LOOK_UNTOLD`]. An agent takes 200
/// connections of one client.
const MAX_WATCHES: usize = 32;
/// Longest call that waits for a change: one that is silent proves nothing.
const LOOK: Duration = Duration::from_secs(2);
const LOOK_UNTOLD: Duration = Duration::from_millis(200);
/// Those who were told of a change come back within this: not all at one moment.
const JITTER: Duration = Duration::from_millis(20);
/// After an outcome that is not known, keys of nobody's are searched for so many times.
const SWEEPS: u32 = 3;

/// Locks in one Consul.
#[derive(Debug)]
pub struct Consul {
    settings: Arc<Settings>,
    own: Own,
    ttl: Duration,
    standing: Arc<Standing>,
    session: watch::Sender<Option<Arc<Session>>>,
    asks: Mutex<HashMap<u64, Entry>>,
    idle: Mutex<Vec<Client>>,
    calls: Semaphore,
    watches: Semaphore,
    /// Which agent is asked.
    server: AtomicUsize,
    sweeps: AtomicU32,
    reset: Notify,
}

/// A session that is kept.
#[derive(Debug)]
struct Session {
    id: String,
    epoch: u64,
    term: Arc<Term>,
}

/// An ask that the store may know of.
#[derive(Debug)]
struct Entry {
    key: String,
    session: Arc<Session>,
    /// Whether the outcome of a call is not known.
    is_asking: bool,
    /// Once it is ours: the index of our last word there, until when, and since when.
    held: Option<(u64, Arc<Term>, Instant)>,
}

/// A connection for one call.
struct Call<'a> {
    client: Client,
    consul: &'a Consul,
    _permit: SemaphorePermit<'a>,
}

impl Call<'_> {
    /// Keeps the connection for others: the call has its answer.
    fn done(self) {
        self.consul.put_by(self.client);
    }
}

impl Consul {
    /// Locks in this store, with leases of this length or what its sessions last if that is less.
    pub fn new(settings: Arc<Settings>, own: Own, lease: Duration, standing: Arc<Standing>) -> Self {
        let ttl = lease.min(settings.lease_ttl);
        Self {
            settings,
            own,
            ttl,
            standing,
            session: watch::Sender::new(None),
            asks: Mutex::default(),
            idle: Mutex::default(),
            calls: Semaphore::new(MAX_CALLS),
            watches: Semaphore::new(MAX_WATCHES),
            server: AtomicUsize::new(0),
            sweeps: AtomicU32::new(0),
            reset: Notify::new(),
        }
    }

    /// Until when what a request sent at this moment has renewed is surely ours.
    fn until(&self, sent: Instant) -> Instant {
        sent + self.ttl * 2 / 3
    }

    fn prefix(&self) -> String {
        format!("{}/locks/", self.settings.root)
    }

    async fn open(&self) -> Result<Client, StoreError> {
        let opened = Client::open(&self.settings, self.server.load(Ordering::Relaxed)).await;
        if opened.is_err() {
            self.server.fetch_add(1, Ordering::Relaxed);
        }
        opened
    }

    fn put_by(&self, client: Client) {
        let mut idle = lock(&self.idle);
        if idle.len() < MAX_CALLS {
            idle.push(client);
        }
    }

    async fn call(&self) -> Result<Call<'_>, StoreError> {
        let permit = self.calls.acquire().await.map_err(|_| StoreError::Ended("calls".into()))?;
        let idle = lock(&self.idle).pop();
        let client = match idle {
            Some(client) => client,
            None => self.open().await?,
        };
        Ok(Call { client, consul: self, _permit: permit })
    }

    /// Gets a session and keeps it until it is lost; says why. `previous` is the one before, whose end is not known.
    async fn live(&self, previous: &mut Option<String>, failures: &mut u32) -> Result<Infallible, StoreError> {
        let mut client = self.open().await?;
        if let Some(session) = previous.take() {
            // What hung on it was given up: who waits for its keys need not wait for their end. It may be gone already.
            if let Err(error) = client.destroy_session(&session).await {
                tracing::debug!(error = error.told(), "The session before is left to itself.");
                client = self.open().await?;
            }
        }
        let epoch = self.epoch(&mut client).await?;
        let sent = clock::now();
        let id = client.create_session(self.ttl, self.own.lock_delay).await?;
        *previous = Some(id.clone());
        let session = Arc::new(Session { id, epoch, term: Term::until(self.until(sent)) });
        self.standing.heard(sent.elapsed(), Duration::ZERO);
        tracing::info!(store = %self.settings.name, session = %session.id, "Locks can be had.");
        self.session.send_replace(Some(session.clone()));
        *failures = 0;
        let why = self.keep(client, &session).await;
        self.session.send_replace(None);
        lock(&self.idle).clear();
        self.end(&session);
        Err(why)
    }

    /// When the store's data began. While that is no longer ago than a session lasts, locks that it has forgotten may be held: then
    /// this waits.
    async fn epoch(&self, client: &mut Client) -> Result<u64, StoreError> {
        let key = format!("{}/epoch", self.settings.root);
        loop {
            let (sent, now) = (clock::now(), clock::since_epoch());
            let epoch = client.get_or_put(&key, now.as_micros() as u64).await?;
            let epoch: Option<u64> = std::str::from_utf8(&epoch).ok().and_then(|text| text.parse().ok());
            let epoch = epoch.ok_or_else(|| StoreError::Answer(key.clone()))?;
            let age = now.saturating_sub(Duration::from_micros(epoch));
            let left = self.settings.lease_ttl.saturating_sub(age);
            if left.is_zero() {
                return Ok(epoch);
            }
            self.standing.heard(sent.elapsed(), left);
            tokio::time::sleep(left.min(self.ttl / 3)).await;
        }
    }

    /// Signs of life, three in the time of a session; until it is gone, or nobody has answered for too long.
    async fn keep(&self, client: Client, session: &Session) -> StoreError {
        let pause = self.ttl / 3;
        let (mut client, mut dice, mut failures) = (Some(client), Dice::new(session.epoch), 0);
        let mut next = clock::now() + pause;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(next.into()) => {}
                () = self.reset.notified() => return StoreError::Ended("a session that could not be cleaned".into()),
            }
            if session.term.ended().is_some() {
                return StoreError::Timeout(self.settings.name.clone());
            }
            match self.sign(&mut client, session, pause).await {
                Ok(true) => (failures, next) = (0, clock::now() + pause),
                Ok(false) => return StoreError::Ended("a session".into()),
                Err(error) => {
                    tracing::debug!(error = error.told(), "A sign of life got no answer.");
                    self.standing.health.lost();
                    (client, failures) = (None, failures + 1);
                    next = clock::now() + store::pause(failures, &mut dice).min(session.term.remaining());
                }
            }
        }
    }

    /// One sign of life, and a look at what hangs on the session. Says whether it is still there.
    async fn sign(&self, kept: &mut Option<Client>, session: &Session, time: Duration) -> Result<bool, StoreError> {
        let mut client = match kept.take() {
            Some(client) => client,
            None => tokio::time::timeout(time, self.open())
                .await
                .unwrap_or_else(|_| Err(StoreError::Timeout(self.settings.name.clone())))?,
        };
        let sent = clock::now();
        if !client.renew_session(time, &session.id).await? {
            return Ok(false);
        }
        self.standing.heard(sent.elapsed(), Duration::ZERO);
        self.extend(session, self.until(sent));
        let sweeps = self.sweeps.load(Ordering::Relaxed);
        if sweeps > 0 || !lock(&self.asks).is_empty() {
            let looked = clock::now();
            let (entries, _) = client.entries(&self.prefix()).await?;
            for ghost in self.compare(&entries, session, looked) {
                client.unlock(&ghost.key, ghost.modified, &session.id).await?;
                self.standing.ghosts.add(u64::from(sweeps > 0));
            }
            self.sweeps.store(sweeps.saturating_sub(1), Ordering::Relaxed);
        }
        *kept = Some(client);
        Ok(true)
    }

    /// What is ours is so for longer.
    fn extend(&self, session: &Session, until: Instant) {
        let asks = lock(&self.asks);
        session.term.extend(until);
        terms(&asks, session).for_each(|term| term.extend(until));
    }

    /// Nothing that hung on this session is ours any more.
    fn end(&self, session: &Session) {
        let asks = lock(&self.asks);
        session.term.end();
        terms(&asks, session).for_each(|term| term.end());
    }

    /// Compares what hangs on the session, as it was at a moment, with what should: ends what somebody took from us, and gives
    /// what is nobody's.
    fn compare<'a>(&self, entries: &'a [Stored], session: &Session, looked: Instant) -> Vec<&'a Stored> {
        let asks = lock(&self.asks);
        let ours: HashMap<u64, &Stored> = entries
            .iter()
            .filter(|entry| entry.session.as_deref() == Some(&session.id))
            .map(|entry| (owner_of(&entry.value), entry))
            .collect();
        for (owner, entry) in asks.iter().filter(|(_, entry)| std::ptr::eq(&*entry.session, session)) {
            if let Some((.., term, since)) = &entry.held
                && *since < looked
                && !ours.contains_key(owner)
            {
                tracing::warn!(key = entry.key, "A lock was taken from us in the store.");
                term.end();
            }
        }
        ours.into_iter().filter(|(owner, _)| !asks.contains_key(owner)).map(|(_, entry)| entry).collect()
    }

    /// The session, once there is one.
    async fn session(&self) -> Result<Arc<Session>, StoreError> {
        let mut changes = self.session.subscribe();
        let session = changes.wait_for(Option::is_some).await.ok().and_then(|session| session.clone());
        session.ok_or_else(|| StoreError::Ended("a session".into()))
    }

    /// Notes an ask before anything is sent.
    async fn begin(&self, ask: &Ask) -> Result<(String, Arc<Session>), StoreError> {
        let session = self.session().await?;
        let key = format!("{}{}", self.prefix(), ask.key);
        let entry = Entry { key: key.clone(), session: session.clone(), is_asking: true, held: None };
        lock(&self.asks).insert(ask.owner, entry);
        Ok((key, session))
    }

    async fn wait(&self, ask: &Ask) -> Result<Grant, StoreError> {
        let (key, session) = self.begin(ask).await?;
        // Another ask of ours has another value: what is locked anew has another index, even where the session is the same.
        let value = format!("{}|{}", ask.owner, ask.told);
        let mut dice = Dice::new(clock::since_epoch().as_nanos() as u64);
        loop {
            let mut call = self.call().await?;
            let locked = call.client.lock(&key, &value, &session.id).await?;
            call.done();
            match locked {
                Locked::Ours(index) => return self.hold(ask, &session, index),
                Locked::Taken => {
                    ask.waits();
                    self.await_change(&key).await?;
                    tokio::time::sleep(dice.within(JITTER)).await;
                }
                Locked::Delayed => {
                    ask.waits();
                    tokio::time::sleep(LOOK_UNTOLD / 2 + dice.within(LOOK_UNTOLD / 2)).await;
                }
                Locked::NoSession => {
                    if self.session.borrow().as_ref().is_some_and(|now| Arc::ptr_eq(now, &session)) {
                        self.reset.notify_one();
                    }
                    return Err(StoreError::Ended("a session".into()));
                }
            }
        }
    }

    /// Waits until somebody else's lock has changed, or it is time to look.
    async fn await_change(&self, key: &str) -> Result<(), StoreError> {
        let Ok(_permit) = self.watches.try_acquire() else {
            tokio::time::sleep(LOOK_UNTOLD).await;
            return Ok(());
        };
        // A connection beside those for calls: it is busy for long.
        let idle = lock(&self.idle).pop();
        let mut client = match idle {
            Some(client) => client,
            None => self.open().await?,
        };
        let by = clock::now() + LOOK;
        let left = || by.saturating_duration_since(clock::now());
        let (mut entry, mut index) = client.entry(key).await?;
        let holder = entry.as_ref().and_then(|entry| entry.session.clone());
        // What a holder publishes in its key is not its end.
        while !left().is_zero() && holder.is_some() && entry.and_then(|entry| entry.session) == holder {
            (entry, index) = client.await_change(key, index, left()).await?;
        }
        self.put_by(client);
        Ok(())
    }

    /// It is ours, for as long as the session.
    fn hold(&self, ask: &Ask, session: &Session, index: u64) -> Result<Grant, StoreError> {
        let mut asks = lock(&self.asks);
        let remaining = session.term.remaining();
        let entry = asks.get_mut(&ask.owner).filter(|_| !remaining.is_zero());
        let Some(entry) = entry else { return Err(StoreError::Ended("a session".into())) };
        let now = clock::now();
        let term = Term::until(now + remaining);
        (entry.is_asking, entry.held) = (false, Some((index, term.clone(), now)));
        Ok(Grant { token: Token::new(session.epoch, index), term })
    }

    /// Publishes in the key by which we have the lock: when that is gone, so is what we said. A word whose outcome is not known may be
    /// there already, so what is there is looked at once when the key is another than we thought.
    async fn write(&self, owner: u64, text: &str) -> Result<bool, StoreError> {
        let held = |asks: &HashMap<u64, Entry>| {
            let entry = asks.get(&owner)?;
            Some((entry.key.clone(), entry.session.id.clone(), entry.held.as_ref()?.0))
        };
        let Some((key, session, known)) = held(&lock(&self.asks)) else { return Ok(false) };
        let value = format!("{owner}|{text}");
        let mut call = self.call().await?;
        let mut put = call.client.put_at(&key, known, &value).await?;
        if put.is_none() {
            let found = call.client.entry(&key).await?.0.filter(|found| is_of(found, &session, owner));
            if let Some(found) = found {
                put = call.client.put_at(&key, found.modified, &value).await?;
            }
        }
        call.done();
        let mut asks = lock(&self.asks);
        let held = asks.get_mut(&owner).and_then(|entry| entry.held.as_mut());
        if let Some((held, index)) = held.zip(put) {
            held.0 = index;
        }
        Ok(put.is_some())
    }

    /// What whoever has the lock says in its key; before its first word it names itself there alone.
    async fn read(&self, post: &Post) -> Result<Published, StoreError> {
        let mut call = self.call().await?;
        let found = call.client.entry(&format!("{}{}", self.prefix(), post.key)).await?.0;
        call.done();
        let Some(found) = found.filter(|found| found.session.is_some()) else { return Ok(None) };
        let bar = found.value.iter().position(|byte| *byte == b'|');
        let text = bar.map(|bar| &found.value[bar + 1..]).filter(|text| text.starts_with(b"{"));
        Ok(text.map(|text| (found.modified, text.to_vec())))
    }

    async fn forget(&self, ask: &Ask) -> Result<(), StoreError> {
        let (key, session, was_asking, index) = match lock(&self.asks).get(&ask.owner) {
            Some(entry) => {
                let index = entry.held.as_ref().map(|(index, ..)| *index);
                (entry.key.clone(), entry.session.clone(), entry.is_asking, index)
            }
            None => return Ok(()),
        };
        let mut call = self.call().await?;
        let is_given = match index {
            Some(index) => call.client.unlock(&key, index, &session.id).await?,
            None => false,
        };
        if !is_given {
            let (found, _) = call.client.entry(&key).await?;
            if let Some(found) = found.filter(|found| is_of(found, &session.id, ask.owner))
                && !call.client.unlock(&key, found.modified, &session.id).await?
            {
                return Err(StoreError::Ended("a lock that changes".into()));
            }
        }
        call.done();
        lock(&self.asks).remove(&ask.owner);
        if was_asking {
            // What was sent and not answered may be done yet.
            self.sweeps.store(SWEEPS, Ordering::Relaxed);
        }
        Ok(())
    }

    /// One session after the other, for ever.
    async fn live_on(&self) {
        let mut dice = Dice::new(clock::since_epoch().as_nanos() as u64);
        let (mut previous, mut failures) = (None, 0);
        if let Some(session) = self.session.send_replace(None) {
            // This was at work before, and failed.
            self.end(&session);
            previous = Some(session.id.clone());
        }
        loop {
            let Err(why) = self.live(&mut previous, &mut failures).await;
            self.standing.ended(&why, failures);
            failures += 1;
            tokio::time::sleep(store::pause(failures, &mut dice)).await;
        }
    }
}

impl LeaseStore for Consul {
    fn run(&self) -> Later<'_, ()> {
        Box::pin(self.live_on())
    }

    fn acquire<'a>(&'a self, ask: &'a Ask) -> Later<'a, Result<Grant, StoreError>> {
        Box::pin(self.wait(ask))
    }

    fn release<'a>(&'a self, ask: &'a Ask) -> Later<'a, Result<(), StoreError>> {
        Box::pin(self.forget(ask))
    }

    fn publish<'a>(&'a self, owner: u64, _: &'a Post, text: String) -> Later<'a, Result<bool, StoreError>> {
        Box::pin(async move { self.write(owner, &text).await })
    }

    fn published<'a>(&'a self, post: &'a Post) -> Later<'a, Result<Published, StoreError>> {
        Box::pin(self.read(post))
    }

    fn reset(&self) {
        self.reset.notify_one();
    }
}

/// Whether what is stored is a lock of this session and ask.
fn is_of(found: &Stored, session: &str, owner: u64) -> bool {
    found.session.as_deref() == Some(session) && owner_of(&found.value) == owner
}

fn terms<'a>(asks: &'a HashMap<u64, Entry>, session: &'a Session) -> impl Iterator<Item = &'a Arc<Term>> {
    let of_it = asks.values().filter(move |entry| std::ptr::eq(&*entry.session, session));
    of_it.filter_map(|entry| entry.held.as_ref().map(|(_, term, _)| term))
}

/// Whose ask a value is of; what nobody of us wrote is of none.
fn owner_of(value: &[u8]) -> u64 {
    let text = std::str::from_utf8(value).unwrap_or_default();
    text.split_once('|').and_then(|(owner, _)| owner.parse().ok()).unwrap_or(0)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
