//! Members in etcd: keys `ROOT/rings/NAME/ID` under a lease, told of by a watch.
use super::Question;
use super::entry::Entry;
use super::reading::Listed;
use super::reading::SIGN_ANSWER;
use crate::store::StoreError;
use crate::store::etcd::Changes;
use crate::store::etcd::Etcd;
use std::time::Duration;

/// Before the keys of all members.
pub fn prefix(question: &Question) -> String {
    format!("{}/rings/{}/", question.store.root, question.name)
}

/// One connection for calls, one for the watch.
#[derive(Debug)]
pub struct Reading {
    prefix: String,
    calls: Etcd,
    changes: Changes,
    /// The revision of the last list: what has changed until then is in it.
    revision: u64,
}

impl Reading {
    pub(super) async fn begin(question: &Question, number: usize) -> Result<(Self, Listed), StoreError> {
        let prefix = prefix(question);
        let mut calls = Etcd::open(&question.store, number).await?;
        let (listed, revision) = list(&mut calls, &prefix).await?;
        let watcher = Etcd::open(&question.store, number).await?;
        let changes = watcher.watch(&prefix, revision).await?;
        Ok((Self { prefix, calls, changes, revision }, listed))
    }

    pub(super) async fn changed(&mut self) -> Result<(), StoreError> {
        self.changes.next(self.revision).await
    }

    pub(super) async fn list(&mut self) -> Result<Listed, StoreError> {
        let (listed, revision) = list(&mut self.calls, &self.prefix).await?;
        self.revision = revision;
        Ok(listed)
    }

    pub(super) async fn ping(&mut self) -> Result<(), StoreError> {
        self.calls.ping(SIGN_ANSWER, &self.prefix).await
    }
}

async fn list(calls: &mut Etcd, prefix: &str) -> Result<(Listed, u64), StoreError> {
    let (pairs, number) = calls.list(prefix).await?;
    let entries = pairs.iter().map(|pair| Entry::read(&pair.key, &pair.value)).collect();
    Ok((Listed { entries, expires: None, revision: Some(number) }, number))
}

/// A key under a lease.
#[derive(Debug)]
pub struct Holding {
    calls: Etcd,
    lease: String,
}

impl Holding {
    pub(super) async fn begin(question: &Question, entry: &Entry, number: usize) -> Result<Self, StoreError> {
        let mut calls = Etcd::open(&question.store, number).await?;
        let lease = calls.grant(question.store.lease_ttl).await?;
        calls.put(&format!("{}{}", prefix(question), entry.id), &entry.write(), &lease).await?;
        Ok(Self { calls, lease })
    }

    pub(super) async fn keep_alive(&mut self, time: Duration) -> Result<bool, StoreError> {
        self.calls.keep_alive(time, &self.lease).await
    }

    pub(super) async fn end(&mut self) -> Result<(), StoreError> {
        self.calls.revoke(&self.lease).await
    }
}
