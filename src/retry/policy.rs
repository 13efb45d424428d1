//! Which failures are tried again, and how often.
use crate::base::backoff;
use crate::base::units::Ratio;
use std::time::Duration;

/// When a route's request is tried at a further candidate.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Further attempts, each at a distinct candidate; 0 turns repeating off (default 2).
    pub attempts: u32,
    /// What is tried again (default connect, reset, 502, 504).
    pub on: Conditions,
    /// Retries as a share of the upstream's requests of the last ten seconds (default 20 %).
    pub budget: Ratio,
    /// Pause before the first retry; it doubles with each further one (default none).
    pub backoff: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { attempts: 2, on: Conditions::default(), budget: Ratio(0.2), backoff: Duration::ZERO }
    }
}

/// Longest pause before a retry, whatever the doubling gives.
const MAX_PAUSE: Duration = Duration::from_secs(10);

impl Settings {
    /// The pause before retry number `retries` (1 is the first): between half of what is due and all of it, by `random`, so that
    /// requests that failed together do not come back together.
    pub fn pause(&self, retries: u32, random: u64) -> Duration {
        let due = backoff::bound(self.backoff, MAX_PAUSE, retries.saturating_sub(1));
        due.mul_f64(0.5 + random as f64 / u64::MAX as f64 / 2.0)
    }
}

/// A set of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conditions {
    /// No connection could be made; nothing was sent.
    pub connect: bool,
    /// The connection died before a response head.
    pub reset: bool,
    /// The endpoint answered 502.
    pub status_502: bool,
    /// The endpoint answered 503.
    pub status_503: bool,
    /// The endpoint answered 504.
    pub status_504: bool,
    /// No response head in time.
    pub timeout: bool,
}

impl Default for Conditions {
    fn default() -> Self {
        Self { connect: true, reset: true, status_502: true, status_503: false, status_504: true, timeout: false }
    }
}

impl Conditions {
    /// Whether an answer with this status is tried again.
    #[inline]
    pub fn includes_status(&self, status: u16) -> bool {
        match status {
            502 => self.status_502,
            503 => self.status_503,
            504 => self.status_504,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_vary_by_half() {
        let settings = Settings { backoff: Duration::from_millis(100), ..Settings::default() };
        let span =
            |retries| [settings.pause(retries, 0), settings.pause(retries, u64::MAX)].map(|pause| pause.as_millis());
        assert_eq!((span(1), span(2), span(3)), ([50, 100], [100, 200], [200, 400]));
        assert_eq!(span(u32::MAX), [5_000, 10_000]);
        assert_eq!(Settings::default().pause(1, u64::MAX), Duration::ZERO);
    }
}
