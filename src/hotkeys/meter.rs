//! What the sketches of all workers amount to: rates, second by second, and which keys are hot by them. A key that is hot stays so
//! until it has cooled well below what makes a key hot, so that one at the border is not sent to and fro.
use super::Counted;
use std::collections::HashMap;
use std::time::Duration;

/// Keys that are hot at one time: what a request looks through.
const MAX_HOT: usize = 64;
/// Requests a second below which no key is hot: too few to tell, and no load for anybody.
const MIN_RATE: f64 = 10.0;
/// The part of what makes a key hot that keeps it so.
const STAYS: f64 = 0.5;
/// The part of a rate that is the last second's; the rest is what it was before.
const NEWEST: f64 = 0.5;
/// Rates below this are forgotten.
const NOTHING: f64 = 0.5;

/// The rates of one upstream's keys.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    /// Keys seen in the second that runs, over all workers.
    counts: HashMap<u64, u64>,
    total: u64,
    rates: HashMap<u64, f64>,
    rate: f64,
    /// Sorted by hash.
    hot: Vec<u64>,
}

/// A hot key and its rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hot {
    /// The key's hash.
    pub key: u64,
    /// Requests a second.
    pub rate: f64,
}

impl Meter {
    /// Adds what one worker has seen.
    pub fn add(&mut self, top: &[Counted], total: u64) {
        for counted in top {
            *self.counts.entry(counted.key).or_default() += u64::from(counted.seen);
        }
        self.total += total;
    }

    /// Ends a second that took so long: decides which keys are hot now, those whose part of all requests is above `line`; says whether
    /// these are others than before.
    pub fn end_second(&mut self, took: Duration, line: f64) -> bool {
        let part = NEWEST / took.as_secs_f64().max(0.1);
        self.rate = self.rate * (1.0 - NEWEST) + self.total as f64 * part;
        self.rates.values_mut().for_each(|rate| *rate *= 1.0 - NEWEST);
        for (key, count) in self.counts.drain() {
            *self.rates.entry(key).or_default() += count as f64 * part;
        }
        self.total = 0;
        self.rates.retain(|_, rate| *rate >= NOTHING);
        let hot = self.judge(line);
        let has_changed = hot != self.hot;
        self.hot = hot;
        has_changed
    }

    fn judge(&self, line: f64) -> Vec<u64> {
        let line = MIN_RATE.max(self.rate * line);
        let is_hot = |(key, rate): &(&u64, &f64)| {
            let stays = self.hot.binary_search(key).is_ok();
            **rate >= if stays { line * STAYS } else { line }
        };
        let mut hot: Vec<(&u64, &f64)> = self.rates.iter().filter(is_hot).collect();
        hot.sort_by(|(key, rate), (other, than)| than.total_cmp(rate).then(key.cmp(other)));
        let mut hot: Vec<u64> = hot.into_iter().take(MAX_HOT).map(|(key, _)| *key).collect();
        hot.sort_unstable();
        hot
    }

    /// The hashes of the hot keys, sorted.
    pub fn hot(&self) -> &[u64] {
        &self.hot
    }

    /// The hot keys and their rates, the hottest first.
    pub fn hottest(&self) -> Vec<Hot> {
        let with_rate = |key: &u64| Hot { key: *key, rate: self.rates.get(key).copied().unwrap_or(0.0) };
        let mut hot: Vec<Hot> = self.hot.iter().map(with_rate).collect();
        hot.sort_by(|a, b| b.rate.total_cmp(&a.rate).then(a.key.cmp(&b.key)));
        hot
    }

    /// Requests a second, of all keys.
    pub fn rate(&self) -> f64 {
        self.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    /// A quarter of an even share of twenty.
    const LINE: f64 = 0.0125;

    fn second(meter: &mut Meter, counts: &[(u64, u32)], total: u64) -> bool {
        let counted = |(key, seen): &(u64, u32)| Counted { key: *key, count: *seen, seen: *seen };
        let top: Vec<Counted> = counts.iter().map(counted).collect();
        // Two workers, half each.
        meter.add(&top, total / 2);
        meter.add(&[], total - total / 2);
        meter.end_second(SECOND, LINE)
    }

    #[test]
    fn a_key_becomes_hot_within_a_second_and_cools_in_a_few() {
        let mut meter = Meter::default();
        assert!(second(&mut meter, &[(7, 100), (8, 5)], 1000));
        assert_eq!(meter.hot(), [7]);
        let told = meter.hottest()[0];
        assert!((told.rate / meter.rate() - 0.1).abs() < 1e-9, "{told:?}");
        let cooled = (0..8).position(|_| second(&mut meter, &[], 1000));
        assert!(meter.hot().is_empty() && cooled.is_some_and(|seconds| (1..6).contains(&seconds)), "{cooled:?}");
        assert!((0..20).all(|_| !second(&mut meter, &[], 0)) && meter.rates.is_empty(), "what is cold is forgotten");
    }

    #[test]
    fn a_key_at_the_border_is_not_sent_to_and_fro() {
        let mut meter = Meter::default();
        assert!(!second(&mut meter, &[(7, 12)], 1000), "12 of 1000 are below the line");
        let changes = (0..40).filter(|number| second(&mut meter, &[(7, 10 + number % 2 * 6)], 1000)).count();
        assert_eq!((changes, meter.hot()), (1, &[7][..]));
    }

    #[test]
    fn a_quiet_upstream_has_no_hot_key() {
        let mut meter = Meter::default();
        for _ in 0..20 {
            assert!(!second(&mut meter, &[(7, 9)], 9));
        }
    }

    #[test]
    fn there_are_never_more_than_a_request_can_look_through() {
        let mut meter = Meter::default();
        let counts: Vec<(u64, u32)> = (0..200).map(|key| (key, 100 + key as u32)).collect();
        second(&mut meter, &counts, 1000);
        assert_eq!((meter.hot().len(), meter.hot()[0], meter.hottest()[0].key), (MAX_HOT, 136, 199));
    }
}
