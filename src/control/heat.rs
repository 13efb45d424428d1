//! Hot keys: each second every worker is asked what it has seen, and all of it together decides. Requests learn of it by a new
//! view; the generation stays, since nothing was decided by anybody.
use crate::control::state::Group;
use crate::control::state::State;
use crate::hotkeys::Settings;
use crate::hotkeys::meter::Meter;
use crate::snapshot::heat::Heat;
use crate::snapshot::heat::Rates;
use crate::snapshot::heat::Report;
use crate::worker::Remote;
use crate::worker::sketches::Taken;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::mpsc;

/// How often workers are asked.
const EVERY: Duration = Duration::from_secs(1);
/// Answers that may wait; one that finds no room is lost, and the second counts without it.
const MAX_ANSWERS: usize = 1024;

/// The rates of one upstream's keys, and what requests know of them.
#[derive(Debug, Clone)]
pub struct Known {
    meter: Meter,
    /// What is published.
    pub view: Arc<Heat>,
}

impl Known {
    /// One by these settings, which goes on from another if there is one.
    pub fn new(settings: Settings, before: Option<&Self>, uid: impl FnOnce() -> u64) -> Self {
        match before {
            None => {
                let (meter, report) = (Meter::default(), Arc::new(Report::default()));
                Self { meter, view: Arc::new(Heat::new(uid(), settings, report, &[])) }
            }
            Some(same) if same.view.settings == settings => same.clone(),
            Some(Self { meter, view }) => {
                let heat = Heat::new(view.uid, settings, view.report.clone(), meter.hot());
                Self { meter: meter.clone(), view: Arc::new(heat) }
            }
        }
    }

    /// Ends a second of an upstream with so many endpoints; says whether other keys are hot now.
    fn end_second(&mut self, took: Duration, endpoints: usize) -> bool {
        // What one endpoint has alone cannot be shared.
        let line = if endpoints < 2 { f64::INFINITY } else { self.view.settings.share.0 / endpoints as f64 };
        let has_changed = self.meter.end_second(took, line);
        let Heat { uid, settings, report, .. } = &*self.view;
        report.set(Rates { all: self.meter.rate(), hot: self.meter.hottest() });
        if has_changed {
            self.view = Arc::new(Heat::new(*uid, *settings, report.clone(), self.meter.hot()));
        }
        has_changed
    }
}

/// Asks the workers.
#[derive(Debug)]
pub struct Rounds {
    sender: mpsc::Sender<Vec<Taken>>,
    answers: mpsc::Receiver<Vec<Taken>>,
    asked: Option<Instant>,
    /// Workers that have not answered since.
    missing: usize,
    /// Time from the question before to the last one.
    took: Duration,
}

impl Default for Rounds {
    fn default() -> Self {
        let (sender, answers) = mpsc::channel(MAX_ANSWERS);
        Self { sender, answers, asked: None, missing: 0, took: EVERY }
    }
}

impl Rounds {
    /// Waits for a worker's answer. Cancelling it loses none.
    pub async fn answer(&mut self) -> Vec<Taken> {
        match self.answers.recv().await {
            Some(answer) => answer,
            // It never ends: there is a sender beside it.
            None => std::future::pending().await,
        }
    }

    /// Takes in an answer; says whether other keys are hot now.
    pub fn hear(&mut self, state: &mut State, answer: &[Taken]) -> bool {
        for known in state.groups.values_mut().filter_map(|group| group.heat.as_mut()) {
            for taken in answer.iter().filter(|taken| taken.uid == known.view.uid) {
                known.meter.add(&taken.top, taken.total);
            }
        }
        self.missing = self.missing.saturating_sub(1);
        self.missing == 0 && end_second(state, self.took)
    }

    /// Asks every worker when it is time to; says whether other keys are hot now.
    pub fn ask(&mut self, state: &mut State, remote: &Remote, now: Instant) -> bool {
        let uids: Arc<[u64]> =
            state.groups.values().filter_map(|group| group.heat.as_ref()).map(|known| known.view.uid).collect();
        if uids.is_empty() || self.asked.is_some_and(|asked| now.duration_since(asked) < EVERY) {
            return false;
        }
        // Who has not answered within a second is not waited for.
        let has_changed = self.missing > 0 && end_second(state, self.took);
        self.took = self.asked.map_or(EVERY, |asked| now.duration_since(asked));
        (self.asked, self.missing) = (Some(now), 0);
        for worker in 0..remote.count() {
            let (sender, uids) = (self.sender.clone(), uids.clone());
            let job = Box::new(move |worker: &std::rc::Rc<crate::worker::Worker>| {
                // Without room, or at the program's end, this second is counted without it.
                sender.try_send(worker.sketches.take(&uids)).unwrap_or_default();
            });
            self.missing += usize::from(remote.try_run_on(worker, job).is_ok());
        }
        has_changed
    }
}

fn end_second(state: &mut State, took: Duration) -> bool {
    let end = |group: &mut Group| {
        let endpoints = group.ring.live_members();
        group.heat.as_mut().is_some_and(|known| known.end_second(took, endpoints))
    };
    state.groups.values_mut().map(end).filter(|has_changed| *has_changed).count() > 0
}
