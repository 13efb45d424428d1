//! Members in ZooKeeper: nodes `ROOT/rings/NAME/ID` that go with a session, or `ROOT/NAME/ID` as Curator has them; told of by
//! watches.
use super::Layout;
use super::Question;
use super::curator;
use super::entry::Entry;
use super::reading::Listed;
use super::reading::SIGN_ANSWER;
use crate::store::StoreError;
use crate::store::zookeeper::Events;
use crate::store::zookeeper::Zookeeper;
use crate::store::zookeeper::folder::Folder;
use percent_encoding::AsciiSet;
use percent_encoding::CONTROLS;
use percent_encoding::percent_decode_str;
use percent_encoding::utf8_percent_encode;
use std::time::Duration;

/// What an id may have and the name of a node may not.
const NOT_IN_NAMES: &AsciiSet = &CONTROLS.add(b'/').add(b'%');

/// Above the nodes of all members.
pub fn folder(question: &Question) -> String {
    let rings = match question.layout {
        Layout::Own => "/rings",
        Layout::Curator => "",
    };
    format!("{}{rings}/{}", question.store.root, name_of(&question.name))
}

/// The name of the node of an id.
fn name_of(id: &str) -> String {
    match id {
        "." | ".." => id.replace('.', "%2E"),
        _ => utf8_percent_encode(id, NOT_IN_NAMES).to_string(),
    }
}

/// A node as a member. One id has one name, so that it is there once.
fn entry(name: &str, value: &[u8]) -> Result<Entry, String> {
    let entry = Entry::read(&percent_decode_str(name).collect::<Vec<_>>(), value)?;
    if name_of(&entry.id) != name {
        return Err(format!("endpoint {}: its node is to be named {}", entry.id, name_of(&entry.id)));
    }
    Ok(entry)
}

/// One connection, for calls and events.
#[derive(Debug)]
pub struct Reading {
    client: Zookeeper,
    events: Events,
    folder: Folder,
    layout: Layout,
}

impl Reading {
    pub(super) async fn begin(question: &Question, number: usize) -> Result<(Self, Listed), StoreError> {
        let (client, events) = Zookeeper::open(&question.store, number, question.store.lease_ttl, None).await?;
        let mut reading = Self { client, events, folder: Folder::new(folder(question)), layout: question.layout };
        let listed = reading.list().await?;
        Ok((reading, listed))
    }

    pub(super) async fn changed(&mut self) -> Result<(), StoreError> {
        self.folder.changed(&mut self.events).await
    }

    pub(super) async fn list(&mut self) -> Result<Listed, StoreError> {
        let nodes = self.folder.list(&self.client).await?;
        let read = |(name, value): (&String, &Vec<u8>)| match self.layout {
            Layout::Own => Some(entry(name, value)),
            Layout::Curator => curator::entry(name, value).transpose(),
        };
        Ok(Listed { entries: nodes.iter().filter_map(read).collect(), ..Listed::default() })
    }

    pub(super) async fn ping(&mut self) -> Result<(), StoreError> {
        self.client.ping(SIGN_ANSWER).await
    }
}

/// A node that goes with a session.
#[derive(Debug)]
pub struct Holding {
    client: Zookeeper,
    path: String,
}

impl Holding {
    pub(super) async fn begin(question: &Question, entry: &Entry, number: usize) -> Result<Self, StoreError> {
        let (client, _) = Zookeeper::open(&question.store, number, question.store.lease_ttl, None).await?;
        let path = format!("{}/{}", folder(question), name_of(&entry.id));
        client.put(&path, entry.write().as_bytes()).await?;
        Ok(Self { client, path })
    }

    /// Also when another one has taken the place: then that one is the member.
    pub(super) async fn keep_alive(&mut self, time: Duration) -> Result<bool, StoreError> {
        Ok(self.client.exists(time, &self.path, false).await?.is_some())
    }

    /// With the session goes what is ours, and nothing else.
    pub(super) async fn end(&mut self) -> Result<(), StoreError> {
        self.client.close().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_has_a_name_that_a_node_may_have() {
        for (id, name) in [("c1:80", "c1:80"), ("a/b/", "a%2Fb%2F"), (".", "%2E"), ("..", "%2E%2E"), ("...", "...")] {
            assert_eq!(name_of(id), name);
            assert_eq!(entry(name, b"10.0.0.1:80").map(|entry| entry.id).as_deref(), Ok(id));
        }
        assert!(entry("%63", b"10.0.0.1:80").unwrap_err().contains("named c"));
    }
}
