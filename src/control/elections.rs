//! Health checks that one proxy of a fleet makes for all: who asks, what the others are told, and what is taken over from them.
use super::Control;
use super::apply;
use super::state::Group;
use super::state::State;
use crate::base::ids::UpstreamName;
use crate::health::check::OnLoss;
use crate::lock::election::Role;
use crate::lock::election::Seat;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use tokio::task::AbortHandle;

/// Of so many endpoints that are down it is told what is wrong with them, in so many bytes.
const MAX_PROBLEMS: usize = 100;
const MAX_PROBLEM: usize = 200;

/// All elections that this proxy stands for.
#[derive(Debug, Default)]
pub struct Elections {
    running: HashMap<UpstreamName, Running>,
}

#[derive(Debug)]
struct Running {
    seat: Arc<Seat>,
    task: AbortHandle,
    /// Whether this proxy asked the endpoints when that was last looked at.
    was_asking: bool,
    /// The last that was taken over from others.
    number: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An endpoint that is down. Those of whom nothing is told are up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Down {
    /// Where it is, as written: another one under the same id is another.
    address: String,
    /// What its last check found, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Whether nobody accepted a connection: what comes back then was started anew.
    #[serde(default)]
    pub refused: bool,
}

/// Endpoints that are down, by id.
pub type Downs = BTreeMap<String, Down>;

impl Down {
    /// Whether it is about this address.
    pub fn is_at(&self, address: &impl ToString) -> bool {
        self.address == address.to_string()
    }
}

/// Whether this proxy asks the endpoints of an upstream.
pub fn asks(group: &Group, now: Instant) -> bool {
    let Some(check) = &group.settings.health_check else { return false };
    let (Some(seat), Some(elect)) = (&group.election, &check.elect) else { return true };
    match seat.role(now) {
        Role::Elected => true,
        Role::Follows => false,
        Role::Alone => elect.on_loss == OnLoss::CheckLocally,
    }
}

/// What others are told of an upstream; nothing before each of its endpoints was asked, here or by another.
fn downs(group: &Group) -> Option<Downs> {
    let asked = || group.members.values().filter(|known| !known.endpoint.addresses.is_empty());
    if !asked().all(|known| known.threshold.is_checked()) {
        return None;
    }
    let down = asked().filter(|known| known.threshold.is_down()).enumerate().map(|(count, known)| {
        let problem = known.endpoint.last_check.get().and_then(|found| found.problem);
        let problem = problem.filter(|_| count < MAX_PROBLEMS).map(|mut problem| {
            problem.truncate(problem.floor_char_boundary(MAX_PROBLEM));
            problem
        });
        let address = known.endpoint.address.to_string();
        (known.endpoint.id.to_string(), Down { address, problem, refused: known.was_refused })
    });
    Some(down.collect())
}

impl Elections {
    /// Stands for the elections that the state wants, and for no others.
    fn reconcile(&mut self, state: &State) {
        let mut before = std::mem::take(&mut self.running);
        for group in state.groups.values() {
            let Some(seat) = &group.election else { continue };
            let name = &group.settings.name;
            let running = match before.remove(name) {
                Some(running) if Arc::ptr_eq(&running.seat, seat) => running,
                _ => {
                    let candidate = seat.clone();
                    let task = tokio::spawn(async move { candidate.run().await }).abort_handle();
                    Running { seat: seat.clone(), task, was_asking: false, number: 0 }
                }
            };
            self.running.insert(name.clone(), running);
        }
    }
}

impl Control {
    /// Has those asked whom this proxy has to ask, after settings or members have changed.
    pub(super) fn recheck(&mut self) {
        self.elections.reconcile(&self.state);
        self.checks.reconcile(&self.state);
    }

    /// Tells others what was found here and takes over what they found. Says whether that changed who may get requests.
    pub(super) fn hear_others(&mut self, now: Instant) -> bool {
        let (mut has_changed, mut has_turned) = (false, false);
        for (name, running) in &mut self.elections.running {
            let Some(group) = self.state.groups.get_mut(name) else { continue };
            has_turned |= std::mem::replace(&mut running.was_asking, asks(group, now)) != running.was_asking;
            if running.seat.role(now) == Role::Elected {
                let found = downs(group).and_then(|downs| serde_json::to_value(downs).ok());
                found.into_iter().for_each(|found| running.seat.tell(found));
            }
            if running.seat.last_number() == running.number {
                continue;
            }
            let Some(told) = running.seat.told() else { continue };
            running.number = told.number;
            // Whoever asks knows better.
            if running.was_asking {
                continue;
            }
            match serde_json::from_value::<Downs>(told.found) {
                Ok(downs) => has_changed |= apply::adopt(group, &downs, now),
                Err(error) => tracing::warn!(upstream = %name, %error, "Verdicts in the store cannot be read."),
            }
        }
        if has_turned {
            self.checks.take_over(&self.state);
        }
        has_changed
    }
}
