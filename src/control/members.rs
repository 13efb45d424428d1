//! Members that sources name: what updates change, and how long a change of settings waits for the first of them.
use super::Control;
use super::build;
use super::history::Cause;
use super::state::Desired;
use super::state::State;
use crate::base::clock;
use crate::base::ids::UpstreamName;
use crate::discovery::runner::Runners;
use crate::discovery::runner::Update;
use crate::snapshot::diff;
use crate::snapshot::settings::Endpoint;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for the first members of an upstream before it is published without.
const FIRST_MEMBERS: Duration = Duration::from_secs(2);

/// Has the sources asked that a first snapshot needs, for a short time, so that its endpoints are there from the beginning.
pub(super) async fn begin(sources: &mut Runners, state: &mut State, desired: &Desired) {
    let begun = sources.want(&desired.discoveries, |_| Arc::from([]));
    for update in first_members(sources, begun.into_iter().collect()).await {
        take_in(state, update);
    }
    note_memberships(sources, state, desired.discoveries.keys());
}

impl Control {
    /// Before new settings are built: asks, for a short time, sources that they name and the old ones did not.
    pub(super) async fn ask_ahead(&mut self, desired: &Desired) {
        let mut wanted = self.discoveries.clone();
        wanted.extend(desired.discoveries.clone());
        let begun = self.sources.want(&wanted, |name| current(&self.state, name));
        let fresh: HashSet<UpstreamName> =
            begun.into_iter().filter(|name| !self.state.members.contains_key(name)).collect();
        note_memberships(&self.sources, &mut self.state, wanted.keys());
        for update in first_members(&mut self.sources, fresh).await {
            if self.discoveries.contains_key(&update.upstream) {
                self.populate(update);
            } else {
                take_in(&mut self.state, update);
            }
        }
    }

    /// After settings were built, or refused: no others are asked than those in force.
    pub(super) fn ask_only_wanted(&mut self) {
        self.sources.want(&self.discoveries, |name| current(&self.state, name));
        let discoveries = &self.discoveries;
        self.state.members.retain(|name, _| discoveries.contains_key(name));
        self.state.memberships.retain(|name, _| discoveries.contains_key(name));
    }

    /// Begins or ends refusing an upstream's requests.
    fn refuse(&mut self, update: &Update) {
        let Some(group) = self.state.groups.get_mut(&update.upstream) else { return };
        if std::mem::replace(&mut group.is_lost, update.refuses) == update.refuses {
            return;
        }
        if let Some(membership) = &group.membership {
            membership.update(|seen| seen.refuses = update.refuses);
        }
        match update.refuses {
            true => tracing::error!(upstream = %update.upstream, "The store is lost: requests are refused."),
            false => tracing::info!(upstream = %update.upstream, "The store is back: requests are served."),
        }
        self.publish_masks();
    }

    /// Takes a list in, and publishes it if it is news.
    pub(super) fn populate(&mut self, update: Update) {
        self.refuse(&update);
        let Update { upstream, members: Some(members), at, .. } = update else { return };
        let before = self.handle.load();
        match build::repopulate(&mut self.state, &before, &upstream, members, clock::now()) {
            Ok(None) => {}
            Ok(Some((snapshot, published))) => {
                let what = diff::diff(&before, &snapshot);
                self.publish(snapshot);
                if let Some(membership) = self.state.memberships.get(&upstream) {
                    membership.apply.observe(at.elapsed());
                }
                let moved = published.rings.first().map_or(0.0, |(_, moved, _)| moved * 100.0);
                let told = what.join(", ");
                tracing::info!(%upstream, generation = published.generation, moved_percent = moved, "Members have changed: {told}.");
                self.remember(Cause::Discovery, what, published.rings);
                self.checks.reconcile(&self.state);
            }
            Err(error) => {
                tracing::error!(%upstream, "The members cannot be taken up, the last ones stay: failed to {error}")
            }
        }
    }
}

fn current(state: &State, name: &UpstreamName) -> Arc<[Endpoint]> {
    state.members_of(name).unwrap_or_default().into()
}

fn take_in(state: &mut State, update: Update) {
    if let Some(members) = update.members {
        state.members.insert(update.upstream, members);
    }
}

fn note_memberships<'a>(sources: &Runners, state: &mut State, names: impl Iterator<Item = &'a UpstreamName>) {
    let known = names.filter_map(|name| Some((name.clone(), sources.membership(name)?)));
    state.memberships.extend(known);
}

/// Waits for the first updates about `fresh`, and takes those about others along.
async fn first_members(sources: &mut Runners, mut fresh: HashSet<UpstreamName>) -> Vec<Update> {
    let mut updates = Vec::new();
    let asking = async {
        while !fresh.is_empty() {
            let update = sources.next().await;
            fresh.remove(&update.upstream);
            updates.push(update);
        }
    };
    if tokio::time::timeout(FIRST_MEMBERS, asking).await.is_err() {
        let missing: Vec<String> = fresh.iter().map(ToString::to_string).collect();
        tracing::warn!(upstreams = missing.join(" "), "Members are still being sought; until then there are none.");
    }
    updates
}
