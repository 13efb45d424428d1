//! A lock that one has, as its holder sees it.
use super::Ask;
use super::Grant;
use super::Later;
use super::line::Turn;
use super::term::Ended;
use super::term::Term;
use super::token::Token;
use crate::telemetry::labels::LockLoss;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::oneshot;

/// A lock that one has. Dropping it gives it back; who is next is told once a store has confirmed that.
pub struct Lease {
    token: Option<Token>,
    term: Option<Arc<Term>>,
    ending: Option<Later<'static, Ended>>,
    had_to_wait: bool,
    owner: u64,
    _held: Held,
}

/// What is held; told by being dropped.
#[expect(dead_code, reason = "they are there to be dropped")]
enum Held {
    Here(Turn),
    InStore(oneshot::Sender<()>),
}

impl Lease {
    /// A lock within this process: it is never lost.
    pub(super) fn here(turn: Turn, token: Option<Token>) -> Self {
        Self { token, term: None, ending: None, had_to_wait: false, owner: 0, _held: Held::Here(turn) }
    }

    /// A lock in a store; whoever keeps it there waits for the sender's end.
    pub(super) fn in_store(ask: &Ask, grant: &Grant, held: oneshot::Sender<()>) -> Self {
        Self {
            token: Some(grant.token),
            term: Some(grant.term.clone()),
            ending: None,
            had_to_wait: ask.had_to_wait.load(Ordering::Relaxed),
            owner: ask.owner,
            _held: Held::InStore(held),
        }
    }

    /// The number of the ask that it was given to in its store.
    pub fn owner(&self) -> u64 {
        self.owner
    }

    /// Its fencing token; none for a lock within this process that stands in for one of a store.
    pub fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }

    /// Whether another proxy was before this one at the store, as far as the store's engine says so.
    pub fn had_to_wait(&self) -> bool {
        self.had_to_wait
    }

    /// Until when it is ours; `None`: as long as this lasts.
    pub fn term(&self) -> Option<&Arc<Term>> {
        self.term.as_ref()
    }

    /// How long it is ours without another word of the store.
    pub fn remaining(&self) -> Duration {
        self.term.as_ref().map_or(Duration::MAX, |term| term.remaining())
    }

    /// Why it is ours no more, if it is not.
    pub fn ended(&self) -> Option<Ended> {
        self.term.as_ref()?.ended()
    }

    /// How it was lost, if it was; with its store, when that is lost now.
    pub fn loss(&self, is_store_lost: bool) -> Option<LockLoss> {
        Some(match self.ended()? {
            Ended::Gone => LockLoss::Session,
            Ended::TimeUp if is_store_lost => LockLoss::Store,
            Ended::TimeUp => LockLoss::Deadline,
        })
    }

    /// Ready when it is ours no more; until then the task is woken when that comes.
    pub fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let Some(term) = &self.term else { return Poll::Pending };
        if let Some(ended) = term.ended() {
            return Poll::Ready(ended);
        }
        let ending = self.ending.get_or_insert_with(|| {
            let term = term.clone();
            Box::pin(async move { term.over().await })
        });
        ending.as_mut().poll(cx)
    }

    /// Waits until it is ours no more.
    pub async fn over(&mut self) -> Ended {
        std::future::poll_fn(|cx| self.poll_over(cx)).await
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("token", &self.token).field("term", &self.term).finish_non_exhaustive()
    }
}
