//! One task owns everything that changes: it waits for an event, applies it, builds, publishes. The rules are `apply`'s.
pub mod apply;
pub mod archive;
pub mod build;
pub mod checks;
mod elections;
pub mod guard;
pub mod heat;
pub mod history;
mod members;
pub mod naming;
mod past;
mod ramps;
mod starts;
pub mod state;

use crate::base::address::HostPort;
use crate::base::clock;
use crate::base::ids::EndpointId;
use crate::base::ids::UpstreamName;
use crate::discovery::names::Names;
use crate::discovery::runner::Runners;
use crate::discovery::settings::Settings as Discovery;
use crate::fleet::starts::Starts;
use crate::lock::registry::Locks;
use crate::probe::Answer;
use crate::ring::fingerprint::Fingerprint;
use crate::snapshot::Snapshot;
use crate::snapshot::diff;
use crate::snapshot::handle::SnapshotHandle;
use crate::worker::Remote;
use apply::Drained;
use apply::Effects;
use build::BuildError;
use checks::Checks;
use elections::Elections;
use guard::Breach;
use heat::Rounds;
use history::Cause;
use history::Change;
use history::History;
use history::RingChanged;
use state::Desired;
use state::State;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use thiserror::Error;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

/// How often outcomes are merged without being asked to.
const TICK: Duration = Duration::from_millis(100);
/// Shortest time between two merges that workers ask for.
const MIN_PAUSE: Duration = Duration::from_millis(10);
/// Changes that may wait; whoever sends more waits too.
const MAX_EVENTS: usize = 64;

/// What happens to the world.
#[derive(Debug)]
enum Event {
    /// New settings; the answer says what came of them.
    Replace(Box<Desired>, Cause, bool, oneshot::Sender<Result<Published, ControlError>>),
    /// An operator lets through what is held: of one upstream, or all.
    Approve(Option<UpstreamName>, oneshot::Sender<Vec<Approved>>),
    /// An operator sends an endpoint away, or takes it back.
    Drain(Drain, oneshot::Sender<Result<Drained, ControlError>>),
}

/// What an operator wants of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// Its upstream.
    pub upstream: UpstreamName,
    /// Its id.
    pub endpoint: EndpointId,
    /// Whether it gets no new requests; otherwise it does again.
    pub is_on: bool,
}

/// Why a change was not made.
#[derive(Debug, Error)]
pub enum ControlError {
    /// The new world cannot be built; the old one stays.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// There is no such endpoint.
    #[error("there is no endpoint {1} in an upstream {0}")]
    NoEndpoint(UpstreamName, EndpointId),
    /// The task is gone: the program ends.
    #[error("the program is about to end")]
    Gone,
}

/// What a change did.
#[derive(Debug, Clone)]
pub struct Published {
    /// The snapshot's generation.
    pub generation: u64,
    /// Each upstream whose ring changed.
    pub rings: Vec<RingChanged>,
    /// What of it was more than a guard allows, and was done all the same.
    pub breaches: Vec<(UpstreamName, Breach)>,
}

/// Members that were held and are in force now.
#[derive(Debug, Clone)]
pub struct Approved {
    /// Their upstream.
    pub upstream: UpstreamName,
    /// How many they are.
    pub members: usize,
    /// Share of the key space that moved.
    pub moved: f64,
    /// The ring's fingerprint now.
    pub fingerprint: Fingerprint,
}

/// How others send changes.
#[derive(Debug, Clone)]
pub struct ControlHandle {
    events: mpsc::Sender<Event>,
}

impl ControlHandle {
    /// Has new settings taken up: all of them or, on an error, nothing. No guard holds them when it `is_forced`.
    pub async fn replace(&self, desired: Desired, cause: Cause, is_forced: bool) -> Result<Published, ControlError> {
        let (answer, answered) = oneshot::channel();
        let event = Event::Replace(Box::new(desired), cause, is_forced, answer);
        self.events.send(event).await.map_err(|_| ControlError::Gone)?;
        answered.await.map_err(|_| ControlError::Gone)?
    }

    /// Lets through members that are held, of one upstream or all, and those that wait to go.
    pub async fn approve(&self, only: Option<UpstreamName>) -> Result<Vec<Approved>, ControlError> {
        let (answer, answered) = oneshot::channel();
        self.events.send(Event::Approve(only, answer)).await.map_err(|_| ControlError::Gone)?;
        answered.await.map_err(|_| ControlError::Gone)
    }

    /// Begins or ends a drain. It lasts as long as the process, and as the endpoint's id stays in the configuration.
    pub async fn drain(&self, drain: Drain) -> Result<Drained, ControlError> {
        let (answer, answered) = oneshot::channel();
        self.events.send(Event::Drain(drain, answer)).await.map_err(|_| ControlError::Gone)?;
        answered.await.map_err(|_| ControlError::Gone)?
    }
}

/// The task that owns the state.
#[derive(Debug)]
pub struct Control {
    state: State,
    events: mpsc::Receiver<Event>,
    handle: Arc<SnapshotHandle>,
    attention: Arc<Notify>,
    checks: Checks,
    elections: Elections,
    heat: Rounds,
    names: Names,
    sources: Runners,
    /// What the settings in force name, and how often it is looked up.
    wanted: HashMap<HostPort, Duration>,
    /// Where the settings in force have members from.
    discoveries: BTreeMap<UpstreamName, Arc<Discovery>>,
    history: History,
    starts: Arc<Starts>,
    /// When ramps began that others are told of.
    begun: BTreeMap<UpstreamName, Instant>,
}

impl Control {
    /// Builds the first snapshot, with what can be looked up in a short time; nothing runs yet.
    ///
    /// # Errors
    /// When the settings cannot be built.
    pub async fn new(desired: Desired, workers: usize) -> Result<(Self, ControlHandle), BuildError> {
        let mut state = State::new(workers);
        let mut names = Names::default();
        let (wanted, discoveries) = (desired.names(), desired.discoveries.clone());
        let mut sources = Runners::default();
        members::begin(&mut sources, &mut state, &desired).await;
        naming::begin(&mut names, &mut state, &desired).await;
        let built = state::aside(&mut state, |state| build::build(state, desired, true, clock::now())).await;
        let (first, Published { generation, rings, .. }) = built?;
        state.locks.start();
        let (history, at) = (History::default(), clock::since_epoch());
        history.add(Change { at, cause: Cause::Start, what: Vec::new(), generation, rings });
        let (sender, events) = mpsc::channel(MAX_EVENTS);
        let handle = Arc::new(SnapshotHandle::new(Arc::new(first)));
        let control = Self {
            state,
            events,
            handle,
            attention: Arc::new(Notify::new()),
            checks: Checks::default(),
            elections: Elections::default(),
            heat: Rounds::default(),
            names,
            sources,
            wanted,
            discoveries,
            history,
            starts: Arc::default(),
            begun: BTreeMap::new(),
        };
        Ok((control, ControlHandle { events: sender }))
    }

    /// Where snapshots appear.
    pub fn snapshots(&self) -> Arc<SnapshotHandle> {
        self.handle.clone()
    }

    /// The last changes.
    pub fn history(&self) -> History {
        self.history.clone()
    }

    /// Locks of stores, to be given back at the end.
    pub fn locks(&self) -> Arc<Locks> {
        self.state.locks.clone()
    }

    /// When ramps began, for the fleet.
    pub fn starts(&self) -> Arc<Starts> {
        self.starts.clone()
    }

    /// What wakes this task when an outcome cannot wait for its tick.
    pub fn attention(&self) -> Arc<Notify> {
        self.attention.clone()
    }

    /// Runs until every [`ControlHandle`] is gone.
    pub async fn run(mut self, remote: Remote) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.recheck();
        loop {
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(Event::Replace(desired, cause, is_forced, answer)) => {
                        tell(answer, self.replace(*desired, cause, is_forced).await);
                    }
                    Some(Event::Approve(only, answer)) => tell(answer, self.approve(only.as_ref()).await),
                    Some(Event::Drain(drain, answer)) => tell(answer, self.drain(drain)),
                    None => return,
                },
                answer = self.names.next() => self.learn(answer),
                update = self.sources.next() => self.populate(update).await,
                answers = self.checks.answers() => self.hear(answers),
                answer = self.heat.answer() => {
                    if self.heat.hear(&mut self.state, &answer) {
                        self.publish_masks();
                    }
                }
                () = self.attention.notified() => {
                    self.tick(&remote).await;
                    // Many failures ask at once: one merge sees them all.
                    tokio::time::sleep(MIN_PAUSE).await;
                }
                _ = tick.tick() => self.tick(&remote).await,
            }
        }
    }

    async fn replace(&mut self, desired: Desired, cause: Cause, is_forced: bool) -> Result<Published, ControlError> {
        self.look_ahead(&desired).await;
        self.ask_ahead(&desired).await;
        let wanted = desired.names();
        let discoveries = desired.discoveries.clone();
        let now = clock::now();
        let built = state::aside(&mut self.state, move |state| build::build(state, desired, is_forced, now)).await;
        if built.is_ok() {
            self.wanted = wanted;
            self.discoveries = discoveries;
        }
        self.names.want(&self.wanted);
        self.ask_only_wanted();
        let (snapshot, published) = built?;
        self.state.locks.start();
        let what = diff::diff(&self.handle.load(), &snapshot);
        self.publish(snapshot);
        self.note_starts(&published.rings, now);
        self.remember(cause, what, published.rings.clone());
        self.recheck();
        self.review();
        Ok(published)
    }

    fn drain(&mut self, drain: Drain) -> Result<Drained, ControlError> {
        let Drain { upstream, endpoint, is_on } = drain;
        let name = format!("endpoint {upstream}/{endpoint}");
        let drained = apply::drain(&mut self.state, &upstream, &endpoint, is_on, clock::now());
        let drained = drained.ok_or(ControlError::NoEndpoint(upstream, endpoint))?;
        if drained.has_changed {
            self.publish_masks();
            self.remember(if is_on { Cause::Drain } else { Cause::Undrain }, vec![name], Vec::new());
        }
        Ok(drained)
    }

    fn remember(&self, cause: Cause, what: Vec<String>, rings: Vec<RingChanged>) {
        let (at, generation) = (clock::since_epoch(), self.state.generation);
        self.history.add(Change { at, cause, what, generation, rings });
    }

    fn hear(&mut self, answers: Vec<Answer>) {
        if apply::checked(&mut self.state, answers) {
            self.publish_masks();
        }
    }

    async fn tick(&mut self, remote: &Remote) {
        let now = clock::now();
        let Effects { masks_changed, expired } = apply::tick(&mut self.state, now);
        let is_heat_other = self.heat.ask(&mut self.state, remote, now);
        if self.keep_step() | is_heat_other | masks_changed | self.hear_others(now) {
            self.publish_masks();
        }
        for uid in expired {
            for worker in 0..remote.count() {
                remote.run_on(worker, Box::new(move |worker| worker.wheel.expire_tagged(uid))).await;
            }
        }
    }

    fn publish_masks(&mut self) {
        let snapshot = build::rebuild_masks(&mut self.state, &self.handle.load());
        self.publish(snapshot);
    }

    fn publish(&self, snapshot: Snapshot) {
        self.handle.publish(Arc::new(snapshot));
    }
}

fn tell<T>(answer: oneshot::Sender<T>, result: T) {
    if answer.send(result).is_err() {
        tracing::debug!("Nobody waited for a change any more.");
    }
}
