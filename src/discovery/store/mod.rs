//! Members from a store: listed once, told of changes, asked for a sign of life each second. A watch that says nothing proves
//! nothing: how well the store is is the age of its last answer.
pub mod consul;
pub mod curator;
pub mod entry;
pub mod etcd;
pub mod holding;
pub mod reading;
#[cfg(feature = "store-redis")]
pub mod redis;
pub mod zookeeper;

use crate::base::clock;
use crate::base::dice::Dice;
use crate::discovery::EndpointSet;
use crate::discovery::ProviderError;
use crate::discovery::list;
use crate::discovery::settings::Allowed;
use crate::store;
use crate::store::StoreError;
use crate::store::health::StoreHealth;
use crate::store::settings::Engine;
use crate::store::settings::Settings;
use crate::telemetry::labels::StoreOp;
use entry::Entry;
use reading::Listed;
use reading::Reading;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

/// Time between two signs of life.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// So many signs of life after a list everything is listed anew, whatever the watch says.
const SIGNS_PER_LIST: u32 = 10;
/// Shortest time between two lists: many changes at once are a few.
const MIN_PAUSE: Duration = Duration::from_millis(20);

/// What is looked for in which store.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// The store.
    pub store: Arc<Settings>,
    /// The name under which members are registered there.
    pub name: String,
    /// What they look like there.
    pub layout: Layout,
}

/// What members look like in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// As `ringway register` writes them.
    #[default]
    Own,
    /// As Curator's service discovery does.
    Curator,
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.store.engine {
            Engine::Etcd => f.write_str(&etcd::prefix(self)),
            #[cfg(feature = "store-redis")]
            Engine::Redis(_) => f.write_str(&redis::key(self)),
            Engine::Consul(_) => write!(f, "service {}", self.name),
            Engine::Zookeeper => f.write_str(&zookeeper::folder(self)),
            #[cfg(not(feature = "store-redis"))]
            Engine::Redis(_) => f.write_str(&self.name),
        }
    }
}

/// Members in a store.
#[derive(Debug)]
pub struct Store {
    question: Question,
    allow: Allowed,
    health: Arc<StoreHealth>,
    connected: Option<Connected>,
    /// Which server is next.
    server: usize,
    failures: u32,
    dice: Dice,
    /// Of the last list, where the store numbers what it has.
    revision: u64,
}

#[derive(Debug)]
struct Connected {
    reading: Reading,
    listed: Instant,
    signs: u32,
    next_sign: Instant,
    /// When the first member goes if it gives no sign of life.
    expires: Option<Instant>,
}

impl Store {
    /// A store nobody has asked yet.
    pub fn new(question: Question, allow: Allowed, health: Arc<StoreHealth>) -> Self {
        let dice = Dice::new(clock::since_epoch().as_nanos() as u64);
        Self { question, allow, health, connected: None, server: 0, failures: 0, dice, revision: 0 }
    }

    /// Its members: at once, and then each time they have changed, or ten seconds are over.
    ///
    /// # Errors
    /// When the store is lost; then it is connected to anew, with a pause that grows.
    pub async fn next(&mut self) -> Result<EndpointSet, ProviderError> {
        match self.try_next().await {
            Ok(listed) => {
                self.failures = 0;
                Ok(self.read(listed))
            }
            Err(error) => {
                self.connected = None;
                self.server = self.server.wrapping_add(1);
                self.failures = self.failures.saturating_add(1);
                self.health.lost();
                Err(error.into())
            }
        }
    }

    async fn try_next(&mut self) -> Result<Listed, StoreError> {
        let Some(connected) = &mut self.connected else { return self.begin().await };
        connected.wait(&self.health).await?;
        let asked = clock::now();
        let listed = connected.reading.list().await?;
        self.health.answered(StoreOp::List, asked.elapsed());
        connected.listed(&listed);
        self.compare(&listed);
        Ok(listed)
    }

    /// A revision that is lower than before is of other data.
    fn compare(&mut self, listed: &Listed) {
        let Some(revision) = listed.revision else { return };
        self.health.incarnations.add(u64::from(revision < self.revision));
        self.revision = revision;
    }

    /// Connects, lists, and has changes told from there on.
    async fn begin(&mut self) -> Result<Listed, StoreError> {
        if self.failures > 0 {
            tokio::time::sleep(store::pause(self.failures, &mut self.dice)).await;
        }
        let asked = clock::now();
        let (reading, listed) = Reading::begin(&self.question, self.server).await?;
        let now = clock::now();
        self.health.answered(StoreOp::List, now - asked);
        self.compare(&listed);
        let next_sign = now + SIGN_OF_LIFE;
        let connected = self.connected.insert(Connected { reading, listed: now, signs: 0, next_sign, expires: None });
        connected.listed(&listed);
        Ok(listed)
    }

    fn read(&self, listed: Listed) -> EndpointSet {
        let mut set = EndpointSet::default();
        for entry in listed.entries {
            match entry.and_then(|entry| self.member(&entry)) {
                Ok(member) => set.members.push(member),
                Err(why) => set.left_out.push(why),
            }
        }
        set
    }

    fn member(&self, entry: &Entry) -> Result<crate::snapshot::settings::Endpoint, String> {
        list::member(&entry.id, &entry.address, entry.weight, &self.allow).map_err(|error| error.to_string())
    }
}

impl Connected {
    /// Until there may be something else to list.
    async fn wait(&mut self, health: &StoreHealth) -> Result<(), StoreError> {
        while self.signs < SIGNS_PER_LIST {
            let wake = self.expires.map_or(self.next_sign, |expires| expires.min(self.next_sign));
            tokio::select! {
                changed = self.reading.changed() => {
                    changed?;
                    break;
                }
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            let asked = clock::now();
            if self.expires.is_some_and(|expires| expires <= asked) {
                break;
            }
            self.signs += 1;
            self.next_sign = asked + SIGN_OF_LIFE;
            self.reading.ping().await?;
            health.answered(StoreOp::Ping, asked.elapsed());
        }
        tokio::time::sleep_until((self.listed + MIN_PAUSE).into()).await;
        Ok(())
    }

    fn listed(&mut self, listed: &Listed) {
        (self.listed, self.signs) = (clock::now(), 0);
        self.expires = listed.expires.map(|left| self.listed + left);
    }
}
