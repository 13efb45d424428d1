//! Who serves a request when load is looked at, as the proxy does it: hot keys are shared by their first candidates, and who is over
//! the load bound is passed over. Requests come in, an endpoint goes out; what it answers is not known here.
use super::crowd::Crowd;
use crate::base::hash::mix64;
use crate::base::units::Ratio;
use crate::hotkeys::Settings;
use crate::hotkeys::Sketch;
use crate::hotkeys::meter::Meter;
use crate::ring::Ring;
use crate::ring::Slot;
use crate::ring::bounded;
use crate::ring::bounded::Bounded;
use crate::telemetry::log_line::LogLine;
use smallvec::SmallVec;
use std::time::Duration;

/// Keys that a sketch tells of each second, as a worker's does.
const MOST: usize = 64;
/// The longest pause in a log that the rates of keys are reckoned over, in seconds.
const LONGEST: u32 = 60;
/// Seconds that a line may be late; a log that goes back further is another one.
const LATE: u32 = 10;

/// Why it is who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chosen {
    /// The key is its.
    Owner,
    /// The key is hot.
    HotReplica,
    /// Others were over the bound.
    Overflow,
}

/// The load of one upstream.
#[derive(Debug)]
pub(super) struct Load {
    bound: Option<f64>,
    hot: Option<Hot>,
    /// Nothing where neither is on.
    crowd: Option<Crowd>,
    weights: Vec<f64>,
    weight: f64,
}

/// Which keys are hot.
#[derive(Debug)]
struct Hot {
    settings: Settings,
    /// A key with more than this part of the requests is hot.
    line: f64,
    sketch: Sketch,
    meter: Meter,
    second: Option<u32>,
    /// Requests of the second that runs, by endpoint: what a log without durations tells of load.
    lately: Vec<u64>,
    has_durations: bool,
    dice: u64,
}

impl Load {
    pub(super) fn new(ring: &Ring, bound: Option<Ratio>, hot: Option<Settings>) -> Self {
        let (endpoints, live) = (ring.members().len(), ring.live_members());
        let hot = hot.filter(|_| live > 1).map(|settings| Hot {
            settings,
            line: settings.share.0 / live as f64,
            sketch: Sketch::for_endpoints(MOST, endpoints),
            meter: Meter::default(),
            second: None,
            lately: vec![0; endpoints],
            has_durations: false,
            dice: 0,
        });
        let weights: Vec<f64> = ring.members().iter().map(|member| f64::from(member.weight)).collect();
        Self {
            crowd: (bound.is_some() || hot.is_some()).then(|| Crowd::new(endpoints)),
            bound: bound.map(|bound| bound.0),
            hot,
            weight: weights.iter().sum::<f64>().max(1.0),
            weights,
        }
    }

    /// Whether hot keys are shared.
    pub(super) fn spreads(&self) -> bool {
        self.hot.is_some()
    }

    /// Whether there is a load bound.
    pub(super) fn is_bounded(&self) -> bool {
        self.bound.is_some()
    }

    /// Who serves a request, and why; `None` when there is nobody.
    pub(super) fn choose(&mut self, ring: &Ring, hash: u64, line: &LogLine<'_>) -> Option<(Slot, Chosen)> {
        let Self { bound, hot, crowd, weights, weight } = self;
        let Some(crowd) = crowd else { return ring.owner(hash).map(|owner| (owner, Chosen::Owner)) };
        let second = seconds(line.second);
        if let Some(second) = second {
            crowd.at(second * 1000 + u32::from(line.millis));
        }
        let is_hot = hot.as_mut().is_some_and(|hot| hot.count(hash, second));
        let owner = ring.owner(hash)?;
        let lead = hot.as_mut().filter(|_| is_hot).and_then(|hot| hot.pick(ring, hash, crowd, weights));
        let first = lead.unwrap_or(owner);
        let is_over = |slot: Slot| {
            let mean = || crowd.all() as f64 * weights[slot.0 as usize] / *weight;
            bound.is_some_and(|bound| bounded::is_over(bound, is_hot, crowd.of(slot), mean))
        };
        let served = if is_over(first) {
            let rest = ring.candidates(hash).filter(|slot| Some(*slot) != lead);
            Bounded::new(lead.into_iter().chain(rest), is_over).next().unwrap_or(first)
        } else {
            first
        };
        crowd.enter(served, line.duration_ms.unwrap_or(0.0));
        if let Some(hot) = hot {
            hot.lately[served.0 as usize] += 1;
            hot.has_durations |= line.duration_ms.is_some();
        }
        let why = match served {
            served if served != first => Chosen::Overflow,
            served if served != owner => Chosen::HotReplica,
            _ => Chosen::Owner,
        };
        Some((served, why))
    }
}

impl Hot {
    /// Counts a key; says whether it is hot.
    fn count(&mut self, hash: u64, second: Option<u32>) -> bool {
        // Workers write their lines in bulk: some come a little late, and count for the second that runs.
        let is_next = |now: u32| self.second.is_none_or(|before| now > before || now + LATE < before);
        if second.is_some_and(is_next) {
            let gap = self.second.zip(second).map_or(1, |(before, now)| now.saturating_sub(before).clamp(1, LONGEST));
            self.meter.add(self.sketch.places(), self.sketch.total());
            self.meter.end_second(Duration::from_secs(u64::from(gap)), self.line);
            self.sketch.clear();
            self.lately.fill(0);
            self.second = second;
        }
        self.sketch.add(hash);
        let hot = self.meter.hot();
        !hot.is_empty() && hot.binary_search(&hash).is_ok()
    }

    /// The less busy of two of a key's replicas at random.
    fn pick(&mut self, ring: &Ring, hash: u64, crowd: &Crowd, weights: &[f64]) -> Option<Slot> {
        let replicas: SmallVec<[Slot; 8]> = ring.candidates(hash).take(self.settings.replicas).collect();
        if replicas.len() < 2 {
            return None;
        }
        self.dice = self.dice.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let random = mix64(self.dice);
        let one = (random as u32 as usize) % replicas.len();
        let other = (one + 1 + (random >> 32) as usize % (replicas.len() - 1)) % replicas.len();
        let load = |place: usize| {
            let slot = replicas[place];
            let count = if self.has_durations { crowd.of(slot) } else { self.lately[slot.0 as usize] };
            count as f64 / weights[slot.0 as usize].max(1.0)
        };
        Some(replicas[if load(other) < load(one) { other } else { one }])
    }
}

/// Seconds since midnight, of a time that ends in `HH:MM:SS`.
fn seconds(time: &[u8]) -> Option<u32> {
    let [h, hh, b':', m, mm, b':', s, ss] = *time.last_chunk()? else { return None };
    let two = |ten: u8, one: u8| u32::from(ten.wrapping_sub(b'0')) * 10 + u32::from(one.wrapping_sub(b'0'));
    let (hours, minutes, seconds) = (two(h, hh), two(m, mm), two(s, ss));
    (hours < 24 && minutes < 60 && seconds <= 60).then(|| (hours * 60 + minutes) * 60 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::EndpointId;
    use crate::ring::Member;
    use crate::ring::settings::Settings as RingSettings;

    fn ring(endpoints: usize) -> Ring {
        let member = |number: usize| Member { id: EndpointId::new(&format!("e{number}")), weight: 1 };
        Ring::build(&RingSettings::default(), &(0..endpoints).map(member).collect::<Vec<_>>()).unwrap()
    }

    fn line(second: &str, millis: u16, takes: Option<f64>) -> LogLine<'_> {
        LogLine { second: second.as_bytes(), millis, duration_ms: takes, ..LogLine::default() }
    }

    #[test]
    fn the_time_of_any_log_is_read() {
        for (text, expected) in [
            ("2023-11-14T22:13:20", Some(80_000)),
            ("10/Oct/2000:00:00:01", Some(1)),
            ("10/Oct/2000:24:00:01", None),
            ("x", None),
            ("aa:bb:cc", None),
        ] {
            assert_eq!(seconds(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_hot_key_is_shared_by_its_first_candidates_once_it_has_been_hot_for_a_second() {
        let ring = ring(20);
        for takes in [None, Some(3.0)] {
            let mut load = Load::new(&ring, None, Some(Settings::default()));
            let mut counts = [0; 20];
            for second in 0..10 {
                let [time, earlier] = [second, second.max(1) - 1].map(|second| format!("2023-11-14T22:13:{second:02}"));
                for request in 0..1000u64 {
                    // Some lines come a second late.
                    let time = if request % 8 == 3 && second > 0 { &earlier } else { &time };
                    let key = if request % 10 == 0 { 7 } else { mix64(second * 1000 + request) };
                    let (slot, why) = load.choose(&ring, key, &line(time, request as u16, takes)).unwrap();
                    if key == 7 {
                        counts[slot.0 as usize] += 1;
                        assert!(second > 0 || why == Chosen::Owner);
                    } else {
                        assert_eq!((slot, why), (ring.owner(key).unwrap(), Chosen::Owner));
                    }
                }
            }
            let sharing: Vec<Slot> = ring.candidates(7).take(8).collect();
            let owner = counts[sharing[0].0 as usize];
            assert!((150..350).contains(&owner), "a hundred of the first second, an eighth of the others: {owner}");
            assert_eq!(sharing.iter().map(|slot| counts[slot.0 as usize]).sum::<i32>(), 1000);
        }
    }

    #[test]
    fn who_is_over_the_bound_is_passed_over_while_it_is() {
        let ring = ring(4);
        let mut load = Load::new(&ring, Some(Ratio(1.25)), None);
        let mut ask = |millis: u16| load.choose(&ring, 7, &line("10/Oct/2000:13:55:36", millis, Some(100.0))).unwrap();
        let is_fine = |count: &u64| !bounded::is_over(1.25, false, *count, || *count as f64 / 4.0);
        let fine = (0..).take_while(is_fine).count();
        assert!((16..30).contains(&fine));
        for _ in 0..fine {
            assert_eq!(ask(0).1, Chosen::Owner);
        }
        assert_eq!(ask(0), (ring.candidates(7).nth(1).unwrap(), Chosen::Overflow));
        assert_eq!(ask(101).1, Chosen::Owner, "all of them are done");
    }
}
