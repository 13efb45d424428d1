//! Failures as a share of an endpoint's exchanges within a window that moves in tenths.
use crate::base::units::Ratio;
use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

/// Exchanges a window needs before its share means anything.
pub const MIN_EXCHANGES: u64 = 20;
/// Parts of a window.
const PARTS: u32 = 10;

/// What an endpoint did lately.
#[derive(Debug, Clone, Default)]
pub struct Window {
    /// Oldest first: a part's beginning, and the sums of all exchanges (successes, failures) at that moment.
    parts: VecDeque<(Instant, u64, u64)>,
}

impl Window {
    /// Takes in the sums of all exchanges so far and says which share of the last `length` failed; `None` while they are
    /// fewer than [`MIN_EXCHANGES`].
    pub fn observe(&mut self, ok: u64, failed: u64, length: Duration, now: Instant) -> Option<Ratio> {
        let part = length / PARTS;
        if self.parts.back().is_none_or(|(since, ..)| now.duration_since(*since) >= part) {
            self.parts.push_back((now, ok, failed));
        }
        // One part older than the window stays: the sums at its beginning are what the window starts from.
        while self.parts.get(1).is_some_and(|(since, ..)| now.duration_since(*since) >= length) {
            self.parts.pop_front();
        }
        let (_, ok_before, failed_before) = *self.parts.front()?;
        let (ok, failed) = (ok.saturating_sub(ok_before), failed.saturating_sub(failed_before));
        (ok + failed >= MIN_EXCHANGES).then(|| Ratio(failed as f64 / (ok + failed) as f64))
    }

    /// Starts over: what happened so far counts no more.
    pub fn reset(&mut self) {
        self.parts.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock;

    const LENGTH: Duration = Duration::from_secs(10);

    #[test]
    fn a_share_needs_enough_exchanges() {
        let (mut window, start) = (Window::default(), clock::now());
        assert_eq!(window.observe(0, 0, LENGTH, start), None);
        assert_eq!(window.observe(10, 9, LENGTH, start), None);
        assert_eq!(window.observe(10, 10, LENGTH, start), Some(Ratio(0.5)));
    }

    #[test]
    fn what_is_older_than_the_window_counts_no_more() {
        let (mut window, start) = (Window::default(), clock::now());
        window.observe(0, 0, LENGTH, start);
        let mut share = None;
        for second in 0..=30 {
            // Ten failures a second for ten seconds, then ten successes a second.
            let (ok, failed) = (10 * u64::saturating_sub(second, 10), 10 * second.min(10));
            share = window.observe(ok, failed, LENGTH, start + Duration::from_secs(second));
            if second == 10 {
                assert_eq!(share, Some(Ratio(1.0)));
            }
        }
        assert_eq!(share, Some(Ratio(0.0)));
        assert!(window.parts.len() <= PARTS as usize + 2);
    }

    #[test]
    fn a_reset_forgets() {
        let (mut window, start) = (Window::default(), clock::now());
        window.observe(0, 0, LENGTH, start);
        window.reset();
        assert_eq!(window.observe(0, 100, LENGTH, start), None);
    }
}
