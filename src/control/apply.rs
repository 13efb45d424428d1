//! PURE: what a moment changes. Outcomes that workers counted become ejections, answers of health checks become verdicts,
//! ejections end, removed endpoints run out of time.
use crate::base::ids::EndpointId;
use crate::base::ids::UpstreamName;
use crate::control::elections;
use crate::control::elections::Downs;
use crate::control::state::Group;
use crate::control::state::Known;
use crate::control::state::State;
use crate::health::Availability;
use crate::health::floor;
use crate::health::outlier;
use crate::health::streak::Seen;
use crate::probe::Answer;
use crate::probe::ProbeError;
use crate::probe::Target;
use crate::ring::Slot;
use crate::snapshot::endpoint::Found;
use crate::snapshot::endpoint::Live;
use crate::snapshot::upstream::Mask;
use crate::telemetry::labels::CheckResult;
use std::time::Instant;

/// What has to be done after a tick.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Who may get requests has changed.
    pub masks_changed: bool,
    /// Removed endpoints, by uid, whose time is over.
    pub expired: Vec<u64>,
}

/// Merges what workers counted and moves every verdict to `now`.
pub fn tick(state: &mut State, now: Instant) -> Effects {
    let mut effects = Effects::default();
    for group in state.groups.values_mut() {
        judge(group, now);
        effects.masks_changed |= group.settle_ramps(now);
        effects.masks_changed |= renew_mask(group);
        effects.masks_changed |= group.forget_eras(now);
        group.budget.observe(group.stats.sum(|cell| cell.requests.get()), now);
    }
    state.removed.retain(|(uid, until)| {
        let is_over = now >= *until;
        if is_over {
            effects.expired.push(*uid);
        }
        !is_over
    });
    effects
}

/// What a drain or its end did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Whether it was otherwise before.
    pub has_changed: bool,
    /// Requests on their way at the endpoint now, over all workers.
    pub in_flight: u64,
    /// Endpoints of its upstream that are available now.
    pub available: usize,
}

/// Begins or ends a drain; `None` when there is no such endpoint.
///
/// Where the upstream has a ramp, its keys go over, or come back, one by one.
pub fn drain(
    state: &mut State,
    upstream: &UpstreamName,
    endpoint: &EndpointId,
    is_draining: bool,
    now: Instant,
) -> Option<Drained> {
    let group = state.groups.get_mut(upstream)?;
    let length = group.settings.ramp;
    let known = group.members.get_mut(endpoint)?;
    let has_changed = std::mem::replace(&mut known.is_draining, is_draining) != is_draining;
    let in_flight = known.endpoint.in_flight();
    match (has_changed, is_draining) {
        (true, true) => tracing::info!(%upstream, %endpoint, in_flight, "Endpoint is draining, as an operator wants."),
        (true, false) => tracing::info!(%upstream, %endpoint, "Endpoint is drained no more, as an operator wants."),
        (false, _) => {}
    }
    if has_changed {
        known.ramp(!is_draining, length, now);
        group.renew_transition();
        renew_mask(group);
    }
    let weights = group.ring.members().iter().map(|member| member.weight);
    let is_available = |(known, weight): &(&Known, u32)| *weight > 0 && known.availability() == Availability::Open;
    let available = group.members.values().zip(weights).filter(is_available).count();
    if available == 0 && is_draining {
        tracing::warn!(%upstream, "No endpoint is available any more.");
    }
    Some(Drained { has_changed, in_flight, available })
}

/// Takes in answers of health checks and says whether that changed who may get requests. Answers about endpoints that are
/// gone, or that nobody wants to hear any more, change nothing.
pub fn checked(state: &mut State, answers: impl IntoIterator<Item = Answer>) -> bool {
    let mut has_changed = false;
    for Answer { target, at, result } in answers {
        let Some(group) = state.groups.get_mut(&target.upstream) else { continue };
        let Some(policy) = group.settings.health_check.clone() else { continue };
        if group.members.get(&target.endpoint).is_none_or(|known| known.endpoint.uid != target.uid) {
            continue;
        }
        // A proxy that follows another may still have asked.
        if !elections::asks(group, at) {
            continue;
        }
        let Some(known) = group.members.get_mut(&target.endpoint) else { continue };
        let kind = if result.is_ok() { CheckResult::Success } else { CheckResult::Failure };
        known.endpoint.verdicts.checks[kind as usize].add(1);
        let is_refused = matches!(result, Err(ProbeError::Connect(..)));
        let problem = result.err().map(|error| format!("could not {error}"));
        let is_up = problem.is_none();
        let has_verdict = known.threshold.record(&policy, is_up);
        if has_verdict {
            report_verdict(&target, known, problem.as_deref());
        }
        known.endpoint.last_check.set(Found { at, problem });
        let is_back_from_nothing = has_verdict && is_up && std::mem::take(&mut known.was_refused);
        known.was_refused |= is_refused;
        if is_back_from_nothing && !known.is_draining {
            known.presence = None;
            known.ramp(true, group.settings.ramp, at);
            group.renew_transition();
            has_changed = true;
        }
        if has_verdict {
            has_changed |= renew_mask(group);
        }
    }
    has_changed
}

/// Takes over verdicts that another proxy found: who is not named is up. Says whether that changed who may get requests.
pub fn adopt(group: &mut Group, downs: &Downs, at: Instant) -> bool {
    let upstream = group.settings.name.clone();
    let (mut has_verdict, mut is_back_from_nothing) = (false, false);
    for (endpoint, known) in group.members.iter_mut().filter(|(_, known)| !known.endpoint.addresses.is_empty()) {
        let down = downs.get(endpoint.as_str()).filter(|down| down.is_at(&known.endpoint.address));
        let problem = down.map(|down| down.problem.clone().unwrap_or_else(|| "is down, another proxy says".into()));
        known.endpoint.last_check.set(Found { at, problem: problem.clone() });
        let is_changed = known.threshold.adopt(down.is_some());
        if is_changed {
            has_verdict = true;
            match &problem {
                Some(problem) => {
                    tracing::warn!(%upstream, %endpoint, problem, "Endpoint is down, another proxy found.")
                }
                None => tracing::info!(%upstream, %endpoint, "Endpoint is up, another proxy found."),
            }
        }
        if is_changed && down.is_none() && std::mem::take(&mut known.was_refused) && !known.is_draining {
            known.presence = None;
            known.ramp(true, group.settings.ramp, at);
            is_back_from_nothing = true;
        }
        known.was_refused |= down.is_some_and(|down| down.refused);
    }
    if is_back_from_nothing {
        group.renew_transition();
    }
    (has_verdict && renew_mask(group)) || is_back_from_nothing
}

fn report_verdict(target: &Target, known: &Known, problem: Option<&str>) {
    let Target { upstream, endpoint, .. } = target;
    let checks = known.threshold.streak();
    match problem {
        Some(problem) => {
            tracing::warn!(%upstream, %endpoint, failures = checks, problem, "Endpoint is down by its health checks.");
        }
        None => tracing::info!(%upstream, %endpoint, successes = checks, "Endpoint is up by its health checks."),
    }
}

fn judge(group: &mut Group, now: Instant) {
    let policy = group.settings.outlier.clone();
    let max_out = policy.max_out(group.ring.live_members());
    let name = &group.settings.name;
    for known in group.members.values_mut() {
        if known.ejection.release(now) {
            known.streak.reset();
            known.window.reset();
            tracing::info!(upstream = %name, endpoint = %known.endpoint.id, "Endpoint is back after its ejection.");
        }
    }
    let mut out = group.members.values().filter(|known| known.ejection.is_out()).count();
    for known in group.members.values_mut() {
        let is_failing = known.is_failing(&policy, now);
        if !is_failing || known.ejection.is_out() || out >= max_out {
            continue;
        }
        let length = known.ejection.eject(&policy, now);
        known.streak.reset();
        known.window.reset();
        known.endpoint.verdicts.ejections.add(1);
        out += 1;
        tracing::warn!(upstream = %name, endpoint = %known.endpoint.id, seconds = length.as_secs_f64(), "Endpoint ejected.");
    }
}

impl Known {
    /// Merges what workers counted, and says whether that is reason to eject.
    fn is_failing(&mut self, policy: &outlier::Settings, now: Instant) -> bool {
        let seen = |live: &Live| Seen { ok: live.ok.get(), failed: live.failed.get(), streak: live.streak() };
        let seen: Vec<Seen> = self.endpoint.live.iter().map(seen).collect();
        let has_streak = self.streak.merge(&seen) >= policy.consecutive_failures;
        let Some(limit) = policy.failure_share else { return has_streak };
        let sum = |part: fn(&Seen) -> u64| seen.iter().map(part).sum();
        let share = self.window.observe(sum(|seen| seen.ok), sum(|seen| seen.failed), policy.window, now);
        has_streak || share.is_some_and(|share| share.0 >= limit.0)
    }
}

/// Computes a group's mask anew and says whether it changed.
fn renew_mask(group: &mut Group) -> bool {
    let mask = mask_of(group);
    let has_changed = mask != group.mask;
    if has_changed {
        report_panic(group, &mask);
        group.mask = mask;
    }
    has_changed
}

/// Who is left out now, and whether so many are that it is ignored.
pub fn mask_of(group: &Group) -> Mask {
    debug_assert!(group.members.keys().enumerate().all(|(index, id)| group.ring.id(Slot(index as u32)) == id));
    let slots: Vec<Availability> = group.members.values().map(Known::availability).collect();
    // Those an operator sent away count neither as available nor as missing.
    let weights = group.ring.members().iter().map(|member| member.weight);
    let wanted =
        |(availability, weight): &(&Availability, u32)| *weight > 0 && **availability != Availability::Draining;
    let (mut eligible, mut open) = (0, 0);
    for (availability, _) in slots.iter().zip(weights).filter(wanted) {
        eligible += 1;
        open += usize::from(*availability == Availability::Open);
    }
    let is_panic = floor::is_panic(eligible, open, group.settings.panic_below);
    let is_sound = |known: &Known| known.is_draining && known.is_sound();
    let sound = group.members.values().enumerate().filter(|(_, known)| is_sound(known));
    let sound = sound.map(|(slot, _)| Slot(slot as u32)).collect();
    Mask::new(slots, is_panic).with_sound(sound)
}

fn report_panic(group: &Group, mask: &Mask) {
    let upstream = &group.settings.name;
    match (group.mask.is_panic(), mask.is_panic()) {
        (false, true) => tracing::warn!(%upstream, "Too few endpoints are available: verdicts are ignored."),
        (true, false) => tracing::info!(%upstream, "Enough endpoints are available again: verdicts count."),
        _ => {}
    }
}
