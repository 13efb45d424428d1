//! The task that keeps this proxy's notice up and reads those of others, over every loss of the store.
use super::board::Board;
use super::notice::Notice;
use super::peers::Peers;
use super::settings::Settings;
use super::starts::Starts;
use crate::base::clock;
use crate::base::dice::Dice;
use crate::base::hash::mix64;
use crate::snapshot::handle::SnapshotHandle;
use crate::store;
use crate::store::StoreError;
use crate::telemetry::labels::StoreOp;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Time between two looks at whether there is something to tell.
const LOOK: Duration = Duration::from_millis(100);
/// Shortest time between two lists: many notices at once are a few looks.
const MIN_PAUSE: Duration = Duration::from_millis(20);
/// Longest time between two notices: clocks go apart.
const RETELL: Duration = Duration::from_secs(60);
/// Longest time for taking the notice down at the end; after it it goes by itself.
const GOODBYE: Duration = Duration::from_secs(3);

/// A proxy's place in its fleet.
#[derive(Debug)]
pub struct Fleet {
    /// What it knows of the others.
    pub peers: Arc<Peers>,
    leave: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Fleet {
    /// Joins, and stays until [`leave`](Self::leave).
    pub fn join(settings: Settings, snapshots: Arc<SnapshotHandle>, starts: Arc<Starts>) -> Self {
        let seed = clock::since_epoch().as_nanos() as u64 ^ u64::from(std::process::id());
        let instance = format!("{}-{}-{:08x}", super::settings::host(), std::process::id(), mix64(seed) as u32);
        let dice = Dice::new(seed);
        let own = Notice::of(&snapshots.load(), &settings.name);
        let peers = Arc::new(Peers::new(settings, instance, own, starts));
        let (leave, told) = oneshot::channel();
        let keeper = Keeper {
            peers: peers.clone(),
            snapshots,
            generation: None,
            started: 0,
            posted: None,
            has_news: false,
            dice,
        };
        Self { peers, leave, task: tokio::spawn(keeper.run(told)) }
    }

    /// Takes the notice down, if the store answers in time: others need not wait for its end.
    pub async fn leave(self) {
        // An error is a task that has ended.
        self.leave.send(()).unwrap_or_default();
        if let Err(error) = self.task.await {
            tracing::warn!(%error, "The fleet's task failed.");
        }
    }
}

struct Keeper {
    peers: Arc<Peers>,
    snapshots: Arc<SnapshotHandle>,
    /// The snapshot that the own notice is of.
    generation: Option<u64>,
    /// Beginnings of ramps that it has.
    started: u64,
    /// When it was last put up.
    posted: Option<Instant>,
    /// Whether others should know what we know of their clocks.
    has_news: bool,
    dice: Dice,
}

impl Keeper {
    async fn run(mut self, mut told: oneshot::Receiver<()>) {
        let mut board = None;
        tokio::select! {
            () = self.hold(&mut board) => {}
            // Also when nobody holds the other end: the program ends.
            _ = &mut told => {}
        }
        if let Some(board) = &board {
            match tokio::time::timeout(GOODBYE, board.leave(&self.peers.settings)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "A notice goes by itself."),
                Err(_) => tracing::debug!("A notice goes by itself: the store is too slow."),
            }
        }
    }

    async fn hold(&mut self, board: &mut Option<Board>) {
        let mut failures = 0u32;
        for number in 0.. {
            let failed = match Board::open(&self.peers.settings, number).await {
                Ok(opened) => {
                    (failures, self.posted) = (0, None);
                    self.keep(board.insert(opened)).await
                }
                Err(error) => Err(error),
            };
            *board = None;
            if let Err(error) = failed {
                self.peers.lost(error.told());
            }
            failures = failures.saturating_add(1);
            tokio::time::sleep(store::pause(failures, &mut self.dice)).await;
        }
    }

    /// Serves one connection to its end.
    async fn keep(&mut self, board: &mut Board) -> Result<(), StoreError> {
        let each = self.peers.settings.peers_ttl / 3;
        self.tell_if_due(board).await?;
        let mut listed = self.list(board, false).await?;
        let mut next_renewal = clock::now() + each;
        loop {
            let is_told = tokio::select! {
                changed = board.changed() => changed.map(|()| true)?,
                () = tokio::time::sleep(LOOK) => false,
            };
            if is_told || board.is_outdated() {
                tokio::time::sleep_until((listed + MIN_PAUSE).into()).await;
                listed = self.list(board, is_told).await?;
            }
            self.tell_if_due(board).await?;
            if clock::now() >= next_renewal {
                next_renewal = clock::now() + each;
                self.timed(StoreOp::Ping, board.renew()).await?;
                listed = self.list(board, false).await?;
            }
        }
    }

    async fn list(&mut self, board: &mut Board, is_prompt: bool) -> Result<Instant, StoreError> {
        let notices = self.timed(StoreOp::List, board.list()).await?;
        let now = clock::now();
        self.has_news |= self.peers.hear(notices, is_prompt, now, clock::since_epoch());
        Ok(now)
    }

    /// Puts the notice up anew when there is something to tell: at once when a ring may be another, a while later when it is
    /// about clocks alone, so that a fleet of any size tells some ten times a second in all.
    async fn tell_if_due(&mut self, board: &mut Board) -> Result<(), StoreError> {
        let snapshot = self.snapshots.load();
        let is_other = self.generation != Some(snapshot.generation);
        if is_other {
            self.peers.set_own(Notice::of(&snapshot, &self.peers.settings.name));
            self.generation = Some(snapshot.generation);
        }
        let started = self.peers.starts.own().0;
        let is_other = std::mem::replace(&mut self.started, started) != started || is_other;
        let age = self.posted.map(|posted| posted.elapsed());
        let is_due = match age {
            None => true,
            Some(_) if is_other => true,
            Some(age) if self.has_news => age >= LOOK * (1 + self.peers.count()),
            Some(age) => age >= RETELL,
        };
        if !is_due {
            return Ok(());
        }
        let notice = self.peers.own(clock::since_epoch());
        let Ok(text) = serde_json::to_string(&notice) else { return Ok(()) };
        let instance = self.peers.instance.clone();
        self.timed(StoreOp::Publish, board.post(&instance, &text)).await?;
        (self.posted, self.has_news) = (Some(clock::now()), false);
        Ok(())
    }

    async fn timed<T>(&self, op: StoreOp, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let asked = clock::now();
        let answer = call.await?;
        self.peers.health.answered(op, asked.elapsed());
        Ok(answer)
    }
}
