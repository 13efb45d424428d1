//! Rise and fall: answers of active checks become a verdict.
//!
//! Unchecked yet is up, and one failure of the first check marks down. An endpoint that flaps needs longer to come back: its
//! first return takes `rise` successes in a row, the next twice as many, then four and eight times, never more. It is
//! forgiven one flap for each [`CALM_CHECKS`] successes in a row.
use crate::health::check::HealthCheck;

/// Successes in a row that forgive one flap.
pub const CALM_CHECKS: u32 = 30;
/// How often the successes needed may double.
const MAX_DOUBLINGS: u32 = 3;

/// One endpoint's verdict by its checks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Threshold {
    is_down: bool,
    is_checked: bool,
    /// Answers in a row like the last one.
    streak: u32,
    was_success: bool,
    /// How often it went down lately.
    flaps: u32,
}

impl Threshold {
    /// Whether its checks leave it out.
    pub fn is_down(&self) -> bool {
        self.is_down
    }

    /// Whether it was asked at all.
    pub fn is_checked(&self) -> bool {
        self.is_checked
    }

    /// Answers in a row like the last one.
    pub fn streak(&self) -> u32 {
        self.streak
    }

    /// Successes in a row that bring it up again.
    pub fn needed(&self, policy: &HealthCheck) -> u32 {
        policy.rise.saturating_mul(1 << self.flaps.saturating_sub(1).min(MAX_DOUBLINGS))
    }

    /// Takes another's verdict over and says whether it is a change. Answers are counted anew.
    pub fn adopt(&mut self, is_down: bool) -> bool {
        let has_changed = is_down != self.is_down;
        if has_changed || !self.is_checked {
            let flaps = (self.flaps + u32::from(has_changed && is_down)).min(MAX_DOUBLINGS + 1);
            *self = Self { is_down, is_checked: true, streak: 0, was_success: !is_down, flaps };
        }
        has_changed
    }

    /// Takes an answer in and says whether the verdict changed.
    pub fn record(&mut self, policy: &HealthCheck, is_success: bool) -> bool {
        self.streak = if self.is_checked && self.was_success == is_success { self.streak.saturating_add(1) } else { 1 };
        let is_first = !std::mem::replace(&mut self.is_checked, true);
        self.was_success = is_success;
        match (self.is_down, is_success) {
            (true, true) if self.streak >= self.needed(policy) => self.is_down = false,
            (false, false) if is_first || self.streak >= policy.fall => {
                self.is_down = true;
                self.flaps = self.flaps.saturating_add(1).min(MAX_DOUBLINGS + 1);
            }
            (false, true) if self.streak.is_multiple_of(CALM_CHECKS) => {
                self.flaps = self.flaps.saturating_sub(1);
                return false;
            }
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::check::Question;
    use std::time::Duration;

    fn policy() -> HealthCheck {
        HealthCheck {
            question: Question::Tcp,
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            fall: 3,
            rise: 2,
            port: None,
            elect: None,
        }
    }

    /// `+` is a success, `-` a failure; for each the verdict after it: `u`p or `d`own.
    fn check(threshold: &mut Threshold, answers: &str, verdicts: &str) {
        let policy = policy();
        let told = answers.chars().map(|answer| {
            let before = threshold.is_down();
            let changed = threshold.record(&policy, answer == '+');
            assert_eq!(changed, before != threshold.is_down());
            if threshold.is_down() { 'd' } else { 'u' }
        });
        assert_eq!(told.collect::<String>(), verdicts, "{answers}");
    }

    #[test]
    fn unchecked_is_up_and_the_first_failure_marks_down() {
        assert!(!Threshold::default().is_down());
        check(&mut Threshold::default(), "-++", "ddu");
    }

    #[test]
    fn it_takes_fall_failures_in_a_row_to_go_down_and_rise_successes_to_come_back() {
        check(&mut Threshold::default(), "+--+---+-++", "uuuuuuddddu");
    }

    #[test]
    fn whoever_flaps_needs_longer_each_time_but_never_more_than_eight_times_as_long() {
        let mut threshold = Threshold::default();
        for needed in [2, 4, 8, 16, 16, 16] {
            let verdicts = if threshold.is_checked() { "uud" } else { "ddd" };
            check(&mut threshold, "---", verdicts);
            assert_eq!(threshold.needed(&policy()), needed);
            let answers = "+".repeat(needed as usize);
            check(&mut threshold, &answers, &("d".repeat(needed as usize - 1) + "u"));
        }
    }

    #[test]
    fn a_verdict_of_another_is_taken_over_and_what_is_found_here_goes_on_from_it() {
        let mut threshold = Threshold::default();
        assert!(!threshold.adopt(false) && threshold.is_checked() && !threshold.is_down());
        check(&mut threshold, "--", "uu");
        assert!(threshold.adopt(true) && !threshold.adopt(true) && threshold.is_down());
        check(&mut threshold, "++", "du");
        check(&mut threshold, "---", "uud");
        assert_eq!(threshold.needed(&policy()), 4, "it went down twice");
        assert!(threshold.adopt(false));
    }

    #[test]
    fn good_conduct_is_forgiven() {
        let mut threshold = Threshold::default();
        check(&mut threshold, "-++", "ddu");
        check(&mut threshold, "---", "uud");
        assert_eq!(threshold.needed(&policy()), 4);
        for _ in 0..100 {
            threshold.record(&policy(), true);
        }
        check(&mut threshold, "---++", "uuddu");
    }
}
