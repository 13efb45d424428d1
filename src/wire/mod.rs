//! HTTP/1.1 on a stream: what both sides share of reading heads and bodies. Parsing is `crate::http1`'s; what a message
//! means is not known here.
pub mod batch;
pub mod body;
pub mod frames;

use crate::head::Head;
use crate::http1::limits::Limits;
use crate::http1::parse;
use crate::http1::refusal::Refusal;
use crate::net::pipe::Pipe;
use crate::net::stream::Stream;
use crate::worker::buffers::Buffers;
use bytes::Buf;
use bytes::BytesMut;
use std::io;
use std::pin::Pin;
use std::pin::pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;

/// As long as no more has come, whatever cannot become a head is refused with its first wrong byte.
const ALWAYS_TRIED: usize = 256;

/// Which kind of head is expected.
pub type Parser = fn(&[u8], &Limits, &mut Head) -> Result<parse::Progress, Refusal>;

/// Why no head came.
#[derive(Debug, Error)]
pub enum HeadError {
    /// The peer closed before the first byte of a head.
    #[error("the peer closed")]
    Closed,
    /// The peer closed within a head.
    #[error("the peer closed within a head")]
    Truncated,
    /// The stream failed.
    #[error("read a head")]
    Io(#[from] io::Error),
    /// What came is not a head that may be accepted.
    #[error("accept a head")]
    Refused(#[from] Refusal),
}

/// A stream and what was read of it but not used yet. Owns no buffer while nothing is in flight.
#[derive(Debug)]
pub struct Wire {
    /// The stream itself.
    pub stream: Stream,
    input: BytesMut,
    /// Bytes of the input in which no whole head was found.
    tried: u32,
}

impl Wire {
    /// A wire on which nothing was read yet.
    pub fn new(stream: Stream) -> Self {
        Self { stream, input: BytesMut::new(), tried: 0 }
    }

    /// Whether bytes were read that nobody used yet.
    pub fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// How many bytes were read that nobody used yet.
    pub fn input_len(&self) -> usize {
        self.input.len()
    }

    /// Reads a head, appending to what is there until it is whole. A buffer is borrowed when the first byte may come and
    /// given back when none did.
    pub fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &Buffers,
        parser: Parser,
        limits: &Limits,
        head: &mut Head,
    ) -> Poll<Result<(), HeadError>> {
        loop {
            if self.may_be_whole(limits) {
                head.clear();
                if let parse::Progress::Complete { consumed } = parser(&self.input, limits, head)? {
                    self.input.advance(consumed);
                    self.tried = 0;
                    self.release(buffers);
                    return Poll::Ready(Ok(()));
                }
                self.tried = u32::try_from(self.input.len()).unwrap_or(u32::MAX);
            }
            let began = !self.input.is_empty();
            if ready!(self.poll_fill(cx, buffers))? == 0 {
                return Poll::Ready(Err(if began { HeadError::Truncated } else { HeadError::Closed }));
            }
        }
    }

    /// Whether what came since a head was last looked for may end it, or make it bad. A head that comes byte by byte would cost the
    /// square of its length if it were read anew each time.
    fn may_be_whole(&self, limits: &Limits) -> bool {
        let (length, tried) = (self.input.len(), self.tried as usize);
        let has_line = || memchr::memchr(b'\n', self.input.get(tried..).unwrap_or_default()).is_some();
        length > 0
            && (length <= ALWAYS_TRIED || length >= tried + tried / 8 || length > limits.max_head_bytes || has_line())
    }

    /// Reads once into the input; 0 is the end of the stream.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, buffers: &Buffers) -> Poll<io::Result<usize>> {
        if self.input.capacity() == 0 {
            // Most often nothing has come yet: then no buffer is borrowed for it.
            ready!(self.stream.poll_readable(cx))?;
            self.input = buffers.take();
        }
        let read = pin!(self.stream.read_buf(&mut self.input)).poll(cx);
        if read.is_pending() {
            self.release(buffers);
        }
        read
    }

    /// Writes what it can of `out`; ready when `out` is empty.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<io::Result<()>> {
        while !out.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, out))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            out.advance(written);
        }
        // TLS may hold encrypted bytes back; on TCP this does nothing.
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Writes what it can of `out`, and what is in the pipe after it; ready when both are empty. What bytes from a pipe go to is not TLS.
    pub fn poll_write_all(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut BytesMut,
        pipe: Option<&mut Pipe>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_write(cx, out))?;
        match (pipe, self.stream.plain()) {
            (Some(pipe), Some(socket)) => pipe.poll_drain(cx, socket),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Reads and forgets; 0 is the end of the stream.
    pub fn poll_discard(&mut self, cx: &mut Context<'_>, buffers: &Buffers) -> Poll<io::Result<usize>> {
        self.input.clear();
        let read = self.poll_fill(cx, buffers);
        self.input.clear();
        read
    }

    /// Closes our side; the peer may still send.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    /// Gives the input's buffer back if nothing is in it.
    pub fn release(&mut self, buffers: &Buffers) {
        if self.input.is_empty() && self.input.capacity() > 0 {
            buffers.give(std::mem::take(&mut self.input));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::stream::Socket;

    /// How often a head is looked for in `bytes`, when they come one by one.
    fn looks(bytes: impl IntoIterator<Item = u8>) -> usize {
        let (_peer, ours) = tokio::net::UnixStream::pair().unwrap();
        let mut wire = Wire::new(Stream::Plain(Socket::Unix(ours)));
        let mut looks = 0;
        for byte in bytes {
            wire.input.extend_from_slice(&[byte]);
            if wire.may_be_whole(&Limits::default()) {
                looks += 1;
                wire.tried = wire.input.len() as u32;
            }
        }
        looks
    }

    #[tokio::test]
    async fn a_head_that_comes_byte_by_byte_is_not_read_anew_each_time() {
        let most = Limits::default().max_head_bytes;
        let short = looks(std::iter::repeat_n(b'x', ALWAYS_TRIED));
        assert_eq!(short, ALWAYS_TRIED);
        let long = looks(std::iter::repeat_n(b'x', most));
        assert!(long < ALWAYS_TRIED + 50, "{long} looks at {most} bytes");
        // The end of a line, and too many bytes, are seen at once.
        let lines = std::iter::repeat_n(b'x', 1000).chain(*b"\r\n\r\n").chain(*b"\r\n");
        assert_eq!(looks(lines) - looks(std::iter::repeat_n(b'x', 1000)), 3);
        assert_eq!(looks(std::iter::repeat_n(b'x', most + 2)) - long, 2);
    }
}
