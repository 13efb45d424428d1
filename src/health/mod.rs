//! May this endpoint get requests. Pure: no sockets, no clock, no ring.
pub mod check;
pub mod floor;
pub mod outlier;
pub mod share;
pub mod streak;
pub mod threshold;

/// Whether an endpoint may get requests, and if not, why. When several reasons hold, the strongest is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Availability {
    /// Nothing speaks against it.
    #[default]
    Open,
    /// It failed in real traffic.
    Ejected,
    /// Its health checks fail.
    Down,
    /// Its name was never resolved: there is nowhere to send a request, however few are left.
    Unresolved,
    /// An operator sends it away: it finishes what it has and gets nothing new, however few are left.
    Draining,
}

impl Availability {
    /// What follows from the verdict of checks, an ejection and an operator's wish, for an endpoint that has an address.
    pub fn of(is_down: bool, is_ejected: bool, is_draining: bool) -> Self {
        match (is_draining, is_down, is_ejected) {
            (true, _, _) => Self::Draining,
            (_, true, _) => Self::Down,
            (_, _, true) => Self::Ejected,
            _ => Self::Open,
        }
    }

    /// Whether it may get requests; in a panic verdicts are ignored, an operator's wish is not.
    #[inline]
    pub fn is_open(self, is_panic: bool) -> bool {
        self == Self::Open || (is_panic && !matches!(self, Self::Draining | Self::Unresolved))
    }

    /// The word for it: `up`, `ejected`, `down`, `draining`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "up",
            Self::Ejected => "ejected",
            Self::Down | Self::Unresolved => "down",
            Self::Draining => "draining",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ignores_verdicts_but_not_an_operator() {
        use Availability::{Down, Draining, Ejected, Open, Unresolved};
        for (availability, in_peace, in_panic) in [
            (Open, true, true),
            (Ejected, false, true),
            (Down, false, true),
            (Unresolved, false, false),
            (Draining, false, false),
        ] {
            assert_eq!((availability.is_open(false), availability.is_open(true)), (in_peace, in_panic));
        }
        assert_eq!(Availability::of(true, true, true), Draining);
        assert_eq!(Availability::of(true, true, false), Down);
        assert_eq!(Availability::of(false, true, false), Ejected);
        assert_eq!(Availability::of(false, false, false), Open);
    }
}
