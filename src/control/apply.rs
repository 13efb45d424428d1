//! PURE: what a tick changes. Outcomes that workers counted become ejections, ejections end, removed endpoints run out of time.
use crate::control::state::Group;
use crate::control::state::Known;
use crate::control::state::State;
use crate::health::floor;
use crate::health::streak::Seen;
use crate::ring::Slot;
use crate::snapshot::upstream::Mask;
use std::sync::atomic::Ordering;
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
        let mask = mask_of(group);
        if mask != group.mask {
            report_panic(group, &mask);
            group.mask = mask;
            effects.masks_changed = true;
        }
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

fn judge(group: &mut Group, now: Instant) {
    let policy = group.settings.outlier.clone();
    let max_out = policy.max_out(group.ring.live_members());
    let name = &group.settings.name;
    for known in group.members.values_mut() {
        if known.ejection.release(now) {
            known.streak.reset();
            tracing::info!(upstream = %name, endpoint = %known.endpoint.id, "Endpoint is back after its ejection.");
        }
    }
    let mut out = group.members.values().filter(|known| known.ejection.is_out()).count();
    for known in group.members.values_mut() {
        let streak = known.merge();
        if streak < policy.consecutive_failures || known.ejection.is_out() || out >= max_out {
            continue;
        }
        let length = known.ejection.eject(&policy, now);
        known.streak.reset();
        known.endpoint.ejections.fetch_add(1, Ordering::Relaxed);
        out += 1;
        let endpoint = &known.endpoint.id;
        tracing::warn!(upstream = %name, %endpoint, failures = streak, seconds = length.as_secs(), "Endpoint ejected.");
    }
}

impl Known {
    fn merge(&mut self) -> u32 {
        let seen = |live: &crate::snapshot::endpoint::Live| Seen {
            ok: live.ok.get(),
            failed: live.failed.get(),
            streak: live.streak(),
        };
        let now: Vec<Seen> = self.endpoint.live.iter().map(seen).collect();
        self.streak.merge(&now)
    }
}

/// Who is left out now, and whether so many are that it is ignored.
pub fn mask_of(group: &Group) -> Mask {
    let closed: Vec<bool> = group.members.values().map(|known| known.ejection.is_out()).collect();
    let weights = group.ring.members();
    let eligible = |slot: &usize| weights[*slot].weight > 0;
    let open = (0..closed.len()).filter(eligible).filter(|slot| !closed[*slot]).count();
    let is_panic = floor::is_panic(group.ring.live_members(), open, group.settings.panic_below);
    debug_assert!(group.members.keys().enumerate().all(|(index, id)| group.ring.id(Slot(index as u32)) == id));
    Mask::new(closed, is_panic)
}

fn report_panic(group: &Group, mask: &Mask) {
    let upstream = &group.settings.name;
    match (group.mask.is_panic(), mask.is_panic()) {
        (false, true) => tracing::warn!(%upstream, "Too few endpoints are available: verdicts are ignored."),
        (true, false) => tracing::info!(%upstream, "Enough endpoints are available again: verdicts count."),
        _ => {}
    }
}
