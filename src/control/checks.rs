//! Which endpoints are asked: one probe each, stopped when its endpoint goes, started anew when its question changes.
use crate::base::clock;
use crate::control::elections;
use crate::control::state::Group;
use crate::control::state::Known;
use crate::control::state::State;
use crate::health::check::HealthCheck;
use crate::net::tls_client::TlsClient;
use crate::probe::Answer;
use crate::probe::Prober;
use crate::probe::Probing;
use crate::probe::Target;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Answers that are taken in at one time.
const MAX_TAKEN: usize = 256;

/// All probes that run, by their endpoint's uid.
#[derive(Debug)]
pub struct Checks {
    prober: Prober,
    answers: mpsc::Receiver<Answer>,
    running: HashMap<u64, Running>,
}

/// A probe, which runs until this is dropped, and what it was started with.
#[derive(Debug)]
struct Running {
    check: Arc<HealthCheck>,
    tls: Option<Arc<TlsClient>>,
    _probing: Probing,
}

impl Default for Checks {
    fn default() -> Self {
        let (prober, answers) = Prober::new();
        Self { prober, answers, running: HashMap::new() }
    }
}

impl Checks {
    /// Waits for answers. Cancelling it loses none.
    pub async fn answers(&mut self) -> Vec<Answer> {
        let mut answers = Vec::new();
        // It never ends: the prober holds a sender.
        self.answers.recv_many(&mut answers, MAX_TAKEN).await;
        answers
    }

    /// Has those asked, and only those, whom the state wants asked.
    pub fn reconcile(&mut self, state: &State) {
        self.start_and_stop(state, |_| Duration::ZERO);
    }

    /// As [`reconcile`](Self::reconcile), when it is another proxy's turn to ask now, or ours: whoever takes checks over goes on where
    /// the other one stopped, and asks at once what is overdue.
    pub fn take_over(&mut self, state: &State) {
        let now = clock::now();
        self.start_and_stop(state, |group| group.election.as_ref().map_or(Duration::ZERO, |seat| seat.unheard(now)));
    }

    fn start_and_stop(&mut self, state: &State, unasked: impl Fn(&Group) -> Duration) {
        let now = clock::now();
        let mut before = std::mem::take(&mut self.running);
        for group in state.groups.values() {
            let Some(check) = group.settings.health_check.clone().map(Arc::new) else { continue };
            if !elections::asks(group, now) {
                continue;
            }
            for known in group.members.values().filter(|known| !known.endpoint.addresses.is_empty()) {
                let uid = known.endpoint.uid;
                let running = match before.remove(&uid) {
                    Some(running) if running.check == check && running.tls == group.settings.tls => running,
                    _ => self.start(group, known, check.clone(), unasked(group)),
                };
                self.running.insert(uid, running);
            }
        }
    }

    fn start(&self, group: &Group, known: &Known, check: Arc<HealthCheck>, unasked: Duration) -> Running {
        let target = Target {
            uid: known.endpoint.uid,
            upstream: group.settings.name.clone(),
            endpoint: known.endpoint.id.clone(),
            host: known.endpoint.address.authority(check.port),
            location: known.endpoint.address.clone(),
            addresses: known.endpoint.addresses.clone(),
            tls: group.settings.tls.clone(),
        };
        let within = match known.threshold.is_checked() {
            true => check.interval.saturating_sub(unasked),
            false => Duration::ZERO,
        };
        let probing = self.prober.start(target, check.clone(), within);
        Running { check, tls: group.settings.tls.clone(), _probing: probing }
    }
}
