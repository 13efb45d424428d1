//! The body that follows a head, read piece by piece and never whole.
use crate::head::Head;
use crate::http1::chunked::Decoded;
use crate::http1::chunked::Decoder;
use crate::http1::framing::BodyLength;
use crate::http1::limits::Limits;
use crate::http1::refusal::Refusal;
use crate::net::pipe::Pipe;
use crate::wire::Wire;
use crate::worker::buffers::BUFFER_SIZE;
use crate::worker::buffers::Buffers;
use bytes::Buf;
use bytes::BufMut;
use bytes::BytesMut;
use std::io;
use std::pin::pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use thiserror::Error;
use tokio::io::AsyncReadExt;

/// Largest first read of a body of known length: how much of it is waiting already is not known.
const MAX_FIRST_READ: u64 = 64 << 10;
/// What must still come of a body for the system to move it from socket to socket: below, a pipe saves less than it costs.
const MIN_SPLICED: u64 = 256 << 10;
/// Largest single read of a body.
const MAX_READ: usize = 256 << 10;

/// What one step brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// So many bytes of the body, at least one.
    Data(usize),
    /// The body is over.
    End,
}

/// Why a body did not come whole.
#[derive(Debug, Error)]
pub enum BodyError {
    /// The stream failed.
    #[error("read a body")]
    Io(#[from] io::Error),
    /// The peer closed within the body.
    #[error("the peer closed within a body")]
    Truncated,
    /// The chunks are malformed.
    #[error("accept a body")]
    Refused(#[from] Refusal),
    /// Nothing came for too long.
    #[error("no more of a body came in time")]
    Timeout,
    /// It is larger than allowed.
    #[error("a body is larger than allowed")]
    TooLarge,
}

/// Reads one body.
#[derive(Debug)]
pub struct BodyReader {
    state: State,
    read_size: usize,
}

#[derive(Debug)]
enum State {
    Ended,
    Length(u64),
    Chunked(Box<Decoder>),
    UntilClose,
}

impl BodyReader {
    /// A reader for a body of this length.
    pub fn new(length: BodyLength, limits: &Limits) -> Self {
        let mut read_size = BUFFER_SIZE;
        let state = match length {
            BodyLength::Empty | BodyLength::Length(0) => State::Ended,
            BodyLength::Length(bytes) => {
                read_size = read_size.max(bytes.min(MAX_FIRST_READ) as usize);
                State::Length(bytes)
            }
            BodyLength::Chunked => State::Chunked(Box::new(Decoder::new(limits))),
            BodyLength::UntilClose => State::UntilClose,
        };
        Self { state, read_size }
    }

    /// A reader of everything until the peer ends its side, whatever it means.
    pub fn of_tunnel() -> Self {
        Self { state: State::UntilClose, read_size: BUFFER_SIZE }
    }

    /// Whether all of it was read.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Whether so much of the body is still to come, all of it as it is, that the system should move it.
    pub fn is_spliceable(&self, wire: &Wire) -> bool {
        matches!(self.state, State::Length(left) if left >= MIN_SPLICED)
            && !wire.has_input()
            && wire.stream.plain().is_some()
    }

    /// Takes the next piece into a pipe that is empty, of a body that is [spliceable](Self::is_spliceable) or was so before.
    pub fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        wire: &mut Wire,
        pipe: &mut Pipe,
    ) -> Poll<Result<Step, BodyError>> {
        let State::Length(left) = self.state else { return Poll::Ready(Ok(Step::End)) };
        let Some(socket) = wire.stream.plain() else { return Poll::Ready(Err(BodyError::Truncated)) };
        let count = ready!(pipe.poll_fill(cx, socket, left))?;
        Poll::Ready(self.took(count))
    }

    /// Notes that so much of a body of known length was taken; 0 says that the peer closed.
    fn took(&mut self, count: usize) -> Result<Step, BodyError> {
        if let State::Length(left) = &mut self.state {
            if count == 0 {
                return Err(BodyError::Truncated);
            }
            *left -= count as u64;
            if *left == 0 {
                self.state = State::Ended;
            }
        }
        Ok(Step::Data(count))
    }

    /// Appends the next piece to `out`.
    pub fn poll_step(
        &mut self,
        cx: &mut Context<'_>,
        wire: &mut Wire,
        buffers: &Buffers,
        trailers: &mut Option<Box<Head>>,
        out: &mut BytesMut,
    ) -> Poll<Result<Step, BodyError>> {
        match &mut self.state {
            State::Ended => Poll::Ready(Ok(Step::End)),
            State::Length(left) => {
                let count = ready!(read_plain(cx, wire, buffers, out, *left, &mut self.read_size))?;
                Poll::Ready(self.took(count))
            }
            State::UntilClose => {
                let count = ready!(read_plain(cx, wire, buffers, out, u64::MAX, &mut self.read_size))?;
                if count == 0 {
                    self.state = State::Ended;
                    return Poll::Ready(Ok(Step::End));
                }
                Poll::Ready(Ok(Step::Data(count)))
            }
            State::Chunked(decoder) => {
                let (count, is_over) = ready!(read_chunked(cx, wire, buffers, decoder, out))?;
                if is_over {
                    *trailers = decoder.take_trailers().map(Box::new);
                    self.state = State::Ended;
                }
                Poll::Ready(Ok(if count == 0 { Step::End } else { Step::Data(count) }))
            }
        }
    }
}

/// Takes what was read already, else reads straight into `out`; 0 is the end of the stream.
fn read_plain(
    cx: &mut Context<'_>,
    wire: &mut Wire,
    buffers: &Buffers,
    out: &mut BytesMut,
    left: u64,
    read_size: &mut usize,
) -> Poll<Result<usize, BodyError>> {
    if wire.has_input() {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(wire.input.len());
        out.extend_from_slice(&wire.input[..count]);
        wire.input.advance(count);
        wire.release(buffers);
        return Poll::Ready(Ok(count));
    }
    let room = usize::try_from(left).unwrap_or(usize::MAX).min(*read_size);
    out.reserve(room);
    let mut limited = out.limit(room);
    let count = ready!(pin!(wire.stream.read_buf(&mut limited)).poll(cx))?;
    // A full read says that more is waiting: ask for more at a time.
    if count == *read_size {
        *read_size = (*read_size * 2).min(MAX_READ);
    }
    Poll::Ready(Ok(count))
}

/// Decodes what is there, reading until a piece of data came or the last chunk: how many bytes, and whether that was all.
fn read_chunked(
    cx: &mut Context<'_>,
    wire: &mut Wire,
    buffers: &Buffers,
    decoder: &mut Decoder,
    out: &mut BytesMut,
) -> Poll<Result<(usize, bool), BodyError>> {
    let mut count = 0;
    loop {
        while wire.has_input() {
            match decoder.decode(&wire.input)? {
                Decoded::Data { consumed, data } => {
                    count += data.len();
                    out.extend_from_slice(&wire.input[data]);
                    wire.input.advance(consumed);
                }
                Decoded::End { consumed } => {
                    wire.input.advance(consumed);
                    wire.release(buffers);
                    return Poll::Ready(Ok((count, true)));
                }
                Decoded::NeedMore { consumed } => {
                    wire.input.advance(consumed);
                    break;
                }
            }
        }
        if count > 0 {
            wire.release(buffers);
            return Poll::Ready(Ok((count, false)));
        }
        if ready!(wire.poll_fill(cx, buffers))? == 0 {
            return Poll::Ready(Err(BodyError::Truncated));
        }
    }
}
