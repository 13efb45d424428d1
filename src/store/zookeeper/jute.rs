//! PURE: what goes over the wire to a ZooKeeper and back, as bytes: frames of big-endian numbers, and buffers with their length
//! before them.
use thiserror::Error;

/// Numbers of requests.
pub mod op {
    /// Creates a node.
    pub const CREATE: i32 = 1;
    /// Deletes a node.
    pub const DELETE: i32 = 2;
    /// Asks for what is told about a node.
    pub const EXISTS: i32 = 3;
    /// Asks for a node's value.
    pub const GET: i32 = 4;
    /// Gives a node another value.
    pub const SET: i32 = 5;
    /// Has a server catch up with the leader.
    pub const SYNC: i32 = 9;
    /// A sign of life.
    pub const PING: i32 = 11;
    /// Asks for the names below a node.
    pub const CHILDREN: i32 = 12;
    /// Several as one.
    pub const MULTI: i32 = 14;
    /// Creates a node and tells about it.
    pub const CREATE2: i32 = 15;
    /// Creates a container.
    pub const CREATE_CONTAINER: i32 = 19;
    /// Says who we are.
    pub const AUTH: i32 = 100;
    /// Ends a session.
    pub const CLOSE: i32 = -11;
}

/// Numbers that answers bear which are to no request of a caller's.
pub mod xid {
    /// An event of a watch.
    pub const EVENT: i32 = -1;
    /// The answer to a sign of life.
    pub const PING: i32 = -2;
    /// The answer to who we say we are.
    pub const AUTH: i32 = -4;
}

/// Whoever may do all, as a list of permissions has it.
const ALL: i32 = 0x1f;
/// Length of a frame's length.
const LENGTH: usize = 4;

/// Why a request was refused, by ZooKeeper's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{name} ({number})", name = self.name(), number = self.0)]
pub struct Code(pub i32);

impl Code {
    /// There is no such node.
    pub const NO_NODE: Self = Self(-101);
    /// There is such a node already.
    pub const NODE_EXISTS: Self = Self(-110);
    /// Of several requests that are one, another was refused.
    pub const CONSEQUENCE: Self = Self(-2);

    fn name(self) -> &'static str {
        match self.0 {
            -1 => "SystemError",
            -2 => "RuntimeInconsistency",
            -4 => "ConnectionLoss",
            -5 => "MarshallingError",
            -6 => "Unimplemented: ZooKeeper 3.5 or later is needed",
            -7 => "OperationTimeout",
            -8 => "BadArguments",
            -101 => "NoNode",
            -102 => "NoAuth: who we say we are may not do this",
            -103 => "BadVersion",
            -108 => "NoChildrenForEphemerals",
            -110 => "NodeExists",
            -111 => "NotEmpty",
            -112 => "SessionExpired",
            -114 => "InvalidACL",
            -115 => "AuthFailed",
            -118 => "SessionMoved",
            -119 => "NotReadOnly",
            -125 => "QuotaExceeded",
            -127 => "Throttled",
            _ => "refused",
        }
    }
}

/// What is written, with room for its length before it.
#[derive(Debug)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// A frame without a header.
    pub fn new() -> Self {
        Self(vec![0; LENGTH])
    }

    /// A request of this number.
    pub fn request(xid: i32, op: i32) -> Self {
        Self::new().int(xid).int(op)
    }

    /// A number of four bytes.
    pub fn int(mut self, number: i32) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// A number of eight bytes.
    pub fn long(mut self, number: i64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// Yes or no.
    pub fn bool(mut self, is_so: bool) -> Self {
        self.0.push(u8::from(is_so));
        self
    }

    /// Bytes of any number.
    pub fn buffer(mut self, bytes: &[u8]) -> Self {
        self = self.int(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
        self.0.extend_from_slice(bytes);
        self
    }

    /// Permissions of a new node: all to whoever we say we are, or to everybody.
    pub fn permissions(self, is_own: bool) -> Self {
        let (scheme, id) = if is_own { ("auth", "") } else { ("world", "anyone") };
        self.int(1).int(ALL).buffer(scheme.as_bytes()).buffer(id.as_bytes())
    }

    /// The frame.
    pub fn framed(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len() - LENGTH).unwrap_or(u32::MAX);
        self.0[..LENGTH].copy_from_slice(&length.to_be_bytes());
        self.0
    }
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

/// What was read, from its beginning. What is not there is `None`: then the rest means nothing.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of four bytes.
    pub fn int(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    /// A number of eight bytes.
    pub fn long(&mut self) -> Option<i64> {
        Some(i64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    /// Yes or no.
    pub fn bool(&mut self) -> Option<bool> {
        Some(self.take(1)?[0] != 0)
    }

    /// Bytes; none are as good as no bytes.
    pub fn buffer(&mut self) -> Option<&'a [u8]> {
        let length = self.int()?;
        self.take(usize::try_from(length).unwrap_or(0))
    }

    /// Text.
    pub fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.buffer()?).ok()
    }

    /// Several texts.
    pub fn texts(&mut self) -> Option<Vec<String>> {
        let count = self.int()?;
        (0..count).map(|_| self.text().map(str::to_string)).collect()
    }

    /// What is told about a node.
    pub fn stat(&mut self) -> Option<Stat> {
        let created = self.long()?;
        self.take(8 + 8 + 8 + 4 + 4 + 4)?;
        let owner = self.long()?;
        self.take(4 + 4 + 8)?;
        Some(Stat { created, owner })
    }
}

/// What is told about a node, as far as anybody here asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Which of all changes it was created by.
    pub created: i64,
    /// The session it goes with; 0 when it stays.
    pub owner: i64,
}

/// The length of the frame that begins here, once that is known.
///
/// # Errors
/// When it is none, or more than `max`.
pub fn frame_length(bytes: &[u8], max: usize) -> Result<Option<usize>, TooLong> {
    let Some(length) = bytes.first_chunk::<LENGTH>() else { return Ok(None) };
    let length = usize::try_from(i32::from_be_bytes(*length)).ok().filter(|length| *length <= max);
    length.map(|length| Some(LENGTH + length)).ok_or(TooLong)
}

/// A frame of no length that is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a frame that is too long, or no ZooKeeper")]
pub struct TooLong;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let frame = Writer::request(7, op::GET).buffer(b"/a").bool(true).long(-2).framed();
        assert_eq!(frame[..12], [0, 0, 0, 23, 0, 0, 0, 7, 0, 0, 0, 4]);
        assert_eq!(frame_length(&frame, 23), Ok(Some(27)));
        assert_eq!(frame_length(&frame, 22), Err(TooLong));
        assert_eq!(frame_length(&frame[..3], 22), Ok(None));
        assert_eq!(frame_length(b"HTTP/1.1", 1 << 20), Err(TooLong));
        let mut read = Reader(&frame[12..]);
        assert_eq!((read.text(), read.take(1), read.long(), read.int()), (Some("/a"), Some(&[1][..]), Some(-2), None));
    }

    #[test]
    fn what_is_cut_or_lies_about_its_length_is_nothing() {
        let mut stat = [0; 68];
        (stat[7], stat[51]) = (9, 5);
        assert_eq!(Reader(&stat).stat(), Some(Stat { created: 9, owner: 5 }));
        assert_eq!(Reader(&stat[..67]).stat(), None);
        assert_eq!(Reader(&[0xff; 4]).buffer(), Some(&[][..]));
        assert_eq!(Reader(&[0x7f, 0xff, 0xff, 0xff, 1]).buffer(), None);
        assert_eq!(Reader(&[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]).texts(), None);
        assert_eq!(Reader(&[0, 0, 0, 1, 0, 0, 0, 1, 0xff]).texts(), None, "no text");
    }

    #[test]
    fn refusals_have_names() {
        assert_eq!(Code::NO_NODE.to_string(), "NoNode (-101)");
        assert_eq!(Code(-9999).to_string(), "refused (-9999)");
    }
}
