//! Pauses that double with each failure. Who waits, and where below the bound, is not known here.
use std::time::Duration;

/// The bound of a pause after it was doubled so many times: `from` at first, and never above `to`.
pub fn bound(from: Duration, to: Duration, doublings: u32) -> Duration {
    from.saturating_mul(1 << doublings.min(u32::BITS - 1)).min(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_its_limit_and_never_overflows() {
        let (from, to) = (Duration::from_millis(50), Duration::from_secs(2));
        let bounds: Vec<u128> = (0..8).map(|doublings| bound(from, to, doublings).as_millis()).collect();
        assert_eq!(bounds, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(bound(Duration::MAX, to, u32::MAX), to);
        assert_eq!(bound(Duration::ZERO, to, 9), Duration::ZERO);
    }
}
