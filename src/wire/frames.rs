//! Reads along with a client's HTTP/2 frames, their heads alone, to see what the `h2` crate does not say: floods of frames
//! that cost us work and ask for nothing, and a head that is begun but does not end.
//!
//! Frames that ask for something earn credit, those that do not spend it; so does what is sent to the client, and time.
use crate::base::clock;
use std::time::Duration;
use std::time::Instant;

/// Most frames that ask for nothing, ahead of what earned them.
const MAX_CONTROL: i64 = 1_000;
/// Most streams that are reset, ahead of those that were not.
const MAX_RESETS: i64 = 200;
/// Time that earns one frame of each kind: a hundred a second are nobody's attack.
const EARNS_ONE: Duration = Duration::from_millis(10);
/// Bytes sent that earn the client one frame: its window updates among them.
const SENT_EARNS_ONE: u64 = 256;
/// What a connection begins with (RFC 9113 section 3.4).
const PREFACE: u32 = 24;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What a client overdoes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flood {
    /// Streams are opened and reset.
    Resets,
    /// PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA and what nobody knows.
    Control,
}

/// Counts a client's frames.
#[derive(Debug)]
pub struct Meter {
    /// The head of the frame at hand, as far as it came.
    head: [u8; 9],
    have: usize,
    /// Bytes of the frame's payload that are still to come.
    left: u32,
    in_field_block: bool,
    /// Heads that ended.
    heads: u64,
    control: i64,
    resets: i64,
    sent: u64,
    earned_until: Instant,
    flood: Option<Flood>,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            head: [0; 9],
            have: 0,
            left: PREFACE,
            in_field_block: false,
            heads: 0,
            control: MAX_CONTROL,
            resets: MAX_RESETS,
            sent: 0,
            earned_until: clock::now(),
            flood: None,
        }
    }
}

impl Meter {
    /// What is overdone, if anything is. It stays so.
    pub fn flood(&self) -> Option<Flood> {
        self.flood
    }

    /// Which head, counted, the client has begun and not ended; a frame whose own head is not whole may be one.
    pub fn amid_head(&self) -> Option<u64> {
        let is_payload_of_head = self.left > 0 && self.have == 9 && matches!(self.head[3], HEADERS | CONTINUATION);
        let is_amid = self.in_field_block || is_payload_of_head || (self.left == 0 && self.have > 0);
        is_amid.then_some(self.heads)
    }

    /// So many bytes were sent to the client.
    pub fn sent(&mut self, count: usize) {
        self.sent += count as u64;
        self.control = (self.control + (self.sent / SENT_EARNS_ONE) as i64).min(MAX_CONTROL);
        self.sent %= SENT_EARNS_ONE;
    }

    /// A stream ended well.
    pub fn served(&mut self) {
        self.resets = (self.resets + 1).min(MAX_RESETS);
    }

    /// Looks at the next bytes that came.
    pub fn received(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let skipped = bytes.len().min(self.left as usize);
                self.left -= skipped as u32;
                bytes = &bytes[skipped..];
                if self.left == 0 {
                    self.have = 0;
                }
                continue;
            }
            let taken = bytes.len().min(9 - self.have);
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == 9 {
                self.frame();
            }
        }
    }

    fn frame(&mut self) {
        let length = u32::from_be_bytes([0, self.head[0], self.head[1], self.head[2]]);
        let (kind, flags) = (self.head[3], self.head[4]);
        self.left = length;
        if length == 0 {
            self.have = 0;
        }
        match kind {
            HEADERS | CONTINUATION => {
                self.in_field_block = flags & END_HEADERS == 0;
                self.heads += u64::from(!self.in_field_block);
            }
            DATA if length > 0 => self.control = (self.control + 1).min(MAX_CONTROL),
            DATA if flags & END_STREAM != 0 => {}
            RST_STREAM => {
                self.resets -= 1;
                self.settle(Flood::Resets);
            }
            _ => {
                self.control -= 1;
                self.settle(Flood::Control);
            }
        }
    }

    /// Credit ran out: time may have earned some. The clock is asked then, and only then.
    fn settle(&mut self, kind: Flood) {
        let credit = match kind {
            Flood::Resets => self.resets,
            Flood::Control => self.control,
        };
        if credit >= 0 {
            return;
        }
        let now = clock::now();
        let earned = now.duration_since(self.earned_until).as_millis() / EARNS_ONE.as_millis();
        let earned = i64::try_from(earned).unwrap_or(i64::MAX);
        if earned > 0 {
            self.earned_until = now;
            self.control = self.control.saturating_add(earned).min(MAX_CONTROL);
            self.resets = self.resets.saturating_add(earned).min(MAX_RESETS);
        }
        if credit.saturating_add(earned) < 0 {
            self.flood.get_or_insert(kind);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let mut bytes = vec![0, (payload >> 8) as u8, payload as u8, kind, flags, 0, 0, 0, 1];
        bytes.resize(9 + payload, b'x');
        bytes
    }

    fn fed(frames: &[Vec<u8>], step: usize) -> Meter {
        let mut meter = Meter::default();
        let mut bytes = vec![b'P'; PREFACE as usize];
        bytes.extend(frames.concat());
        for piece in bytes.chunks(step) {
            meter.received(piece);
        }
        meter
    }

    #[test]
    fn a_head_that_does_not_end_is_seen_whatever_the_split() {
        for step in [1, 2, 7, 9, 10, 1000] {
            let (open, whole) = (frame(HEADERS, 0, 40), frame(CONTINUATION, END_HEADERS, 30));
            assert!(fed(&[frame(4, 0, 6)], step).amid_head().is_none());
            assert!(fed(std::slice::from_ref(&open), step).amid_head().is_some());
            assert!(fed(&[open.clone(), whole.clone()], step).amid_head().is_none());
            assert!(fed(&[open.clone(), whole[..20].to_vec()], step).amid_head().is_some());
            assert!(fed(&[frame(HEADERS, END_HEADERS, 50)[..30].to_vec()], step).amid_head().is_some());
            assert!(fed(&[frame(4, 0, 6)[..5].to_vec()], step).amid_head().is_some(), "a frame's own head");
            assert!(fed(&[frame(DATA, 0, 50)[..30].to_vec()], step).amid_head().is_none(), "a body is not a head");
        }
    }

    #[test]
    fn frames_that_ask_for_nothing_are_bounded() {
        let many = |kind, flags, payload, count| vec![frame(kind, flags, payload); count];
        for (kind, flags, payload) in [(6, 0, 8), (4, 0, 0), (2, 0, 5), (8, 0, 4), (DATA, 0, 0), (77, 0, 3)] {
            assert_eq!(fed(&many(kind, flags, payload, 900), 4096).flood(), None, "{kind}");
            assert_eq!(fed(&many(kind, flags, payload, 50_000), 4096).flood(), Some(Flood::Control), "{kind}");
        }
        assert_eq!(fed(&many(DATA, 0, 10, 5_000), 4096).flood(), None);
        assert_eq!(fed(&many(RST_STREAM, 0, 4, 190), 4096).flood(), None);
        assert_eq!(fed(&many(RST_STREAM, 0, 4, 50_000), 4096).flood(), Some(Flood::Resets));
    }

    #[test]
    fn what_is_served_and_sent_earns_credit() {
        let mut meter = fed(&[], 1);
        for _ in 0..20_000 {
            meter.received(&frame(RST_STREAM, 0, 4));
            meter.served();
            meter.received(&frame(8, 0, 4));
            meter.sent(SENT_EARNS_ONE as usize);
        }
        assert_eq!(meter.flood(), None);
    }
}
