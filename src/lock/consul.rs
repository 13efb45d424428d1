//! Locks in Consul: one session for all of a process, a key for each lock, and whoever has it locked by a session that is alive has
//! it. Consul keeps no line: those who wait try again when the key has changed.
use super::Ask;
use super::Grant;
use super::Later;
use super::LeaseStore;
use super::Post;
use super::Published;
use super::sessions;
use super::sessions::Asks;
use super::sessions::Engine;
use super::sessions::Entry;
use super::sessions::Session;
use super::sessions::Sessions;
use super::standing::Standing;
use crate::base::clock;
use crate::base::dice::Dice;
use crate::store::StoreError;
use crate::store::consul::Consul as Client;
use crate::store::consul::kv::Entry as Stored;
use crate::store::consul::kv::Locked;
use crate::store::settings;
use crate::store::settings::Settings;
use crate::telemetry::labels::StoreOp;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Those who wait for a change by a call that waits with them; others look again after [`LOOK_UNTOLD`]. An agent takes 200
/// connections of one client.
const MAX_WATCHES: usize = 32;
/// Longest call that waits for a change: one that is silent proves nothing.
const LOOK: Duration = Duration::from_secs(2);
const LOOK_UNTOLD: Duration = Duration::from_millis(200);
/// Those who were told of a change come back within this: not all at one moment.
const JITTER: Duration = Duration::from_millis(20);

/// Locks in one Consul.
#[derive(Debug)]
pub struct Consul {
    sessions: Sessions<Own>,
    watches: Semaphore,
}

/// What is Consul's own about sessions.
#[derive(Debug)]
struct Own;

impl Engine for Own {
    type Client = Client;
    /// The index of our last word there.
    type Mark = u64;

    async fn open(settings: &Settings, number: usize) -> Result<Client, StoreError> {
        Client::open(settings, number).await
    }

    /// While the data's beginning is no longer ago than a session lasts, locks that it has forgotten may be held: then this waits.
    async fn epoch(sessions: &Sessions<Self>, client: &mut Client) -> Result<u64, StoreError> {
        let key = format!("{}/epoch", sessions.settings.root);
        loop {
            let (sent, now) = (clock::now(), clock::since_epoch());
            let epoch = sessions::epoch_of(&key, &client.get_or_put(&key, now.as_micros() as u64).await?)?;
            let age = now.saturating_sub(Duration::from_micros(epoch));
            let left = sessions.settings.lease_ttl.saturating_sub(age);
            if left.is_zero() {
                return Ok(epoch);
            }
            sessions.standing.heard(sent.elapsed(), left);
            tokio::time::sleep(left.min(sessions.ttl / 3)).await;
        }
    }

    async fn begin(sessions: &Sessions<Self>, client: &mut Client) -> Result<String, StoreError> {
        let delay = match sessions.settings.engine {
            settings::Engine::Consul(own) => own.lock_delay,
            _ => Duration::ZERO,
        };
        client.create_session(sessions.ttl, delay).await
    }

    async fn renew(client: &mut Client, time: Duration, session: &str) -> Result<bool, StoreError> {
        client.renew_session(time, session).await
    }

    async fn end(client: &mut Client, session: &str) -> Result<(), StoreError> {
        client.destroy_session(session).await
    }

    async fn compare(
        sessions: &Sessions<Self>,
        client: &mut Client,
        session: &Session,
    ) -> Result<Option<u64>, StoreError> {
        let looked = clock::now();
        let (entries, _) = client.entries(&prefix(&sessions.settings)).await?;
        let ghosts: Vec<&Stored> = {
            let asks = sessions.asks();
            let ours: HashMap<u64, &Stored> = entries
                .iter()
                .filter(|entry| entry.session.as_deref() == Some(&session.id))
                .map(|entry| (owner_of(&entry.value), entry))
                .collect();
            sessions::miss(&asks, session, looked, |owner, _| ours.contains_key(&owner));
            ours.into_iter().filter(|(owner, _)| !asks.contains_key(owner)).map(|(_, entry)| entry).collect()
        };
        for ghost in &ghosts {
            client.unlock(&ghost.key, ghost.modified, &session.id).await?;
        }
        Ok(Some(ghosts.len() as u64))
    }
}

/// Before all keys of locks.
fn prefix(settings: &Settings) -> String {
    format!("{}/locks/", settings.root)
}

impl Consul {
    /// Locks in this store, with leases of this length or what its sessions last if that is less.
    pub fn new(settings: Arc<Settings>, lease: Duration, standing: Arc<Standing>) -> Self {
        Self { sessions: Sessions::new(settings, lease, standing), watches: Semaphore::new(MAX_WATCHES) }
    }

    /// Notes an ask before anything is sent.
    async fn begin(&self, ask: &Ask) -> Result<(String, Arc<Session>), StoreError> {
        let session = self.sessions.session().await?;
        let key = format!("{}{}", prefix(&self.sessions.settings), ask.key);
        let entry = Entry { key: key.clone(), session: session.clone(), is_asking: true, held: None };
        self.sessions.asks().insert(ask.owner, entry);
        Ok((key, session))
    }

    async fn wait(&self, ask: &Ask) -> Result<Grant, StoreError> {
        let (key, session) = self.begin(ask).await?;
        // Another ask of ours has another value: what is locked anew has another index, even where the session is the same.
        let value = format!("{}|{}", ask.owner, ask.told);
        let mut dice = Dice::new(clock::since_epoch().as_nanos() as u64);
        loop {
            let mut call = self.sessions.call(StoreOp::Acquire).await?;
            let locked = call.client.lock(&key, &value, &session.id).await?;
            call.done();
            match locked {
                Locked::Ours(index) => return self.sessions.hold(ask, &session, index, index),
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
                    if self.sessions.session.borrow().as_ref().is_some_and(|now| Arc::ptr_eq(now, &session)) {
                        self.sessions.reset();
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
        let mut client = self.sessions.spare().await?;
        let by = clock::now() + LOOK;
        let left = || by.saturating_duration_since(clock::now());
        let (mut entry, mut index) = client.entry(key).await?;
        let holder = entry.as_ref().and_then(|entry| entry.session.clone());
        // What a holder publishes in its key is not its end.
        while !left().is_zero() && holder.is_some() && entry.and_then(|entry| entry.session) == holder {
            (entry, index) = client.await_change(key, index, left()).await?;
        }
        self.sessions.put_by(client);
        Ok(())
    }

    /// Publishes in the key by which we have the lock: when that is gone, so is what we said. A word whose outcome is not known may be
    /// there already, so what is there is looked at once when the key is another than we thought.
    async fn write(&self, owner: u64, text: &str) -> Result<bool, StoreError> {
        let held = |asks: &Asks<u64>| {
            let entry = asks.get(&owner)?;
            Some((entry.key.clone(), entry.session.id.clone(), entry.held.as_ref()?.mark))
        };
        let Some((key, session, known)) = held(&self.sessions.asks()) else { return Ok(false) };
        let value = format!("{owner}|{text}");
        let mut call = self.sessions.call(StoreOp::Publish).await?;
        let mut put = call.client.put_at(&key, known, &value).await?;
        if put.is_none() {
            let found = call.client.entry(&key).await?.0.filter(|found| is_of(found, &session, owner));
            if let Some(found) = found {
                put = call.client.put_at(&key, found.modified, &value).await?;
            }
        }
        call.done();
        let mut asks = self.sessions.asks();
        let held = asks.get_mut(&owner).and_then(|entry| entry.held.as_mut());
        if let Some((held, index)) = held.zip(put) {
            held.mark = index;
        }
        Ok(put.is_some())
    }

    /// What whoever has the lock says in its key; before its first word it names itself there alone.
    async fn read(&self, post: &Post) -> Result<Published, StoreError> {
        let mut call = self.sessions.call(StoreOp::Read).await?;
        let found = call.client.entry(&format!("{}{}", prefix(&self.sessions.settings), post.key)).await?.0;
        call.done();
        let Some(found) = found.filter(|found| found.session.is_some()) else { return Ok(None) };
        let bar = found.value.iter().position(|byte| *byte == b'|');
        let text = bar.map(|bar| &found.value[bar + 1..]).filter(|text| text.starts_with(b"{"));
        Ok(text.map(|text| (found.modified, text.to_vec())))
    }

    async fn forget(&self, ask: &Ask) -> Result<(), StoreError> {
        let (key, session, was_asking, index) = match self.sessions.asks().get(&ask.owner) {
            Some(entry) => {
                let index = entry.held.as_ref().map(|held| held.mark);
                (entry.key.clone(), entry.session.clone(), entry.is_asking, index)
            }
            None => return Ok(()),
        };
        let mut call = self.sessions.call(StoreOp::Release).await?;
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
        self.sessions.forget(ask.owner, was_asking);
        Ok(())
    }
}

impl LeaseStore for Consul {
    fn run(&self) -> Later<'_, ()> {
        Box::pin(self.sessions.run())
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

    fn publish<'a>(&'a self, owner: u64, _: &'a Post, text: String) -> Later<'a, Result<bool, StoreError>> {
        Box::pin(async move { self.write(owner, &text).await })
    }

    fn published<'a>(&'a self, post: &'a Post) -> Later<'a, Result<Published, StoreError>> {
        Box::pin(self.read(post))
    }

    fn reset(&self) {
        self.sessions.reset();
    }
}

/// Whether what is stored is a lock of this session and ask.
fn is_of(found: &Stored, session: &str, owner: u64) -> bool {
    found.session.as_deref() == Some(session) && owner_of(&found.value) == owner
}

/// Whose ask a value is of; what nobody of us wrote is of none.
fn owner_of(value: &[u8]) -> u64 {
    let text = std::str::from_utf8(value).unwrap_or_default();
    text.split_once('|').and_then(|(owner, _)| owner.parse().ok()).unwrap_or(0)
}
