//! A request's body on its way: counted, limited, and its beginning kept so that it can be sent once more.
use crate::head::Head;
use crate::head::edits::Edits;
use crate::http1::framing::BodyLength;
use crate::net::pipe::Pipe;
use crate::wire::body::BodyError;
use crate::wire::body::Step;
use bytes::BytesMut;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

/// Body bytes kept for another attempt.
const MAX_KEPT: usize = 16 << 10;

/// The client's side of one request: where its body comes from and where interim responses go.
pub trait Downstream {
    /// Whether a body of known length is over with its last byte; otherwise the client's side says so.
    const ENDS_BY_LENGTH: bool;

    /// Appends the next piece of the body to `out`. Fails when the client leaves, stalls or sends garbage.
    fn poll_data(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<Result<Step, BodyError>>;

    /// Whether the system should move what is still to come of the body.
    fn is_spliceable(&self) -> bool {
        false
    }

    /// [`Self::poll_data`] into a pipe that is empty, of a body that is [spliceable](Self::is_spliceable) or was so before.
    fn poll_splice(&mut self, _: &mut Context<'_>, _: &mut Pipe) -> Poll<Result<Step, BodyError>> {
        Poll::Ready(Err(BodyError::Truncated))
    }

    /// The trailers, once the body is over.
    fn take_trailers(&mut self) -> Option<Box<Head>>;

    /// Sends an interim response (1xx) if the client's version can take it.
    fn send_interim(&mut self, head: &Head, edits: &Edits);
}

/// A request's body, taken from its client piece by piece. In a box, for it goes all the way with the request.
#[derive(Debug)]
pub struct RequestBody<D> {
    downstream: D,
    length: BodyLength,
    limit: Option<u64>,
    received: u64,
    kept: Option<BytesMut>,
    replayed: usize,
    is_ended: bool,
}

impl<D: Downstream> RequestBody<D> {
    /// A body of this length, refused above `limit` bytes.
    pub fn new(downstream: D, length: BodyLength, limit: Option<u64>) -> Box<Self> {
        let is_ended = matches!(length, BodyLength::Empty | BodyLength::Length(0));
        let kept = Some(BytesMut::new());
        Box::new(Self { downstream, length, limit, received: 0, kept, replayed: 0, is_ended })
    }

    /// How it is framed.
    pub fn length(&self) -> BodyLength {
        self.length
    }

    /// Bytes taken from the client.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Whether the client has nothing more to send.
    pub fn is_ended(&self) -> bool {
        self.is_ended && self.kept.as_ref().is_none_or(|kept| self.replayed == kept.len())
    }

    /// Whether everything taken so far can be sent again.
    pub fn can_replay(&self) -> bool {
        self.kept.is_some()
    }

    /// Starts over with what was kept, for another attempt.
    pub fn rewind(&mut self) {
        self.replayed = 0;
    }

    /// The client's side, for interim responses and trailers.
    pub fn downstream(&mut self) -> &mut D {
        &mut self.downstream
    }

    /// The client's side, once the body is over.
    pub fn into_downstream(self) -> D {
        self.downstream
    }

    /// Forgets what was kept: no attempt follows.
    pub fn commit(&mut self) {
        self.replayed = 0;
        self.kept = None;
    }

    /// Whether the announced length is above the limit.
    pub fn is_over_limit(&self) -> bool {
        matches!((self.length, self.limit), (BodyLength::Length(length), Some(limit)) if length > limit)
    }

    /// Appends the next piece to `out`.
    pub fn poll_data(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<Result<Step, BodyError>> {
        if let Some(kept) = self.kept.as_ref().filter(|kept| kept.len() > self.replayed) {
            let count = kept.len() - self.replayed;
            out.extend_from_slice(&kept[self.replayed..]);
            self.replayed += count;
            return Poll::Ready(Ok(Step::Data(count)));
        }
        if self.is_ended {
            return Poll::Ready(Ok(Step::End));
        }
        let before = out.len();
        let step = ready!(self.downstream.poll_data(cx, out))?;
        self.keep(&out[before..]);
        self.took(step).into()
    }

    /// Whether the system should move what is still to come: nothing of it can be sent once more then.
    pub fn is_spliceable(&self) -> bool {
        let is_fresh = self.kept.as_ref().is_none_or(|kept| kept.len() == self.replayed);
        is_fresh && !self.is_ended && self.downstream.is_spliceable()
    }

    /// [`Self::poll_data`] into a pipe that is empty, of a body that is [spliceable](Self::is_spliceable) or was so before.
    pub fn poll_splice(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<Result<Step, BodyError>> {
        if self.is_ended {
            return Poll::Ready(Ok(Step::End));
        }
        let step = ready!(self.downstream.poll_splice(cx, pipe))?;
        if let Step::Data(_) = step {
            self.commit();
        }
        self.took(step).into()
    }

    /// Counts a piece of the body, or notes its end.
    fn took(&mut self, step: Step) -> Result<Step, BodyError> {
        match step {
            Step::Data(count) => {
                self.received += count as u64;
                if self.limit.is_some_and(|limit| self.received > limit) {
                    return Err(BodyError::TooLarge);
                }
                if D::ENDS_BY_LENGTH && matches!(self.length, BodyLength::Length(length) if length == self.received) {
                    self.is_ended = true;
                }
            }
            Step::End => self.is_ended = true,
        }
        Ok(step)
    }

    fn keep(&mut self, piece: &[u8]) {
        let Some(kept) = &mut self.kept else { return };
        if kept.len() + piece.len() > MAX_KEPT {
            self.kept = None;
            self.replayed = 0;
        } else {
            kept.extend_from_slice(piece);
            self.replayed = kept.len();
        }
    }
}
