//! A request or response head, the only one in the house: method, target and fields as ranges into one buffer.
//!
//! Parsers fill it (`crate::http1`, the HTTP/2 edge), everybody else reads it, and changes are [`edits::Edits`] applied
//! while it is encoded; a head itself is never edited. How it was parsed and on which version it goes out is not known here.
//!
//! ```
//! use ringway::head::{Head, Method, names::Name};
//! let mut head = Head::default();
//! head.set_request(Method::Get, b"GET", b"/a?b=1");
//! head.push(b"Host", b"example.com");
//! assert_eq!(head.path(), b"/a");
//! assert_eq!(head.get(Name::Host), Some(&b"example.com"[..]));
//! ```
pub mod edits;
pub mod names;

use names::Name;
use std::net::IpAddr;
use std::ops::Range;

/// Who asks: what is known of a client beside its request's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// The client's address: the peer's, or the right-most untrusted one a trusted proxy reported.
    pub ip: IpAddr,
    /// Whether the client's side is encrypted (its scheme is `https`).
    pub secure: bool,
}

/// The protocol version a head came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
    /// HTTP/2
    Http2,
}

impl Version {
    /// As access logs write it: `HTTP/1.1`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

/// A request method; methods outside RFC 9110 and PATCH are `Other` and keep their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
    Other,
}

impl Method {
    /// Recognises a method; methods are case-sensitive (RFC 9110 section 9.1).
    pub fn of(text: &[u8]) -> Self {
        match text {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"CONNECT" => Self::Connect,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"PATCH" => Self::Patch,
            _ => Self::Other,
        }
    }

    /// Whether repeating it has the effect of doing it once (RFC 9110 section 9.2.2).
    pub fn is_idempotent(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Put | Self::Delete | Self::Options | Self::Trace)
    }
}

/// A range of a head's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Number of bytes.
    pub len: u32,
}

impl Span {
    /// The range `start..end`; heads are limited to far less than 4 GiB.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, len: (end - start) as u32 }
    }

    /// The bytes of this range in `buf`.
    #[inline]
    pub fn of(self, buf: &[u8]) -> &[u8] {
        &buf[self.range()]
    }

    /// The same as offsets.
    #[inline]
    pub fn range(self) -> Range<usize> {
        self.start as usize..(self.start + self.len) as usize
    }
}

/// One field line: name and value as ranges, and the name's number when it is a known one.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// The name as it was received.
    pub name: Span,
    /// The value without surrounding white space.
    pub value: Span,
    /// Which known name it is.
    pub known: Name,
}

/// A head has a bit for each of them.
const _: () = assert!((Name::Reserved as u32) < u32::BITS);

/// A request or response head. Reused from request to request: `clear` keeps its memory.
#[derive(Debug, Clone, Default)]
pub struct Head {
    buf: Vec<u8>,
    fields: Vec<Field>,
    version: Version,
    method: Method,
    method_text: Span,
    target: Span,
    authority: Option<Span>,
    status: u16,
    reason: Span,
    /// A bit for each known name that a field has: most look-ups are for names that are not there.
    present: u32,
}

impl Head {
    /// Empties the head and keeps its memory.
    pub fn clear(&mut self) {
        self.buf.clear();
        self.fields.clear();
        self.version = Version::default();
        self.method = Method::default();
        self.method_text = Span::default();
        self.target = Span::default();
        self.authority = None;
        self.status = 0;
        self.reason = Span::default();
        self.present = 0;
    }

    /// Bytes of memory that it has, used or not.
    pub fn capacity(&self) -> usize {
        self.buf.capacity() + self.fields.capacity() * size_of::<Field>()
    }

    /// Appends bytes to the buffer and says where they lie: for parsers that decode piece by piece.
    pub fn append(&mut self, bytes: &[u8]) -> Span {
        let start = self.buf.len();
        self.buf.extend_from_slice(bytes);
        Span::new(start, self.buf.len())
    }

    /// Adds a field whose name and value already lie in the buffer.
    #[inline]
    pub fn push_span(&mut self, name: Span, value: Span, known: Name) {
        self.present |= 1 << known as u32;
        self.fields.push(Field { name, value, known });
    }

    /// Adds a field, copying its bytes.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let (name_span, value_span) = (self.append(name), self.append(value));
        self.push_span(name_span, value_span, Name::of(name));
    }

    /// Makes this a request of `method` for `target` (origin-form: path and query, or `*`), copying the bytes.
    pub fn set_request(&mut self, method: Method, method_text: &[u8], target: &[u8]) {
        let (method_text, target) = (self.append(method_text), self.append(target));
        self.set_request_spans(method, method_text, target);
    }

    /// Makes this a request whose method and target already lie in the buffer.
    pub fn set_request_spans(&mut self, method: Method, method_text: Span, target: Span) {
        self.method = method;
        self.method_text = method_text;
        self.target = target;
    }

    /// Makes this a response with `status`; its reason phrase already lies in the buffer.
    pub fn set_response(&mut self, status: u16, reason: Span) {
        self.status = status;
        self.reason = reason;
    }

    /// Names the protocol version it came in.
    pub fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    /// Names the authority the request is for: an absolute target's, `:authority`, or the `Host` field's value.
    pub fn set_authority(&mut self, authority: Span) {
        self.authority = Some(authority);
    }

    /// The protocol version it came in.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The method.
    pub fn method(&self) -> Method {
        self.method
    }

    /// The method's bytes, also for methods that are `Other`.
    pub fn method_text(&self) -> &[u8] {
        self.method_text.of(&self.buf)
    }

    /// Path and query as they go to the endpoint, or `*`.
    pub fn target(&self) -> &[u8] {
        self.target.of(&self.buf)
    }

    /// The raw path: the target up to its `?`.
    pub fn path(&self) -> &[u8] {
        let target = self.target();
        &target[..memchr::memchr(b'?', target).unwrap_or(target.len())]
    }

    /// The raw query: what follows the `?`, if there is one.
    pub fn query(&self) -> Option<&[u8]> {
        let target = self.target();
        memchr::memchr(b'?', target).map(|at| &target[at + 1..])
    }

    /// The authority the request is for, as received (letter case and port kept).
    pub fn authority(&self) -> Option<&[u8]> {
        self.authority.map(|span| span.of(&self.buf))
    }

    /// The buffer that all spans lie in.
    pub fn bytes(&self) -> &[u8] {
        &self.buf
    }

    /// The status of a response; 0 for a request.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The reason phrase of a response.
    pub fn reason(&self) -> &[u8] {
        self.reason.of(&self.buf)
    }

    /// All fields in order, for use with [`Head::name_of`] and [`Head::value_of`].
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The name of one of this head's fields.
    #[inline]
    pub fn name_of(&self, field: &Field) -> &[u8] {
        field.name.of(&self.buf)
    }

    /// The value of one of this head's fields.
    #[inline]
    pub fn value_of(&self, field: &Field) -> &[u8] {
        field.value.of(&self.buf)
    }

    /// The value of the first field with a known name.
    pub fn get(&self, name: Name) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// Whether some field has this name; costs next to nothing.
    #[inline]
    pub fn has(&self, name: Name) -> bool {
        self.present >> name as u32 & 1 == 1
    }

    /// The values of all fields with a known name, in order.
    pub fn all(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        let fields = if self.has(name) { &self.fields[..] } else { &[] };
        fields.iter().filter(move |field| field.known == name).map(|field| self.value_of(field))
    }

    /// The values of all fields called `name`, letter case aside, in order.
    pub fn all_named<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.fields
            .iter()
            .filter(move |field| self.name_of(field).eq_ignore_ascii_case(name))
            .map(|field| self.value_of(field))
    }

    /// Whether any field called `name`, a known one, lists `token` (comma-separated, letter case aside).
    pub fn lists(&self, name: Name, token: &[u8]) -> bool {
        self.all(name).any(|value| tokens(value).any(|item| item.eq_ignore_ascii_case(token)))
    }
}

/// Whether `text` is a token (RFC 9110 section 5.6.2): what names of fields, cookies and methods are made of.
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| is_token_byte(*byte))
}

/// Whether a token may have this byte.
#[inline]
pub fn is_token_byte(byte: u8) -> bool {
    const TOKEN_BYTES: [bool; 256] = {
        let (mut table, mut byte) = ([false; 256], 0);
        while byte < 256 {
            let b = byte as u8;
            table[byte] = b.is_ascii_alphanumeric()
                || matches!(b, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~');
            byte += 1;
        }
        table
    };
    TOKEN_BYTES[byte as usize]
}

/// The items of a comma-separated list without surrounding white space; empty items are left out (RFC 9110 section 5.6.1).
pub fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_answers_for_its_fields() {
        let mut head = Head::default();
        head.set_request(Method::Post, b"POST", b"/p?a=1?b");
        head.push(b"Connection", b"close, X-Hop");
        head.push(b"x-a", b"1");
        head.push(b"X-A", b"2");
        assert_eq!((head.path(), head.query()), (&b"/p"[..], Some(&b"a=1?b"[..])));
        assert!(head.lists(Name::Connection, b"x-hop") && !head.lists(Name::Connection, b"hop"));
        assert_eq!(head.all_named(b"X-a").collect::<Vec<_>>(), [b"1", b"2"]);
        head.clear();
        assert!(head.fields().is_empty() && head.target().is_empty());
    }
}
