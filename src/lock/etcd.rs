//! Locks in etcd: one lease for all of a process, a key for each ask below the lock's, and the oldest of them has it. Whoever waits
//! looks at nobody but who is before.
use super::Ask;
use super::Grant;
use super::Later;
use super::LeaseStore;
use super::Post;
use super::Published;
use super::sessions;
use super::sessions::Engine;
use super::sessions::Entry;
use super::sessions::Session;
use super::sessions::Sessions;
use super::standing::Standing;
use super::waiters::Waiters;
use crate::base::clock;
use crate::base::dice::Dice;
use crate::store;
use crate::store::StoreError;
use crate::store::etcd::Etcd as Client;
use crate::store::settings::Settings;
use crate::telemetry::labels::StoreOp;
use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// Time after which who waits looks again, whatever the watch says: one that is silent proves nothing.
const LOOK: Duration = Duration::from_secs(1);
/// The same while there is no watch.
const LOOK_UNTOLD: Duration = Duration::from_millis(100);

/// Locks in one etcd.
#[derive(Debug)]
pub struct Etcd {
    sessions: Sessions<Leases>,
    waiters: Waiters,
}

/// What is etcd's own about sessions: they are leases.
#[derive(Debug)]
struct Leases;

impl Engine for Leases {
    type Client = Client;
    type Mark = ();

    async fn open(settings: &Settings, number: usize) -> Result<Client, StoreError> {
        Client::open(settings, number).await
    }

    async fn epoch(sessions: &Sessions<Self>, client: &mut Client) -> Result<u64, StoreError> {
        let key = format!("{}/epoch", sessions.settings.root);
        let epoch = client.get_or_put(&key, &clock::since_epoch().as_micros().to_string()).await?;
        sessions::epoch_of(&key, &epoch)
    }

    async fn begin(sessions: &Sessions<Self>, client: &mut Client) -> Result<String, StoreError> {
        client.grant(sessions.ttl).await
    }

    async fn renew(client: &mut Client, time: Duration, session: &str) -> Result<bool, StoreError> {
        client.keep_alive(time, session).await
    }

    async fn end(client: &mut Client, session: &str) -> Result<(), StoreError> {
        client.revoke(session).await
    }

    async fn compare(
        sessions: &Sessions<Self>,
        client: &mut Client,
        session: &Session,
    ) -> Result<Option<u64>, StoreError> {
        let looked = clock::now();
        let Some(keys) = client.keys_of(&session.id).await? else { return Ok(None) };
        let ghosts: Vec<String> = {
            let asks = sessions.asks();
            let there: HashSet<&[u8]> = keys.iter().map(Vec::as_slice).collect();
            sessions::miss(&asks, session, looked, |_, entry| there.contains(entry.key.as_bytes()));
            let ours: HashSet<&str> = asks.values().map(|entry| entry.key.as_str()).collect();
            let keys = keys.iter().filter_map(|key| std::str::from_utf8(key).ok());
            let published = published_key(&sessions.settings, "");
            keys.filter(|key| !ours.contains(key) && !key.starts_with(&published)).map(str::to_string).collect()
        };
        for ghost in &ghosts {
            client.delete(ghost).await?;
        }
        Ok(Some(ghosts.len() as u64))
    }
}

/// Where what is published under a name is.
fn published_key(settings: &Settings, name: &str) -> String {
    format!("{}/elect/{name}", settings.root)
}

impl Etcd {
    /// Locks in this store, with leases of this length or what the store's own are if that is less.
    pub fn new(settings: Arc<Settings>, lease: Duration, standing: Arc<Standing>) -> Self {
        Self { sessions: Sessions::new(settings, lease, standing), waiters: Waiters::default() }
    }

    /// The key of an ask: the same again as long as the session is.
    async fn begin(&self, ask: &Ask, prefix: &str) -> Result<(String, Arc<Session>), StoreError> {
        let session = self.sessions.session().await?;
        let mut asks = self.sessions.asks();
        let fresh = || Entry {
            key: format!("{prefix}{}-{}", session.id, ask.owner),
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
        let prefix = format!("{}/locks/{}/", self.sessions.settings.root, ask.key);
        let (key, session) = self.begin(ask, &prefix).await?;
        let waiter = self.waiters.add(&prefix);
        let mut call = self.sessions.call(StoreOp::Acquire).await?;
        let (created, oldest) = call.client.enlist(&prefix, &key, &ask.told, &session.id).await?;
        call.done();
        let mut is_first = oldest == key.as_bytes();
        while !is_first {
            ask.waits();
            let mut call = self.sessions.call(StoreOp::Acquire).await?;
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
                        self.sessions.asks().remove(&ask.owner);
                        return Err(StoreError::Ended("our place before a lock".into()));
                    }
                }
            }
        }
        self.sessions.hold(ask, &session, created, ())
    }

    /// Publishes while a lock is held, as the store has it: not as we do.
    async fn write(&self, owner: u64, name: &str, text: &str) -> Result<bool, StoreError> {
        let held = self.sessions.asks().get(&owner).filter(|entry| entry.held.is_some()).map(|entry| {
            let Entry { key, session, .. } = entry;
            (key.clone(), session.id.clone())
        });
        let Some((key, lease)) = held else { return Ok(false) };
        let mut call = self.sessions.call(StoreOp::Publish).await?;
        let was_there =
            call.client.put_while(&key, &published_key(&self.sessions.settings, name), text, &lease).await?;
        call.done();
        Ok(was_there)
    }

    async fn read(&self, name: &str) -> Result<Published, StoreError> {
        let mut call = self.sessions.call(StoreOp::Read).await?;
        let found = call.client.get(&published_key(&self.sessions.settings, name)).await?;
        call.done();
        Ok(found)
    }

    async fn forget(&self, ask: &Ask) -> Result<(), StoreError> {
        let (key, was_asking) = match self.sessions.asks().get(&ask.owner) {
            Some(entry) => (entry.key.clone(), entry.is_asking),
            None => return Ok(()),
        };
        let mut call = self.sessions.call(StoreOp::Release).await?;
        call.client.delete(&key).await?;
        call.done();
        self.sessions.forget(ask.owner, was_asking);
        Ok(())
    }

    /// Has the ends of keys told, from the first who waits on.
    async fn tell_waiters(&self) {
        let prefix = format!("{}/locks/", self.sessions.settings.root);
        let mut dice = Dice::new(clock::since_epoch().as_nanos() as u64);
        let mut failures = 0;
        loop {
            self.waiters.until_any().await;
            let told = async {
                let mut deletes = self.sessions.open().await?.watch_deletes(&prefix).await?;
                failures = 0;
                self.waiters.begin_telling();
                // A watch that outlived its session may be one that nobody tells any more.
                let mut sessions = self.sessions.session.subscribe();
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
}

impl LeaseStore for Etcd {
    fn run(&self) -> Later<'_, ()> {
        Box::pin(async {
            tokio::select! {
                () = self.sessions.run() => {}
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

    fn abandon(&self, ask: &Ask) {
        self.sessions.forget(ask.owner, true);
    }

    fn publish<'a>(&'a self, owner: u64, post: &'a Post, text: String) -> Later<'a, Result<bool, StoreError>> {
        Box::pin(async move { self.write(owner, &post.name, &text).await })
    }

    fn published<'a>(&'a self, post: &'a Post) -> Later<'a, Result<Published, StoreError>> {
        Box::pin(self.read(&post.name))
    }

    fn reset(&self) {
        self.sessions.reset();
    }
}
