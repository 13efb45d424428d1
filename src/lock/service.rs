//! Locks of one store, or of this process: the line here first, then the store. Each lease of a store has a task of its own, from
//! asking to the confirmed release.
use super::Ask;
use super::LeaseStore;
use super::Limits;
use super::LockError;
use super::Post;
use super::Published;
use super::key::LockKey;
use super::lease::Lease;
use super::line::Lines;
use super::line::Place;
use super::line::Turn;
use super::room::Room;
use super::standing::Standing;
use super::token::Tokens;
use crate::base::clock;
use crate::base::dice::Dice;
use crate::store;
use crate::store::StoreError;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::task::JoinSet;

/// Longest time for one try to give a lock back.
const RELEASE: Duration = Duration::from_secs(2);
/// Longest time for a word to all others, and for hearing one.
const CALL: Duration = Duration::from_secs(2);
/// Pause after a client has failed.
const RESTART: Duration = Duration::from_secs(1);

/// Locks of one store, with leases of one length; or of this process.
#[derive(Debug)]
pub struct Service {
    lines: Arc<Lines>,
    tokens: Arc<Tokens>,
    stored: Option<Arc<Stored>>,
}

/// What a service with a store has beyond one without.
#[derive(Debug)]
struct Stored {
    lease: Duration,
    engine: Arc<dyn LeaseStore>,
    standing: Arc<Standing>,
    last_owner: AtomicU64,
    /// Held by whoever owns a lease, or is about to give one back.
    busy: Arc<()>,
    running: OnceLock<Running>,
}

/// The engine at work.
#[derive(Debug)]
struct Running {
    room: Arc<Room>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Service {
    /// Locks within this process.
    pub fn here(lines: Arc<Lines>, tokens: Arc<Tokens>) -> Self {
        Self { lines, tokens, stored: None }
    }

    /// Locks of a store, with leases of this length. Nothing happens before [`start`](Self::start).
    pub fn of_store(
        lines: Arc<Lines>,
        tokens: Arc<Tokens>,
        engine: Arc<dyn LeaseStore>,
        standing: Arc<Standing>,
        lease: Duration,
    ) -> Self {
        let (last_owner, busy, running) = (AtomicU64::new(0), Arc::new(()), OnceLock::new());
        Self { lines, tokens, stored: Some(Arc::new(Stored { lease, engine, standing, last_owner, busy, running })) }
    }

    /// Sets the engine to work, if there is one that does not yet.
    pub fn start(&self, room: &Arc<Room>) {
        let Some(stored) = &self.stored else { return };
        stored.running.get_or_init(|| {
            let task = room.handle().spawn(run(stored.engine.clone(), stored.standing.clone())).abort_handle();
            Running { room: room.clone(), task }
        });
    }

    /// How it stands with its store, if it has one.
    pub fn standing(&self) -> Option<&Arc<Standing>> {
        self.stored.as_ref().map(|stored| &stored.standing)
    }

    /// Whether a lease of its store was not given back yet.
    pub fn is_busy(&self) -> bool {
        self.stored.as_ref().is_some_and(|stored| Arc::strong_count(&stored.busy) > 1)
    }

    /// Whether it has a store and that one does not answer: then there are no leases.
    pub fn is_lost(&self) -> bool {
        self.standing().is_some_and(|standing| standing.is_lost())
    }

    /// Waits for a lock: in this process first in, first out, and then at the store. `told` says there what is locked. Dropping
    /// it gives up, and whatever came of it is taken back.
    ///
    /// # Errors
    /// When it cannot be had in time, or at all.
    pub async fn acquire(&self, key: LockKey, told: &str, limits: Limits) -> Result<Lease, LockError> {
        let by = clock::now() + limits.wait;
        let Some(stored) = &self.stored else {
            let turn = self.turn(key, limits.queue, by).await?;
            return Ok(Lease::here(turn, Some(self.tokens.next())));
        };
        let turn = tokio::select! {
            biased;
            () = stored.standing.until_lost() => return Err(LockError::StoreLost),
            turn = self.turn(key, limits.queue, by) => turn?,
        };
        stored.acquire(turn, key, told, by).await
    }

    /// As [`acquire`](Self::acquire), within this process and without a token, whatever the store does.
    ///
    /// # Errors
    /// When it cannot be had in time.
    pub async fn acquire_here(&self, key: LockKey, limits: Limits) -> Result<Lease, LockError> {
        let turn = self.turn(key, limits.queue, clock::now() + limits.wait).await?;
        Ok(Lease::here(turn, None))
    }

    /// Writes a text for all others who use the store, while the ask of this number has the lock. Says whether it had.
    ///
    /// # Errors
    /// When the outcome is not known.
    pub async fn publish(&self, owner: u64, post: &Arc<Post>, text: String) -> Result<bool, StoreError> {
        let post = post.clone();
        self.call(move |engine| async move { engine.publish(owner, &post, text).await }).await
    }

    /// What was last published, if anything was.
    ///
    /// # Errors
    /// When there is no answer in time.
    pub async fn published(&self, post: &Arc<Post>) -> Result<Published, StoreError> {
        let post = post.clone();
        self.call(move |engine| async move { engine.published(&post).await }).await
    }

    /// Has an engine asked where its connections are.
    async fn call<T: Send + 'static, F: Future<Output = Result<T, StoreError>> + Send + 'static>(
        &self,
        ask: impl FnOnce(Arc<dyn LeaseStore>) -> F,
    ) -> Result<T, StoreError> {
        let running = self.stored.as_ref().and_then(|stored| Some((stored, stored.running.get()?)));
        let Some((stored, running)) = running else { return Err(StoreError::Ended("locks".into())) };
        let asking = tokio::time::timeout(CALL, ask(stored.engine.clone()));
        match running.room.handle().spawn(asking).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(StoreError::Timeout(stored.standing.health.name.clone())),
            Err(_) => Err(StoreError::Ended("a call".into())),
        }
    }

    async fn turn(&self, key: LockKey, queue: usize, by: Instant) -> Result<Turn, LockError> {
        match self.lines.join(key, queue)? {
            Place::First(turn) => Ok(turn),
            // Nobody but us drops a turn that is to come.
            Place::Behind(coming) => {
                tokio::time::timeout_at(by.into(), coming).await.ok().and_then(Result::ok).ok_or(LockError::Timeout)
            }
        }
    }
}

/// Runs an engine for ever, also over a panic of its client's: whatever hung on that one is lost.
async fn run(engine: Arc<dyn LeaseStore>, standing: Arc<Standing>) {
    loop {
        let mut running = JoinSet::new();
        let engine = engine.clone();
        running.spawn(async move { engine.run().await });
        if let Some(Err(error)) = running.join_next().await {
            standing.lost();
            tracing::error!(%error, "The client of a store of locks failed and is started again.");
            tokio::time::sleep(RESTART).await;
        }
    }
}

impl Stored {
    async fn acquire(self: &Arc<Self>, turn: Turn, key: LockKey, told: &str, by: Instant) -> Result<Lease, LockError> {
        let running = self.running.get().ok_or(LockError::StoreLost)?;
        let owner = self.last_owner.fetch_add(1, Ordering::Relaxed) + 1;
        let ask = Ask { key, owner, told: told.to_string(), had_to_wait: AtomicBool::new(false) };
        let (reply, answered) = oneshot::channel();
        running.room.handle().spawn(self.clone().own(ask, turn, by, reply));
        let answered = tokio::time::timeout_at(by.into(), answered).await.map_err(|_| LockError::Timeout)?;
        answered.unwrap_or(Err(LockError::StoreLost))
    }

    /// Owns a lease: asks for it, keeps it, takes it back, in whatever way its asker ends. The turn ends last.
    async fn own(
        self: Arc<Self>,
        ask: Ask,
        turn: Turn,
        by: Instant,
        mut reply: oneshot::Sender<Result<Lease, LockError>>,
    ) {
        let _busy = self.busy.clone();
        let mut is_uncertain = false;
        let outcome = tokio::select! {
            biased;
            () = reply.closed() => None,
            () = self.standing.until_lost() => Some(Err(LockError::StoreLost)),
            grant = self.ask(&ask, &mut is_uncertain) => Some(Ok(grant)),
            () = tokio::time::sleep_until(by.into()) => Some(Err(LockError::Timeout)),
        };
        match outcome {
            Some(Ok(grant)) => {
                let (held, released) = oneshot::channel();
                let lease = Lease::in_store(&ask, &grant, held);
                if reply.send(Ok(lease)).is_ok() {
                    self.keep(&ask, &grant, released).await;
                }
            }
            Some(Err(error)) => {
                is_uncertain |= error == LockError::StoreLost;
                if reply.send(Err(error)).is_err() {
                    tracing::debug!(key = %ask.key, "Nobody waited for a lock any more.");
                }
            }
            None => {}
        }
        self.take_back(&ask, turn, is_uncertain).await;
    }

    /// Asks until the lock is ours.
    async fn ask(&self, ask: &Ask, is_uncertain: &mut bool) -> super::Grant {
        let mut dice = Dice::new(ask.owner);
        let mut failures = 0;
        loop {
            match self.engine.acquire(ask).await {
                Ok(grant) => return grant,
                Err(error) => {
                    *is_uncertain = true;
                    failures += 1;
                    tracing::debug!(key = %ask.key, error = error.told(), "A lock is asked for again.");
                    tokio::time::sleep(store::pause(failures, &mut dice)).await;
                }
            }
        }
    }

    /// Keeps a lease until its holder gives it back.
    async fn keep(&self, ask: &Ask, grant: &super::Grant, mut released: oneshot::Receiver<()>) {
        let each = self.lease / 3;
        let (mut pause, mut dice, mut failures) = (each, Dice::new(ask.owner), 0);
        loop {
            let is_due = tokio::time::timeout(pause, &mut released).await.is_err();
            let Some(renewing) = is_due.then(|| self.engine.renew(ask)) else { return };
            let Some(renewing) = renewing else {
                // The holder tells by being gone.
                return released.await.unwrap_or_default();
            };
            let failed = match tokio::time::timeout(each, renewing).await {
                Ok(Ok(Some(until))) => {
                    grant.term.extend(until);
                    None
                }
                Ok(Ok(None)) => {
                    grant.term.end();
                    None
                }
                Ok(Err(error)) => Some(error.told()),
                Err(_) => Some("no answer".into()),
            };
            failures = if failed.is_some() { failures + 1 } else { 0 };
            pause = if failed.is_some() { store::pause(failures, &mut dice).min(each) } else { each };
            if let Some(error) = failed {
                tracing::debug!(key = %ask.key, error, "A lease was not renewed.");
            }
        }
    }

    /// Gives back what an ask has or may get, until that is certain or its lease has run out. Who is next waits for it, unless
    /// the store is lost.
    async fn take_back(&self, ask: &Ask, turn: Turn, is_uncertain: bool) {
        let began = clock::now();
        let mut turn = Some(turn);
        let (mut dice, mut failures, mut is_reset) = (Dice::new(ask.owner), 0, false);
        loop {
            let released = tokio::time::timeout(RELEASE.min(self.lease), self.engine.release(ask)).await;
            if matches!(released, Ok(Ok(()))) {
                self.standing.ghosts.add(u64::from(is_uncertain || failures > 0));
                return;
            }
            failures += 1;
            if self.standing.is_lost() {
                drop(turn.take());
            }
            if began.elapsed() > 2 * self.lease {
                tracing::warn!(key = %ask.key, told = ask.told, "A lock could not be given back; it runs out by itself.");
                self.engine.abandon(ask);
                return;
            }
            if !is_reset && began.elapsed() > self.lease {
                is_reset = true;
                drop(turn.take());
                self.engine.reset();
            }
            tokio::time::sleep(store::pause(failures, &mut dice)).await;
        }
    }
}
