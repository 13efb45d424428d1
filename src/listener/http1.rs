//! Serves HTTP/1.1 on one connection: drives `crate::http1`, keep-alive, deadlines, and notices a client that left.
use crate::head::Head;
use crate::head::Version;
use crate::head::edits::Edits;
use crate::http1::chunked;
use crate::http1::encode;
use crate::http1::framing;
use crate::http1::framing::BodyLength;
use crate::http1::parse;
use crate::listener::door::Door;
use crate::net::stream::Stream;
use crate::proxy::body::Downstream;
use crate::proxy::body::RequestBody;
use crate::proxy::context::ConnInfo;
use crate::proxy::error::Kind;
use crate::proxy::response::Response;
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
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

/// Response bytes that may wait for a slow client before the endpoint has to wait too.
const HIGH_WATER: usize = 64 << 10;
/// Bytes a client may send ahead of its turn.
const MAX_AHEAD: usize = 16 << 10;
/// How long a connection that ends early goes on reading, so that the client gets to see its last response.
const LINGER: Duration = Duration::from_secs(2);

/// The client's side of a connection, shared by whoever reads the body and whoever writes the response.
#[derive(Debug)]
struct Side {
    door: Rc<Door>,
    wire: Wire,
    body: BodyReader,
    trailers: Option<Box<Head>>,
    interim: BytesMut,
    takes_interim: bool,
    deadline: Deadline,
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
pub async fn serve(door: Rc<Door>, stream: Stream, conn: Rc<ConnInfo>) {
    let deadline = door.worker.wheel.deadline();
    deadline.set(door.settings().header_timeout);
    let limits = door.settings().limits;
    let side = Side {
        wire: Wire::new(stream),
        body: BodyReader::new(BodyLength::Empty, &limits),
        trailers: None,
        interim: BytesMut::new(),
        takes_interim: false,
        deadline,
        door,
    };
    let side = Rc::new(RefCell::new(side));
    loop {
        let Some(next) = next_head(&side).await else { return };
        let outcome = match next {
            Ok(request) => Box::pin(turn(&side, request, &conn)).await,
            Err((request, kind)) => Box::pin(refuse(&side, request, kind, &conn)).await,
        };
        match outcome {
            Outcome::KeepAlive => {}
            Outcome::Close => return linger(&side).await,
            Outcome::Abort => return side.borrow().abort(),
            Outcome::Gone => return,
        }
    }
}

/// Waits for the next request's head. `None`: the connection is over.
async fn next_head(side: &Rc<RefCell<Side>>) -> Option<Result<Box<Draft>, (Box<Draft>, Kind)>> {
    let mut draft = None;
    let mut has_begun = false;
    let read = poll_fn(|cx| side.borrow_mut().poll_request_head(cx, &mut draft, &mut has_begun)).await;
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
            self.deadline.set(door.settings().header_timeout);
        }
        if door.is_draining() && !*has_begun {
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

    /// While the endpoint is waited for: sends interim responses and notices that the client has left.
    fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.interim.is_empty()
            && let Poll::Ready(Err(_)) = self.wire.poll_write(cx, &mut self.interim)
        {
            return Poll::Ready(());
        }
        // Until its body is read, whoever reads it notices.
        if !self.body.is_ended() {
            return Poll::Pending;
        }
        while self.wire.input_len() < MAX_AHEAD {
            match ready!(self.wire.poll_fill(cx, &self.door.worker.buffers)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
        Poll::Pending
    }

    /// Ends the connection so that the client notices: a reset, no orderly end.
    fn abort(&self) {
        if let Err(error) = self.wire.stream.reset_on_close() {
            tracing::debug!(%error, "A connection could not be reset.");
        }
    }
}

/// The client's side as `proxy` sees it.
#[derive(Debug)]
pub struct Http1Downstream {
    side: Rc<RefCell<Side>>,
}

impl Downstream for Http1Downstream {
    fn poll_data(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<Result<Step, BodyError>> {
        let side = &mut *self.side.borrow_mut();
        let buffers = &side.door.worker.buffers;
        let step = side.body.poll_step(cx, &mut side.wire, buffers, &mut side.trailers, out);
        if step.is_ready() {
            side.deadline.set(side.door.settings().body_timeout);
        } else if side.deadline.poll_expired(cx) {
            return Poll::Ready(Err(BodyError::Timeout));
        }
        step
    }

    fn take_trailers(&mut self) -> Option<Box<Head>> {
        self.side.borrow_mut().trailers.take()
    }

    fn send_interim(&mut self, head: &Head, edits: &Edits) {
        let side = &mut *self.side.borrow_mut();
        if side.takes_interim {
            encode::response(head, edits, BodyLength::Empty, encode::Connection::Default, &mut side.interim);
        }
    }
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
        let mut side = side.borrow_mut();
        let settings = side.door.settings();
        side.body = BodyReader::new(length, &settings.limits);
        side.takes_interim = version == Version::Http11;
        side.deadline.set(settings.body_timeout);
        side.door.clone()
    };
    let body = RequestBody::new(Http1Downstream { side: side.clone() }, length, door.settings().max_body);
    let mut handling = Box::pin(door.proxy.handle(request, body, conn));
    let response = poll_fn(|cx| {
        if let Poll::Ready(response) = handling.as_mut().poll(cx) {
            return Poll::Ready(Some(response));
        }
        side.borrow_mut().poll_client(cx).map(|()| None)
    });
    let Some(response) = response.await else { return Outcome::Gone };
    drop(handling);
    respond(side, response, version, keeps_alive && !door.is_draining()).await
}

/// Answers what is not a request that can be handled, and ends the connection.
async fn refuse(side: &Rc<RefCell<Side>>, request: Box<Draft>, kind: Kind, conn: &Rc<ConnInfo>) -> Outcome {
    let door = side.borrow().door.clone();
    let response: Response<Http1Downstream> = door.proxy.refuse(request, kind, conn);
    match respond(side, response, Version::Http11, false).await {
        Outcome::KeepAlive => Outcome::Close,
        outcome => outcome,
    }
}

/// What is known while a response is written.
struct Writing {
    response: Response<Http1Downstream>,
    out: BytesMut,
    is_chunked: bool,
    has_no_body: bool,
    is_over: bool,
    is_blocked: bool,
}

async fn respond(
    side: &Rc<RefCell<Side>>,
    response: Response<Http1Downstream>,
    version: Version,
    mut keeps_alive: bool,
) -> Outcome {
    let door = side.borrow().door.clone();
    let mut out = door.worker.buffers.take();
    out.extend_from_slice(&side.borrow_mut().interim.split());
    let length = response.length();
    let has_no_body = response.is_for_head() || length == BodyLength::Empty;
    let is_endless = matches!(length, BodyLength::UntilClose | BodyLength::Chunked);
    let is_chunked = is_endless && version != Version::Http10;
    // An error given before the whole request was read: what follows on the connection is not a request.
    let is_unread = response.is_own() && !side.borrow().body.is_ended();
    keeps_alive &= !is_unread && (has_no_body || is_chunked || !is_endless);
    let framing = match (is_endless, is_chunked) {
        (true, true) => BodyLength::Chunked,
        (true, false) => BodyLength::UntilClose,
        _ => length,
    };
    let connection = match (keeps_alive, version) {
        (false, _) => encode::Connection::Close,
        (true, Version::Http10) => encode::Connection::KeepAlive,
        (true, _) => encode::Connection::Default,
    };
    let (head, edits) = response.head();
    encode::response(head, edits, framing, connection, &mut out);
    let mut writing = Writing {
        response,
        out,
        is_chunked: is_chunked && !has_no_body,
        has_no_body,
        is_over: false,
        is_blocked: false,
    };
    side.borrow().deadline.clear();
    let outcome = poll_fn(|cx| writing.poll(cx, side)).await;
    let Writing { mut response, out, .. } = writing;
    door.worker.buffers.give(out);
    if outcome != Outcome::KeepAlive {
        return if outcome == Outcome::Abort && framing != BodyLength::UntilClose { Outcome::Gone } else { outcome };
    }
    side.borrow().deadline.set(door.settings().body_timeout);
    let is_whole = poll_fn(|cx| response.poll_rest_of_request(cx)).await;
    response.finish();
    let side = side.borrow();
    if !keeps_alive || !is_whole || !side.body.is_ended() || door.is_draining() {
        return Outcome::Close;
    }
    side.deadline.set(door.settings().idle_timeout);
    Outcome::KeepAlive
}

impl Writing {
    /// Moves the response on: fills from the endpoint, writes to the client, until one of them has to wait.
    fn poll(&mut self, cx: &mut Context<'_>, side: &Rc<RefCell<Side>>) -> Poll<Outcome> {
        loop {
            let mut waits = false;
            if !self.is_over && self.out.len() < HIGH_WATER {
                match self.poll_piece(cx, side) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return self.poll_break(cx, side),
                    Poll::Pending => waits = true,
                }
            }
            let side = &mut *side.borrow_mut();
            match side.wire.poll_write(cx, &mut self.out) {
                Poll::Ready(Ok(())) if self.is_over => return Poll::Ready(Outcome::KeepAlive),
                Poll::Ready(Ok(())) => {
                    if std::mem::take(&mut self.is_blocked) {
                        side.deadline.clear();
                    }
                    if waits {
                        return Poll::Pending;
                    }
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Outcome::Gone),
                Poll::Pending => {
                    if !std::mem::replace(&mut self.is_blocked, true) {
                        side.deadline.set(side.door.settings().body_timeout);
                    }
                    if side.deadline.poll_expired(cx) {
                        return Poll::Ready(Outcome::Gone);
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// Appends the next piece of the body to `out`, framed for the client.
    fn poll_piece(&mut self, cx: &mut Context<'_>, side: &Rc<RefCell<Side>>) -> Poll<Result<(), BodyError>> {
        if !self.is_chunked {
            let before = self.out.len();
            let step = ready!(self.response.poll_data(cx, &mut self.out))?;
            self.is_over = step == Step::End;
            if self.has_no_body {
                self.out.truncate(before);
            }
            return Poll::Ready(Ok(()));
        }
        let worker = side.borrow().door.worker.clone();
        let mut piece = worker.buffers.take();
        let step = self.response.poll_data(cx, &mut piece);
        match &step {
            Poll::Ready(Ok(Step::Data(_))) => chunked::encode_chunk(&piece, &mut self.out),
            Poll::Ready(Ok(Step::End)) => {
                chunked::encode_last(self.response.take_trailers().as_deref(), &mut self.out);
                self.is_over = true;
            }
            _ => {}
        }
        worker.buffers.give(piece);
        step.map_ok(drop)
    }

    /// The body broke off: what came of it is written if that takes no waiting, then the connection must not end well.
    fn poll_break(&mut self, cx: &mut Context<'_>, side: &Rc<RefCell<Side>>) -> Poll<Outcome> {
        match side.borrow_mut().wire.poll_write(cx, &mut self.out) {
            Poll::Ready(Err(_)) => Poll::Ready(Outcome::Gone),
            _ => Poll::Ready(Outcome::Abort),
        }
    }
}

/// Lets the client see the end: closes our side and reads on for a while, so that unread bytes do not reset the connection.
async fn linger(side: &Rc<RefCell<Side>>) {
    side.borrow().deadline.set(LINGER);
    poll_fn(|cx| {
        let side = &mut *side.borrow_mut();
        if let Poll::Ready(Err(_)) = side.wire.poll_shutdown(cx) {
            return Poll::Ready(());
        }
        loop {
            match side.wire.poll_discard(cx, &side.door.worker.buffers) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending if side.deadline.poll_expired(cx) || side.door.is_draining() => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
}
