//! The nodes below one node, with their values: read once, and then what watches tell of.
use super::Event;
use super::Events;
use super::Zookeeper;
use crate::base::clock;
use crate::store::StoreError;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

/// Values that are asked for at one time.
const WINDOW: usize = 256;
/// After so long everything is read anew, whatever the watches say.
const TRUSTED: Duration = Duration::from_secs(10);
/// Looks at a node that comes and goes.
const TRIES: usize = 5;

/// The nodes below one node.
#[derive(Debug)]
pub struct Folder {
    path: String,
    /// Values that have not changed, or a watch would have told.
    known: BTreeMap<String, Vec<u8>>,
    /// Since when that is so.
    since: Instant,
}

impl Folder {
    /// A folder nobody has looked at yet.
    pub fn new(path: String) -> Self {
        Self { path, known: BTreeMap::new(), since: clock::now() }
    }

    /// Waits until something has changed since the last list. Cancelling it loses nothing.
    ///
    /// # Errors
    /// When nobody tells any more.
    pub async fn changed(&mut self, events: &mut Events) -> Result<(), StoreError> {
        let told = events.next().await?;
        self.note(&told);
        Ok(())
    }

    fn note(&mut self, told: &[Event]) {
        if told.is_empty() {
            self.known.clear();
        }
        for event in told {
            if let Some(name) = event.path.strip_prefix(&self.path).and_then(|rest| rest.strip_prefix('/')) {
                self.known.remove(name);
            }
        }
    }

    /// All nodes of now, by name, with changes told from here on; none when there is no such folder.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn list(&mut self, client: &Zookeeper) -> Result<&BTreeMap<String, Vec<u8>>, StoreError> {
        if self.since.elapsed() >= TRUSTED {
            self.known.clear();
        }
        if self.known.is_empty() {
            self.since = clock::now();
        }
        let names = self.names(client).await?;
        let mut asked = VecDeque::new();
        let mut values = BTreeMap::new();
        for name in names {
            if let Some(value) = self.known.remove(&name) {
                values.insert(name, value);
                continue;
            }
            let answer = client.ask_value(&format!("{}/{name}", self.path), true).await?;
            asked.push_back((name, answer));
            if asked.len() >= WINDOW
                && let Some((name, answer)) = asked.pop_front()
                && let Some(value) = client.value(answer).await?
            {
                values.insert(name, value);
            }
        }
        for (name, answer) in asked {
            // Who has gone meanwhile is told of by the watch of names.
            if let Some(value) = client.value(answer).await? {
                values.insert(name, value);
            }
        }
        self.known = values;
        Ok(&self.known)
    }

    async fn names(&self, client: &Zookeeper) -> Result<Vec<String>, StoreError> {
        for _ in 0..TRIES {
            if let Some(names) = client.children(&self.path, true).await? {
                return Ok(names);
            }
            // Then it is waited for. It may have come just now.
            if client.exists(super::ANSWER, &self.path, true).await?.is_none() {
                return Ok(Vec::new());
            }
        }
        Err(StoreError::Answer(self.path.clone()))
    }
}
