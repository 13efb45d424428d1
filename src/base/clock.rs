//! The only caller of `Instant::now` and `SystemTime::now`: everybody else takes time as an argument or asks here.
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// This moment on the monotonic clock.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the clock")]
#[inline]
pub fn now() -> Instant {
    Instant::now()
}

/// Time since the Unix epoch; zero when the system's clock is before it.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO)
}

/// A moment as RFC 3339 in UTC with milliseconds, for logs and the admin interface.
pub fn rfc3339(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days as i64);
    let mut text = String::with_capacity(24);
    let mut put = |number: u64, digits: u32, after: char| {
        for place in (0..digits).rev() {
            text.push(char::from(b'0' + (number / 10u64.pow(place) % 10) as u8));
        }
        text.push(after);
    };
    put(year as u64, 4, '-');
    put(month as u64, 2, '-');
    put(day as u64, 2, 'T');
    put(rest / 3600, 2, ':');
    put(rest / 60 % 60, 2, ':');
    put(rest % 60, 2, '.');
    put(u64::from(since_epoch.subsec_millis()), 3, 'Z');
    text
}

/// Days since 1970-01-01 to year, month, day of the proleptic Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    // Counted from 0000-03-01 so that the leap day is the last of its year; 146,097 days are 400 years.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_reads_as_rfc3339() {
        let at = |seconds: u64, millis: u64| rfc3339(Duration::from_millis(seconds * 1000 + millis));
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_400, 7), "2000-02-29T00:00:00.007Z");
        assert_eq!(at(1_767_225_599, 999), "2025-12-31T23:59:59.999Z");
    }
}
