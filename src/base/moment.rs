//! A moment as people write it: `2026-11-25T12:03:00Z`, `12:03` (UTC, today or yesterday), `5m` (ago).
use super::units;
use std::time::Duration;
use thiserror::Error;

const DAY: u64 = 86_400;

/// A text that is no moment that has been.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MomentError {
    /// It is not written as one.
    #[error(r#"a moment is "2026-11-25T12:03:00Z", "12:03" or "12:03:20" (UTC), or "5m" (ago)"#)]
    Form,
    /// It is still to come.
    #[error("this moment is still to come")]
    Future,
}

/// Reads a moment; both are in time since the Unix epoch. A time of day is the last one that has been.
///
/// # Errors
/// When it is none, or has not been yet.
pub fn parse(text: &str, now: Duration) -> Result<Duration, MomentError> {
    if let Ok(ago) = units::parse_duration(text) {
        return now.checked_sub(ago).ok_or(MomentError::Form);
    }
    let at = match time_of_day(text) {
        Some(time) => {
            let today = Duration::from_secs(now.as_secs() / DAY * DAY) + time;
            if today <= now { today } else { today.saturating_sub(Duration::from_secs(DAY)) }
        }
        None => rfc3339(text).ok_or(MomentError::Form)?,
    };
    if at > now { Err(MomentError::Future) } else { Ok(at) }
}

/// `12:03`, `12:03:20`, `12:03:20.5`
fn time_of_day(text: &str) -> Option<Duration> {
    let mut parts = text.split(':');
    let (hour, minute) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let (second, part) = match parts.next() {
        None => (0, Duration::ZERO),
        Some(text) => {
            let (second, part) = text.split_once('.').unwrap_or((text, "0"));
            let is_part = (1..=9).contains(&part.len()) && part.bytes().all(|digit| digit.is_ascii_digit());
            let nanos = format!("{part:0<9}").parse().ok().filter(|_| is_part)?;
            (number(second, 2)?, Duration::from_nanos(nanos))
        }
    };
    let is_time = hour < 24 && minute < 60 && second < 60 && parts.next().is_none();
    is_time.then(|| Duration::from_secs(hour * 3600 + minute * 60 + second) + part)
}

fn rfc3339(text: &str) -> Option<Duration> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let mut parts = date.split('-');
    let (year, month, day) = (number(parts.next()?, 4)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    if parts.next().is_some() || !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || day == 0 || day > 31 {
        return None;
    }
    let (time, before_utc) = match rest.strip_suffix(['Z', 'z']) {
        Some(time) => (time, 0),
        None => {
            let at = rest.rfind(['+', '-'])?;
            let ahead = time_of_day(&rest[at + 1..])?.as_secs() as i64;
            (&rest[..at], if rest[at..].starts_with('-') { ahead } else { -ahead })
        }
    };
    let midnight = days(year as i64, month as i64, day as i64) * DAY as i64 + before_utc;
    u64::try_from(midnight).ok().map(Duration::from_secs)?.checked_add(time_of_day(time)?)
}

fn number(text: &str, digits: usize) -> Option<u64> {
    let is_number = text.len() == digits && text.bytes().all(|digit| digit.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// Days since 1970-01-01 of a day of the proleptic Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Counted from March, so that the leap day is the last of its year.
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock;

    #[test]
    fn moments_are_read_as_people_write_them() {
        // 2025-12-31T23:59:59Z
        let now = Duration::from_secs(1_767_225_599);
        let check = |text: &str, expected: &str| {
            assert_eq!(parse(text, now).map(clock::rfc3339), Ok(expected.to_string()), "{text}");
        };
        check("2024-02-29T12:03:00Z", "2024-02-29T12:03:00.000Z");
        check("2024-03-01 00:00:00.25z", "2024-03-01T00:00:00.250Z");
        check("2025-12-31T13:03:00+01:00", "2025-12-31T12:03:00.000Z");
        check("2025-12-31T01:03:00-05:30", "2025-12-31T06:33:00.000Z");
        check("12:03", "2025-12-31T12:03:00.000Z");
        check("23:59:59", "2025-12-31T23:59:59.000Z");
        check("23:59:59.9", "2025-12-30T23:59:59.900Z");
        check("5m", "2025-12-31T23:54:59.000Z");
        check("0s", "2025-12-31T23:59:59.000Z");
        check("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        let now = Duration::from_secs(1_767_225_599);
        for text in
            ["", "now", "24:00", "12:60", "1:2", "12:03:00:00", "2025-13-01T00:00:00Z", "2025-12-31", "12:03:0x", "+5m"]
        {
            assert_eq!(parse(text, now), Err(MomentError::Form), "{text}");
        }
        assert_eq!(parse("2026-01-01T00:00:00Z", now), Err(MomentError::Future));
    }
}
