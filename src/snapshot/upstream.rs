//! An upstream: its ring, its endpoints, who of them may get requests now. How it was discovered is not known here.
use crate::base::ids::UpstreamName;
use crate::base::units::Ratio;
use crate::health::Availability;
use crate::lock::election::Seat;
use crate::retry::budget::RetryBudget;
use crate::ring::Ring;
use crate::ring::Slot;
use crate::ring::bounded;
use crate::ring::candidates::Candidates;
use crate::snapshot::endpoint::Endpoint;
use crate::snapshot::heat::Heat;
use crate::snapshot::membership::Membership;
use crate::snapshot::past::Past;
use crate::snapshot::settings;
use crate::snapshot::stats;
use crate::snapshot::transition::Transition;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

/// A group of endpoints and its policies at one moment.
#[derive(Debug)]
pub struct Upstream {
    /// Its name.
    pub name: UpstreamName,
    /// Its policies, as written.
    pub settings: Arc<settings::Upstream>,
    /// Who owns which key.
    pub ring: Arc<Ring>,
    /// What building the ring cost and moved.
    pub change: Arc<RingChange>,
    /// The endpoints, in the ring's slot order.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// For each slot, whether it is left out; over the ring, never part of it.
    pub mask: Mask,
    /// What the load bound goes by; nothing when it is off.
    pub balance: Option<Balance>,
    /// Its hot keys; nothing when they are not looked for.
    pub heat: Option<Arc<Heat>>,
    /// What goes over to new owners just now; nothing most of the time.
    pub transition: Option<Arc<Transition>>,
    /// Who owned which key a moment ago; nothing unless a route fills its caches.
    pub past: Option<Past>,
    /// What its keys are made of, see [`crate::snapshot::sample::kind`].
    pub key_kind: u64,
    /// Retries granted, over all workers.
    pub budget: Arc<RetryBudget>,
    /// Its counters.
    pub stats: Arc<stats::Upstream>,
    /// How it stands with the source of its members; `None` when they are in the file.
    pub membership: Option<Arc<Membership>>,
    /// Whether its requests are refused: the store of its members is lost, and the settings say so.
    pub is_lost: bool,
    /// This proxy's place in the election of the one that checks the endpoints for all; `None`: each checks for itself.
    pub election: Option<Arc<Seat>>,
}

/// What the load bound needs to know of a moment beside what is counted.
#[derive(Debug, Clone)]
pub struct Balance {
    /// The bound, as a factor of the mean.
    bound: f64,
    /// Weight of all endpoints that may get requests.
    weight: f64,
    /// The others: what still hangs on them is no measure of a fair share.
    closed: Vec<Slot>,
}

impl Balance {
    /// That of a ring under a mask.
    pub fn new(bound: Ratio, ring: &Ring, mask: &Mask) -> Self {
        let slots = (0..ring.members().len() as u32).map(Slot);
        let (open, closed): (Vec<Slot>, Vec<Slot>) = slots.partition(|slot| mask.is_open(*slot));
        let weight = open.iter().map(|slot| f64::from(ring.members()[slot.0 as usize].weight)).sum();
        Self { bound: bound.0, weight, closed }
    }
}

/// What the last change of a ring cost.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RingChange {
    /// Time to build and verify it.
    pub build: Duration,
    /// Share of the key space with a new owner, 0 to 1.
    pub moved: f64,
    /// Share of the key space each endpoint owns, by slot.
    pub shares: Vec<f64>,
}

/// Which endpoints are left out now, why, and whether verdicts are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mask {
    slots: Vec<Availability>,
    panic: bool,
    /// Those that nothing but an operator's wish leaves out.
    sound: Vec<Slot>,
}

impl Mask {
    /// A mask by slot; with `panic` verdicts are ignored, since too few are left. Slots that are not named are open.
    pub fn new(slots: Vec<Availability>, panic: bool) -> Self {
        Self { slots, panic, sound: Vec::new() }
    }

    /// The same, where nothing but an operator's wish leaves these out.
    pub fn with_sound(self, sound: Vec<Slot>) -> Self {
        Self { sound, ..self }
    }

    /// Whether this slot may be asked for what it has, be it that it gets nothing new.
    pub fn may_lend(&self, slot: Slot) -> bool {
        self.is_open(slot) || self.sound.contains(&slot)
    }

    /// Whether this slot may get requests.
    #[inline]
    pub fn is_open(&self, slot: Slot) -> bool {
        self.availability(slot).is_open(self.panic)
    }

    /// What is known of this slot, panic or not.
    #[inline]
    pub fn availability(&self, slot: Slot) -> Availability {
        self.slots.get(slot.0 as usize).copied().unwrap_or_default()
    }

    /// Whether verdicts are ignored.
    pub fn is_panic(&self) -> bool {
        self.panic
    }
}

impl Upstream {
    /// The endpoint of a slot.
    #[inline]
    pub fn endpoint(&self, slot: Slot) -> &Arc<Endpoint> {
        &self.endpoints[slot.0 as usize]
    }

    /// The endpoints of a key in the order in which they are asked at this moment, whoever of them is available.
    #[inline]
    pub fn candidates(&self, key_hash: u64, now: Instant) -> Candidates<'_> {
        match &self.transition {
            None => self.ring.candidates(key_hash),
            Some(transition) => transition.candidates(key_hash, now),
        }
    }

    /// The endpoints that may share a key when it is hot, in the order of candidates, with their rank. Who comes or goes gradually and is
    /// passed over for this key is none of them.
    pub fn replicas(&self, key_hash: u64, now: Instant) -> impl Iterator<Item = (usize, Slot)> {
        let is_fit = move |slot: Slot| self.mask.is_open(slot) && !self.hides(key_hash, slot, now);
        self.candidates(key_hash, now).enumerate().filter(move |(_, slot)| is_fit(*slot))
    }

    /// Who owned a key before the one that owns it now, if that has changed lately and it may be asked; perhaps no endpoint any more.
    pub fn previous_owner(&self, key_hash: u64, now: Instant) -> Option<&Arc<Endpoint>> {
        let past = self.past.as_ref()?;
        let owner = self.candidates(key_hash, now).find(|slot| self.mask.is_open(*slot))?;
        past.previous(self, key_hash, owner, now)
    }

    /// What is known of an endpoint, in a word; one that goes gradually is draining from the beginning.
    pub fn state(&self, slot: Slot) -> &'static str {
        let availability = self.mask.availability(slot);
        let leaves = || self.transition.as_ref().is_some_and(|transition| transition.ramps.leaves(slot));
        if availability == Availability::Open && leaves() {
            return Availability::Draining.as_str();
        }
        availability.as_str()
    }

    /// Whether an endpoint is passed over for this key, since it comes or goes gradually.
    pub fn hides(&self, key_hash: u64, slot: Slot, now: Instant) -> bool {
        let hides = |transition: &Arc<Transition>| transition.ramps.hidden(key_hash, now).hides_all_of(slot);
        self.transition.as_ref().is_some_and(hides)
    }

    /// The share of its keys on the move that an endpoint has by now; `None` when none of its are.
    pub fn ramp(&self, slot: Slot, now: Instant) -> Option<f64> {
        self.transition.as_ref()?.share(slot, now)
    }

    /// Whether some endpoint of weight above 0 is available, verdicts counted even in a panic.
    pub fn has_available(&self) -> bool {
        let weights = self.ring.members().iter().map(|member| member.weight).enumerate();
        weights.filter(|(_, weight)| *weight > 0).any(|(slot, _)| self.is_available(Slot(slot as u32)))
    }

    fn is_available(&self, slot: Slot) -> bool {
        self.mask.availability(slot) == Availability::Open
    }

    /// Whether this endpoint has so many requests in flight that others should be asked before it, for a key that is hot or not.
    #[inline]
    pub fn is_over(&self, slot: Slot, is_hot: bool) -> bool {
        self.balance.as_ref().is_some_and(|balance| self.is_over_bound(balance, slot, is_hot))
    }

    fn is_over_bound(&self, balance: &Balance, slot: Slot, is_hot: bool) -> bool {
        let mean = || {
            let all = self.stats.sum(|cell| cell.in_flight.get());
            let elsewhere = balance.closed.iter().map(|slot| self.endpoint(*slot).in_flight()).sum();
            let weight = f64::from(self.ring.members()[slot.0 as usize].weight);
            all.saturating_sub(elsewhere) as f64 * weight / balance.weight.max(1.0)
        };
        bounded::is_over(balance.bound, is_hot, self.endpoint(slot).in_flight(), mean)
    }
}
