//! Locks in etcd: one lease for all of a process, a key for each ask below the lock's, and the oldest of them has it. Whoever waits
//! looks at nobody but who is before.
use super::Ask;
use super::Grant;
use super::Later;
use super::LeaseStore;
use super::Post;
use super::Published;
use super::standing::Standing;
use super::term::Term;
use super::token::Token;
use super::waiters::Waiters;
use crate::base::clock;
use crate::base::dice::Dice;
use crate::store;
use crate::store::StoreError;
use crate::store::etcd::Etcd as Client;
use crate::store::settings::Settings;
use std::collections::HashMap;
use std::collections::HashSet;
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
/// Time after which who waits looks again, whatever the watch says: one that is silent proves nothing.
const LOOK: Duration = Duration::from_secs(1);
/// The same while there is no watch.
const LOOK_UNTOLD: Duration = Duration::from_millis(100);
/// After an outcome that is not known, the lease is searched for keys of nobody's so many times.
const SWEEPS: u32 = 3;

/// Locks in one etcd.
#[derive(Debug)]
pub struct Etcd {
    settings: Arc<Settings>,
    ttl: Duration,
    standing: Arc<Standing>,
    session: watch::Sender<Option<Arc<Session>>>,
    asks: Mutex<HashMap<u64, Entry>>,
    waiters: Waiters,
    idle: Mutex<Vec<Client>>,
    calls: Semaphore,
    /// Which server is asked.
    server: AtomicUsize,
    sweeps: AtomicU32,
    reset: Notify,
}

/// A lease that is kept.
#[derive(Debug)]
struct Session {
    lease: String,
    epoch: u64,
    term: Arc<Term>,
}

/// A key that is in the store, or may be.
#[derive(Debug)]
struct Entry {
    key: String,
    session: Arc<Session>,
    /// Whether the outcome of a call is not known.
    is_asking: bool,
    /// Once it is ours: until when, and since when.
    held: Option<(Arc<Term>, Instant)>,
}

/// A connection for one call.
struct Call<'a> {
    client: Client,
    etcd: &'a Etcd,
    _permit: SemaphorePermit<'a>,
}

impl Call<'_> {
    /// Keeps the connection for others: the call has its answer.
    fn done(self) {
        let mut idle = lock(&self.etcd.idle);
        if idle.len() < MAX_CALLS {
            idle.push(self.client);
        }
    }
}

impl Etcd {
    /// Locks in this store, with leases of this length or what the store's own are if that is less.
    pub fn new(settings: Arc<Settings>, lease: Duration, standing: Arc<Standing>) -> Self {
        let ttl = lease.min(settings.lease_ttl);
        Self {
            settings,
            ttl,
            standing,
            session: watch::Sender::new(None),
            asks: Mutex::default(),
            waiters: Waiters::default(),
            idle: Mutex::default(),
            calls: Semaphore::new(MAX_CALLS),
            server: AtomicUsize::new(0),
            sweeps: AtomicU32::new(0),
            reset: Notify::new(),
        }
    }

    /// Until when what a request sent at this moment has renewed is surely ours.
    fn until(&self, sent: Instant) -> Instant {
        sent + self.ttl * 2 / 3
    }

    async fn open(&self) -> Result<Client, StoreError> {
        let opened = Client::open(&self.settings, self.server.load(Ordering::Relaxed)).await;
        if opened.is_err() {
            self.server.fetch_add(1, Ordering::Relaxed);
        }
        opened
    }

    async fn call(&self) -> Result<Call<'_>, StoreError> {
        let permit = self.calls.acquire().await.map_err(|_| StoreError::Ended("calls".into()))?;
        let idle = lock(&self.idle).pop();
        let client = match idle {
            Some(client) => client,
            None => self.open().await?,
        };
        Ok(Call { client, etcd: self, _permit: permit })
    }

    /// Gets a lease and keeps it until it is lost; says why. `previous` is the lease before, whose end is not known.
    async fn live(&self, previous: &mut Option<String>, failures: &mut u32) -> Result<Infallible, StoreError> {
        let mut client = self.open().await?;
        if let Some(lease) = previous.take() {
            // What hung on it was given up: who waits for its keys need not wait for their end. It may be gone already.
            if let Err(error) = client.revoke(&lease).await {
                tracing::debug!(error = error.told(), "The lease before is left to itself.");
                client = self.open().await?;
            }
        }
        let now = clock::since_epoch().as_micros().to_string();
        let epoch = client.get_or_put(&format!("{}/epoch", self.settings.root), &now).await?;
        let epoch = std::str::from_utf8(&epoch).ok().and_then(|text| text.parse().ok());
        let epoch = epoch.ok_or_else(|| StoreError::Answer(format!("{}/epoch", self.settings.root)))?;
        let sent = clock::now();
        let lease = client.grant(self.ttl).await?;
        *previous = Some(lease.clone());
        let session = Arc::new(Session { lease, epoch, term: Term::until(self.until(sent)) });
        self.standing.answered(sent.elapsed());
        tracing::info!(store = %self.settings.name, lease = %session.lease, "Locks can be had.");
        self.session.send_replace(Some(session.clone()));
        *failures = 0;
        let why = self.keep(client, &session).await;
        self.session.send_replace(None);
        lock(&self.idle).clear();
        self.end(&session);
        Err(why)
    }

    /// Signs of life, three in the time of a lease; until it is gone, or nobody has answered for too long.
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
                Ok(false) => return StoreError::Ended("a lease".into()),
                Err(error) => {
                    tracing::debug!(error = error.told(), "A sign of life got no answer.");
                    self.standing.health.lost();
                    (client, failures) = (None, failures + 1);
                    next = clock::now() + store::pause(failures, &mut dice).min(session.term.remaining());
                }
            }
        }
    }

    /// One sign of life, and a look at what hangs on the lease. Says whether it is still there.
    async fn sign(&self, kept: &mut Option<Client>, session: &Session, time: Duration) -> Result<bool, StoreError> {
        let mut client = match kept.take() {
            Some(client) => client,
            None => tokio::time::timeout(time, self.open())
                .await
                .unwrap_or_else(|_| Err(StoreError::Timeout(self.settings.name.clone())))?,
        };
        let sent = clock::now();
        if !client.keep_alive(time, &session.lease).await? {
            return Ok(false);
        }
        self.standing.answered(sent.elapsed());
        self.extend(session, self.until(sent));
        let sweeps = self.sweeps.load(Ordering::Relaxed);
        if sweeps > 0 || !lock(&self.asks).is_empty() {
            let looked = clock::now();
            let Some(keys) = client.keys_of(&session.lease).await? else { return Ok(false) };
            for ghost in self.compare(keys, session, looked) {
                client.delete(&ghost).await?;
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
        let held = asks
            .values()
            .filter(|entry| std::ptr::eq(&*entry.session, session))
            .filter_map(|entry| entry.held.as_ref());
        held.for_each(|(term, _)| term.extend(until));
    }

    /// Nothing that hung on this lease is ours any more.
    fn end(&self, session: &Session) {
        let asks = lock(&self.asks);
        session.term.end();
        let held = asks
            .values()
            .filter(|entry| std::ptr::eq(&*entry.session, session))
            .filter_map(|entry| entry.held.as_ref());
        held.for_each(|(term, _)| term.end());
    }

    /// Compares what hangs on the lease, as it was at a moment, with what should: ends what somebody took from us, and gives
    /// what is nobody's.
    fn compare(&self, keys: Vec<Vec<u8>>, session: &Session, looked: Instant) -> Vec<String> {
        let asks = lock(&self.asks);
        let there: HashSet<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        for entry in asks.values().filter(|entry| std::ptr::eq(&*entry.session, session)) {
            if let Some((term, _)) = entry.held.as_ref().filter(|(_, since)| *since < looked)
                && !there.contains(entry.key.as_bytes())
            {
                tracing::warn!(key = entry.key, "A lock was taken from us in the store.");
                term.end();
            }
        }
        let ours: HashSet<&str> = asks.values().map(|entry| entry.key.as_str()).collect();
        let keys = keys.iter().filter_map(|key| std::str::from_utf8(key).ok());
        let published = self.published_key("");
        keys.filter(|key| !ours.contains(key) && !key.starts_with(&published)).map(str::to_string).collect()
    }

    /// The session, once there is one.
    async fn session(&self) -> Result<Arc<Session>, StoreError> {
        let mut changes = self.session.subscribe();
        let session = changes.wait_for(Option::is_some).await.ok().and_then(|session| session.clone());
        session.ok_or_else(|| StoreError::Ended("a session".into()))
    }

    /// The key of an ask: the same again as long as the session is.
    async fn begin(&self, ask: &Ask, prefix: &str) -> Result<(String, Arc<Session>), StoreError> {
        let session = self.session().await?;
        let mut asks = lock(&self.asks);
        let fresh = || Entry {
            key: format!("{prefix}{}-{}", session.lease, ask.owner),
            session: session.clone(),
            is_asking: true,
            held: None,
        };
        let entry = asks.entry(ask.owner).or_insert_with(fresh);
        if !Arc::ptr_eq(&entry.session, &session) {
            // The lease that its old key hung on has been given up.
            *entry = fresh();
        }
        entry.is_asking = true;
        Ok((entry.key.clone(), session))
    }

    async fn wait(&self, ask: &Ask) -> Result<Grant, StoreError> {
        let prefix = format!("{}/locks/{}/", self.settings.root, ask.key);
        let (key, session) = self.begin(ask, &prefix).await?;
        let waiter = self.waiters.add(&prefix);
        let mut call = self.call().await?;
        let (created, oldest) = call.client.enlist(&prefix, &key, &ask.told, &session.lease).await?;
        call.done();
        let mut is_first = oldest == key.as_bytes();
        while !is_first {
            ask.waits();
            let mut call = self.call().await?;
            match call.client.before(&prefix, created).await? {
                Some(before) => {
                    call.done();
                    let look = if self.waiters.are_told() { LOOK } else { LOOK_UNTOLD };
                    waiter.gone(&before, look).await;
                }
                // Nobody is before us: but are we still there ourselves?
                None => {
                    is_first = call.client.created(&key).await? == Some(created);
                    call.done();
                    if !is_first {
                        lock(&self.asks).remove(&ask.owner);
                        return Err(StoreError::Ended("our place before a lock".into()));
                    }
                }
            }
        }
        self.hold(ask, &session, created)
    }

    /// It is ours, for as long as the session.
    fn hold(&self, ask: &Ask, session: &Session, created: u64) -> Result<Grant, StoreError> {
        let mut asks = lock(&self.asks);
        let remaining = session.term.remaining();
        let entry = asks.get_mut(&ask.owner).filter(|_| !remaining.is_zero());
        let Some(entry) = entry else { return Err(StoreError::Ended("a session".into())) };
        let now = clock::now();
        let term = Term::until(now + remaining);
        (entry.is_asking, entry.held) = (false, Some((term.clone(), now)));
        Ok(Grant { token: Token::new(session.epoch, created), term })
    }

    /// Where what is published under a name is.
    fn published_key(&self, name: &str) -> String {
        format!("{}/elect/{name}", self.settings.root)
    }

    /// Publishes while a lock is held, as the store has it: not as we do.
    async fn write(&self, owner: u64, name: &str, text: &str) -> Result<bool, StoreError> {
        let held = lock(&self.asks).get(&owner).filter(|entry| entry.held.is_some()).map(|entry| {
            let Entry { key, session, .. } = entry;
            (key.clone(), session.lease.clone())
        });
        let Some((key, lease)) = held else { return Ok(false) };
        let mut call = self.call().await?;
        let was_there = call.client.put_while(&key, &self.published_key(name), text, &lease).await?;
        call.done();
        Ok(was_there)
    }

    async fn read(&self, name: &str) -> Result<Published, StoreError> {
        let mut call = self.call().await?;
        let found = call.client.get(&self.published_key(name)).await?;
        call.done();
        Ok(found)
    }

    async fn forget(&self, ask: &Ask) -> Result<(), StoreError> {
        let (key, was_asking) = match lock(&self.asks).get(&ask.owner) {
            Some(entry) => (entry.key.clone(), entry.is_asking),
            None => return Ok(()),
        };
        let mut call = self.call().await?;
        call.client.delete(&key).await?;
        call.done();
        lock(&self.asks).remove(&ask.owner);
        if was_asking {
            // What was sent and not answered may be done yet.
            self.sweeps.store(SWEEPS, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Has the ends of keys told, from the first who waits on.
    async fn tell_waiters(&self) {
        let prefix = format!("{}/locks/", self.settings.root);
        let mut dice = Dice::new(clock::since_epoch().as_nanos() as u64);
        let mut failures = 0;
        loop {
            self.waiters.until_any().await;
            let told = async {
                let mut deletes = self.open().await?.watch_deletes(&prefix).await?;
                failures = 0;
                self.waiters.begin_telling();
                // A watch that outlived its session may be one that nobody tells any more.
                let mut sessions = self.session.subscribe();
                loop {
                    tokio::select! {
                        gone = deletes.next() => gone?.iter().for_each(|key| self.waiters.tell(key)),
                        _ = sessions.changed() => return Err(StoreError::Ended("a session".into())),
                    }
                }
            };
            let Err(error): Result<Infallible, StoreError> = told.await;
            self.waiters.end_telling();
            tracing::debug!(error = error.told(), "A watch of locks has ended.");
            failures += 1;
            tokio::time::sleep(store::pause(failures, &mut dice)).await;
        }
    }

    /// One lease after the other, for ever.
    async fn live_on(&self) {
        let mut dice = Dice::new(clock::since_epoch().as_nanos() as u64);
        let (mut previous, mut failures) = (None, 0);
        if let Some(session) = self.session.send_replace(None) {
            // This was at work before, and failed.
            self.end(&session);
            previous = Some(session.lease.clone());
        }
        loop {
            let Err(why) = self.live(&mut previous, &mut failures).await;
            self.standing.ended(&why, failures);
            failures += 1;
            tokio::time::sleep(store::pause(failures, &mut dice)).await;
        }
    }
}

impl LeaseStore for Etcd {
    fn run(&self) -> Later<'_, ()> {
        Box::pin(async {
            tokio::select! {
                () = self.live_on() => {}
                () = self.tell_waiters() => {}
            }
        })
    }

    fn acquire<'a>(&'a self, ask: &'a Ask) -> Later<'a, Result<Grant, StoreError>> {
        Box::pin(self.wait(ask))
    }

    fn release<'a>(&'a self, ask: &'a Ask) -> Later<'a, Result<(), StoreError>> {
        Box::pin(self.forget(ask))
    }

    fn publish<'a>(&'a self, owner: u64, post: &'a Post, text: String) -> Later<'a, Result<bool, StoreError>> {
        Box::pin(async move { self.write(owner, &post.name, &text).await })
    }

    fn published<'a>(&'a self, post: &'a Post) -> Later<'a, Result<Published, StoreError>> {
        Box::pin(self.read(&post.name))
    }

    fn reset(&self) {
        self.reset.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
