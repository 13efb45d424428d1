//! Writes a response to the client of an HTTP/1.1 connection: framing, back-pressure, deadlines, and what follows its end.
use super::Http1Downstream;
use super::Outcome;
use super::Side;
use crate::head::Version;
use crate::http1::chunked;
use crate::http1::encode;
use crate::http1::framing::BodyLength;
use crate::proxy::error::Kind;
use crate::proxy::response::Response;
use crate::proxy::tunnel::Ended;
use crate::wire::body::BodyError;
use crate::wire::body::BodyReader;
use crate::wire::body::Step;
use crate::worker::Worker;
use crate::worker::buffers::LentPipe;
use bytes::BytesMut;
use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

/// Response bytes that may wait for a slow client before the endpoint has to wait too.
const HIGH_WATER: usize = 64 << 10;

/// Writes the response to its end, and moves what is left of the request after it.
pub(super) async fn respond(
    side: &Rc<RefCell<Side>>,
    response: Response<Http1Downstream>,
    version: Version,
    mut keeps_alive: bool,
) -> Outcome {
    if response.is_unspoken() {
        return Outcome::Gone;
    }
    let door = side.borrow().door.clone();
    let framing = match response.length() {
        BodyLength::UntilClose | BodyLength::Chunked if version == Version::Http10 => BodyLength::UntilClose,
        BodyLength::UntilClose | BodyLength::Chunked => BodyLength::Chunked,
        length => length,
    };
    let has_no_body = response.is_for_head() || framing == BodyLength::Empty;
    let (is_unread, is_tunnel) = (is_left_unread(&side.borrow(), &response), response.is_tunnel());
    keeps_alive &= !is_unread && (has_no_body || framing != BodyLength::UntilClose);
    let connection = match (keeps_alive, version) {
        _ if is_tunnel => encode::Connection::Default,
        (false, _) => encode::Connection::Close,
        (true, Version::Http10) => encode::Connection::KeepAlive,
        (true, _) => encode::Connection::Default,
    };
    let mut out = door.worker.buffers.take();
    out.extend_from_slice(&side.borrow_mut().interim.split());
    let (head, edits) = response.head();
    encode::response(head, edits, framing, connection, &mut out);
    side.borrow().deadline.clear();
    let mut writing = Writing {
        worker: door.worker.clone(),
        response,
        out,
        is_chunked: framing == BodyLength::Chunked && !has_no_body,
        has_no_body,
        is_over: false,
        is_blocked: false,
        pipe: None,
    };
    let outcome = poll_fn(|cx| writing.poll(cx, side)).await;
    writing.release();
    let mut response = writing.response;
    match outcome {
        Outcome::KeepAlive if is_tunnel => return Box::pin(tunnel(side, response)).await,
        Outcome::KeepAlive => {}
        // A body that was announced by its length or in chunks is seen to be cut by whoever gets it.
        Outcome::Abort if framing != BodyLength::UntilClose => return Outcome::Gone,
        outcome => return outcome,
    }
    if !side.borrow().body.is_ended() {
        side.borrow().deadline.set(door.settings().body_timeout);
    }
    let is_whole = !is_unread && poll_fn(|cx| response.poll_rest_of_request(cx)).await;
    response.finish();
    let side = side.borrow();
    if !keeps_alive || !is_whole || !side.body.is_ended() || door.closes_idle() {
        return Outcome::Close;
    }
    side.deadline.set(door.settings().idle_timeout);
    Outcome::KeepAlive
}

/// Whether the rest of the request is not waited for: what follows on the connection is not a request then.
fn is_left_unread(side: &Side, response: &Response<Http1Downstream>) -> bool {
    !side.body.is_ended() && (side.awaits_continue || !response.takes_rest())
}

/// After the head of a 101: both sides may say what they like.
async fn tunnel(side: &Rc<RefCell<Side>>, response: Response<Http1Downstream>) -> Outcome {
    side.borrow_mut().body = BodyReader::of_tunnel();
    let Some(tunnel) = response.into_tunnel(|client| client) else { return Outcome::Abort };
    match tunnel.run().await {
        Ended::Closed => Outcome::Gone,
        Ended::Broken => Outcome::Abort,
    }
}

/// What is known while a response is written.
struct Writing {
    worker: Rc<Worker>,
    response: Response<Http1Downstream>,
    /// Framed for the client; no buffer is owned while the endpoint is waited for.
    out: BytesMut,
    is_chunked: bool,
    has_no_body: bool,
    is_over: bool,
    is_blocked: bool,
    /// What the system moves a long body through; none is owned while the endpoint is waited for.
    pipe: Option<LentPipe>,
}

impl Writing {
    /// Moves the response on: fills from the endpoint, writes to the client, until one of them has to wait.
    fn poll(&mut self, cx: &mut Context<'_>, side: &Rc<RefCell<Side>>) -> Poll<Outcome> {
        loop {
            let mut waits = false;
            // All that is there goes out in one write.
            while !self.is_over && !waits && self.undelivered() < HIGH_WATER {
                let is_spliced = self.is_spliced(side);
                if is_spliced && self.undelivered() > 0 {
                    break;
                }
                match if is_spliced { self.poll_splice(cx) } else { self.poll_piece(cx) } {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return self.poll_break(cx, side),
                    Poll::Pending => waits = true,
                }
            }
            let side = &mut *side.borrow_mut();
            let before = self.undelivered();
            match side.wire.poll_write_all(cx, &mut self.out, self.pipe.as_deref_mut()) {
                Poll::Ready(Ok(())) if self.is_over => return Poll::Ready(Outcome::KeepAlive),
                Poll::Ready(Ok(())) => {
                    if std::mem::take(&mut self.is_blocked) {
                        side.deadline.clear();
                    }
                    if waits {
                        self.release();
                        return side.poll_left(cx, true).map(|()| self.give_up(Kind::ClientClosed));
                    }
                }
                Poll::Ready(Err(_)) => return Poll::Ready(self.give_up(Kind::ClientClosed)),
                Poll::Pending => {
                    let was_blocked = std::mem::replace(&mut self.is_blocked, true);
                    if !was_blocked || self.undelivered() < before {
                        side.deadline.set(side.door.settings().body_timeout);
                    }
                    if side.deadline.poll_expired(cx) {
                        return Poll::Ready(self.give_up(Kind::ClientTimeout));
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// Bytes that were taken from the endpoint and that the client has not taken.
    fn undelivered(&self) -> usize {
        self.out.len() + self.pipe.as_ref().map_or(0, |pipe| pipe.held())
    }

    /// Whether the next piece goes through a pipe: the system moves what is long and goes out as it came.
    fn is_spliced(&mut self, side: &RefCell<Side>) -> bool {
        if self.pipe.is_some() {
            return true;
        }
        let may_be = !self.is_chunked && !self.has_no_body && self.response.is_spliceable();
        if may_be && side.borrow().wire.stream.plain().is_some() {
            self.pipe = self.worker.buffers.take_pipe();
        }
        self.pipe.is_some()
    }

    /// Takes the next piece of the body into the pipe.
    fn poll_splice(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let Some(pipe) = &mut self.pipe else { return Poll::Ready(Ok(())) };
        let step = ready!(self.response.poll_splice(cx, pipe))?;
        self.is_over = step == Step::End;
        Poll::Ready(Ok(()))
    }

    /// Appends the next piece of the body to `out`, framed for the client.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        if !self.is_chunked {
            self.borrow();
            let before = self.out.len();
            let step = ready!(self.response.poll_data(cx, &mut self.out))?;
            self.is_over = step == Step::End;
            if self.has_no_body {
                self.out.truncate(before);
            }
            return Poll::Ready(Ok(()));
        }
        let mut piece = self.worker.buffers.take();
        let step = self.response.poll_data(cx, &mut piece);
        match &step {
            Poll::Ready(Ok(Step::Data(_))) => {
                self.borrow();
                chunked::encode_chunk(&piece, &mut self.out);
            }
            Poll::Ready(Ok(Step::End)) => {
                self.borrow();
                chunked::encode_last(self.response.take_trailers().as_deref(), &mut self.out);
                self.is_over = true;
            }
            _ => {}
        }
        self.worker.buffers.give(piece);
        step.map_ok(drop)
    }

    fn borrow(&mut self) {
        if self.out.capacity() == 0 {
            self.out = self.worker.buffers.take();
        }
    }

    fn release(&mut self) {
        if self.out.capacity() > 0 {
            self.worker.buffers.give(std::mem::take(&mut self.out));
        }
        if let Some(pipe) = self.pipe.take() {
            self.worker.buffers.give_pipe(pipe);
        }
    }

    /// The client does not take the rest.
    fn give_up(&mut self, kind: Kind) -> Outcome {
        self.response.give_up(kind, self.undelivered());
        Outcome::Gone
    }

    /// The body broke off: what came of it is written if that takes no waiting, then the connection must not end well.
    fn poll_break(&mut self, cx: &mut Context<'_>, side: &Rc<RefCell<Side>>) -> Poll<Outcome> {
        match side.borrow_mut().wire.poll_write(cx, &mut self.out) {
            Poll::Ready(Err(_)) => Poll::Ready(Outcome::Gone),
            _ => Poll::Ready(Outcome::Abort),
        }
    }
}
