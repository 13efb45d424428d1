//! Durations, sizes and shares as people write them: `"250ms"`, `"64KiB"`, `"5%"`. Which setting they are for is the
//! reader's business.
use std::fmt;
use std::time::Duration;
use thiserror::Error;

/// A text that is not a duration, a size or a share.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct UnitError(&'static str);

const BAD_DURATION: UnitError = UnitError(r#"a duration is a number and a unit: "250ms", "1.5s", "5m", "1h", "0s""#);
const BAD_SIZE: UnitError = UnitError(r#"a size is a number and a unit: "512B", "16KiB", "1MiB", "2GiB""#);
const BAD_SHARE: UnitError = UnitError(r#"a share is a number and a percent sign: "5%", "12.5%", "125%""#);

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// A share, as a fraction: 0.05 for `"5%"`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Ratio(pub f64);

/// Reads `"250ms"`, `"10s"`, `"1.5s"`, `"5m"`, `"1h"`, `"1d"`, `"0s"`.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let (number, unit) = split(text).ok_or(BAD_DURATION)?;
    let millis = match unit {
        "us" => 0.001,
        "ms" => 1.0,
        "s" => 1000.0,
        "m" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        _ => return Err(BAD_DURATION),
    };
    Duration::try_from_secs_f64(number * millis / 1000.0).map_err(|_| BAD_DURATION)
}

/// Writes a duration with the largest unit that keeps it whole.
pub fn format_duration(duration: Duration) -> String {
    let micros = duration.as_micros();
    let units = [(86_400_000_000, "d"), (3_600_000_000, "h"), (60_000_000, "m"), (1_000_000, "s"), (1000, "ms")];
    if micros == 0 {
        return "0s".into();
    }
    match units.iter().find(|(size, _)| micros.is_multiple_of(*size)) {
        Some((size, unit)) => format!("{}{unit}", micros / size),
        None => format!("{micros}us"),
    }
}

/// Reads `"512B"`, `"64KiB"`, `"1MiB"`, `"2GiB"`; also the decimal `kB`, `MB`, `GB`.
pub fn parse_size(text: &str) -> Result<ByteSize, UnitError> {
    let (number, unit) = split(text).ok_or(BAD_SIZE)?;
    let scale: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "kB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(BAD_SIZE),
    };
    let bytes = number * scale as f64;
    if bytes < 0.0 || bytes > (1u64 << 52) as f64 {
        return Err(BAD_SIZE);
    }
    Ok(ByteSize(bytes.round() as u64))
}

/// Reads `"5%"`, `"12.5%"`, `"125%"`.
pub fn parse_share(text: &str) -> Result<Ratio, UnitError> {
    match split(text).ok_or(BAD_SHARE)? {
        (number, "%") => Ok(Ratio(number / 100.0)),
        _ => Err(BAD_SHARE),
    }
}

fn split(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let number: f64 = text[..end].parse().ok()?;
    Some((number, &text[end..]))
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units.iter().find(|(size, _)| self.0 > 0 && self.0.is_multiple_of(*size)) {
            Some((size, unit)) => write!(f, "{}{unit}", self.0 / size),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounded to a millionth so that 0.07 reads "7%", not "7.000000000000001%".
        write!(f, "{}%", (self.0 * 1e8).round() / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, millis) in [("250ms", 250), ("1.5s", 1500), ("5m", 300_000), ("1h", 3_600_000), ("0s", 0)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "10", "s", "-1s", "1 s", "1.2.3s", "10x", "99999999999999999999d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        for text in ["250ms", "1500ms", "5m", "1h", "0s", "75s", "20us"] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), text);
        }
    }

    #[test]
    fn sizes_and_shares_are_read_and_written() {
        assert_eq!(parse_size("64KiB"), Ok(ByteSize(65_536)));
        assert_eq!(parse_size("1MB"), Ok(ByteSize(1_000_000)));
        assert!(parse_size("64").is_err() && parse_size("64kb").is_err() && parse_size("9999999TiB").is_err());
        assert_eq!(ByteSize(65_536).to_string(), "64KiB");
        assert_eq!(ByteSize(1000).to_string(), "1000B");
        assert_eq!(parse_share("12.5%"), Ok(Ratio(0.125)));
        assert!(parse_share("5").is_err() && parse_share("-5%").is_err());
        assert_eq!(Ratio(0.07).to_string(), "7%");
    }
}
