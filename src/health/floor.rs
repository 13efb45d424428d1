//! Too few left: verdicts are ignored, since sending everything to the last one standing would fell it too.
use crate::base::units::Ratio;

/// Whether verdicts are ignored: fewer than `panic_below` of the eligible endpoints are open.
pub fn is_panic(eligible: usize, open: usize, panic_below: Ratio) -> bool {
    eligible > 0 && (open == 0 || (open as f64) < panic_below.0 * eligible as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_ignored_below_the_floor() {
        assert!(!is_panic(10, 2, Ratio(0.2)));
        assert!(is_panic(10, 1, Ratio(0.2)));
        assert!(!is_panic(2, 1, Ratio(0.2)));
        assert!(is_panic(2, 0, Ratio(0.0)), "nothing is left: better to try than to refuse");
        assert!(!is_panic(0, 0, Ratio(0.2)));
    }
}
