//! Passive health: failures of real requests take an endpoint out for a time.
use crate::base::units::Ratio;
use std::time::Duration;
use std::time::Instant;

/// When an endpoint is ejected for failing in real traffic, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Failures in a row that eject, at least 1 (default 5).
    pub consecutive_failures: u32,
    /// Share of an endpoint's exchanges within `window` that ejects once reached; `None`: shares eject nobody (default).
    pub failure_share: Option<Ratio>,
    /// What `failure_share` looks back on (default 10 s).
    pub window: Duration,
    /// Length of the first ejection; doubles with each flap, decays, at most five minutes (default 10 s).
    pub eject_for: Duration,
    /// Largest share of an upstream's endpoints out at one time, rounded down, at least one when there are two or more;
    /// zero turns ejection off (default 30 %).
    pub max_ejected: Ratio,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            failure_share: None,
            window: Duration::from_secs(10),
            eject_for: Duration::from_secs(10),
            max_ejected: Ratio(0.3),
        }
    }
}

/// Longest ejection.
const MAX_EJECTION: Duration = Duration::from_secs(300);

impl Settings {
    /// How many of `endpoints` may be out at one time.
    pub fn max_out(&self, endpoints: usize) -> usize {
        if self.max_ejected.0 <= 0.0 || endpoints < 2 {
            return 0;
        }
        ((endpoints as f64 * self.max_ejected.0) as usize).clamp(1, endpoints)
    }
}

/// One endpoint's ejections.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ejection {
    until: Option<Instant>,
    /// How often it flapped lately: each doubles the next ejection.
    flaps: u32,
    /// When it came back, or last lost a flap to good conduct.
    calm_since: Option<Instant>,
}

impl Ejection {
    /// Whether it is out.
    pub fn is_out(&self) -> bool {
        self.until.is_some()
    }

    /// Until when it is out.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Takes the endpoint out and says for how long.
    pub fn eject(&mut self, settings: &Settings, now: Instant) -> Duration {
        self.decay(settings, now);
        let length =
            settings.eject_for.saturating_mul(1 << self.flaps.min(16)).min(MAX_EJECTION.max(settings.eject_for));
        self.until = Some(now + length);
        self.flaps += 1;
        length
    }

    /// Lets it back in if its time is over; says whether that happened now.
    pub fn release(&mut self, now: Instant) -> bool {
        if self.until.is_none_or(|until| now < until) {
            return false;
        }
        self.until = None;
        self.calm_since = Some(now);
        true
    }

    /// Each spell of good conduct as long as the last ejection forgives one flap.
    fn decay(&mut self, settings: &Settings, now: Instant) {
        while let (Some(since), 1..) = (self.calm_since, self.flaps) {
            let spell = settings.eject_for.saturating_mul(1 << (self.flaps - 1).min(16)).min(MAX_EJECTION);
            if now.duration_since(since) < spell {
                break;
            }
            self.flaps -= 1;
            self.calm_since = Some(since + spell);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock;

    #[test]
    fn an_ejection_doubles_with_each_flap_and_decays() {
        let settings = Settings::default();
        let mut ejection = Ejection::default();
        let mut now = clock::now();
        for seconds in [10, 20, 40, 80, 160, 300, 300] {
            let length = ejection.eject(&settings, now);
            assert_eq!(length, Duration::from_secs(seconds));
            assert!(!ejection.release(now + length - Duration::from_millis(1)) && ejection.is_out());
            now += length;
            assert!(ejection.release(now) && !ejection.is_out());
        }
        now += Duration::from_secs(3600);
        assert_eq!(ejection.eject(&settings, now), Duration::from_secs(10));
    }

    #[test]
    fn somebody_always_stays() {
        let check = |share: f64, endpoints, expected| {
            let settings = Settings { max_ejected: Ratio(share), ..Settings::default() };
            assert_eq!(settings.max_out(endpoints), expected, "{share} of {endpoints}");
        };
        check(0.3, 1, 0);
        check(0.3, 2, 1);
        check(0.3, 10, 3);
        check(0.3, 9, 2);
        check(0.0, 10, 0);
        check(1.0, 4, 4);
    }
}
