//! Which failures are tried again, and how often.
use crate::base::units::Ratio;

/// When a route's request is tried at a further candidate.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Further attempts, each at a distinct candidate; 0 turns repeating off (default 2).
    pub attempts: u32,
    /// What is tried again (default connect, reset, 502, 504).
    pub on: Conditions,
    /// Retries as a share of the upstream's requests of the last ten seconds (default 20 %).
    pub budget: Ratio,
}

impl Default for Settings {
    fn default() -> Self {
        Self { attempts: 2, on: Conditions::default(), budget: Ratio(0.2) }
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
