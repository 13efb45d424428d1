//! Who may act for all: leases that one holder at a time has, each with a fencing token that rises from holder to holder. What a
//! lock protects is not known here, nor which store keeps it: an engine's recipe is a file of its own behind [`LeaseStore`].
//!
//! A lock goes to one asker after the other in two steps: in this process first in, first out ([`mod@line`]), and only the first of
//! each key asks the store. So as many wait at a store as there are proxies, however many requests do. A task of its own
//! ([`service`], in the [`room`] of locks) has each lease from asking to the confirmed release; askers wait for its word and may
//! leave at any time.
pub mod consul;
pub mod election;
pub mod etcd;
pub mod key;
pub mod lease;
#[cfg(not(feature = "store-redis"))]
mod left_out;
pub mod line;
#[cfg(feature = "store-redis")]
pub mod redis;
pub mod registry;
pub mod room;
pub mod service;
pub mod sessions;
pub mod standing;
pub mod term;
pub mod token;
mod waiters;
pub mod zookeeper;

#[cfg(test)]
mod tests;

use crate::store::StoreError;
use crate::telemetry::labels::LockResult;
use key::LockKey;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use term::Term;
use thiserror::Error;
use token::Token;

/// What is answered later, on the thread of locks.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where something is published for all who use a store.
#[derive(Debug)]
pub struct Post {
    /// Under whose lock.
    pub key: LockKey,
    /// Its name, fit for a key of any store.
    pub name: String,
    /// How long it is of use: one that cannot tie it to a session lets it go then.
    pub lasts: Duration,
}

/// What was last published, with a number that is another each time; nothing when nobody has.
pub type Published = Option<(u64, Vec<u8>)>;

/// One engine's recipe: how a lock is taken, kept and given back in a store. One for each store and length of a lease.
pub trait LeaseStore: fmt::Debug + Send + Sync + 'static {
    /// Keeps what all leases hang on: a session, a watch. Runs for ever, and is dropped when nobody wants locks there any more. It
    /// tells [`standing::Standing`] of each answer, and when there is no session and can be none now.
    fn run(&self) -> Later<'_, ()>;

    /// Waits until the lock is ours. Without a deadline of its own: it is dropped when time is up or the asker has left. At most
    /// one call for a key at a time; after an error the same ask may come again.
    ///
    /// # Errors
    /// When the outcome is not known, or the store does not do as asked. After an error or a drop [`release`](Self::release)
    /// follows until it is confirmed.
    fn acquire<'a>(&'a self, ask: &'a Ask) -> Later<'a, Result<Grant, StoreError>>;

    /// Takes back whatever an ask has in the store, or may still get there; nobody else's. Repeating it is fine.
    ///
    /// # Errors
    /// When it is not certain that nothing is left.
    fn release<'a>(&'a self, ask: &'a Ask) -> Later<'a, Result<(), StoreError>>;

    /// An ask cannot be taken back: it runs out by itself, and nothing is kept of it here.
    fn abandon(&self, ask: &Ask);

    /// Renews one lease, each third of its length: until when it is ours now; nothing when it is gone. `None` for engines whose
    /// leases all hang on a session that [`run`](Self::run) keeps.
    fn renew<'a>(&'a self, _: &'a Ask) -> Option<Later<'a, Result<Option<Instant>, StoreError>>> {
        None
    }

    /// Writes a text for all others who use the store; only while the ask of this number has the lock. Says whether it had.
    ///
    /// # Errors
    /// When the outcome is not known.
    fn publish<'a>(&'a self, _owner: u64, _post: &'a Post, _text: String) -> Later<'a, Result<bool, StoreError>> {
        Box::pin(async { Err(StoreError::LeftOut("publishing by this engine")) })
    }

    /// What was last published, if somebody has.
    ///
    /// # Errors
    /// When there is no answer.
    fn published<'a>(&'a self, _post: &'a Post) -> Later<'a, Result<Published, StoreError>> {
        Box::pin(async { Err(StoreError::LeftOut("publishing by this engine")) })
    }

    /// A release could not be confirmed for as long as a lease lasts: the session that it hangs on, if there is one, has to go.
    fn reset(&self) {}
}

/// What is asked of a store.
#[derive(Debug)]
pub struct Ask {
    /// What is locked.
    pub key: LockKey,
    /// Who asks: a number that nobody else in this process has, chosen before anything is sent. What was sent twice is one ask.
    pub owner: u64,
    /// What is locked and for whom, for people who look into the store.
    pub told: String,
    /// Whether others were before it, as far as its engine says so.
    pub had_to_wait: AtomicBool,
}

impl Ask {
    /// Notes that others have the lock, or come before this one.
    pub fn waits(&self) {
        self.had_to_wait.store(true, Ordering::Relaxed);
    }
}

/// A lock that a store gave.
#[derive(Debug)]
pub struct Grant {
    /// Rises from grant to grant of a key.
    pub token: Token,
    /// Until when it is ours.
    pub term: Arc<Term>,
}

/// How long an asker waits, and in what company.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest time until the lock is ours.
    pub wait: Duration,
    /// How many may wait for one key in this process.
    pub queue: usize,
}

impl From<LockError> for LockResult {
    fn from(error: LockError) -> Self {
        match error {
            LockError::QueueFull => Self::QueueFull,
            LockError::Timeout => Self::Timeout,
            LockError::StoreLost => Self::StoreLost,
        }
    }
}

/// Why there is no lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LockError {
    /// As many as may wait for this key already.
    #[error("find room in the line for a lock")]
    QueueFull,
    /// Others had it for too long.
    #[error("get a lock in time")]
    Timeout,
    /// The store does not answer.
    #[error("reach the store of a lock")]
    StoreLost,
}
