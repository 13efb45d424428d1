//! The load bound: who has far more requests in flight than the others is asked after them. How load is counted is not known
//! here.
//!
//! An endpoint is over when `in_flight + 1 > 2 * max(8, bound * m + 2 * sqrt(m))`, with m the mean in flight by weight. The
//! root is the noise of a fair share: without it, keys would leave their endpoint although nothing is wrong. The factor of two
//! keeps all keys but hot ones at home: sending a key elsewhere costs its cached answer, and a key that is not hot is not what
//! makes an endpoint busy. Hot keys leave without it, and so before all others.
use smallvec::SmallVec;

/// Requests in flight that are never too many.
const FLOOR: f64 = 8.0;
/// How far past the limit a key that is not hot still stays.
const PATIENCE: f64 = 2.0;

/// Whether one more request, for a key that is hot or not, would be too many for an endpoint with so many in flight. `mean` is what
/// its weight would have it have; it is asked for only when the answer depends on it.
pub fn is_over(bound: f64, is_hot: bool, in_flight: u64, mean: impl FnOnce() -> f64) -> bool {
    let (asked, patience) = (in_flight as f64 + 1.0, if is_hot { 1.0 } else { PATIENCE });
    asked > patience * FLOOR && asked > patience * limit(bound, mean())
}

/// The most requests in flight that are not too many for keys that are not hot, when this is what its weight would have an endpoint
/// have.
pub fn most(bound: f64, mean: f64) -> f64 {
    PATIENCE * limit(bound, mean)
}

fn limit(bound: f64, mean: f64) -> f64 {
    FLOOR.max(bound * mean + 2.0 * mean.sqrt())
}

/// Candidates in their order, those that are over after all others.
#[derive(Debug)]
pub struct Bounded<C: Iterator, F> {
    candidates: C,
    is_over: F,
    passed: SmallVec<[C::Item; 2]>,
    /// How many of `passed` were given after all.
    given: usize,
}

impl<C: Iterator<Item: Copy>, F: FnMut(C::Item) -> bool> Bounded<C, F> {
    /// Asks `is_over` of each candidate when its turn comes.
    #[inline]
    pub fn new(candidates: C, is_over: F) -> Self {
        Self { candidates, is_over, passed: SmallVec::new(), given: 0 }
    }

    /// Whether somebody was passed over.
    pub fn has_passed(&self) -> bool {
        !self.passed.is_empty()
    }
}

impl<C: Iterator<Item: Copy>, F: FnMut(C::Item) -> bool> Iterator for Bounded<C, F> {
    type Item = C::Item;

    #[inline]
    fn next(&mut self) -> Option<C::Item> {
        for candidate in self.candidates.by_ref() {
            if !(self.is_over)(candidate) {
                return Some(candidate);
            }
            self.passed.push(candidate);
        }
        self.given += 1;
        self.passed.get(self.given - 1).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_is_past_twice_the_limit_and_never_below_the_floor() {
        let check = |bound: f64, mean: f64, most: u64| {
            assert!(!is_over(bound, false, most - 1, || mean), "{bound} {mean}: {most} are fine");
            assert!(is_over(bound, false, most, || mean), "{bound} {mean}: one more is not");
            assert!(
                !is_over(bound, true, most / 2 - 1, || mean),
                "{bound} {mean}: half as many are fine for a hot key"
            );
            assert!(is_over(bound, true, most.div_ceil(2), || mean), "{bound} {mean}: one more is not");
        };
        // A quiet system: the floor.
        check(1.25, 0.0, 16);
        check(1.25, 3.0, 16);
        // 2 * (12.5 + 6.32), 2 * (125 + 20), 2 * (20 + 6.32).
        check(1.25, 10.0, 37);
        check(1.25, 100.0, 290);
        check(2.0, 10.0, 52);
    }

    #[test]
    fn the_mean_is_asked_for_only_above_the_floor() {
        assert!(!is_over(1.25, false, 15, || panic!("not needed")));
        assert!(!is_over(1.25, true, 7, || panic!("not needed")));
    }

    #[test]
    fn those_over_come_last_and_in_their_order() {
        let mut walk = Bounded::new(0..6, |candidate| candidate == 0 || candidate == 3);
        assert!(!walk.has_passed());
        assert_eq!(walk.next(), Some(1));
        assert!(walk.has_passed());
        assert_eq!(walk.collect::<Vec<_>>(), [2, 4, 5, 0, 3]);
        assert_eq!(Bounded::new(0..3, |_| true).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(Bounded::new(0..3, |_| false).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(Bounded::new(0..0, |_| true).next(), None);
    }
}
