//! Passive health: failures of real requests take an endpoint out for a time.
use crate::base::units::Ratio;
use std::time::Duration;

/// When an endpoint is ejected for failing in real traffic, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Failures in a row that eject, at least 1 (default 5).
    pub consecutive_failures: u32,
    /// Length of the first ejection; doubles with each flap, decays, at most five minutes (default 10 s).
    pub eject_for: Duration,
    /// Largest share of an upstream's endpoints out at one time, rounded down, at least one when there are two or more;
    /// zero turns ejection off (default 30 %).
    pub max_ejected: Ratio,
}

impl Default for Settings {
    fn default() -> Self {
        Self { consecutive_failures: 5, eject_for: Duration::from_secs(10), max_ejected: Ratio(0.3) }
    }
}
