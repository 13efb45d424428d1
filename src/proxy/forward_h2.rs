//! One exchange with one endpoint over HTTP/2: as `forward` does it over HTTP/1.1.
use crate::head::Head;
use crate::head::Method;
use crate::http1::framing::BodyLength;
use crate::http1::refusal::Refusal;
use crate::http2::read;
use crate::http2::write;
use crate::pool::http2::Lease;
use crate::proxy::body::Downstream;
use crate::proxy::body::RequestBody;
use crate::proxy::exchange::Failed;
use crate::proxy::forward::Allowed;
use crate::proxy::forward::ExchangeError;
use crate::proxy::forward::MAX_INTERIM;
use crate::proxy::forward::RESPONSE_LIMITS;
use crate::proxy::headers;
use crate::wire::batch::Piece;
use crate::wire::body::BodyError;
use crate::wire::body::Step;
use crate::worker::Worker;
use crate::worker::buffers::Draft;
use crate::worker::wheel::Deadline;
use bytes::BytesMut;
use h2::Reason;
use h2::RecvStream;
use h2::SendStream;
use h2::client::ResponseFuture;
use http::Request;
use std::future::Future;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

/// A request under way on a stream, and its response.
#[derive(Debug)]
pub struct Exchange<D> {
    worker: Rc<Worker>,
    lease: Lease,
    deadline: Deadline,
    allowed: Allowed,
    method: Method,
    request: Box<RequestBody<D>>,
    send: SendStream<Piece>,
    receive: Option<RecvStream>,
    is_sent: bool,
    /// The endpoint takes no more of the request; what it answers is still passed on.
    is_refused: bool,
    length: BodyLength,
    is_ended: bool,
    trailers: Option<Box<Head>>,
    /// What the client's side failed with once the response had begun.
    fault: Option<BodyError>,
    /// The client asked for a tunnel by an extended CONNECT and would take any success for one.
    is_connect: bool,
}

/// Sends the request on a stream of its own and waits for the response's head.
pub async fn exchange<D: Downstream>(
    worker: &Rc<Worker>,
    mut lease: Lease,
    deadline: Deadline,
    allowed: &Allowed,
    draft: &Draft,
    request: Box<RequestBody<D>>,
    received: &mut u64,
) -> Result<(Box<Draft>, Box<Exchange<D>>), Box<Failed<D>>> {
    let Some(built) = write::request(&draft.head, &draft.edits, request.length(), lease.is_secure()) else {
        return Err(Box::new((ExchangeError::Unsendable, 0, request)));
    };
    deadline.set(allowed.head);
    let is_whole = request.is_ended();
    let (mut answer, send) = match open(&mut lease, built, is_whole, &deadline).await {
        Ok(opened) => opened,
        Err(error) => return Err(Box::new((error, 0, request))),
    };
    let mut exchange = Box::new(Exchange {
        worker: worker.clone(),
        lease,
        deadline,
        allowed: *allowed,
        method: draft.head.method(),
        request,
        send,
        receive: None,
        is_sent: is_whole,
        is_refused: false,
        length: BodyLength::Empty,
        is_ended: false,
        trailers: None,
        fault: None,
        is_connect: draft.upgrade.as_ref().is_some_and(|asked| asked.is_connect),
    });
    let mut response = worker.buffers.take_draft();
    let mut interim = 0;
    let answered = poll_fn(|cx| {
        let polled = exchange.poll_head(cx, &mut answer, &mut response, &mut interim);
        *received = exchange.received();
        polled
    });
    match answered.await {
        Ok(()) => Ok((response, exchange)),
        Err((error, is_unseen)) => {
            worker.buffers.give_draft(response);
            // The head went out, so the endpoint may have acted, unless it said that it did not.
            Err(Box::new((error, u64::from(!is_unseen), exchange.request)))
        }
    }
}

/// Opens a stream with the request's head.
async fn open(
    lease: &mut Lease,
    built: Request<()>,
    is_whole: bool,
    deadline: &Deadline,
) -> Result<(ResponseFuture, SendStream<Piece>), ExchangeError> {
    let was_reused = lease.is_reused();
    let lost = |error: h2::Error| ExchangeError::Reset {
        was_reused,
        had_response: false,
        source: error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into()),
    };
    let is_ready = poll_fn(|cx| match lease.send().poll_ready(cx) {
        Poll::Ready(ready) => Poll::Ready(Some(ready)),
        Poll::Pending if deadline.poll_expired(cx) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    });
    is_ready.await.ok_or(ExchangeError::Timeout)?.map_err(lost)?;
    lease.send().send_request(built, is_whole).map_err(lost)
}

impl<D: Downstream> Exchange<D> {
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        answer: &mut ResponseFuture,
        response: &mut Draft,
        interim: &mut u32,
    ) -> Poll<Result<(), (ExchangeError, bool)>> {
        self.poll_request(cx).map_err(|error| (ExchangeError::Client(error), false))?;
        while let Poll::Ready(Some(Ok(early))) = answer.poll_informational(cx) {
            self.pass_interim(early, response, interim)
                .map_err(|refusal| (ExchangeError::BadResponse(refusal), false))?;
        }
        let answered = match Pin::new(answer).poll(cx) {
            Poll::Ready(answered) => answered.map_err(|error| self.failure(error))?,
            Poll::Pending if self.deadline.poll_expired(cx) => {
                return Poll::Ready(Err((ExchangeError::Timeout, false)));
            }
            Poll::Pending => return Poll::Pending,
        };
        self.lease.note_response();
        let (parts, receive) = answered.into_parts();
        if self.is_connect && parts.status.is_success() {
            return Poll::Ready(Err((ExchangeError::BadResponse(Refusal::NotSwitched), false)));
        }
        self.is_ended = receive.is_end_stream();
        let read = read::response(&parts, self.is_ended, self.method, &RESPONSE_LIMITS, &mut response.head);
        self.length = read.map_err(|refusal| (ExchangeError::BadResponse(refusal), false))?;
        self.receive = Some(receive);
        self.deadline.set(self.allowed.body);
        Poll::Ready(Ok(()))
    }

    fn pass_interim(
        &mut self,
        early: http::Response<()>,
        response: &mut Draft,
        interim: &mut u32,
    ) -> Result<(), Refusal> {
        *interim += 1;
        let (parts, ()) = early.into_parts();
        if parts.status == http::StatusCode::SWITCHING_PROTOCOLS || *interim > MAX_INTERIM {
            return Err(Refusal::UnexpectedInterim);
        }
        read::response(&parts, true, self.method, &RESPONSE_LIMITS, &mut response.head)?;
        headers::to_client(&response.head, &mut response.edits);
        self.request.downstream().send_interim(&response.head, &response.edits);
        response.head.clear();
        response.edits.clear();
        Ok(())
    }

    /// What an error before a response means, and whether the endpoint has certainly not acted on the request
    /// (RFC 9113 section 8.7).
    fn failure(&self, error: h2::Error) -> (ExchangeError, bool) {
        let is_refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
        let is_unseen = error.is_remote() && (error.is_go_away() || is_refused);
        if error.is_library() {
            return (ExchangeError::BadResponse(Refusal::Http2), false);
        }
        let was_reused = self.lease.is_reused();
        let source = if error.is_io() {
            error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())
        } else {
            io::Error::other(error)
        };
        (ExchangeError::Reset { was_reused, had_response: false, source }, is_unseen)
    }

    /// The request's body, for another attempt; the stream is reset.
    pub fn into_request(self) -> Box<RequestBody<D>> {
        self.request
    }

    /// The request's body.
    pub fn request(&mut self) -> &mut RequestBody<D> {
        &mut self.request
    }

    /// Whether the request could be sent once more.
    pub fn can_replay(&self) -> bool {
        self.request.can_replay()
    }

    /// Body bytes taken from the client.
    pub fn received(&self) -> u64 {
        self.request.received()
    }

    /// What the client's side failed with while the response was under way; then it is no fault of the endpoint's.
    pub fn client_fault(&self) -> Option<&BodyError> {
        self.fault.as_ref()
    }

    /// Whether the endpoint takes what is left of the request after its response.
    pub fn takes_rest(&self) -> bool {
        !self.is_refused
    }

    /// How the response's body is framed.
    pub fn response_length(&self) -> BodyLength {
        self.length
    }

    /// Moves request data as the endpoint's window allows. Fails only when the client's side does.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Result<(), BodyError> {
        while !self.is_sent && !self.is_refused {
            self.send.reserve_capacity(1);
            if self.send.capacity() == 0 {
                match self.send.poll_capacity(cx) {
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(_) => self.is_refused = true,
                    Poll::Pending => return Ok(()),
                }
                continue;
            }
            let mut piece = self.worker.buffers.take();
            let step = self.request.poll_data(cx, &mut piece);
            let sent = match step {
                Poll::Ready(Ok(Step::Data(_))) => {
                    self.is_sent = self.request.is_ended();
                    self.send.send_data(Piece::new(&self.worker, piece), self.is_sent)
                }
                Poll::Ready(Ok(Step::End)) => {
                    self.worker.buffers.give(piece);
                    self.send_end()
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {
                    self.worker.buffers.give(piece);
                    return Ok(());
                }
            };
            self.is_refused = sent.is_err();
            let has_answer = self.receive.is_some();
            self.deadline.set(if has_answer { self.allowed.body } else { self.allowed.head });
        }
        Ok(())
    }

    fn send_end(&mut self) -> Result<(), h2::Error> {
        self.is_sent = true;
        let trailers = self.request.downstream().take_trailers();
        match trailers.and_then(|trailers| write::trailers(&trailers)) {
            Some(trailers) => self.send.send_trailers(trailers),
            None => self.send.send_data(Piece::new(&self.worker, BytesMut::new()), true),
        }
    }

    /// Appends the next piece of the response's body to `out`, and moves request data meanwhile.
    pub fn poll_data(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<Result<Step, BodyError>> {
        if !self.is_sent
            && let Err(fault) = self.poll_request(cx)
        {
            // The client's side is gone or garbage: what is left of the response would not be read.
            (self.receive, self.is_refused, self.fault) = (None, true, Some(fault));
        }
        let step = self.poll_next(cx, out);
        if step.is_pending() && self.deadline.poll_expired(cx) {
            return Poll::Ready(Err(BodyError::Timeout));
        }
        let step = ready!(step)?;
        self.deadline.set(self.allowed.body);
        Poll::Ready(Ok(step))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<Result<Step, BodyError>> {
        let Some(receive) = &mut self.receive else { return Poll::Ready(Err(BodyError::Truncated)) };
        while let Some(data) = ready!(receive.poll_data(cx)) {
            let data = data.map_err(broken)?;
            // The endpoint may send as much again: `out` is bounded by whoever calls.
            receive.flow_control().release_capacity(data.len()).map_err(broken)?;
            if !data.is_empty() {
                out.extend_from_slice(&data);
                self.is_ended = receive.is_end_stream();
                return Poll::Ready(Ok(Step::Data(data.len())));
            }
        }
        if let Some(trailers) = ready!(receive.poll_trailers(cx)).map_err(broken)? {
            self.trailers = read::trailers(&trailers, &RESPONSE_LIMITS)?;
        }
        self.is_ended = true;
        Poll::Ready(Ok(Step::End))
    }

    /// Whether nothing more of the response comes, no trailers either.
    pub fn is_over(&self) -> bool {
        self.is_ended && self.trailers.is_none()
    }

    /// The response's trailers, once its body is over.
    pub fn take_trailers(&mut self) -> Option<Box<Head>> {
        self.trailers.take()
    }

    /// After the response's end: moves what is left of the request. Ready with whether the request went out whole.
    pub fn poll_rest_of_request(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.is_sent || self.is_refused || self.poll_request(cx).is_err() {
            return Poll::Ready(self.is_sent);
        }
        let is_over = self.is_sent || self.is_refused || self.send.poll_reset(cx).is_ready();
        if is_over || self.deadline.poll_expired(cx) {
            return Poll::Ready(self.is_sent);
        }
        Poll::Pending
    }
}

fn broken(error: h2::Error) -> BodyError {
    if error.is_library() {
        return BodyError::Refused(Refusal::Http2);
    }
    BodyError::Io(io::Error::other(error))
}
