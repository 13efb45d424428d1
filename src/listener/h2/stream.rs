//! One request over HTTP/2: its head, its body, its response. Runs in a lane of its connection.
use super::Side;
use super::tunnel;
use crate::base::clock;
use crate::head::Head;
use crate::head::edits::Edits;
use crate::head::names::Name;
use crate::http1::framing::BodyLength;
use crate::http1::refusal::Refusal;
use crate::http2::read;
use crate::http2::write;
use crate::listener::limits::Pace;
use crate::proxy::body::Downstream;
use crate::proxy::body::RequestBody;
use crate::proxy::error::Kind;
use crate::proxy::response::Response;
use crate::telemetry::labels::RefusedReason;
use crate::wire::batch::Piece;
use crate::wire::body::BodyError;
use crate::wire::body::Step;
use crate::worker::buffers::Draft;
use crate::worker::buffers::Upgrade;
use crate::worker::wheel::Deadline;
use bytes::BytesMut;
use h2::Reason;
use h2::RecvStream;
use h2::SendStream;
use h2::server::SendResponse;
use http::Request;
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

/// How long the rest of a request may take once its response is over.
const LINGER: Duration = Duration::from_secs(1);

/// Where responses go; shared by whoever sends interim ones and whoever sends the last.
type Respond = Rc<RefCell<SendResponse<Piece>>>;

/// Serves one request to its end. Dropping it cancels what is under way.
pub async fn serve(side: Rc<Side>, request: Request<RecvStream>, respond: SendResponse<Piece>) {
    let (parts, receive) = request.into_parts();
    let respond = Rc::new(RefCell::new(respond));
    let plan = side.door.plan();
    let settings = &plan.settings;
    let mut draft = side.door.worker.buffers.take_draft();
    let read = read::request(&parts, receive.is_end_stream(), &settings.limits, &mut draft.head);
    let is_marred = side.is_marred(receive.stream_id());
    let response = match if is_marred { Err(Refusal::Target) } else { read } {
        Ok(length) => {
            draft.upgrade = read::protocol(&parts).map(|protocol| Upgrade {
                protocol: protocol.to_ascii_lowercase().into(),
                is_connect: true,
                accept: None,
            });
            drop(parts);
            let downstream = H2Downstream::new(&side, receive, &respond);
            let body = RequestBody::new(downstream, length, settings.max_body);
            handle(&side, draft, body, &respond).await
        }
        Err(refusal) => {
            tracing::debug!(%refusal, "A request was refused.");
            side.door.refused(RefusedReason::BadRequest);
            Some(side.door.proxy.refuse(draft, Kind::Request(refusal.kind()), &side.conn))
        }
    };
    if let Some(response) = response {
        answer(&side, response, &respond).await;
    }
}

/// Waits for a response; `None` when the client reset the stream: dropping what handles it cancels the upstream exchange.
async fn handle(
    side: &Rc<Side>,
    draft: Box<Draft>,
    body: Box<RequestBody<H2Downstream>>,
    respond: &Respond,
) -> Option<Response<H2Downstream>> {
    let mut handling = std::pin::pin!(side.door.proxy.handle(draft, body, &side.conn));
    poll_fn(|cx| {
        if let Poll::Ready(response) = handling.as_mut().poll(cx) {
            return Poll::Ready(Some(response));
        }
        respond.borrow_mut().poll_reset(cx).map(|_| None)
    })
    .await
}

/// Sends a response to its end.
async fn answer(side: &Rc<Side>, response: Response<H2Downstream>, respond: &Respond) {
    let length = response.length();
    let has_no_body = response.is_for_head() || matches!(length, BodyLength::Empty | BodyLength::Length(0));
    let (head, edits) = response.head();
    // That nothing follows is said by the stream's end: a length is told only if the endpoint told one.
    let is_silent = length == BodyLength::Length(0) && head.get(Name::ContentLength).is_none();
    let Some(built) = write::response(head, edits, if is_silent { BodyLength::Empty } else { length }) else {
        return respond.borrow_mut().send_reset(Reason::INTERNAL_ERROR);
    };
    let is_tunnel = response.is_tunnel();
    let Ok(send) = respond.borrow_mut().send_response(built, has_no_body && !is_tunnel) else { return };
    if is_tunnel {
        Box::pin(tunnel::run(response, send)).await;
        return side.batch.with_meter(|meter| meter.served()).unwrap_or_default();
    }
    let mut sending = Sending { side, response, send, has_no_body, has_sent: false, is_over: false, deadline: None };
    match poll_fn(|cx| sending.poll(cx)).await {
        Ended::Whole => {}
        Ended::Gone => return sending.response.give_up(Kind::ClientClosed, 0),
        Ended::Broken => return sending.send.send_reset(Reason::INTERNAL_ERROR),
        Ended::Stalled => {
            sending.response.give_up(Kind::ClientTimeout, 0);
            return sending.send.send_reset(Reason::CANCEL);
        }
    }
    sending.linger().await;
    sending.response.finish();
    side.batch.with_meter(|meter| meter.served());
}

/// How a response's way to the client ended.
enum Ended {
    Whole,
    /// The client reset the stream or the connection is gone.
    Gone,
    /// The endpoint's side broke: the client must not take what it got for a whole response.
    Broken,
    /// The client took nothing for too long.
    Stalled,
}

/// A response on its way.
struct Sending<'a> {
    side: &'a Rc<Side>,
    response: Response<H2Downstream>,
    send: SendStream<Piece>,
    has_no_body: bool,
    has_sent: bool,
    is_over: bool,
    /// Runs while the client's window is closed.
    deadline: Option<Deadline>,
}

impl Sending<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        while !self.is_over {
            // The first piece goes without asking: it waits in the stream until the window opens.
            if self.has_sent
                && let Some(ended) = ready!(self.poll_room(cx))
            {
                return Poll::Ready(ended);
            }
            let mut piece = self.side.door.worker.buffers.take();
            let step = self.response.poll_data(cx, &mut piece);
            let sent = match step {
                Poll::Ready(Ok(Step::Data(_))) => self.send_piece(piece),
                Poll::Ready(Ok(Step::End)) => {
                    self.side.door.worker.buffers.give(piece);
                    self.send_end()
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Ended::Broken),
                Poll::Pending => {
                    self.side.door.worker.buffers.give(piece);
                    return self.send.poll_reset(cx).map(|_| Ended::Gone);
                }
            };
            if sent.is_err() {
                return Poll::Ready(Ended::Gone);
            }
        }
        Poll::Ready(Ended::Whole)
    }

    fn send_piece(&mut self, piece: BytesMut) -> Result<(), h2::Error> {
        self.is_over = self.response.is_over();
        self.has_sent = !self.has_no_body;
        if self.has_no_body {
            return Ok(());
        }
        self.send.send_data(Piece::new(&self.side.door.worker, piece), self.is_over)
    }

    fn send_end(&mut self) -> Result<(), h2::Error> {
        self.is_over = true;
        match self.response.take_trailers().and_then(|trailers| write::trailers(&trailers)) {
            _ if self.has_no_body => Ok(()),
            Some(trailers) => self.send.send_trailers(trailers),
            None => self.send.send_data(Piece::new(&self.side.door.worker, BytesMut::new()), true),
        }
    }

    /// Waits until all that was sent found room in the client's window, and a byte more would. Ready with what went wrong.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Option<Ended>> {
        self.send.reserve_capacity(1);
        if self.send.capacity() == 0 {
            match self.send.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(_) => return Poll::Ready(Some(Ended::Gone)),
                Poll::Pending => {
                    let door = &self.side.door;
                    let deadline = self.deadline.get_or_insert_with(|| {
                        let deadline = door.worker.wheel.deadline();
                        deadline.set(door.settings().body_timeout);
                        deadline
                    });
                    let is_late = deadline.poll_expired(cx);
                    return if is_late { Poll::Ready(Some(Ended::Stalled)) } else { Poll::Pending };
                }
            }
        }
        self.deadline = None;
        Poll::Ready(None)
    }

    /// Lets what is left of the request come, for a while: then its connection to the endpoint may serve another.
    async fn linger(&mut self) {
        let mut deadline = None;
        poll_fn(|cx| {
            if self.response.poll_rest_of_request(cx).is_ready() || self.send.poll_reset(cx).is_ready() {
                return Poll::Ready(());
            }
            let deadline = deadline.get_or_insert_with(|| {
                let deadline = self.side.door.worker.wheel.deadline();
                deadline.set(LINGER);
                deadline
            });
            if deadline.poll_expired(cx) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// The client's side of one stream, as `proxy` sees it.
#[derive(Debug)]
pub struct H2Downstream {
    pub(super) side: Rc<Side>,
    pub(super) receive: RecvStream,
    respond: Respond,
    trailers: Option<Box<Head>>,
    /// Runs while nothing comes.
    deadline: Option<Deadline>,
    /// Where bodies have to come at a rate: that of this one.
    pace: Option<Pace>,
}

impl H2Downstream {
    fn new(side: &Rc<Side>, receive: RecvStream, respond: &Respond) -> Self {
        let pace = side.door.settings().min_body_rate.map(Pace::new);
        Self { side: side.clone(), receive, respond: respond.clone(), trailers: None, deadline: None, pace }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<Result<Step, BodyError>> {
        while let Some(data) = ready!(self.receive.poll_data(cx)) {
            let data = data.map_err(broken)?;
            // The client may send as much again: `out` is bounded by whoever calls.
            self.receive.flow_control().release_capacity(data.len()).map_err(broken)?;
            if !data.is_empty() {
                out.extend_from_slice(&data);
                return Poll::Ready(Ok(Step::Data(data.len())));
            }
        }
        if let Some(trailers) = ready!(self.receive.poll_trailers(cx)).map_err(broken)? {
            if self.side.is_marred(self.receive.stream_id()) {
                return Poll::Ready(Err(Refusal::Http2.into()));
            }
            self.trailers = read::trailers(&trailers, &self.side.door.settings().limits)?;
        }
        Poll::Ready(Ok(Step::End))
    }
}

/// What `h2` found wrong with a stream is the client's fault; everything else is a client that left.
fn broken(error: h2::Error) -> BodyError {
    if error.is_library() && error.is_reset() {
        // The one thing about a body that `h2` judges by itself.
        return BodyError::Refused(Refusal::ContentLength);
    }
    BodyError::Io(io::Error::other(error))
}

impl Downstream for H2Downstream {
    /// The stream says when a body is over, and `h2` that it is as long as was announced.
    const ENDS_BY_LENGTH: bool = false;

    fn poll_data(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<Result<Step, BodyError>> {
        let before = out.len();
        let step = self.poll_next(cx, out);
        if step.is_ready() {
            if let Some(pace) = &mut self.pace {
                pace.receive(out.len() - before, clock::now);
            }
            self.deadline = None;
            return step;
        }
        let (door, pace) = (&self.side.door, &mut self.pace);
        let deadline = self.deadline.get_or_insert_with(|| {
            let left = pace.as_mut().and_then(|pace| pace.begin_waiting(clock::now()));
            let deadline = door.worker.wheel.deadline();
            deadline.set(door.settings().body_timeout.min(left.unwrap_or(Duration::MAX)));
            deadline
        });
        if deadline.poll_expired(cx) { Poll::Ready(Err(BodyError::Timeout)) } else { Poll::Pending }
    }

    fn take_trailers(&mut self) -> Option<Box<Head>> {
        self.trailers.take()
    }

    fn send_interim(&mut self, head: &Head, edits: &Edits) {
        let Some(interim) = write::response(head, edits, BodyLength::Empty) else { return };
        if let Err(error) = self.respond.borrow_mut().send_informational(interim) {
            tracing::debug!(%error, "An interim response could not be sent.");
        }
    }
}
