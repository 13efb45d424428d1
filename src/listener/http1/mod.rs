//! Serves HTTP/1.1 on one connection: drives `crate::http1`, keep-alive, deadlines, and notices a client that left.
//! Writing the response is `respond`'s.
mod respond;

use crate::base::clock;
use crate::head::Head;
use crate::head::Version;
use crate::head::edits::Edits;
use crate::head::names::Name;
use crate::http1::encode;
use crate::http1::framing;
use crate::http1::framing::BodyLength;
use crate::http1::parse;
use crate::listener::door::Door;
use crate::listener::limits::Pace;
use crate::net::pipe::Pipe;
use crate::net::stream::Stream;
use crate::proxy::body::Downstream;
use crate::proxy::body::RequestBody;
use crate::proxy::context::ConnInfo;
use crate::proxy::error::Kind;
use crate::proxy::response::Response;
use crate::proxy::tunnel;
use crate::proxy::tunnel::End;
use crate::telemetry::labels::RefusedReason;
use crate::wire::HeadError;
use crate::wire::Wire;
use crate::wire::body::BodyError;
use crate::wire::body::BodyReader;
use crate::wire::body::Step;
use crate::worker::buffers::Draft;
use crate::worker::wheel::Deadline;
use bytes::BytesMut;
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::task::ready;
use std::time::Duration;

/// Bytes a client may send ahead of its turn.
const MAX_AHEAD: usize = 16 << 10;
/// Silence after which a connection that ends early reads no further; until then the client gets to see its last response.
const LINGER: Duration = Duration::from_secs(2);
/// Longest time it goes on reading.
const LINGER_MAX: Duration = Duration::from_secs(30);
/// How often a client that nobody reads from is asked whether it is still there.
const PULSE: Duration = Duration::from_secs(1);

/// The client's side of a connection, shared by whoever reads the body and whoever writes the response.
#[derive(Debug)]
struct Side {
    door: Rc<Door>,
    wire: Wire,
    body: BodyReader,
    trailers: Option<Box<Head>>,
    interim: BytesMut,
    takes_interim: bool,
    /// Whether the client holds its body back until it is told to go on: then it may never come.
    awaits_continue: bool,
    /// Whether the client has ended its side while its response was under way, as it may.
    is_half_closed: bool,
    deadline: Deadline,
    pulse: Option<Deadline>,
    /// Where bodies have to come at a rate: that of the body at hand.
    pace: Option<Pace>,
}

/// How a request's turn on the connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    KeepAlive,
    Close,
    /// The client must not take what it got for a whole response.
    Abort,
    /// The client left.
    Gone,
}

/// Serves requests until the client leaves, misbehaves or is asked to go.
pub async fn serve(door: Rc<Door>, stream: Stream, conn: Rc<ConnInfo>, deadline: Deadline) {
    let limits = door.settings().limits;
    let side = Side {
        wire: Wire::new(stream),
        body: BodyReader::new(BodyLength::Empty, &limits),
        trailers: None,
        interim: BytesMut::new(),
        takes_interim: false,
        awaits_continue: false,
        is_half_closed: false,
        deadline,
        pulse: None,
        pace: None,
        door,
    };
    let side = Rc::new(RefCell::new(side));
    let mut is_first = true;
    loop {
        let Some(next) = next_head(&side, std::mem::take(&mut is_first)).await else { return };
        let outcome = match next {
            Ok(request) => Box::pin(turn(&side, request, &conn)).await,
            Err((request, kind)) => Box::pin(refuse(&side, request, kind, &conn)).await,
        };
        side.borrow().pulse.iter().for_each(Deadline::clear);
        match outcome {
            Outcome::KeepAlive => {}
            Outcome::Close => return linger(&side).await,
            Outcome::Abort => return side.borrow().wire.stream.abort(),
            Outcome::Gone => return,
        }
    }
}

/// Waits for the next request's head. `None`: the connection is over. The time for the first one runs already.
async fn next_head(side: &Rc<RefCell<Side>>, is_first: bool) -> Option<Result<Box<Draft>, (Box<Draft>, Kind)>> {
    let mut draft = None;
    let mut has_begun = false;
    let read = poll_fn(|cx| side.borrow_mut().poll_request_head(cx, &mut draft, &mut has_begun, is_first)).await;
    let draft = draft.unwrap_or_default();
    let side = side.borrow();
    let kind = match read {
        Ok(()) => return Some(Ok(draft)),
        Err(HeadError::Refused(refusal)) => {
            tracing::debug!(%refusal, "A request was refused.");
            side.door.refused(RefusedReason::BadRequest);
            Kind::Request(refusal.kind())
        }
        Err(HeadError::Io(error)) if error.kind() == std::io::ErrorKind::TimedOut => {
            side.door.refused(RefusedReason::HeaderTimeout);
            Kind::ClientTimeout
        }
        Err(_) => return None,
    };
    Some(Err((draft, kind)))
}

impl Side {
    fn poll_request_head(
        &mut self,
        cx: &mut Context<'_>,
        draft: &mut Option<Box<Draft>>,
        has_begun: &mut bool,
        is_first: bool,
    ) -> Poll<Result<(), HeadError>> {
        let door = self.door.clone();
        let mut head = draft.take().unwrap_or_else(|| door.worker.buffers.take_draft());
        let limits = &door.settings().limits;
        let read = self.wire.poll_head(cx, &door.worker.buffers, parse::request, limits, &mut head.head);
        if read.is_ready() {
            *draft = Some(head);
            return read;
        }
        door.worker.buffers.give_draft(head);
        if self.wire.has_input() && !*has_begun {
            *has_begun = true;
            if !is_first {
                self.deadline.set(door.settings().header_timeout);
            }
        }
        if !*has_begun && door.lets_go(self.wire.stream.socket()) {
            return Poll::Ready(Err(HeadError::Closed));
        }
        if !self.deadline.poll_expired(cx) {
            return Poll::Pending;
        }
        // A client that never began is let go without a word.
        Poll::Ready(Err(if *has_begun {
            std::io::Error::from(std::io::ErrorKind::TimedOut).into()
        } else {
            HeadError::Closed
        }))
    }

    /// Whether the client has sent nothing beyond its request, as far as is known, and needs no word at the end, as TLS does.
    fn is_silent(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let wire = &mut self.wire;
        let is_plain = matches!(wire.stream, Stream::Plain(_));
        is_plain && self.body.is_ended() && !wire.has_input() && !wire.stream.is_disturbed(&mut cx)
    }

    /// Keeps the time and the rate that the client's body has to keep.
    fn time_body(
        &mut self,
        cx: &mut Context<'_>,
        step: Poll<Result<Step, BodyError>>,
    ) -> Poll<Result<Step, BodyError>> {
        let body_timeout = self.door.settings().body_timeout;
        if step.is_pending() {
            if let Some(left) = self.pace.as_mut().and_then(|pace| pace.begin_waiting(clock::now())) {
                self.deadline.set(body_timeout.min(left));
            }
            return if self.deadline.poll_expired(cx) { Poll::Ready(Err(BodyError::Timeout)) } else { Poll::Pending };
        }
        self.awaits_continue = false;
        if let (Some(pace), Poll::Ready(Ok(Step::Data(count)))) = (&mut self.pace, &step) {
            pace.receive(*count, clock::now);
        }
        self.deadline.set(body_timeout);
        step
    }

    /// While the endpoint is waited for: sends interim responses and notices that the client has left.
    fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.interim.is_empty()
            && let Poll::Ready(Err(_)) = self.wire.poll_write(cx, &mut self.interim)
        {
            return Poll::Ready(());
        }
        self.poll_left(cx, false)
    }

    /// Notices that the client has left: by a reset, or before its response has begun by its end. What it sends ahead is read
    /// up to a limit; from then on, and while its body is the endpoint's to take, it is asked from time to time.
    fn poll_left(&mut self, cx: &mut Context<'_>, has_begun: bool) -> Poll<()> {
        while self.body.is_ended() && !self.is_half_closed && self.wire.input_len() < MAX_AHEAD {
            match ready!(self.wire.poll_fill(cx, &self.door.worker.buffers)) {
                Ok(0) if has_begun => {
                    self.is_half_closed = true;
                    self.wire.stream.watch();
                }
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
        let pulse = self.pulse.get_or_insert_with(|| self.door.worker.wheel.deadline());
        if pulse.poll_expired(cx) {
            if self.wire.stream.has_failed() {
                return Poll::Ready(());
            }
            pulse.set(PULSE);
        } else if !pulse.is_armed() {
            pulse.set(PULSE);
        }
        Poll::Pending
    }
}

/// The client's side as `proxy` sees it.
#[derive(Debug)]
pub struct Http1Downstream {
    side: Rc<RefCell<Side>>,
}

impl Downstream for Http1Downstream {
    const ENDS_BY_LENGTH: bool = true;

    fn poll_data(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<Result<Step, BodyError>> {
        let side = &mut *self.side.borrow_mut();
        let buffers = &side.door.worker.buffers;
        let step = side.body.poll_step(cx, &mut side.wire, buffers, &mut side.trailers, out);
        side.time_body(cx, step)
    }

    fn is_spliceable(&self) -> bool {
        let side = self.side.borrow();
        side.body.is_spliceable(&side.wire)
    }

    fn poll_splice(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<Result<Step, BodyError>> {
        let side = &mut *self.side.borrow_mut();
        let step = side.body.poll_splice(cx, &mut side.wire, pipe);
        side.time_body(cx, step)
    }

    fn take_trailers(&mut self) -> Option<Box<Head>> {
        self.side.borrow_mut().trailers.take()
    }

    fn send_interim(&mut self, head: &Head, edits: &Edits) {
        let side = &mut *self.side.borrow_mut();
        if side.takes_interim {
            side.awaits_continue &= head.status() != 100;
            encode::response(head, edits, BodyLength::Empty, encode::Connection::Default, &mut side.interim);
        }
    }
}

impl End for Http1Downstream {
    fn poll_read(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<io::Result<usize>> {
        let side = &mut *self.side.borrow_mut();
        tunnel::poll_raw(cx, &mut side.body, &mut side.wire, &side.door.worker.buffers, out)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<io::Result<()>> {
        self.side.borrow_mut().wire.poll_write(cx, out)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.side.borrow_mut().wire.poll_shutdown(cx)
    }

    fn watch(&self) {
        self.side.borrow().wire.stream.watch();
    }

    fn has_failed(&mut self, _: &mut Context<'_>) -> bool {
        self.side.borrow().wire.stream.has_failed()
    }

    fn abort(&mut self) {
        self.side.borrow().wire.stream.abort();
    }
}

/// Waits for a response; `None` when the client left meanwhile: dropping what handles its request cancels the exchange.
async fn handle(
    side: &Rc<RefCell<Side>>,
    request: Box<Draft>,
    body: Box<RequestBody<Http1Downstream>>,
    conn: &Rc<ConnInfo>,
) -> Option<Response<Http1Downstream>> {
    let proxy = side.borrow().door.proxy.clone();
    let mut handling = pin!(proxy.handle(request, body, conn));
    let response = poll_fn(|cx| {
        if let Poll::Ready(response) = handling.as_mut().poll(cx) {
            return Poll::Ready(Some(response));
        }
        side.borrow_mut().poll_client(cx).map(|()| None)
    });
    response.await
}

/// One request and its response.
async fn turn(side: &Rc<RefCell<Side>>, request: Box<Draft>, conn: &Rc<ConnInfo>) -> Outcome {
    let length = match framing::of_request(&request.head) {
        Ok(length) => length,
        Err(refusal) => {
            side.borrow().door.refused(RefusedReason::BadRequest);
            return refuse(side, request, Kind::Request(refusal.kind()), conn).await;
        }
    };
    let keeps_alive = framing::keep_alive(&request.head);
    let version = request.head.version();
    let door = {
        let side = &mut *side.borrow_mut();
        let settings = side.door.settings();
        side.body = BodyReader::new(length, &settings.limits);
        side.takes_interim = version == Version::Http11;
        let has_body = !side.body.is_ended();
        side.awaits_continue =
            has_body && version == Version::Http11 && request.head.lists(Name::Expect, b"100-continue");
        side.pace = settings.min_body_rate.map(Pace::new);
        if has_body {
            side.deadline.set(settings.body_timeout);
        }
        side.door.clone()
    };
    let body = RequestBody::new(Http1Downstream { side: side.clone() }, length, door.settings().max_body);
    let Some(response) = handle(side, request, body, conn).await else { return Outcome::Gone };
    let outcome = respond::respond(side, response, version, keeps_alive && !door.is_draining()).await;
    // A client that asked for the end sends no more: there is nothing to read that could reset the connection.
    let is_done = outcome == Outcome::Close && !keeps_alive && side.borrow_mut().is_silent();
    if is_done { Outcome::Gone } else { outcome }
}

/// Answers what is not a request that can be handled, and ends the connection.
async fn refuse(side: &Rc<RefCell<Side>>, request: Box<Draft>, kind: Kind, conn: &Rc<ConnInfo>) -> Outcome {
    let door = side.borrow().door.clone();
    let response: Response<Http1Downstream> = door.proxy.refuse(request, kind, conn);
    match respond::respond(side, response, Version::Http11, false).await {
        Outcome::KeepAlive => Outcome::Close,
        outcome => outcome,
    }
}

/// Lets the client see the end: closes our side and reads on for a while, so that unread bytes do not reset the connection.
async fn linger(side: &Rc<RefCell<Side>>) {
    side.borrow().deadline.set(LINGER);
    let end = side.borrow().door.worker.wheel.deadline();
    end.set(LINGER_MAX);
    let mut is_shut = false;
    poll_fn(|cx| {
        let side = &mut *side.borrow_mut();
        if !is_shut {
            match side.wire.poll_shutdown(cx) {
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                shut => is_shut = shut.is_ready(),
            }
        }
        loop {
            if end.poll_expired(cx) {
                return Poll::Ready(());
            }
            match side.wire.poll_discard(cx, &side.door.worker.buffers) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(_)) => side.deadline.set(LINGER),
                Poll::Pending if side.deadline.poll_expired(cx) || side.door.closes_idle() => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
}
