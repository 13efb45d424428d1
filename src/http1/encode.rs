//! Head and edits to bytes.
//!
//! Framing is said here and nowhere else: the head's own Content-Length and Transfer-Encoding are written only where they
//! describe a body that does not follow (a response to HEAD, a 304).
use super::framing::BodyLength;
use crate::head::Field;
use crate::head::Head;
use crate::head::edits::Edits;
use crate::head::names::Name;
use bytes::BytesMut;
use std::ops::Range;

/// What is said of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// Nothing: HTTP/1.1 goes on by itself.
    Default,
    /// This message is the last.
    Close,
    /// It goes on although the peer speaks HTTP/1.0.
    KeepAlive,
}

/// Appends a request in origin-form with a body of this length. Host comes first, from the head's authority.
pub fn request(head: &Head, edits: &Edits, length: BodyLength, connection: Connection, out: &mut BytesMut) {
    out.extend_from_slice(head.method_text());
    out.extend_from_slice(b" ");
    out.extend_from_slice(edits.target(head));
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(head.authority().unwrap_or_default());
    out.extend_from_slice(b"\r\n");
    let announced = length != BodyLength::Empty;
    fields(head, edits, |name| matches!(name, Name::Host | Name::TransferEncoding | Name::ContentLength), out);
    if announced {
        framing(length, out);
    } else if head.has(Name::ContentLength) {
        // `Content-Length: 0` of a POST is not the same as none to many servers.
        out.extend_from_slice(b"Content-Length: 0\r\n");
    }
    end(edits, connection, out);
}

/// Appends a response with a body of this length. With `Empty` the head's own Content-Length stays: it tells how long the
/// body of another response would be.
pub fn response(head: &Head, edits: &Edits, length: BodyLength, connection: Connection, out: &mut BytesMut) {
    out.extend_from_slice(b"HTTP/1.1 ");
    let mut status = itoa::Buffer::new();
    out.extend_from_slice(status.format(head.status()).as_bytes());
    out.extend_from_slice(b" ");
    let given = head.reason();
    out.extend_from_slice(if given.is_empty() { reason(head.status()).as_bytes() } else { given });
    out.extend_from_slice(b"\r\n");
    let keeps_length = length == BodyLength::Empty && !matches!(head.status(), 100..200 | 204);
    let skips = |name| name == Name::TransferEncoding || (name == Name::ContentLength && !keeps_length);
    fields(head, edits, skips, out);
    framing(length, out);
    end(edits, connection, out);
}

fn framing(length: BodyLength, out: &mut BytesMut) {
    match length {
        BodyLength::Length(bytes) => {
            let mut number = itoa::Buffer::new();
            out.extend_from_slice(b"Content-Length: ");
            out.extend_from_slice(number.format(bytes).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        BodyLength::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        BodyLength::Empty | BodyLength::UntilClose => {}
    }
}

fn end(edits: &Edits, connection: Connection, out: &mut BytesMut) {
    out.extend_from_slice(edits.lines());
    out.extend_from_slice(match connection {
        Connection::Default => b"\r\n",
        Connection::Close => b"Connection: close\r\n\r\n",
        Connection::KeepAlive => b"Connection: keep-alive\r\n\r\n",
    });
}

/// Lines that came as they go on, one after the other, are copied together.
fn fields(head: &Head, edits: &Edits, skips: impl Fn(Name) -> bool, out: &mut BytesMut) {
    let bytes = head.bytes();
    let mut together = 0..0;
    for (index, field) in head.fields().iter().enumerate() {
        if skips(field.known) || edits.is_dropped(index) {
            continue;
        }
        if let Some(line) = line_of(bytes, field) {
            if line.start != together.end {
                out.extend_from_slice(&bytes[std::mem::replace(&mut together, line.start..line.start)]);
            }
            together.end = line.end;
            continue;
        }
        out.extend_from_slice(&bytes[std::mem::take(&mut together)]);
        for part in [head.name_of(field), b": ", head.value_of(field), b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    out.extend_from_slice(&bytes[together]);
}

/// Where the field's line is in the head's bytes, if it is there just as it would be written: `Name: value` and CRLF.
fn line_of(bytes: &[u8], field: &Field) -> Option<Range<usize>> {
    let (name, value) = (field.name.range(), field.value.range());
    let end = value.end + 2;
    let is_there = bytes.get(name.end..value.start) == Some(b": ") && bytes.get(value.end..end) == Some(b"\r\n");
    is_there.then_some(name.start..end)
}

/// The usual phrase of a status, for heads that came without one.
fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("")
}
