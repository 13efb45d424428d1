//! Where names lead: what answers of look-ups change, and how long a change waits for the first of them.
use super::Control;
use super::build;
use super::state::Desired;
use super::state::State;
use crate::base::address::Address;
use crate::base::address::HostPort;
use crate::base::address::Location;
use crate::base::clock;
use crate::discovery::names::Answer;
use crate::discovery::names::Names;
use crate::telemetry::labels::CheckResult;
use crate::telemetry::logging::Throttle;
use std::collections::HashSet;
use std::time::Duration;

/// Longest wait for the first look-up of a name before what needs it is published without.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// Has the names looked up that a first snapshot needs, for a short time, so that its endpoints are there from the beginning.
pub(super) async fn begin(names: &mut Names, state: &mut State, desired: &Desired) {
    let wanted = desired.names();
    names.want(&wanted);
    for answer in first_look(names, wanted.into_keys().collect()).await {
        if let Some((name, found)) = understand(state, answer) {
            state.names.insert(name, found.into());
        }
    }
}

impl Control {
    /// Before new settings are built: looks up, for a short time, what they name that the old ones did not.
    pub(super) async fn look_ahead(&mut self, desired: &Desired) {
        let mut names = desired.names();
        let fresh: HashSet<HostPort> = names.keys().filter(|name| !self.names.wants(name)).cloned().collect();
        if fresh.is_empty() {
            return;
        }
        names.extend(self.wanted.clone());
        self.names.want(&names);
        for answer in first_look(&mut self.names, fresh).await {
            self.learn(answer);
        }
    }

    /// Takes an answer in, and publishes where its name leads if that is news.
    pub(super) fn learn(&mut self, answer: Answer) {
        let Some((name, found)) = understand(&mut self.state, answer) else { return };
        let published = build::readdress(&mut self.state, &self.handle.load(), &name, found, clock::now());
        if let Some(snapshot) = published {
            let addresses: Vec<String> = self.state.names[&name].iter().map(Address::to_string).collect();
            tracing::info!(%name, addresses = addresses.join(" "), "A host name leads to other addresses now.");
            self.publish(snapshot);
            self.checks.reconcile(&self.state);
        }
    }
}

/// Waits for the first answers about `fresh`, and takes those about other names along.
async fn first_look(names: &mut Names, mut fresh: HashSet<HostPort>) -> Vec<Answer> {
    let mut answers = Vec::new();
    let looking = async {
        while !fresh.is_empty() {
            let answer = names.next().await;
            fresh.remove(&answer.name);
            answers.push(answer);
        }
    };
    if tokio::time::timeout(FIRST_LOOK, looking).await.is_err() {
        let missing: Vec<String> = fresh.iter().map(HostPort::to_string).collect();
        tracing::warn!(
            names = missing.join(" "),
            "Host names are still being looked up; their endpoints are down so far."
        );
    }
    answers
}

/// Counts an answer and gives what was found; a failure keeps what was found last.
fn understand(state: &mut State, Answer { name, result }: Answer) -> Option<(HostPort, Vec<Address>)> {
    let kind = if result.is_ok() { CheckResult::Success } else { CheckResult::Failure };
    let members = state.groups.values().flat_map(|group| group.members.values());
    for known in members.filter(|known| matches!(&known.endpoint.address, Location::Named(it) if *it == name)) {
        known.endpoint.verdicts.look_ups[kind as usize].add(1);
    }
    let error = match result {
        Ok(found) => return Some((name, found)),
        Err(error) => error,
    };
    static FAILURES: Throttle = Throttle::new();
    if let Some(held_back) = FAILURES.pass() {
        let consequence = match state.names.get(&name) {
            Some(_) => "where it led last stays",
            None => "it was never resolved, so its endpoint is down",
        };
        tracing::warn!(%name, %error, held_back, "A host name could not be looked up; {consequence}.");
    }
    None
}
