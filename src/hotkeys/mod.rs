//! PURE: which keys are hot now. A sketch counts every key in little memory: never too low, rarely much too high. A meter adds up
//! the sketches of all workers, second by second. Rings, requests and what is done about a hot key are not known here.
pub mod meter;

use crate::base::hash::mix64;
use crate::base::units::Ratio;

/// Two rows of counters: a key is overcounted only when others share both of its counters.
const ROWS: usize = 2;
/// Counters of each row, at least and at most.
const MIN_WIDTH: usize = 1 << 12;
const MAX_WIDTH: usize = 1 << 16;
/// Counters for each endpoint: what strangers add to a key is far less than what makes it hot.
const PER_ENDPOINT: usize = 64;

/// When a key is hot, and how many endpoints share it then.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// A key with a larger part of the requests than this, as a share of an even endpoint's part, is hot (default 25 %).
    pub share: Ratio,
    /// Endpoints that share a hot key, the owner included (default 8).
    pub replicas: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { share: Ratio(0.25), replicas: 8 }
    }
}

/// Counts keys and knows the most frequent ones.
#[derive(Debug, Clone)]
pub struct Sketch {
    counters: Box<[u32]>,
    /// Counters of a row less one; a power of two less one.
    mask: usize,
    /// The most frequent keys, in no order.
    top: Vec<Counted>,
    most: usize,
    /// The least count in `top`, once it is full.
    least: u32,
    total: u64,
}

/// A key and how often it was seen, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// The key's hash.
    pub key: u64,
    /// How often it was seen; never less than it was.
    pub count: u32,
    /// How often it was seen since it is among the most frequent; never more than it was.
    pub seen: u32,
}

impl Sketch {
    /// One that knows this many of the most frequent keys. Takes 32 KiB.
    pub fn new(most: usize) -> Self {
        Self::for_endpoints(most, 0)
    }

    /// One whose counters are enough for the keys of so many endpoints. Takes 32 to 512 KiB.
    pub fn for_endpoints(most: usize, endpoints: usize) -> Self {
        let width = endpoints.saturating_mul(PER_ENDPOINT).clamp(MIN_WIDTH, MAX_WIDTH).next_power_of_two();
        let counters = vec![0; width * ROWS].into_boxed_slice();
        Self { counters, mask: width - 1, top: Vec::with_capacity(most), most, least: 0, total: 0 }
    }

    /// Counts a key; says how often it was seen, at most, and where it stands among the top when it has just come there.
    #[inline]
    pub fn add(&mut self, key: u64) -> (u32, Option<usize>) {
        self.total += 1;
        let hash = mix64(key);
        let mut count = u32::MAX;
        for row in 0..ROWS {
            let counter = &mut self.counters[row * (self.mask + 1) + ((hash >> (row * 32)) as usize & self.mask)];
            *counter = counter.saturating_add(1);
            count = count.min(*counter);
        }
        let is_of_top = count > self.least || self.top.len() < self.most;
        (count, if is_of_top { self.rank(key, count) } else { None })
    }

    #[cold]
    fn take_place(&mut self, key: u64, count: u32) -> Option<usize> {
        let fresh = Counted { key, count, seen: 1 };
        if self.top.len() < self.most {
            self.top.push(fresh);
            return Some(self.top.len() - 1);
        }
        let (at, least) = self.top.iter().enumerate().min_by_key(|(_, it)| it.count).map(|(at, it)| (at, it.count))?;
        self.least = least;
        if count <= least {
            return None;
        }
        self.top[at] = fresh;
        self.least = self.top.iter().map(|it| it.count).min().unwrap_or(0);
        Some(at)
    }

    fn rank(&mut self, key: u64, count: u32) -> Option<usize> {
        match self.top.iter_mut().find(|it| it.key == key) {
            Some(known) => {
                (known.count, known.seen) = (count, known.seen.saturating_add(1));
                None
            }
            None => self.take_place(key, count),
        }
    }

    /// The most frequent keys, the most frequent first.
    pub fn top(&self) -> Vec<Counted> {
        let mut top = self.top.clone();
        top.sort_unstable_by_key(|it| (std::cmp::Reverse(it.count), it.key));
        top
    }

    /// The most frequent keys with their places, as [`Sketch::add`] told them.
    pub fn places(&self) -> &[Counted] {
        &self.top
    }

    /// Keys counted, each as often as it came.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.counters.fill(0);
        self.top.clear();
        (self.least, self.total) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frequent_key_among_many_is_found_and_never_counted_too_low() {
        let mut sketch = Sketch::new(8);
        for number in 0..100_000u64 {
            sketch.add(mix64(number));
            if number % 10 == 0 {
                sketch.add(7);
            }
            if number % 20 == 0 {
                sketch.add(8);
            }
        }
        let top = sketch.top();
        assert_eq!((top[0].key, top[1].key), (7, 8));
        assert!((10_000..10_200).contains(&top[0].count) && (5_000..5_200).contains(&top[1].count), "{top:?}");
        assert!(top[0].seen <= 10_000 && top[0].seen > 9_900, "from the moment it was noticed: {top:?}");
        assert_eq!((sketch.total(), top.len()), (115_000, 8));
        sketch.clear();
        assert!(sketch.top().is_empty() && sketch.add(7).0 == 1);
    }

    #[test]
    fn counters_grow_with_the_endpoints_and_have_an_end() {
        let check = |endpoints: usize, expected: usize| {
            assert_eq!(Sketch::for_endpoints(8, endpoints).counters.len(), expected * ROWS, "{endpoints}");
        };
        check(0, 1 << 12);
        check(64, 1 << 12);
        check(100, 1 << 13);
        check(usize::MAX, 1 << 16);
    }
}
