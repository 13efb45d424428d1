//! A share of traffic that may be retries: keeps a failing upstream from being asked ever more. Touched only by retries.
use crate::base::units::Ratio;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

/// What the share is taken of.
const WINDOW: Duration = Duration::from_secs(10);
/// Retries that are always allowed within a window: a quiet upstream needs a few.
const FLOOR: u64 = 10;

/// The retries of one upstream, over all workers.
#[derive(Debug, Default)]
pub struct RetryBudget {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Moments of retries within the window.
    retries: VecDeque<Instant>,
    /// The total of requests at moments of the past, at most one for each tenth of a window; the first is a window old.
    totals: VecDeque<(Instant, u64)>,
}

impl RetryBudget {
    /// Spends one retry if `share` allows it. `requests` is the rising total of the upstream's requests.
    pub fn try_spend(&self, share: Ratio, requests: u64, now: Instant) -> bool {
        // A poisoned budget is still a budget: nothing in it can be half done.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = seen.recent(requests, now);
        let allowed = ((recent as f64 * share.0) as u64).max(FLOOR);
        if seen.retries.len() as u64 >= allowed {
            return false;
        }
        seen.retries.push_back(now);
        true
    }

    /// Notes the total of requests, so that the window is known when a retry comes. Called now and then by `control`.
    pub fn observe(&self, requests: u64, now: Instant) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).recent(requests, now);
    }
}

impl Seen {
    /// Requests within the window, and forgets what is older.
    fn recent(&mut self, requests: u64, now: Instant) -> u64 {
        while self.retries.front().is_some_and(|at| now.duration_since(*at) >= WINDOW) {
            self.retries.pop_front();
        }
        if self.totals.back().is_none_or(|(at, _)| now.duration_since(*at) >= WINDOW / 10) {
            self.totals.push_back((now, requests));
        }
        // The newest total that is at least a window old is where the window begins.
        while self.totals.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            self.totals.pop_front();
        }
        requests - self.totals.front().map_or(0, |(_, total)| (*total).min(requests))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock;

    #[test]
    fn a_quiet_upstream_has_ten_retries_in_ten_seconds() {
        let (budget, start) = (RetryBudget::default(), clock::now());
        let spend = |seconds| budget.try_spend(Ratio(0.2), 0, start + Duration::from_secs(seconds));
        assert!((0..10).all(|_| spend(0)));
        assert!(!spend(0) && !spend(9));
        assert!(spend(10));
    }

    #[test]
    fn a_busy_upstream_has_a_share() {
        let (budget, start) = (RetryBudget::default(), clock::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for second in 0..=10 {
            budget.observe(second * 100, at(second));
        }
        // 1,000 requests in the last ten seconds: 200 retries.
        let spent = (0..1000).filter(|_| budget.try_spend(Ratio(0.2), 1000, at(10))).count();
        assert_eq!(spent, 200);
        // Twenty seconds later nothing of that counts.
        budget.observe(1000, at(20));
        let spent = (0..1000).filter(|_| budget.try_spend(Ratio(0.2), 1000, at(30))).count();
        assert_eq!(spent, 10);
    }
}
