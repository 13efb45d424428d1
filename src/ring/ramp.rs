//! A change of one endpoint, made key by key: which of its keys are over already. A key's moment depends on the key and the
//! endpoint's id alone, so the order is the same on every proxy, and a change that is turned round goes back the way it came. What
//! is not over yet is hidden, and hiding points gives the ring without them: so ramps of several endpoints compose. No timers here.
use super::Member;
use super::Ring;
use super::Slot;
use super::build::add_points;
use super::settings::Settings;
use crate::base::hash::PlacementHash;
use crate::base::hash::mix64;
use crate::base::ids::EndpointId;
use std::ops::Range;
use std::time::Duration;
use std::time::Instant;

/// A share that goes up to 1 or down to 0, at an even pace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ramp {
    from: f64,
    is_up: bool,
    start: Instant,
    /// Time for the whole way.
    length: Duration,
}

impl Ramp {
    /// One that begins at `now` from 0 or from 1.
    pub fn new(is_up: bool, length: Duration, now: Instant) -> Self {
        Self { from: if is_up { 0.0 } else { 1.0 }, is_up, start: now, length }
    }

    /// The same change going the given way from where it is.
    pub fn turned(self, is_up: bool, length: Duration, now: Instant) -> Self {
        if self.is_up == is_up { self } else { Self { from: self.share(now), is_up, start: now, length } }
    }

    /// The same, begun so much earlier if it was `start` when it began: other proxies were before us.
    pub fn begun_earlier(self, start: Instant, by: Duration) -> Self {
        if self.start != start { self } else { Self { start: start.checked_sub(by).unwrap_or(start), ..self } }
    }

    /// The share that is over, 0 to 1.
    pub fn share(&self, now: Instant) -> f64 {
        let way = now.saturating_duration_since(self.start).as_secs_f64() / self.length.as_secs_f64().max(1e-9);
        (if self.is_up { self.from + way } else { self.from - way }).clamp(0.0, 1.0)
    }

    /// Whether it goes up to 1.
    pub fn is_up(&self) -> bool {
        self.is_up
    }

    /// Whether it has come to its end.
    pub fn is_over(&self, now: Instant) -> bool {
        self.share(now) == if self.is_up { 1.0 } else { 0.0 }
    }
}

/// What ramps of one ring, ready for requests.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ramps {
    parts: Vec<Part>,
}

/// All points of an endpoint, or some of them, under one ramp.
#[derive(Debug, Clone, PartialEq)]
struct Part {
    slot: Slot,
    salt: u64,
    ramp: Ramp,
    /// Sorted; `None` stands for all it has.
    points: Option<Vec<u64>>,
}

/// What is passed over for one key.
#[derive(Debug, Default)]
pub struct Hidden<'a>(Vec<(Slot, Option<&'a [u64]>)>);

impl Ramps {
    /// Adds an endpoint that comes or goes as a whole.
    pub fn add_whole(&mut self, slot: Slot, id: &EndpointId, ramp: Ramp) {
        self.parts.push(Part { slot, salt: salt(id), ramp, points: None });
    }

    /// Adds the points that these units of an endpoint's weight stand for.
    pub fn add_weight(&mut self, settings: &Settings, slot: Slot, id: &EndpointId, weights: Range<u32>, ramp: Ramp) {
        let member = Member { id: id.clone(), weight: weights.end };
        let numbers = |weight: u32| settings.vnodes as usize * weight as usize;
        let mut points = Vec::new();
        add_points(settings, &member, numbers(weights.start)..numbers(weights.end), u64::from(slot.0), &mut points);
        points.sort_unstable();
        self.parts.push(Part { slot, salt: salt(id), ramp, points: Some(points) });
    }

    /// Whether nothing ramps.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Each slot that ramps, once for each ramp it has, and the share that is over.
    pub fn shares(&self, now: Instant) -> impl Iterator<Item = (Slot, f64)> {
        self.parts.iter().map(move |part| (part.slot, part.ramp.share(now)))
    }

    /// Whether an endpoint goes as a whole.
    pub fn leaves(&self, slot: Slot) -> bool {
        self.parts.iter().any(|part| part.slot == slot && part.points.is_none() && !part.ramp.is_up())
    }

    /// What is passed over for this key now.
    pub fn hidden(&self, key_hash: u64, now: Instant) -> Hidden<'_> {
        let hides = |part: &&Part| !is_over(key_hash, part.salt, part.ramp.share(now));
        Hidden(self.parts.iter().filter(hides).map(|part| (part.slot, part.points.as_deref())).collect())
    }
}

/// What sets an endpoint's order of keys apart from others'.
fn salt(id: &EndpointId) -> u64 {
    PlacementHash::Seeded(0).hash(id.as_str().as_bytes())
}

/// Whether a key is among the first so many of an endpoint's.
fn is_over(key_hash: u64, salt: u64, share: f64) -> bool {
    share >= 1.0 || (mix64(key_hash ^ salt) as f64) < share * u64::MAX as f64
}

impl Hidden<'_> {
    /// Whether nothing is passed over.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all of an endpoint is.
    pub fn hides_all_of(&self, slot: Slot) -> bool {
        self.0.iter().any(|(hidden, points)| *hidden == slot && points.is_none())
    }

    /// Whether this point of an endpoint is.
    pub(super) fn hides(&self, slot: Slot, point: u64) -> bool {
        let is_hidden = |points: &Option<&[u64]>| points.is_none_or(|points| points.binary_search(&point).is_ok());
        self.0.iter().any(|(hidden, points)| *hidden == slot && is_hidden(points))
    }
}

/// The part of an endpoint's weight that ramps: units of weight, each under a ramp of its own, none twice.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Weights(Vec<(Range<u32>, Ramp)>);

impl Weights {
    /// The weight changes from what it was to what it will be; what ramps already is turned round where it has to be.
    pub fn change(&mut self, was: u32, will_be: u32, length: Duration, now: Instant) {
        let mut parts = Vec::new();
        for (weights, ramp) in self.0.drain(..) {
            let cut = will_be.clamp(weights.start, weights.end);
            parts.push((weights.start..cut, ramp.turned(true, length, now)));
            parts.push((cut..weights.end, ramp.turned(false, length, now)));
        }
        parts.retain(|(weights, _)| !weights.is_empty());
        let lowest = parts.iter().map(|(weights, _)| weights.start).min().unwrap_or(was);
        let highest = parts.iter().map(|(weights, _)| weights.end).max().unwrap_or(was);
        if will_be < lowest {
            parts.push((will_be..lowest, Ramp::new(false, length, now)));
        }
        if will_be > highest {
            parts.push((highest..will_be, Ramp::new(true, length, now)));
        }
        parts.sort_by_key(|(weights, _)| weights.start);
        self.0 = parts;
    }

    /// Ramps that began at `start` began so much earlier.
    pub fn begun_earlier(&mut self, start: Instant, by: Duration) {
        for (_, ramp) in &mut self.0 {
            *ramp = ramp.begun_earlier(start, by);
        }
    }

    /// Forgets ramps that have come to their end; says whether there were any.
    pub fn settle(&mut self, now: Instant) -> bool {
        let before = self.0.len();
        self.0.retain(|(_, ramp)| !ramp.is_over(now));
        self.0.len() != before
    }

    /// Whether nothing ramps.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The weight of the ring that has all points it may need: its own, or what still goes down.
    pub fn widest(&self, weight: u32) -> u32 {
        self.0.iter().map(|(weights, _)| weights.end).fold(weight, u32::max)
    }

    /// The units that ramp, and how.
    pub fn parts(&self) -> impl Iterator<Item = &(Range<u32>, Ramp)> {
        self.0.iter()
    }
}

impl Ring {
    /// The candidates of a key with some points passed over: those of the ring without them, and after all of these the endpoints
    /// that are passed over as a whole.
    pub fn candidates_without<'a>(&'a self, key_hash: u64, hidden: Hidden<'a>) -> super::candidates::Candidates<'a> {
        match hidden.is_empty() || self.points.is_empty() {
            true => self.candidates(key_hash),
            false => super::candidates::Candidates::without(self, key_hash, hidden),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock;
    use proptest::prelude::*;

    const LENGTH: Duration = Duration::from_secs(10);

    fn members(weights: &[u32]) -> Vec<Member> {
        let member =
            |(number, weight): (usize, &u32)| Member { id: EndpointId::new(&format!("e{number}")), weight: *weight };
        weights.iter().enumerate().map(member).collect()
    }

    fn walk(ring: &Ring, slots: impl Iterator<Item = Slot>) -> Vec<String> {
        slots.map(|slot| ring.id(slot).to_string()).collect()
    }

    /// What an endpoint has of its weight for one key at one moment.
    fn weight_for(key: u64, id: &EndpointId, weight: u32, weights: &Weights, now: Instant) -> u32 {
        let parts: Vec<&(Range<u32>, Ramp)> = weights.parts().collect();
        let base = parts.iter().map(|(units, _)| units.start).min().unwrap_or(weight);
        // Parts lie on each other, and a higher one is never further than a lower one.
        let over = parts.iter().filter(|(_, ramp)| is_over(key, salt(id), ramp.share(now)));
        over.fold(base, |most, (units, _)| most.max(units.end))
    }

    proptest! {
        /// Fifteen changes in fifteen seconds: at any moment each key has the candidates of a ring without a ramp.
        #[test]
        fn ramps_compose(
            start in proptest::collection::vec(0u32..4, 2..7),
            changes in proptest::collection::vec((0usize..7, 0u32..4, 0u64..1500), 15),
            keys in proptest::collection::vec(any::<u64>(), 12), probes in 1u32..4,
        ) {
            let settings = Settings { vnodes: 3, probes, ..Settings::default() };
            let mut now = clock::now();
            let mut target = start.clone();
            let mut ramping = vec![Weights::default(); start.len()];
            for (which, weight, pause) in changes {
                let which = which % start.len();
                ramping[which].change(target[which], weight, LENGTH, now);
                target[which] = weight;
                now += Duration::from_millis(pause);
                ramping.iter_mut().for_each(|weights| { weights.settle(now); });
                let widest: Vec<u32> = ramping.iter().zip(&target).map(|(weights, weight)| weights.widest(*weight)).collect();
                let ring = Ring::build(&settings, &members(&widest)).unwrap();
                let mut ramps = Ramps::default();
                for (slot, weights) in ramping.iter().enumerate() {
                    let id = ring.id(Slot(slot as u32)).clone();
                    for (units, ramp) in weights.parts() {
                        ramps.add_weight(&settings, Slot(slot as u32), &id, units.clone(), *ramp);
                    }
                }
                for key in &keys {
                    let has: Vec<u32> = ramping.iter().enumerate().zip(&target).map(|((slot, weights), weight)| {
                        weight_for(*key, ring.id(Slot(slot as u32)), *weight, weights, now)
                    }).collect();
                    let plain = Ring::build(&settings, &members(&has)).unwrap();
                    let given = walk(&ring, ring.candidates_without(*key, ramps.hidden(*key, now)));
                    let wanted = walk(&plain, plain.candidates(*key));
                    prop_assert_eq!(&given[..wanted.len()], &wanted[..]);
                    prop_assert_eq!(given.len(), ring.live_members(), "those with nothing for this key come last");
                }
            }
        }
    }

    #[test]
    fn an_endpoint_that_comes_takes_each_key_once_and_gives_it_back_the_same_way() {
        let settings = Settings::default();
        let (before, after) =
            (Ring::build(&settings, &members(&[1, 1])).unwrap(), Ring::build(&settings, &members(&[1, 1, 1])).unwrap());
        let (start, comer) = (clock::now(), Slot(2));
        let owner = |ramp: Ramp, key: u64, now: Instant| {
            let mut ramps = Ramps::default();
            ramps.add_whole(comer, after.id(comer), ramp);
            walk(&after, after.candidates_without(key, ramps.hidden(key, now))).remove(0)
        };
        let up = Ramp::new(true, LENGTH, start);
        let half = start + LENGTH / 2;
        let down = up.turned(false, LENGTH, half);
        let mut moved = 0;
        for key in (0..2000).map(mix64) {
            let (old, new) =
                (before.id(before.owner(key).unwrap()).to_string(), after.id(after.owner(key).unwrap()).to_string());
            assert_eq!((owner(up, key, start), owner(up, key, start + LENGTH)), (old.clone(), new.clone()));
            let middle = owner(up, key, half);
            assert!(middle == old || middle == new);
            assert_eq!((owner(down, key, half), owner(down, key, half + LENGTH / 2)), (middle.clone(), old.clone()));
            moved += u32::from(middle != old);
            // Further on it never comes back.
            assert!(middle == old || owner(up, key, half + LENGTH / 4) == new);
        }
        assert!((230..430).contains(&moved), "{moved} of about 667 are over half way");
        assert!(up.is_over(start + LENGTH) && !up.is_over(half) && down.is_over(half + LENGTH / 2));
        let mut ramps = Ramps::default();
        ramps.add_whole(comer, after.id(comer), up);
        assert_eq!(after.candidates_without(7, ramps.hidden(7, start)).count(), 3, "who is passed over comes last");
    }
}
