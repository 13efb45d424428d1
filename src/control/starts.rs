//! Ramps that begin at one moment on all proxies of a fleet: at the one at which the first of them began.
use super::Control;
use crate::base::clock;
use crate::control::history::RingChanged;
use std::time::Instant;

impl Control {
    /// Notes which rings began to ramp at `now`, so that other proxies can be told.
    pub(super) fn note_starts(&mut self, rings: &[RingChanged], now: Instant) {
        for RingChanged { upstream, fingerprint, .. } in rings {
            let ramps = self.state.groups.get(upstream).is_some_and(|group| group.transition.is_some());
            match ramps {
                true => self.begun.insert(upstream.clone(), now),
                false => self.begun.remove(upstream),
            };
            self.starts.begin(upstream, ramps.then(|| (fingerprint.to_string(), clock::since_epoch())));
        }
    }

    /// Has ramps begin when the first proxy began them; says whether any is another now.
    pub(super) fn keep_step(&mut self) -> bool {
        let mut has_changed = false;
        for (upstream, by) in self.starts.late() {
            let (Some(begun), Some(group)) = (self.begun.get_mut(&upstream), self.state.groups.get_mut(&upstream))
            else {
                continue;
            };
            group.begin_earlier(*begun, by);
            *begun = begun.checked_sub(by).unwrap_or(*begun);
            self.starts.move_back(&upstream, by);
            has_changed = true;
            let seconds = by.as_secs_f64();
            tracing::info!(%upstream, seconds, "Keys go over in step with a proxy that began before.");
        }
        has_changed
    }
}
