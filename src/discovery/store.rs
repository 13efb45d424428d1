//! Members from a store: listed once, told of changes, asked for a sign of life each second. A watch that says nothing proves
//! nothing: how well the store is is the age of its last answer.
use super::EndpointSet;
use super::ProviderError;
use super::list;
use super::settings::Allowed;
use crate::base::clock;
use crate::base::dice::Dice;
use crate::base::ids::EndpointId;
use crate::store;
use crate::store::StoreError;
use crate::store::etcd::Changes;
use crate::store::etcd::Etcd;
use crate::store::etcd::Pair;
use crate::store::health::StoreHealth;
use crate::store::settings::Settings;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

/// Time between two signs of life.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// Longest time for one: after it the next server is tried.
const SIGN_ANSWER: Duration = Duration::from_secs(2);
/// Largest value that is looked at.
const MAX_VALUE: usize = 4 << 10;
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
}

impl Question {
    /// Before the keys of all members.
    pub fn prefix(&self) -> String {
        format!("{}/rings/{}/", self.store.root, self.name)
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
}

#[derive(Debug)]
struct Connected {
    calls: Etcd,
    changes: Changes,
    listed: Instant,
    /// The revision of that list: what has changed until then is in it.
    revision: u64,
    signs: u32,
    next_sign: Instant,
}

/// A member as it is written down.
#[derive(Deserialize)]
struct Entry {
    addr: String,
    #[serde(default = "one")]
    weight: u64,
}

fn one() -> u64 {
    1
}

impl Store {
    /// A store nobody has asked yet.
    pub fn new(question: Question, allow: Allowed, health: Arc<StoreHealth>) -> Self {
        let dice = Dice::new(clock::since_epoch().as_nanos() as u64);
        Self { question, allow, health, connected: None, server: 0, failures: 0, dice }
    }

    /// Its members: at once, and then each time they have changed, or ten seconds are over.
    ///
    /// # Errors
    /// When the store is lost; then it is connected to anew, with a pause that grows.
    pub async fn next(&mut self) -> Result<EndpointSet, ProviderError> {
        match self.try_next().await {
            Ok(pairs) => {
                self.failures = 0;
                Ok(self.read(&pairs))
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

    async fn try_next(&mut self) -> Result<Vec<Pair>, StoreError> {
        let Some(connected) = &mut self.connected else { return self.begin().await };
        loop {
            let sign = tokio::time::sleep_until(connected.next_sign.into());
            tokio::select! {
                changed = connected.changes.next(connected.revision) => {
                    changed?;
                    tokio::time::sleep_until((connected.listed + MIN_PAUSE).into()).await;
                    break;
                }
                () = sign => {
                    connected.signs += 1;
                    connected.next_sign = clock::now() + SIGN_OF_LIFE;
                    if connected.signs >= SIGNS_PER_LIST {
                        break;
                    }
                    let asked = clock::now();
                    connected.calls.ping(SIGN_ANSWER, &self.question.prefix()).await?;
                    self.health.answered(asked.elapsed());
                }
            }
        }
        let asked = clock::now();
        let (pairs, revision) = connected.calls.list(&self.question.prefix()).await?;
        self.health.answered(asked.elapsed());
        (connected.listed, connected.revision, connected.signs) = (clock::now(), revision, 0);
        Ok(pairs)
    }

    /// Connects, lists, and has changes told from there on.
    async fn begin(&mut self) -> Result<Vec<Pair>, StoreError> {
        if self.failures > 0 {
            tokio::time::sleep(store::pause(self.failures, &mut self.dice)).await;
        }
        let settings = &self.question.store;
        let mut calls = Etcd::open(settings, self.server).await?;
        let asked = clock::now();
        let (pairs, revision) = calls.list(&self.question.prefix()).await?;
        let now = clock::now();
        self.health.answered(now - asked);
        let watcher = Etcd::open(settings, self.server).await?;
        let changes = watcher.watch(&self.question.prefix(), revision).await?;
        let next_sign = now + SIGN_OF_LIFE;
        self.connected = Some(Connected { calls, changes, listed: now, revision, signs: 0, next_sign });
        Ok(pairs)
    }

    fn read(&self, pairs: &[Pair]) -> EndpointSet {
        let mut set = EndpointSet::default();
        for pair in pairs {
            let id = String::from_utf8_lossy(&pair.key);
            match self.member(&id, &pair.value) {
                Ok(member) => set.members.push(member),
                Err(why) => set.left_out.push(why),
            }
        }
        set
    }

    /// Its value is `host:port` or `{"addr": "host:port", "weight": 1}` with what else others may want to know.
    fn member(&self, id: &str, value: &[u8]) -> Result<crate::snapshot::settings::Endpoint, String> {
        if !EndpointId::is_valid(id) || value.len() > MAX_VALUE {
            let id: String = id.escape_debug().take(EndpointId::MAX_LEN).collect();
            return Err(format!("endpoint {id}: its id or its value cannot be one"));
        }
        let text = std::str::from_utf8(value).map_err(|_| format!("endpoint {id}: its value is not text"))?;
        let entry = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|error| format!("endpoint {id}: {error}"))?
        } else {
            Entry { addr: text.trim().to_string(), weight: 1 }
        };
        list::member(id, &entry.addr, entry.weight, &self.allow).map_err(|error| error.to_string())
    }
}
