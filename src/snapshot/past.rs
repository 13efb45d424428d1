//! Who owned which key of an upstream a moment ago: whoever that was still has what was asked for. How it came to change is not known
//! here.
use crate::base::ids::EndpointId;
use crate::ring::Ring;
use crate::ring::Slot;
use crate::snapshot::endpoint::Endpoint;
use crate::snapshot::transition::Transition;
use crate::snapshot::upstream::Mask;
use crate::snapshot::upstream::Upstream;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

/// Failures in a row after which one that is no endpoint any more is asked no more: nobody checks it, and it may be gone by now.
pub const MAX_FAILURES: u64 = 3;

/// A time in which nothing but the clock decided who owns a key.
#[derive(Debug, Clone)]
pub struct Era {
    /// Who owned which key.
    pub ring: Arc<Ring>,
    /// Who was left out.
    pub mask: Mask,
    /// What was on its way.
    pub transition: Option<Arc<Transition>>,
    /// When it began.
    pub from: Instant,
}

/// The last eras of an upstream.
#[derive(Debug, Clone)]
pub struct Past {
    /// How far it is looked back.
    pub window: Duration,
    /// That of now.
    pub now: Arc<Era>,
    /// Those before, and when each of them ended, the newest first.
    pub before: Arc<[(Arc<Era>, Instant)]>,
    /// Who was well in one of those and is no endpoint any more, by id: what it had is still there until somebody ends it.
    pub departed: Arc<BTreeMap<EndpointId, Arc<Endpoint>>>,
}

impl Era {
    /// Who owned a key at a moment of it.
    fn owner(&self, key_hash: u64, at: Instant) -> Option<&EndpointId> {
        let owner = match &self.transition {
            None => self.ring.candidates(key_hash).find(|slot| self.mask.is_open(*slot)),
            Some(transition) => transition.candidates(key_hash, at).find(|slot| self.mask.is_open(*slot)),
        };
        owner.map(|slot| self.ring.id(slot))
    }

    /// Whether another one is the same but for its time.
    pub fn is_same(&self, other: &Self) -> bool {
        let (own, others) = (self.transition.as_ref().map(Arc::as_ptr), other.transition.as_ref().map(Arc::as_ptr));
        Arc::ptr_eq(&self.ring, &other.ring) && own == others && self.mask == other.mask
    }
}

impl Past {
    /// The last one to own a key before `owner` did, if that was within the window and it may be asked now: one that an operator has
    /// sent away, or taken out of the list, has what it had.
    pub fn previous<'a>(
        &'a self,
        upstream: &'a Upstream,
        key_hash: u64,
        owner: Slot,
        now: Instant,
    ) -> Option<&'a Arc<Endpoint>> {
        let horizon = now.checked_sub(self.window)?;
        let owner = upstream.ring.id(owner);
        let began = [(&self.now, self.now.from.max(horizon))];
        // Each era is asked at its end and at its beginning: between them a key moves once at most for each endpoint on its way.
        let ends = self.before.iter().take_while(|(_, until)| *until >= horizon);
        let moments = ends.flat_map(|(era, until)| [(era, *until), (era, era.from.max(horizon))]);
        let mut moments = began.into_iter().chain(moments);
        moments.find_map(|(era, at)| {
            let previous = era.owner(key_hash, at).filter(|previous| *previous != owner)?;
            match upstream.ring.slot(previous) {
                Some(slot) => upstream.mask.may_lend(slot).then(|| upstream.endpoint(slot)),
                None => self.departed.get(previous).filter(|departed| departed.in_a_row() < MAX_FAILURES),
            }
        })
    }
}
