//! Changes that go over gradually: which begin, which have come to their end, and what requests need to know of them.
use crate::control::state::Group;
use crate::control::state::Known;
use crate::ring::Member;
use crate::ring::Slot;
use crate::ring::ramp::Ramp;
use crate::ring::ramp::Ramps;
use crate::ring::ramp::Weights;
use crate::snapshot::transition::Transition;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

impl Known {
    /// It comes, or goes, key by key; what ramps already turns round. Without a length that is at once.
    pub(super) fn ramp(&mut self, is_up: bool, length: Duration, now: Instant) {
        self.presence = match self.presence {
            _ if length.is_zero() => None,
            Some(ramp) => Some(ramp.turned(is_up, length, now)),
            None => Some(Ramp::new(is_up, length, now)),
        };
    }

    /// Whether it still has keys that it will not have.
    pub(super) fn is_leaving(&self) -> bool {
        self.presence.is_some_and(|ramp| !ramp.is_up())
    }

    /// Forgets ramps that have come to their end; says whether there were any.
    fn settle(&mut self, now: Instant) -> bool {
        let was_on_its_way = self.presence.take_if(|ramp| ramp.is_over(now)).is_some();
        self.weights.settle(now) || was_on_its_way
    }
}

impl Group {
    /// What ramps after a change: endpoints that came, weights that are others. The members have their new places, `before` is the
    /// group as it was.
    pub(super) fn begin_ramps(&mut self, before: &Group, now: Instant) {
        let length = self.settings.ramp;
        let is_same_ring = before.ring.settings() == self.ring.settings();
        // When nobody stays there is nobody to take keys from.
        let stays = |member: &Member| before.members.contains_key(&member.id) && member.weight > 0;
        let can_ramp = !length.is_zero() && is_same_ring && self.ring.members().iter().any(stays);
        let weights: Vec<u32> = self.ring.members().iter().map(|member| member.weight).collect();
        for ((id, known), weight) in self.members.iter_mut().zip(weights) {
            let was = before.ring.slot(id).map(|slot| before.ring.members()[slot.0 as usize].weight);
            match was {
                _ if !can_ramp => (known.presence, known.weights) = (None, Weights::default()),
                None if weight > 0 => known.ramp(true, length, now),
                Some(was) if was != weight => known.weights.change(was, weight, length, now),
                _ => {}
            }
        }
        self.renew_transition();
    }

    /// Ramps that began at `start` began so much earlier, at another proxy.
    pub(super) fn begin_earlier(&mut self, start: Instant, by: Duration) {
        for known in self.members.values_mut() {
            known.presence = known.presence.map(|ramp| ramp.begun_earlier(start, by));
            known.weights.begun_earlier(start, by);
        }
        self.renew_transition();
    }

    /// Forgets what is over; says whether anything was.
    pub(super) fn settle_ramps(&mut self, now: Instant) -> bool {
        if self.transition.is_none() {
            return false;
        }
        let settled = self.members.values_mut().map(|known| known.settle(now)).filter(|is_over| *is_over).count();
        if settled > 0 {
            self.renew_transition();
            if self.transition.is_none() {
                tracing::info!(upstream = %self.settings.name, "All keys are with their new owners.");
            }
        }
        settled > 0
    }

    /// Puts together what requests need to know.
    pub(super) fn renew_transition(&mut self) {
        let mut ramps = Ramps::default();
        for (slot, (id, known)) in self.members.iter().enumerate() {
            let slot = Slot(slot as u32);
            if let Some(ramp) = known.presence {
                ramps.add_whole(slot, id, ramp);
            }
            for (units, ramp) in known.weights.parts() {
                ramps.add_weight(self.ring.settings(), slot, id, units.clone(), *ramp);
            }
        }
        self.transition = (!ramps.is_empty()).then(|| Arc::new(Transition { ring: self.widest_ring(), ramps }));
    }

    /// The ring with all points that somebody still has: its own, unless a weight goes down.
    fn widest_ring(&self) -> Arc<crate::ring::Ring> {
        let widest = |(member, known): (&Member, &Known)| Member {
            id: member.id.clone(),
            weight: known.weights.widest(member.weight),
        };
        let members: Vec<Member> = self.ring.members().iter().zip(self.members.values()).map(widest).collect();
        if members == self.ring.members() {
            return self.ring.clone();
        }
        match self.ring.change(&members) {
            Ok(ring) => Arc::new(ring),
            Err(error) => {
                // Too many points for both: the change is made at once then.
                tracing::warn!(upstream = %self.settings.name, %error, "A weight goes down at once.");
                self.ring.clone()
            }
        }
    }
}
