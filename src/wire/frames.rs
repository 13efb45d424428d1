//! Reads along with a client's HTTP/2 frames to see what the `h2` crate does not say: floods of frames that cost us work and ask
//! for nothing, a head that is begun but does not end, field blocks that it takes although something in them is wrong, and what
//! it would end a connection for with another code than RFC 9113 has.
//!
//! Frames that ask for something earn credit, those that do not spend it; so does what is sent to the client, and time.
use crate::base::clock;
use crate::http2::glance::Glance;
use crate::http2::glance::Malformed;
use std::mem;
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
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const WITH_PRIORITY: u8 = 0x20;
/// Bytes of one field block that are kept until it ends; `h2` ends the connection long before.
const MAX_BLOCK: usize = 256 << 10;
/// Streams whose fields are wrong and that nobody has asked about yet.
const MAX_MARRED: usize = 256;

/// What a client overdoes, or gets wrong for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A frame of a length that its kind never has.
    FrameSize,
    /// A field block that is none.
    Compression,
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
    fault: Option<Fault>,
    glance: Glance,
    /// The payload at hand, and the field block at hand, as far as they came in pieces.
    payload: Vec<u8>,
    block: Vec<u8>,
    /// The stream whose field block is at hand, and the last one that was opened.
    stream: u32,
    last_stream: u32,
    marred: Vec<u32>,
    /// Whether a field block was broken into, or gone on with where there is none: `h2` ends the connection for that.
    is_out_of_order: bool,
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
            fault: None,
            glance: Glance::default(),
            payload: Vec::new(),
            block: Vec::new(),
            stream: 0,
            last_stream: 0,
            marred: Vec::new(),
            is_out_of_order: false,
        }
    }
}

impl Meter {
    /// What is overdone or wrong, if anything is. It stays so.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Whether the fields that came last for this stream are wrong in a way that `h2` passes over: its path has a fragment, or its
    /// trailers pseudo-fields. Told once.
    pub fn take_marred(&mut self, stream: u32) -> bool {
        let place = self.marred.iter().position(|marred| *marred == stream);
        place.map(|place| self.marred.swap_remove(place)).is_some()
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

    /// Looks at the next bytes that came. Gives how many of them `h2` should see: not the rest, when it would say something else
    /// about it than we do.
    pub fn received(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let taken = if self.left > 0 { self.payload(rest) } else { self.frame_head(rest) };
            if matches!(self.fault, Some(Fault::FrameSize | Fault::Compression)) {
                return at;
            }
            at += taken;
        }
        at
    }

    fn payload(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.left as usize);
        if self.have == 9 && matches!(self.head[3], HEADERS | CONTINUATION) {
            self.fields(&bytes[..taken], taken == self.left as usize);
        }
        self.left -= taken as u32;
        if self.left == 0 {
            self.have = 0;
        }
        taken
    }

    fn frame_head(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(9 - self.have);
        self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
        self.have += taken;
        if self.have == 9 {
            self.frame();
        }
        taken
    }

    fn frame(&mut self) {
        let length = u32::from_be_bytes([0, self.head[0], self.head[1], self.head[2]]);
        let (kind, flags) = (self.head[3], self.head[4]);
        self.left = length;
        let is_sized = match kind {
            PRIORITY => length == 5,
            RST_STREAM | WINDOW_UPDATE => length == 4,
            PING => length == 8,
            SETTINGS => length.is_multiple_of(6) && (length == 0 || flags & ACK == 0),
            _ => true,
        };
        if !is_sized {
            self.fault.get_or_insert(Fault::FrameSize);
        }
        let stream = u32::from_be_bytes([self.head[5] & 0x7f, self.head[6], self.head[7], self.head[8]]);
        let goes_on = self.in_field_block && kind == CONTINUATION && stream == self.stream;
        self.is_out_of_order |= (self.in_field_block || kind == CONTINUATION) && !goes_on;
        match kind {
            HEADERS | CONTINUATION => {
                self.stream = stream;
                self.in_field_block = flags & END_HEADERS == 0;
                self.heads += u64::from(!self.in_field_block);
                if length == 0 {
                    self.fields(&[], true);
                }
            }
            DATA if length > 0 => self.control = (self.control + 1).min(MAX_CONTROL),
            DATA if flags & END_STREAM != 0 => {}
            RST_STREAM => {
                self.resets -= 1;
                self.settle(Fault::Resets);
            }
            _ => {
                self.control -= 1;
                self.settle(Fault::Control);
            }
        }
        if length == 0 {
            self.have = 0;
        }
    }

    /// The next piece of a payload with fields; most often all of it.
    fn fields(&mut self, piece: &[u8], is_last: bool) {
        if self.is_out_of_order {
            return;
        }
        if !is_last {
            return self.payload.extend_from_slice(piece);
        }
        if self.payload.is_empty() {
            return self.block(piece);
        }
        let mut payload = mem::take(&mut self.payload);
        payload.extend_from_slice(piece);
        self.block(&payload);
    }

    /// A whole payload with fields. Kept until the block is whole; most often it is.
    fn block(&mut self, payload: &[u8]) {
        let (kind, flags) = (self.head[3], self.head[4]);
        let fragment = if kind == HEADERS { unwrapped(payload, flags) } else { Some(payload) };
        // What does not fit its own lengths is for `h2` to refuse.
        let Some(fragment) = fragment else { return };
        if flags & END_HEADERS == 0 || !self.block.is_empty() {
            if self.block.len() + fragment.len() > MAX_BLOCK {
                self.fault.get_or_insert(Fault::Control);
                return;
            }
            self.block.extend_from_slice(fragment);
        }
        if flags & END_HEADERS == 0 {
            return;
        }
        let block = mem::take(&mut self.block);
        let seen = self.glance.at(if block.is_empty() { fragment } else { &block });
        let is_trailers = self.stream <= self.last_stream;
        self.last_stream = self.last_stream.max(self.stream);
        match seen {
            Err(Malformed) => drop(self.fault.get_or_insert(Fault::Compression)),
            Ok(remarks) if remarks.has_fragment || (is_trailers && remarks.has_pseudo) => self.mar(),
            Ok(_) => {}
        }
    }

    fn mar(&mut self) {
        if self.marred.len() == MAX_MARRED {
            self.fault.get_or_insert(Fault::Control);
        } else {
            self.marred.push(self.stream);
        }
    }

    /// Credit ran out: time may have earned some. The clock is asked then, and only then.
    fn settle(&mut self, kind: Fault) {
        let credit = match kind {
            Fault::Resets => self.resets,
            _ => self.control,
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
            self.fault.get_or_insert(kind);
        }
    }
}

/// The fragment of a field block in the payload of a HEADERS frame (RFC 9113 section 6.2); `None`: its own lengths do not fit.
fn unwrapped(mut payload: &[u8], flags: u8) -> Option<&[u8]> {
    let mut padding = 0;
    if flags & PADDED != 0 {
        let (first, rest) = payload.split_first()?;
        (padding, payload) = (usize::from(*first), rest);
    }
    if flags & WITH_PRIORITY != 0 {
        payload = payload.get(5..)?;
    }
    payload.get(..payload.len().checked_sub(padding)?)
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
            assert_eq!(fed(&many(kind, flags, payload, 900), 4096).fault(), None, "{kind}");
            assert_eq!(fed(&many(kind, flags, payload, 50_000), 4096).fault(), Some(Fault::Control), "{kind}");
        }
        assert_eq!(fed(&many(DATA, 0, 10, 5_000), 4096).fault(), None);
        assert_eq!(fed(&many(RST_STREAM, 0, 4, 190), 4096).fault(), None);
        assert_eq!(fed(&many(RST_STREAM, 0, 4, 50_000), 4096).fault(), Some(Fault::Resets));
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
        assert_eq!(meter.fault(), None);
    }
}
