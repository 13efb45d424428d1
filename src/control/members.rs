//! Members that sources name: what updates change, and how long a change of settings waits for the first of them.
use super::Approved;
use super::Control;
use super::Published;
use super::archive::Before;
use super::build;
use super::build::Repopulated;
use super::guard;
use super::guard::Breach;
use super::history::Cause;
use super::history::RingChanged;
use super::state;
use super::state::Desired;
use super::state::State;
use crate::base::clock;
use crate::base::ids::UpstreamName;
use crate::discovery::runner::Ask;
use crate::discovery::runner::Runners;
use crate::discovery::runner::Update;
use crate::ring::fingerprint;
use crate::snapshot::Snapshot;
use crate::snapshot::diff;
use crate::snapshot::membership::Held;
use crate::snapshot::settings::Endpoint;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for the first members of an upstream before it is published without.
const FIRST_MEMBERS: Duration = Duration::from_secs(2);
/// Longest wait for a source's answer to an approval.
const APPROVAL: Duration = Duration::from_secs(2);

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
                self.populate(update).await;
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

    /// Takes a list in, and publishes it if it is news: all of it, or what the guard lets pass.
    pub(super) async fn populate(&mut self, mut update: Update) {
        self.refuse(&update);
        let Some(wanted) = update.members.clone() else { return };
        let upstream = update.upstream.clone();
        let settings = self.state.groups.get(&upstream).map(|group| group.settings.clone());
        let in_force = settings.as_ref().map_or(&[][..], |settings| &settings.endpoints);
        let less = std::iter::once_with(|| guard::less(in_force, &wanted)).flatten();
        let mut breach = None;
        for part in std::iter::once(wanted.clone()).chain(less) {
            let before = self.handle.load();
            let now = clock::now();
            let (last, name, is_approved) = (before.clone(), upstream.clone(), update.is_approved);
            let built = state::aside(&mut self.state, move |state| {
                build::repopulate(state, &last, &name, part, is_approved, now)
            });
            match built.await {
                Ok(Repopulated::Held(too_much)) => {
                    breach.get_or_insert(too_much);
                    continue;
                }
                Ok(Repopulated::Same) => {}
                Ok(Repopulated::Changed(snapshot, published)) => {
                    self.note_starts(&published.rings, now);
                    self.announce(&update, &before, *snapshot, published);
                }
                Err(error) => {
                    tracing::error!(%upstream, "The members cannot be taken up, the last ones stay: failed to {error}");
                    return;
                }
            }
            break;
        }
        match breach {
            None => {
                self.let_go(&upstream, update.is_approved);
                update.is_in_force();
            }
            Some(breach) => self.hold(&upstream, breach, diff::members(upstream.as_str(), in_force, &wanted)),
        }
    }

    /// Publishes other members and tells of them.
    fn announce(&mut self, update: &Update, before: &Snapshot, snapshot: Snapshot, published: Published) {
        let upstream = &update.upstream;
        let what = diff::diff(before, &snapshot);
        self.publish(snapshot);
        if let Some(membership) = self.state.memberships.get(upstream) {
            membership.apply.observe(update.at.elapsed());
        }
        let moved = published.rings.first().map_or(0.0, |ring| ring.moved * 100.0);
        let told = what.join(", ");
        tracing::info!(%upstream, generation = published.generation, moved_percent = moved, "Members have changed: {told}.");
        self.remember(if update.is_approved { Cause::Approved } else { Cause::Discovery }, what, published.rings);
        self.checks.reconcile(&self.state);
    }

    /// Notes that a list waits for a person's word, and tells so once.
    fn hold(&mut self, upstream: &UpstreamName, breach: Breach, what: Vec<String>) {
        let Some(membership) = self.state.memberships.get(upstream).cloned() else { return };
        let Breach { reason, why, moved, fingerprint } = breach;
        let held = Held { since: clock::since_epoch(), why: why.clone(), what: what.clone(), moved, fingerprint };
        let before = membership.update(|seen| seen.held.replace(held));
        if let Some(same) = before.filter(|before| before.fingerprint == fingerprint && before.what == what) {
            membership.update(|seen| seen.held = Some(same));
            return;
        }
        membership.held_back[reason as usize].add(1);
        tracing::error!(
            %upstream, moved_percent = moved * 100.0,
            "Members are HELD until `ringway approve` or `ringway reload --force`, the last good ones stay: {why}: {}.", what.join(", ")
        );
        self.remember(
            Cause::Held,
            what,
            vec![RingChanged { upstream: upstream.clone(), moved, fingerprint, before: Before::Forgotten }],
        );
    }

    /// Nothing waits for a person's word any more.
    fn let_go(&mut self, upstream: &UpstreamName, is_approved: bool) {
        let Some(membership) = self.state.memberships.get(upstream) else { return };
        let was_held = membership.update(|seen| seen.held.take()).is_some();
        match (was_held, is_approved) {
            (true, true) => tracing::info!(%upstream, "Members that were held are in force, as an operator wants."),
            (true, false) => {
                tracing::info!(%upstream, "Members are held no more: what the source names is within the guard.")
            }
            (false, _) => {}
        }
    }

    /// Has lists that are held, or whose members wait to go, taken up as they are: that of one upstream, or all. Gives those that
    /// are in force now.
    pub(super) async fn approve(&mut self, only: Option<&UpstreamName>) -> Vec<Approved> {
        let seen = |name: &UpstreamName| self.state.memberships.get(name).map(|membership| membership.seen());
        let waits = |name: &&UpstreamName| seen(name).is_some_and(|seen| seen.held.is_some() || seen.waiting > 0);
        let wanted = self.discoveries.keys().filter(|name| only.is_none_or(|only| only == *name)).filter(waits);
        let mut asked: HashSet<UpstreamName> =
            wanted.filter(|name| self.sources.ask(name, Ask::Approve)).cloned().collect();
        let mut approved = Vec::new();
        let deadline = clock::now() + APPROVAL;
        while !asked.is_empty() {
            let Ok(update) = tokio::time::timeout_at(deadline.into(), self.sources.next()).await else { break };
            let upstream = update.upstream.clone();
            let is_it = update.is_approved && asked.remove(&upstream);
            self.populate(update).await;
            if let (true, Some(group)) = (is_it, self.state.groups.get(&upstream)) {
                let fingerprint = fingerprint::of(group.ring.settings(), group.ring.members());
                approved.push(Approved {
                    upstream,
                    members: group.members.len(),
                    moved: group.change.moved,
                    fingerprint,
                });
            }
        }
        approved
    }

    /// Judges what is held anew, since the guards may be others now.
    pub(super) fn review(&self) {
        for (upstream, _) in self.state.memberships.iter().filter(|(_, membership)| membership.seen().held.is_some()) {
            if !self.sources.ask(upstream, Ask::Again) {
                tracing::debug!(%upstream, "A source is busy: what it holds is judged anew with its next list.");
            }
        }
    }
}

fn current(state: &State, name: &UpstreamName) -> Arc<[Endpoint]> {
    state.members_of(name).unwrap_or_default().into()
}

fn take_in(state: &mut State, mut update: Update) {
    if let Some(members) = update.members.take() {
        update.is_in_force();
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
