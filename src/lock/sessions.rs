//! Sessions in a store that is asked by calls (etcd's leases, Consul's sessions): one for all leases of a process, kept by three signs of
//! life in its time, and what hangs on it. How an engine says that, and how a lock is asked for, is not known here.
use super::Ask;
use super::Grant;
use super::standing::Standing;
use super::term::Term;
use super::token::Token;
use crate::base::clock;
use crate::base::dice::Dice;
use crate::store;
use crate::store::StoreError;
use crate::store::settings::Settings;
use crate::telemetry::labels::StoreOp;
use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
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
/// After an outcome that is not known, what hangs on the session is searched for what is nobody's so many times.
const SWEEPS: u32 = 3;

/// What an engine says of its sessions, and how.
pub trait Engine: fmt::Debug + Sized + Send + Sync + 'static {
    /// A connection to one server.
    type Client: fmt::Debug + Send;
    /// What has to be known of a lock that is ours to give it back.
    type Mark: fmt::Debug + Copy + Send;

    /// Connects to the server of this number.
    ///
    /// # Errors
    /// When it cannot be reached.
    fn open(settings: &Settings, number: usize) -> impl Future<Output = Result<Self::Client, StoreError>> + Send;

    /// When the store's data began, once it gives locks.
    ///
    /// # Errors
    /// When there is no answer.
    fn epoch(
        sessions: &Sessions<Self>,
        client: &mut Self::Client,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Begins a session and gives its name.
    ///
    /// # Errors
    /// When there is none.
    fn begin(
        sessions: &Sessions<Self>,
        client: &mut Self::Client,
    ) -> impl Future<Output = Result<String, StoreError>> + Send;

    /// A sign of life of a session: whether it is still there.
    ///
    /// # Errors
    /// When there is no answer in time.
    fn renew(
        client: &mut Self::Client,
        time: Duration,
        session: &str,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Ends a session and what hangs on it.
    ///
    /// # Errors
    /// When that is not certain.
    fn end(client: &mut Self::Client, session: &str) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Compares what hangs on a session with what should ([`miss`]), and takes away what is nobody's: how many that were;
    /// nothing when the session is gone.
    ///
    /// # Errors
    /// When there is no answer.
    fn compare(
        sessions: &Sessions<Self>,
        client: &mut Self::Client,
        session: &Session,
    ) -> impl Future<Output = Result<Option<u64>, StoreError>> + Send;
}

/// The sessions of one store and length of a lease, one after the other.
#[derive(Debug)]
pub struct Sessions<E: Engine> {
    /// Where they are.
    pub settings: Arc<Settings>,
    /// How long each lasts after a sign of life.
    pub ttl: Duration,
    /// How it stands with the store.
    pub standing: Arc<Standing>,
    /// The one there is now.
    pub session: watch::Sender<Option<Arc<Session>>>,
    asks: Mutex<Asks<E::Mark>>,
    idle: Mutex<Vec<E::Client>>,
    calls: Semaphore,
    /// Which server is asked.
    server: AtomicUsize,
    sweeps: AtomicU32,
    reset: Notify,
}

/// A session that is kept.
#[derive(Debug)]
pub struct Session {
    /// Its name in the store.
    pub id: String,
    /// When the store's data began.
    pub epoch: u64,
    /// Until when it is surely ours.
    pub term: Arc<Term>,
}

/// Asks that the store may know of, by owner.
pub type Asks<M> = HashMap<u64, Entry<M>>;

/// An ask that the store may know of.
#[derive(Debug)]
pub struct Entry<M> {
    /// Where it is in the store.
    pub key: String,
    /// What it hangs on.
    pub session: Arc<Session>,
    /// Whether the outcome of a call is not known.
    pub is_asking: bool,
    /// Once it is ours.
    pub held: Option<Held<M>>,
}

/// A lock that is ours.
#[derive(Debug)]
pub struct Held<M> {
    /// What has to be known to give it back.
    pub mark: M,
    term: Arc<Term>,
    since: Instant,
}

/// A connection for one call.
pub struct Call<'a, E: Engine> {
    /// What is asked.
    pub client: E::Client,
    sessions: &'a Sessions<E>,
    op: StoreOp,
    began: Instant,
    _permit: SemaphorePermit<'a>,
}

impl<E: Engine> Call<'_, E> {
    /// Keeps the connection for others: the call has its answer.
    pub fn done(self) {
        self.sessions.standing.health.took(self.op, self.began.elapsed());
        self.sessions.put_by(self.client);
    }
}

impl<E: Engine> Sessions<E> {
    /// Sessions in this store, for leases of this length or what the store's own are if that is less.
    pub fn new(settings: Arc<Settings>, lease: Duration, standing: Arc<Standing>) -> Self {
        let ttl = lease.min(settings.lease_ttl);
        Self {
            settings,
            ttl,
            standing,
            session: watch::Sender::new(None),
            asks: Mutex::default(),
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

    /// Connects to the server that answered last, or the one after it.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn open(&self) -> Result<E::Client, StoreError> {
        let opened = E::open(&self.settings, self.server.load(Ordering::Relaxed)).await;
        if opened.is_err() {
            self.server.fetch_add(1, Ordering::Relaxed);
        }
        opened
    }

    /// A connection that nobody else uses.
    ///
    /// # Errors
    /// When there is none.
    pub async fn spare(&self) -> Result<E::Client, StoreError> {
        let idle = lock(&self.idle).pop();
        match idle {
            Some(client) => Ok(client),
            None => self.open().await,
        }
    }

    /// Keeps a connection for others.
    pub fn put_by(&self, client: E::Client) {
        let mut idle = lock(&self.idle);
        if idle.len() < MAX_CALLS {
            idle.push(client);
        }
    }

    /// A connection for one call, once there are not too many under way.
    ///
    /// # Errors
    /// When there is none.
    pub async fn call(&self, op: StoreOp) -> Result<Call<'_, E>, StoreError> {
        let permit = self.calls.acquire().await.map_err(|_| StoreError::Ended("calls".into()))?;
        let client = self.spare().await?;
        Ok(Call { client, sessions: self, op, began: clock::now(), _permit: permit })
    }

    /// The asks that the store may know of.
    pub fn asks(&self) -> MutexGuard<'_, Asks<E::Mark>> {
        lock(&self.asks)
    }

    /// The session, once there is one.
    ///
    /// # Errors
    /// When there will be none.
    pub async fn session(&self) -> Result<Arc<Session>, StoreError> {
        let mut changes = self.session.subscribe();
        let session = changes.wait_for(Option::is_some).await.ok().and_then(|session| session.clone());
        session.ok_or_else(|| StoreError::Ended("a session".into()))
    }

    /// It is ours, for as long as the session, by this number of its token.
    ///
    /// # Errors
    /// When the session has ended.
    pub fn hold(&self, ask: &Ask, session: &Session, index: u64, mark: E::Mark) -> Result<Grant, StoreError> {
        let mut asks = self.asks();
        let remaining = session.term.remaining();
        let entry = asks.get_mut(&ask.owner).filter(|_| !remaining.is_zero());
        let Some(entry) = entry else { return Err(StoreError::Ended("a session".into())) };
        let now = clock::now();
        let term = Term::until(now + remaining);
        (entry.is_asking, entry.held) = (false, Some(Held { mark, term: term.clone(), since: now }));
        Ok(Grant { token: Token::new(session.epoch, index), term })
    }

    /// Nothing of an ask is in the store any more, but what was sent and not answered may be done yet.
    pub fn forget(&self, owner: u64, was_asking: bool) {
        self.asks().remove(&owner);
        if was_asking {
            self.sweeps.store(SWEEPS, Ordering::Relaxed);
        }
    }

    /// Has the session given up, as what hangs on it cannot be known.
    pub fn reset(&self) {
        self.reset.notify_one();
    }

    /// One session after the other, for ever.
    pub async fn run(&self) {
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

    /// Begins a session and keeps it until it is lost; says why. `previous` is the one before, whose end is not known.
    async fn live(&self, previous: &mut Option<String>, failures: &mut u32) -> Result<Infallible, StoreError> {
        let mut client = self.open().await?;
        if let Some(session) = previous.take() {
            // What hung on it was given up: who waits for its keys need not wait for their end. It may be gone already.
            if let Err(error) = E::end(&mut client, &session).await {
                tracing::debug!(error = error.told(), "The session before is left to itself.");
                client = self.open().await?;
            }
        }
        let epoch = E::epoch(self, &mut client).await?;
        self.standing.health.is_of(epoch);
        let sent = clock::now();
        let id = E::begin(self, &mut client).await?;
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

    /// Signs of life, three in the time of a session; until it is gone, or nobody has answered for too long.
    async fn keep(&self, client: E::Client, session: &Session) -> StoreError {
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
    async fn sign(&self, kept: &mut Option<E::Client>, session: &Session, time: Duration) -> Result<bool, StoreError> {
        let mut client = match kept.take() {
            Some(client) => client,
            None => tokio::time::timeout(time, self.open())
                .await
                .unwrap_or_else(|_| Err(StoreError::Timeout(self.settings.name.clone())))?,
        };
        let sent = clock::now();
        if !E::renew(&mut client, time, &session.id).await? {
            return Ok(false);
        }
        self.standing.heard(sent.elapsed(), Duration::ZERO);
        self.extend(session, self.until(sent));
        let sweeps = self.sweeps.load(Ordering::Relaxed);
        if sweeps > 0 || !self.asks().is_empty() {
            let Some(ghosts) = E::compare(self, &mut client, session).await? else { return Ok(false) };
            self.standing.ghosts.add(if sweeps > 0 { ghosts } else { 0 });
            self.sweeps.store(sweeps.saturating_sub(1), Ordering::Relaxed);
        }
        *kept = Some(client);
        Ok(true)
    }

    /// What is ours is so for longer.
    fn extend(&self, session: &Session, until: Instant) {
        let asks = self.asks();
        session.term.extend(until);
        terms(&asks, session).for_each(|term| term.extend(until));
    }

    /// Nothing that hung on this session is ours any more.
    fn end(&self, session: &Session) {
        let asks = self.asks();
        session.term.end();
        terms(&asks, session).for_each(|term| term.end());
    }
}

/// When data began, in microseconds since the epoch, as it is written at this key.
///
/// # Errors
/// When something else stands there.
pub fn epoch_of(key: &str, written: &[u8]) -> Result<u64, StoreError> {
    let number = std::str::from_utf8(written).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| StoreError::Answer(key.to_string()))
}

/// Ends what was ours in the session before the store was looked at, and was not there.
pub fn miss<M>(asks: &Asks<M>, session: &Session, looked: Instant, is_there: impl Fn(u64, &Entry<M>) -> bool) {
    for (owner, entry) in asks.iter().filter(|(_, entry)| std::ptr::eq(&*entry.session, session)) {
        let held = entry.held.as_ref().filter(|held| held.since < looked);
        if let Some(held) = held.filter(|_| !is_there(*owner, entry)) {
            tracing::warn!(key = entry.key, "A lock was taken from us in the store.");
            held.term.end();
        }
    }
}

fn terms<'a, M>(asks: &'a Asks<M>, session: &'a Session) -> impl Iterator<Item = &'a Arc<Term>> {
    let of_it = asks.values().filter(move |entry| std::ptr::eq(&*entry.session, session));
    of_it.filter_map(|entry| entry.held.as_ref().map(|held| &held.term))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
