//! What a response's Date says (RFC 9110 section 6.6.1), written anew when a second has passed.
use crate::base::clock;
use std::cell::Cell;
use std::time::UNIX_EPOCH;

/// As in `Sun, 06 Nov 1994 08:49:37 GMT`.
pub type Text = [u8; 29];

/// One worker's date.
#[derive(Debug)]
pub struct Date {
    second: Cell<u64>,
    text: Cell<Text>,
}

impl Default for Date {
    fn default() -> Self {
        Self { second: Cell::new(0), text: Cell::new(*b"Thu, 01 Jan 1970 00:00:00 GMT") }
    }
}

impl Date {
    /// This second. Costs a reading of the clock.
    pub fn now(&self) -> Text {
        let now = clock::since_epoch();
        if now.as_secs() != self.second.get() {
            let text = httpdate::fmt_http_date(UNIX_EPOCH + now);
            // A year of five digits has no form; the last date stays.
            if let Ok(text) = text.as_bytes().try_into() {
                self.text.set(text);
            }
            self.second.set(now.as_secs());
        }
        self.text.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_date_is_that_of_the_second() {
        let date = Date::default();
        let before = clock::since_epoch().as_secs();
        let text = date.now();
        let told = httpdate::parse_http_date(std::str::from_utf8(&text).unwrap()).unwrap();
        let after = clock::since_epoch().as_secs();
        let seconds = told.duration_since(UNIX_EPOCH).unwrap();
        assert!(Duration::from_secs(before) <= seconds && seconds <= Duration::from_secs(after), "{seconds:?}");
    }
}
