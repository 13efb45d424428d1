//! Locks in ZooKeeper: one session for all of a process, a numbered node for each ask below the lock's, and the lowest of them has
//! it. Whoever waits looks at nobody but who is before. Names are made as Curator makes them.
mod names;

use crate::base::clock;
use crate::base::dice::Dice;
use crate::lock::Ask;
use crate::lock::Grant;
use crate::lock::Later;
use crate::lock::LeaseStore;
use crate::lock::Post;
use crate::lock::Published;
use crate::lock::standing::Standing;
use crate::lock::term::Term;
use crate::lock::token::Token;
use crate::lock::waiters::Waiters;
use crate::store;
use crate::store::StoreError;
use crate::store::settings::Settings;
use crate::store::zookeeper::ANSWER;
use crate::store::zookeeper::Event;
use crate::store::zookeeper::Events;
use crate::store::zookeeper::Session as Known;
use crate::store::zookeeper::Stays;
use crate::store::zookeeper::Zookeeper as Client;
use crate::telemetry::labels::StoreOp;
use names::Place;
use names::folder;
use names::holder;
use names::mark;
use names::place;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::Notify;
use tokio::sync::watch;
use xxhash_rust::xxh3::xxh3_64;

/// Time after which who waits looks again, whatever the watch says: one that is silent proves nothing.
const LOOK: Duration = Duration::from_secs(1);
/// The nodes right above an ask's that go when they are not used: the lock's, and one of 256 that the locks are spread over.
const PASSING: usize = 2;

/// Locks in one ZooKeeper.
#[derive(Debug)]
pub struct Zookeeper {
    settings: Arc<Settings>,
    ttl: Duration,
    standing: Arc<Standing>,
    /// The session and the connection it has now; nothing while there is none.
    link: watch::Sender<Option<Link>>,
    asks: Mutex<HashMap<u64, Entry>>,
    /// Locks that are ours, by node.
    held: Mutex<HashMap<String, Arc<Term>>>,
    waiters: Waiters,
    /// Which server is asked.
    server: AtomicUsize,
    reset: Notify,
}

#[derive(Debug, Clone)]
struct Link {
    session: Arc<Session>,
    client: Arc<Client>,
}

/// A session that is kept, over all its connections.
#[derive(Debug)]
struct Session {
    id: i64,
    timeout: Duration,
    epoch: u64,
    term: Arc<Term>,
}

/// An ask that has a node in the store, or may have.
#[derive(Debug, Clone)]
struct Entry {
    /// The session it goes with.
    session: i64,
    folder: String,
    /// Its node, once that is known.
    path: Option<String>,
}

impl Session {
    /// Until when what a request sent at this moment has renewed is surely ours.
    fn until(&self, sent: Instant) -> Instant {
        sent + surely(self.timeout)
    }
}

/// How long a session surely lasts after a sign of life was sent that the leader has answered: it was told of the sign before that
/// at least, which was a quarter earlier, and clocks differ.
fn surely(timeout: Duration) -> Duration {
    timeout * 2 / 3
}

impl Zookeeper {
    /// Locks in this store, with leases of this length or what the store's own are if that is less.
    pub fn new(settings: Arc<Settings>, lease: Duration, standing: Arc<Standing>) -> Self {
        let ttl = lease.min(settings.lease_ttl);
        Self {
            settings,
            ttl,
            standing,
            link: watch::Sender::new(None),
            asks: Mutex::default(),
            held: Mutex::default(),
            waiters: Waiters::default(),
            server: AtomicUsize::new(0),
            reset: Notify::new(),
        }
    }

    async fn open(&self, session: Option<&Known>) -> Result<(Client, Events), StoreError> {
        let opened = Client::open(&self.settings, self.server.load(Ordering::Relaxed), self.ttl, session).await;
        if opened.is_err() {
            self.server.fetch_add(1, Ordering::Relaxed);
        }
        opened
    }

    /// Begins a session and keeps it until it is lost; says why. `previous` is the one before, whose end is not known.
    async fn live(&self, previous: &mut Option<Known>, failures: &mut u32) -> Result<Infallible, StoreError> {
        if let Some(known) = previous.take() {
            // What went with it was given up: who waits for its nodes need not wait for their end. It may be over already.
            if let Err(error) = self.close(&known).await {
                tracing::debug!(error = error.told(), "The session before is left to itself.");
            }
        }
        let sent = clock::now();
        let (client, events) = self.open(None).await?;
        let known = client.session();
        *previous = Some(known.clone());
        let epoch = self.epoch(&client).await?;
        self.standing.health.is_of(epoch);
        let term = Term::until(sent + surely(known.timeout));
        let session = Arc::new(Session { id: known.id, timeout: known.timeout, epoch, term });
        self.standing.answered(sent.elapsed());
        tracing::info!(store = %self.settings.name, session = format!("{:x}", session.id), "Locks can be had.");
        *failures = 0;
        let why = self.keep(&session, previous, client, events).await;
        self.link.send_replace(None);
        self.waiters.end_telling();
        self.end(&session);
        Err(why)
    }

    async fn close(&self, known: &Known) -> Result<(), StoreError> {
        match self.open(Some(known)).await {
            Ok((client, _)) => client.close().await,
            Err(StoreError::Ended(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// When what the store knows began: as whoever came first has noted it.
    async fn epoch(&self, client: &Client) -> Result<u64, StoreError> {
        let path = format!("{}/epoch", self.settings.root);
        let now = clock::since_epoch().as_micros().to_string();
        if client.create(&path, now.as_bytes(), Stays::Always, 0).await?.is_none() {
            let value = client.get(&path).await?.unwrap_or_default();
            let epoch = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
            return epoch.ok_or(StoreError::Answer(path));
        }
        now.parse().map_err(|_| StoreError::Answer(path))
    }

    /// Keeps a session over its connections, until it is over or nobody has answered for too long.
    async fn keep(
        &self,
        session: &Arc<Session>,
        known: &mut Option<Known>,
        client: Client,
        events: Events,
    ) -> StoreError {
        let mut connected = Some((client, events));
        let mut dice = Dice::new(session.epoch);
        let mut failures = 0;
        loop {
            let failed = match connected.take() {
                Some((client, events)) => {
                    failures = 0;
                    let client = Arc::new(client);
                    self.link.send_replace(Some(Link { session: session.clone(), client: client.clone() }));
                    self.waiters.begin_telling();
                    let Err(failed) = self.serve(session, &client, events).await;
                    *known = Some(client.session());
                    self.link.send_replace(None);
                    self.waiters.end_telling();
                    failed
                }
                None => match tokio::time::timeout(session.term.remaining(), self.open(known.as_ref())).await {
                    Ok(Ok(opened)) => {
                        connected = Some(opened);
                        continue;
                    }
                    Ok(Err(error)) => error,
                    Err(_) => StoreError::Timeout(self.settings.name.clone()),
                },
            };
            if matches!(failed, StoreError::Ended(_)) || session.term.ended().is_some() {
                return failed;
            }
            tracing::debug!(error = failed.told(), "The session of locks is to be gone on with.");
            self.standing.health.lost();
            failures += 1;
            let pause = store::pause(failures, &mut dice).min(session.term.remaining());
            tokio::time::sleep(pause).await;
        }
    }

    /// Signs of life by one connection, four in the time of a session, and what its watches tell.
    async fn serve(&self, session: &Session, client: &Client, mut events: Events) -> Result<Infallible, StoreError> {
        let pause = session.timeout / 4;
        loop {
            // The first at once: it says that the session is where the leader has it.
            let sent = clock::now();
            // Nobody but the leader knows whose session is over.
            client.sync(pause, &self.settings.root).await?;
            self.standing.answered(sent.elapsed());
            self.extend(session, session.until(sent));
            self.look_after(client, pause).await?;
            let next = clock::now() + pause;
            loop {
                tokio::select! {
                    () = tokio::time::sleep_until(next.into()) => break,
                    told = events.next() => self.tell(&told?),
                    () = self.reset.notified() => {
                        return Err(StoreError::Ended("a session that could not be cleaned".into()));
                    }
                }
            }
            if session.term.ended().is_some() {
                return Err(StoreError::Timeout(self.settings.name.clone()));
            }
        }
    }

    fn tell(&self, told: &[Event]) {
        if told.is_empty() {
            self.waiters.begin_telling();
        }
        for event in told.iter().filter(|event| event.is_deleted) {
            self.waiters.tell(event.path.as_bytes());
            self.taken(&event.path);
        }
    }

    fn taken(&self, path: &str) {
        if let Some(term) = lock(&self.held).remove(path) {
            tracing::warn!(path, "A lock was taken from us in the store.");
            term.end();
        }
    }

    /// Whether all that is ours still is; and that it is told when it is not.
    async fn look_after(&self, client: &Client, time: Duration) -> Result<(), StoreError> {
        let paths: Vec<String> = lock(&self.held).keys().cloned().collect();
        let mut asked = Vec::with_capacity(paths.len());
        for path in paths {
            asked.push((client.ask_exists(&path, true).await?, path));
        }
        for (asked, path) in asked {
            if client.stat(time, asked).await?.is_none() {
                self.taken(&path);
            }
        }
        Ok(())
    }

    /// What is ours is so for longer.
    fn extend(&self, session: &Session, until: Instant) {
        let held = lock(&self.held);
        session.term.extend(until);
        held.values().for_each(|term| term.extend(until));
    }

    /// Nothing that went with this session is ours any more.
    fn end(&self, session: &Session) {
        let mut held = lock(&self.held);
        session.term.end();
        held.drain().for_each(|(_, term)| term.end());
    }

    /// The session and its connection, once there are.
    async fn link(&self) -> Result<Link, StoreError> {
        let mut changes = self.link.subscribe();
        let link = changes.wait_for(Option::is_some).await.ok().and_then(|link| link.clone());
        link.ok_or_else(|| StoreError::Ended("a session".into()))
    }

    /// Notes an ask before anything is sent for it. Says whether something was sent for it in this session before.
    fn begin(&self, ask: &Ask, session: &Session, folder: &str) -> bool {
        let fresh = Entry { session: session.id, folder: folder.to_string(), path: None };
        let before = lock(&self.asks).insert(ask.owner, fresh);
        before.is_some_and(|before| before.session == session.id)
    }

    /// Notes how long an answer took.
    async fn timed<T>(&self, op: StoreOp, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let sent = clock::now();
        let answer = call.await?;
        self.standing.health.took(op, sent.elapsed());
        Ok(answer)
    }

    async fn wait(&self, ask: &Ask) -> Result<Grant, StoreError> {
        let folder = folder(&self.settings.root, &ask.key);
        let Link { session, client } = self.link().await?;
        let mark = mark(session.id, ask.owner);
        let was_asked = self.begin(ask, &session, &folder);
        let waiter = self.waiters.add(&format!("{folder}/"));
        let mut names = None;
        let mut own = None;
        if was_asked {
            // Whether it was done nobody knows: then it is there.
            let found = client.children(&folder, false).await?.unwrap_or_default();
            own = found.iter().find(|name| name.starts_with(&mark)).cloned();
            names = own.is_some().then_some(found);
        }
        let (path, created) = match own {
            Some(name) => {
                let path = format!("{folder}/{name}");
                let stat = client.exists(ANSWER, &path, false).await?;
                (path, stat.ok_or_else(gone)?.created)
            }
            None => {
                let wanted = format!("{folder}/{mark}");
                let made = client.create(&wanted, ask.told.as_bytes(), NUMBERED, PASSING);
                // The list is asked for at once: what was asked for first is done first.
                let (made, found) =
                    tokio::join!(biased; self.timed(StoreOp::Acquire, made), client.children(&folder, false));
                let (path, stat) = made?.ok_or_else(gone)?;
                names = found?.filter(|found| found.iter().any(|name| path.ends_with(name.as_str())));
                (path, stat.created)
            }
        };
        if let Some(entry) = lock(&self.asks).get_mut(&ask.owner) {
            entry.path = Some(path.clone());
        }
        let own = path.strip_prefix(&folder).and_then(|name| name.strip_prefix('/')).unwrap_or_default();
        loop {
            let found = match names.take() {
                Some(found) => found,
                None => client.children(&folder, false).await?.unwrap_or_default(),
            };
            match place(&found, own) {
                Place::First => break,
                Place::Behind(name) => {
                    ask.waits();
                    let before = format!("{folder}/{name}");
                    if client.exists(ANSWER, &before, true).await?.is_some() {
                        waiter.gone(before.as_bytes(), LOOK).await;
                    }
                }
                Place::Gone => {
                    lock(&self.asks).remove(&ask.owner);
                    return Err(gone());
                }
            }
        }
        let grant = self.hold(ask, &session, &path, created)?;
        // Its end is told from here on; whether it came before that is looked at with the next sign of life.
        client.ask_exists(&path, true).await.map(drop)?;
        Ok(grant)
    }

    /// It is ours, for as long as the session.
    fn hold(&self, ask: &Ask, session: &Session, path: &str, created: i64) -> Result<Grant, StoreError> {
        let mut held = lock(&self.held);
        let remaining = session.term.remaining();
        if remaining.is_zero() || !lock(&self.asks).contains_key(&ask.owner) {
            return Err(gone());
        }
        let term = Term::until(clock::now() + remaining);
        held.insert(path.to_string(), term.clone());
        Ok(Grant { token: Token::new(session.epoch, created.unsigned_abs()), term })
    }

    /// Publishes in the node by which we have the lock: when that is gone, so is what we said.
    async fn write(&self, owner: u64, text: &str) -> Result<bool, StoreError> {
        let path = lock(&self.asks).get(&owner).and_then(|entry| entry.path.clone());
        let Some(path) = path.filter(|path| lock(&self.held).contains_key(path)) else { return Ok(false) };
        let client = self.link().await?.client;
        self.timed(StoreOp::Publish, client.set(&path, text.as_bytes())).await
    }

    /// What whoever has the lock says in its node; before its first word it names itself there alone.
    async fn read(&self, post: &Post) -> Result<Published, StoreError> {
        let Link { client, .. } = self.link().await?;
        let folder = folder(&self.settings.root, &post.key);
        let names = client.children(&folder, false).await?.unwrap_or_default();
        let Some(holder) = holder(&names) else { return Ok(None) };
        let text = self.timed(StoreOp::Read, client.get(&format!("{folder}/{holder}"))).await?;
        Ok(text.filter(|text| text.starts_with(b"{")).map(|text| (xxh3_64(&text), text)))
    }

    async fn forget(&self, ask: &Ask) -> Result<(), StoreError> {
        let Some(entry) = lock(&self.asks).get(&ask.owner).cloned() else { return Ok(()) };
        if let Some(path) = &entry.path {
            lock(&self.held).remove(path);
        }
        let Link { client, .. } = self.link().await?;
        match &entry.path {
            Some(path) => self.timed(StoreOp::Release, client.delete(ANSWER, path)).await?,
            None => {
                // What was sent for it and not answered is done by now, or never.
                let mark = mark(entry.session, ask.owner);
                let found = client.children(&entry.folder, false).await?.unwrap_or_default();
                for name in found.iter().filter(|name| name.starts_with(&mark)) {
                    client.delete(ANSWER, &format!("{}/{name}", entry.folder)).await?;
                }
            }
        }
        lock(&self.asks).remove(&ask.owner);
        Ok(())
    }

    /// One session after the other, for ever.
    async fn live_on(&self) {
        let mut dice = Dice::new(clock::since_epoch().as_nanos() as u64);
        let (mut previous, mut failures) = (None, 0);
        if let Some(link) = self.link.send_replace(None) {
            // This was at work before, and failed.
            self.end(&link.session);
            previous = Some(link.client.session());
        }
        loop {
            let Err(why) = self.live(&mut previous, &mut failures).await;
            self.standing.ended(&why, failures);
            failures += 1;
            tokio::time::sleep(store::pause(failures, &mut dice)).await;
        }
    }
}

impl LeaseStore for Zookeeper {
    fn run(&self) -> Later<'_, ()> {
        Box::pin(self.live_on())
    }

    fn acquire<'a>(&'a self, ask: &'a Ask) -> Later<'a, Result<Grant, StoreError>> {
        Box::pin(self.wait(ask))
    }

    fn release<'a>(&'a self, ask: &'a Ask) -> Later<'a, Result<(), StoreError>> {
        Box::pin(self.forget(ask))
    }

    fn abandon(&self, ask: &Ask) {
        if let Some(path) = lock(&self.asks).remove(&ask.owner).and_then(|entry| entry.path) {
            lock(&self.held).remove(&path);
        }
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

const NUMBERED: Stays = Stays::WithSessionNumbered;

fn gone() -> StoreError {
    StoreError::Ended("our place before a lock".into())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
