//! The one loop of each discovered upstream: next answer, judgement, update; what is wrong is told once and counted. Which
//! source it is is not known here.
use super::EndpointSet;
use super::Provider;
use super::ProviderError;
use super::judge::Judge;
use super::judge::Verdict;
use super::list;
use super::settings::OnLoss;
use super::settings::Settings;
use super::settings::Source;
use crate::base::clock;
use crate::base::ids::UpstreamName;
use crate::snapshot::membership::Membership;
use crate::snapshot::membership::Seen;
use crate::snapshot::settings::Endpoint;
use crate::store::health::StoreHealth;
use crate::telemetry::labels::HeldBack;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long a first answer is waited for before the last list on disk serves.
const FIRST_ANSWER: Duration = Duration::from_millis(1500);
/// Shortest time between two updates of one upstream: many members that come at once are a few changes.
const MIN_PAUSE: Duration = Duration::from_millis(50);
/// Updates that may wait; a source that has one more waits with it.
const MAX_UPDATES: usize = 64;
/// Questions that may wait; more are not heard.
const MAX_ASKS: usize = 4;

/// Another list for an upstream.
#[derive(Debug)]
pub struct Update {
    /// Whose.
    pub upstream: UpstreamName,
    /// The list from now on; `None`: there is no answer so far, nobody need wait for it.
    pub members: Option<Arc<[Endpoint]>>,
    /// Whether requests are refused, because the store is lost.
    pub refuses: bool,
    /// Whether somebody knows that the list is right, whatever it does.
    pub is_approved: bool,
    /// When it was learned.
    pub at: Instant,
    serial: u64,
    /// Who waits to hear whether the list is in force.
    told: Option<oneshot::Sender<()>>,
}

impl Update {
    /// Tells its source that the list is in force.
    pub fn is_in_force(&mut self) {
        if self.told.take().is_some_and(|told| told.send(()).is_err()) {
            tracing::debug!(upstream = %self.upstream, "A source that is asked no more has nothing to keep.");
        }
    }
}

/// What a source is asked beside what it tells by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Its list once more.
    Again,
    /// Its last answer, whole and at once: somebody knows that it is right.
    Approve,
}

/// The sources that are asked.
#[derive(Debug)]
pub struct Runners {
    running: BTreeMap<UpstreamName, Running>,
    updates: mpsc::Receiver<Update>,
    sender: mpsc::Sender<Update>,
    last_serial: u64,
}

#[derive(Debug)]
struct Running {
    settings: Arc<Settings>,
    membership: Arc<Membership>,
    serial: u64,
    asks: mpsc::Sender<Ask>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Default for Runners {
    fn default() -> Self {
        let (sender, updates) = mpsc::channel(MAX_UPDATES);
        Self { running: BTreeMap::new(), updates, sender, last_serial: 0 }
    }
}

impl Runners {
    /// Has these sources asked, and no others; one whose settings are the same goes on. `current` are the lists in force.
    /// Gives the upstreams whose source was begun.
    pub fn want(
        &mut self,
        wanted: &BTreeMap<UpstreamName, Arc<Settings>>,
        current: impl Fn(&UpstreamName) -> Arc<[Endpoint]>,
    ) -> Vec<UpstreamName> {
        self.running.retain(|name, _| wanted.contains_key(name));
        let mut begun = Vec::new();
        for (name, settings) in wanted {
            if self.running.get(name).is_some_and(|running| running.settings == *settings) {
                continue;
            }
            let membership = self.running.get(name).map(|running| running.membership.clone()).unwrap_or_default();
            membership.update(|seen| note_source(seen, settings));
            self.last_serial += 1;
            let (asks, asked) = mpsc::channel(MAX_ASKS);
            let runner = Runner {
                upstream: name.clone(),
                serial: self.last_serial,
                judge: Judge::new(settings.clone(), &current(name)),
                settings: settings.clone(),
                membership: membership.clone(),
                updates: self.sender.clone(),
                asked,
                is_approved: false,
                is_first: true,
                next_update: clock::now(),
                unsent: None,
                lost: None,
                refuses: false,
                told_refuses: false,
            };
            let task = tokio::spawn(runner.run());
            let running = Running { settings: settings.clone(), membership, serial: self.last_serial, asks, task };
            self.running.insert(name.clone(), running);
            begun.push(name.clone());
        }
        begun
    }

    /// How it stands with a source.
    pub fn membership(&self, upstream: &UpstreamName) -> Option<Arc<Membership>> {
        self.running.get(upstream).map(|running| running.membership.clone())
    }

    /// Asks a source for an update; says whether one will come.
    pub fn ask(&self, upstream: &UpstreamName, ask: Ask) -> bool {
        self.running.get(upstream).is_some_and(|running| running.asks.try_send(ask).is_ok())
    }

    /// Waits for the next update of a source that is still asked. Cancelling it loses none.
    pub async fn next(&mut self) -> Update {
        loop {
            // It never ends: a sender is held here.
            let Some(update) = self.updates.recv().await else { return std::future::pending().await };
            if self.running.get(&update.upstream).is_some_and(|running| running.serial == update.serial) {
                return update;
            }
        }
    }
}

struct Runner {
    upstream: UpstreamName,
    serial: u64,
    settings: Arc<Settings>,
    judge: Judge,
    membership: Arc<Membership>,
    updates: mpsc::Sender<Update>,
    asked: mpsc::Receiver<Ask>,
    /// Whether somebody knows that the newest list is right.
    is_approved: bool,
    /// Nothing has been told yet.
    is_first: bool,
    /// Before this no other update goes out.
    next_update: Instant,
    /// The newest list, and when its change was learned.
    unsent: Option<(Arc<[Endpoint]>, Instant)>,
    /// Since when the store is lost.
    lost: Option<Instant>,
    /// Whether requests are to be refused, and whether that was told.
    refuses: bool,
    told_refuses: bool,
}

/// What a source is, and the store behind it.
fn note_source(seen: &mut Seen, settings: &Settings) {
    seen.source = settings.source.to_string();
    seen.store = match &settings.source {
        Source::Store(question) => {
            let known = seen.store.take().filter(|known| known.name == question.store.name);
            Some(known.unwrap_or_else(|| Arc::new(StoreHealth::new(question.store.name.clone()))))
        }
        _ => None,
    };
}

impl Runner {
    async fn run(mut self) {
        let mut provider = Provider::new(&self.settings, self.membership.seen().store);
        let last_call = clock::now() + FIRST_ANSWER;
        loop {
            let mut next = pin!(provider.next());
            let answer = loop {
                let due = [
                    self.judge.due(),
                    self.unsent.is_some().then_some(self.next_update),
                    self.is_first.then_some(last_call),
                    self.refuses_from(),
                ];
                let due = due.into_iter().flatten().min();
                let pause = async {
                    match due {
                        Some(due) => tokio::time::sleep_until(due.into()).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    answer = &mut next => break answer,
                    Some(ask) = self.asked.recv() => self.answer(ask),
                    () = pause => {}
                }
                let now = clock::now();
                let verdict = self.judge.look(now);
                self.take(verdict, now);
                self.refuses |= self.refuses_from().is_some_and(|from| from <= now);
                if self.is_first && now >= last_call && self.unsent.is_none() {
                    self.begin_without_answer(now);
                }
                if !self.send().await {
                    return;
                }
            };
            self.hear(answer, clock::now());
            if !self.send().await {
                return;
            }
        }
    }

    fn answer(&mut self, ask: Ask) {
        let now = clock::now();
        let members = match ask {
            Ask::Again => self.judge.members(),
            Ask::Approve => self.judge.release(),
        };
        self.is_approved |= ask == Ask::Approve;
        let waiting = self.judge.waiting();
        self.membership.update(|seen| seen.waiting = waiting);
        // Whoever asks waits.
        (self.unsent, self.next_update) = (Some((members, now)), now);
    }

    fn hear(&mut self, answer: Result<EndpointSet, ProviderError>, now: Instant) {
        let heard = match answer {
            Ok(mut set) => {
                if self.lost.take().is_some() {
                    self.judge.begin_settling(now);
                    self.refuses = false;
                }
                let left_out = std::mem::take(&mut set.left_out);
                self.judge.hear(set, now).map(|verdict| (verdict, left_out))
            }
            Err(error) => {
                if matches!(error, ProviderError::Store(_)) {
                    let is_news = self.lost.replace(self.lost.unwrap_or(now)).is_none();
                    self.refuses |= self.refuses_from().is_some_and(|from| from <= now);
                    if is_news {
                        self.note(Some((None, error.to_string())));
                    } else {
                        // Each server may have words of its own for the one loss.
                        self.membership.update(|seen| seen.problem = Some(error.to_string()));
                    }
                } else {
                    self.refuse(HeldBack::Unreadable, error.to_string());
                }
                if self.is_first {
                    self.begin_without_answer(now);
                }
                return;
            }
        };
        match heard {
            Ok((verdict, left_out)) => {
                self.membership.update(|seen| seen.confirmed = Some(now));
                self.note(
                    left_out
                        .first()
                        .map(|first| (Some(HeldBack::Member), format!("{} left out: {first}", left_out.len()))),
                );
                self.take(verdict, now);
            }
            Err(refused) => {
                self.refuse(refused.reason, refused.why);
                if self.is_first {
                    self.begin_without_answer(now);
                }
            }
        }
    }

    /// From when on requests are refused, as long as the store stays lost.
    fn refuses_from(&self) -> Option<Instant> {
        match self.settings.on_loss {
            OnLoss::Refuse(after) if !self.refuses => self.lost.map(|since| since + after),
            _ => None,
        }
    }

    fn take(&mut self, verdict: Verdict, now: Instant) {
        let waiting = self.judge.waiting();
        self.membership.update(|seen| seen.waiting = waiting);
        if verdict.newly_held > 0 {
            self.membership.held_back[HeldBack::MaxDrop as usize].add(1);
            let settle = self.settings.settle;
            tracing::warn!(upstream = %self.upstream, members = waiting, ?settle, "Too many members are missing at once: they stay until they have been missing for long enough.");
        }
        if let Some(members) = verdict.members {
            let since = self.unsent.take().map_or(now, |(_, since)| since);
            self.unsent = Some((members, since));
        }
    }

    fn refuse(&mut self, reason: HeldBack, why: String) {
        self.note(Some((Some(reason), why)));
    }

    /// Counts and tells a problem once, as long as it stays the same; `None` when there is none any more.
    fn note(&self, problem: Option<(Option<HeldBack>, String)>) {
        let why = problem.as_ref().map(|(_, why)| why.clone());
        let before = self.membership.update(|seen| std::mem::replace(&mut seen.problem, why.clone()));
        if before == why {
            return;
        }
        match problem {
            Some((None, why)) => {
                tracing::error!(upstream = %self.upstream, why, "The store is lost; the last members stay.");
            }
            Some((Some(reason @ HeldBack::Member), why)) => {
                self.membership.held_back[reason as usize].add(1);
                tracing::warn!(upstream = %self.upstream, why, "Not all members can be used.");
            }
            Some((Some(reason), why)) => {
                self.membership.held_back[reason as usize].add(1);
                tracing::error!(upstream = %self.upstream, why, "The members are refused, the last good ones stay.");
            }
            None => tracing::info!(upstream = %self.upstream, "The members can be read and used again."),
        }
    }

    /// The last list on disk serves, if there is one.
    fn begin_without_answer(&mut self, now: Instant) {
        let Some(path) = &self.settings.snapshot else { return };
        match list::read(path, &self.settings.allow) {
            Ok(members) if self.settings.unusable(&members).is_none() => {
                tracing::warn!(upstream = %self.upstream, members = members.len(), path = %path.display(), "There is no answer: the last members on disk serve.");
                self.judge = Judge::new(self.settings.clone(), &members);
                self.unsent = Some((members.into(), now));
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(upstream = %self.upstream, %error, "There are no last members on disk."),
        }
    }

    /// Sends what is to be told, unless it is too soon. Says whether anybody listens.
    async fn send(&mut self) -> bool {
        let now = clock::now();
        let is_news = self.is_first || self.unsent.is_some() || self.refuses != self.told_refuses;
        let is_too_soon = now < self.next_update && self.refuses == self.told_refuses;
        if is_too_soon || !is_news {
            return true;
        }
        let (members, at) = match self.unsent.take() {
            Some((members, at)) => (Some(members), at),
            None => (None, now),
        };
        let (told, heard) = oneshot::channel();
        self.is_first = false;
        self.told_refuses = self.refuses;
        let update = Update {
            upstream: self.upstream.clone(),
            members: members.clone(),
            refuses: self.refuses,
            is_approved: std::mem::take(&mut self.is_approved),
            at,
            serial: self.serial,
            told: Some(told),
        };
        let is_heard = self.updates.send(update).await.is_ok();
        if let Some(members) = members {
            self.next_update = now + MIN_PAUSE;
            // Whoever has the update tells, or drops it: kept is what is in force, nothing that is held.
            if heard.await.is_ok() {
                self.keep(members).await;
            }
        }
        is_heard
    }

    /// Writes the list to disk.
    async fn keep(&self, members: Arc<[Endpoint]>) {
        let Some(path) = self.settings.snapshot.clone() else { return };
        let upstream = self.upstream.clone();
        let written = tokio::task::spawn_blocking(move || {
            if let Err(error) = list::write(&path, &members) {
                tracing::warn!(%upstream, path = %path.display(), %error, "The members could not be kept on disk.");
            }
        });
        if let Err(error) = written.await {
            tracing::warn!(upstream = %self.upstream, %error, "The members could not be kept on disk.");
        }
    }
}
