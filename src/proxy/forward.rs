//! One exchange with one endpoint: the request goes out while the response comes back, to the end of both.
use crate::head::Head;
use crate::head::Method;
use crate::http1::chunked;
use crate::http1::encode;
use crate::http1::framing;
use crate::http1::framing::BodyLength;
use crate::http1::limits::Limits;
use crate::http1::refusal::Refusal;
use crate::net::pipe::Pipe;
use crate::pool::http1::Connection;
use crate::proxy::body::Downstream;
use crate::proxy::body::RequestBody;
use crate::proxy::exchange::Failed;
use crate::proxy::headers;
use crate::proxy::upgrade;
use crate::wire::HeadError;
use crate::wire::Wire;
use crate::wire::body::BodyError;
use crate::wire::body::BodyReader;
use crate::wire::body::Step;
use crate::worker::Worker;
use crate::worker::buffers::BUFFER_SIZE;
use crate::worker::buffers::Buffers;
use crate::worker::buffers::Draft;
use crate::worker::buffers::LentPipe;
use crate::worker::buffers::Upgrade;
use crate::worker::wheel::Deadline;
use bytes::BytesMut;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;
use thiserror::Error;

/// Why an exchange gave no response.
#[derive(Debug, Error)]
pub enum ExchangeError {
    /// The client's side failed; no other endpoint would do better.
    #[error("take the request's body")]
    Client(#[source] BodyError),
    /// The connection failed or was closed before a response head.
    #[error("get a response before the connection ended")]
    Reset {
        /// Whether it had served a request before: then it may have been dead already.
        was_reused: bool,
        /// Whether a byte of a response had come.
        had_response: bool,
        /// The cause.
        source: io::Error,
    },
    /// No response head in time.
    #[error("get a response in time")]
    Timeout,
    /// The response may not be passed on.
    #[error("accept the response")]
    BadResponse(#[source] Refusal),
    /// HTTP/2 cannot carry what HTTP/1.x may say: a request without a host, or with a path of bytes no URI has.
    #[error("say the request in HTTP/2")]
    Unsendable,
}

/// How long the phases of an exchange may take.
#[derive(Debug, Clone, Copy)]
pub struct Allowed {
    /// From a piece of the request sent, or its end, to the response head.
    pub head: Duration,
    /// Silence within the response's body.
    pub body: Duration,
}

/// A request under way to one endpoint, and its response.
#[derive(Debug)]
pub struct Exchange<D> {
    worker: Rc<Worker>,
    connection: Option<Box<Connection>>,
    deadline: Deadline,
    allowed: Allowed,
    method: Method,
    request: Box<RequestBody<D>>,
    is_sent: bool,
    /// The endpoint takes no more of the request; what it answers is still passed on.
    is_refused: bool,
    sent: u64,
    out: BytesMut,
    /// What the system moves a long request through; none is owned while the client is waited for.
    pipe: Option<LentPipe>,
    length: BodyLength,
    response: BodyReader,
    trailers: Option<Box<Head>>,
    keeps_alive: bool,
    /// What the client's side failed with once the response had begun.
    fault: Option<BodyError>,
    /// The protocol the request asks to switch to.
    upgrade: Option<Upgrade>,
}

/// Limits of what an endpoint may send as a head.
pub(super) const RESPONSE_LIMITS: Limits = Limits { max_head_bytes: 64 << 10, max_fields: 256 };
/// Interim responses before the final one; more is an endpoint gone wild.
pub(super) const MAX_INTERIM: u32 = 16;

/// Sends the request over `connection` and waits for the response's head. The body follows from the [`Exchange`]; when it
/// fails, the request's body comes back for another attempt. `received` is kept equal to the body bytes taken from the client,
/// also when nobody waits for the end.
pub async fn exchange<D: Downstream>(
    worker: &Rc<Worker>,
    connection: Box<Connection>,
    deadline: Deadline,
    allowed: &Allowed,
    draft: &Draft,
    request: Box<RequestBody<D>>,
    received: &mut u64,
) -> Result<(Box<Draft>, Box<Exchange<D>>), Box<Failed<D>>> {
    let mut out = worker.buffers.take();
    encode::request(&draft.head, &draft.edits, request.length(), encode::Connection::Default, &mut out);
    let mut exchange = Box::new(Exchange {
        worker: worker.clone(),
        connection: Some(connection),
        deadline,
        allowed: *allowed,
        method: draft.head.method(),
        is_sent: false,
        is_refused: false,
        sent: 0,
        out,
        pipe: None,
        length: BodyLength::Empty,
        response: BodyReader::new(BodyLength::Empty, &RESPONSE_LIMITS),
        trailers: None,
        keeps_alive: false,
        fault: None,
        upgrade: draft.upgrade.clone(),
        request,
    });
    exchange.deadline.set(allowed.head);
    let mut response = worker.buffers.take_draft();
    let mut interim = 0;
    let answered = poll_fn(|cx| {
        let polled = exchange.poll_head(cx, &mut response, &mut interim);
        *received = exchange.received();
        polled
    });
    match answered.await {
        Ok(()) => Ok((response, exchange)),
        Err(error) => {
            worker.buffers.give_draft(response);
            worker.buffers.give(std::mem::take(&mut exchange.out));
            Err(Box::new((error, exchange.sent, exchange.request)))
        }
    }
}

impl<D: Downstream> Exchange<D> {
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        response: &mut Draft,
        interim: &mut u32,
    ) -> Poll<Result<(), ExchangeError>> {
        self.poll_request(cx).map_err(ExchangeError::Client)?;
        loop {
            let Some(connection) = &mut self.connection else { return Poll::Ready(Err(ExchangeError::Timeout)) };
            match connection.poll_head(cx, &self.worker.buffers, &RESPONSE_LIMITS, &mut response.head) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.head_error(error))),
                Poll::Pending if self.deadline.poll_expired(cx) => return Poll::Ready(Err(ExchangeError::Timeout)),
                Poll::Pending => return Poll::Pending,
            }
            let head = &response.head;
            if !(100..200).contains(&head.status()) {
                return Poll::Ready(self.accept_head(response));
            }
            *interim += 1;
            framing::of_response(head, self.method).map_err(ExchangeError::BadResponse)?;
            if head.status() == 101 {
                return Poll::Ready(self.switch(response));
            }
            if *interim > MAX_INTERIM {
                return Poll::Ready(Err(ExchangeError::BadResponse(Refusal::UnexpectedInterim)));
            }
            headers::to_client(&response.head, &mut response.edits);
            self.request.downstream().send_interim(&response.head, &response.edits);
            response.edits.clear();
        }
    }

    /// A 101: what follows is not HTTP, so it must be what was asked for, after the whole request.
    fn switch(&mut self, response: &mut Draft) -> Result<(), ExchangeError> {
        let granted = self.upgrade.take_if(|asked| upgrade::is_granted(&response.head, asked));
        let granted = granted.filter(|_| self.is_sent);
        response.upgrade = Some(granted.ok_or(ExchangeError::BadResponse(Refusal::UnexpectedInterim))?);
        Ok(())
    }

    /// After a 101: the connection, its deadline and the client's side.
    pub fn into_tunnel(self) -> Option<(Box<Connection>, Deadline, D)> {
        let (deadline, client) = (self.deadline, self.request.into_downstream());
        self.connection.map(|connection| (connection, deadline, client))
    }

    fn accept_head(&mut self, response: &Draft) -> Result<(), ExchangeError> {
        let is_connect = self.upgrade.as_ref().is_some_and(|asked| asked.is_connect);
        if is_connect && (200..300).contains(&response.head.status()) {
            return Err(ExchangeError::BadResponse(Refusal::NotSwitched));
        }
        let length = framing::of_response(&response.head, self.method).map_err(ExchangeError::BadResponse)?;
        self.length = length;
        self.response = BodyReader::new(length, &RESPONSE_LIMITS);
        self.keeps_alive = framing::keep_alive_after(&response.head, length);
        self.deadline.set(self.allowed.body);
        Ok(())
    }

    fn head_error(&self, error: HeadError) -> ExchangeError {
        let was_reused = self.connection.as_ref().is_some_and(|connection| connection.is_reused());
        let reset = |source, had_response| ExchangeError::Reset { was_reused, had_response, source };
        match error {
            HeadError::Refused(refusal) => ExchangeError::BadResponse(refusal),
            HeadError::Closed => reset(io::ErrorKind::ConnectionReset.into(), false),
            HeadError::Truncated => reset(io::ErrorKind::UnexpectedEof.into(), true),
            HeadError::Io(source) => {
                let had_response = self.connection.as_ref().is_some_and(|connection| connection.wire.has_input());
                reset(source, had_response)
            }
        }
    }

    /// Whether the request could be sent once more.
    pub fn can_replay(&self) -> bool {
        self.request.can_replay()
    }

    /// The request's body, for another attempt; the connection is closed.
    pub fn into_request(self) -> Box<RequestBody<D>> {
        self.request
    }

    /// No other attempt follows: what was kept of the request is forgotten.
    pub fn commit(&mut self) {
        self.request.commit();
    }

    /// How the response's body is framed.
    pub fn response_length(&self) -> BodyLength {
        self.length
    }

    /// What the client's side failed with while the response was under way; then it is no fault of the endpoint's.
    pub fn client_fault(&self) -> Option<&BodyError> {
        self.fault.as_ref()
    }

    /// Whether the endpoint takes what is left of the request after its response.
    pub fn takes_rest(&self) -> bool {
        self.keeps_alive && !self.is_refused
    }

    /// Body bytes taken from the client.
    pub fn received(&self) -> u64 {
        self.request.received()
    }

    /// Moves request data: fills from the client, writes to the endpoint, until one of them has to wait. Fails only when the
    /// client's side does; an endpoint that takes no more may still answer.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Result<(), BodyError> {
        while !self.is_sent && !self.is_refused {
            let mut waits_for_client = false;
            if self.unsent() < BUFFER_SIZE && !self.request.is_ended() && !self.is_full() {
                match self.take_piece(cx) {
                    Poll::Ready(result) => {
                        result?;
                        self.deadline.set(self.allowed.head);
                    }
                    Poll::Pending => waits_for_client = true,
                }
            }
            let before = self.unsent();
            let Some(connection) = &mut self.connection else { return Ok(()) };
            let written = connection.wire.poll_write_all(cx, &mut self.out, self.pipe.as_deref_mut());
            self.sent += (before - self.unsent()) as u64;
            match written {
                Poll::Ready(Ok(())) if self.request.is_ended() => {
                    self.is_sent = true;
                    self.release();
                    self.deadline.set(self.allowed.head);
                }
                Poll::Ready(Ok(())) if waits_for_client => {
                    self.release();
                    return Ok(());
                }
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => self.is_refused = true,
                Poll::Pending => return Ok(()),
            }
        }
        Ok(())
    }

    /// Bytes that were taken from the client and that the endpoint has not taken.
    fn unsent(&self) -> usize {
        self.out.len() + self.pipe.as_ref().map_or(0, |pipe| pipe.held())
    }

    /// Whether what was taken must go out before the next piece, which goes through a pipe: the system moves what is long and goes
    /// on as it came.
    fn is_full(&mut self) -> bool {
        if self.pipe.is_none() && self.request.is_spliceable() {
            let is_plain = self.connection.as_ref().is_some_and(|connection| connection.wire.stream.plain().is_some());
            self.pipe = is_plain.then(|| self.worker.buffers.take_pipe()).flatten();
        }
        self.pipe.is_some() && self.unsent() > 0
    }

    fn release(&mut self) {
        self.worker.buffers.give(std::mem::take(&mut self.out));
        if let Some(pipe) = self.pipe.take() {
            self.worker.buffers.give_pipe(pipe);
        }
    }

    /// Takes the next piece of the request's body into the pipe, or appends it to `out`, framed for the endpoint.
    fn take_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        if let Some(pipe) = &mut self.pipe {
            return self.request.poll_splice(cx, pipe).map_ok(drop);
        }
        if self.out.capacity() == 0 {
            self.out = self.worker.buffers.take();
        }
        if self.request.length() != BodyLength::Chunked {
            return self.request.poll_data(cx, &mut self.out).map_ok(drop);
        }
        let mut piece = self.worker.buffers.take();
        let step = self.request.poll_data(cx, &mut piece);
        match &step {
            Poll::Ready(Ok(Step::Data(_))) => chunked::encode_chunk(&piece, &mut self.out),
            Poll::Ready(Ok(Step::End)) => {
                let trailers = self.request.downstream().take_trailers();
                chunked::encode_last(trailers.as_deref(), &mut self.out);
            }
            _ => {}
        }
        self.worker.buffers.give(piece);
        step.map_ok(drop)
    }

    /// Appends the next piece of the response's body to `out`, and moves request data meanwhile.
    pub fn poll_data(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<Result<Step, BodyError>> {
        self.poll_piece(cx, |reader, cx, wire, buffers, trailers| reader.poll_step(cx, wire, buffers, trailers, out))
    }

    /// Whether the system should move what is still to come of the response's body.
    pub fn is_spliceable(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| self.response.is_spliceable(&connection.wire))
    }

    /// [`Self::poll_data`] into a pipe that is empty.
    pub fn poll_splice(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<Result<Step, BodyError>> {
        self.poll_piece(cx, |reader, cx, wire, _, _| reader.poll_splice(cx, wire, pipe))
    }

    fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        read: impl FnOnce(
            &mut BodyReader,
            &mut Context<'_>,
            &mut Wire,
            &Buffers,
            &mut Option<Box<Head>>,
        ) -> Poll<Result<Step, BodyError>>,
    ) -> Poll<Result<Step, BodyError>> {
        if !self.is_sent
            && let Err(fault) = self.poll_request(cx)
        {
            // The client's side is gone or garbage: what is left of the response would not be read.
            (self.connection, self.is_refused, self.fault) = (None, true, Some(fault));
        }
        let Some(connection) = &mut self.connection else { return Poll::Ready(Err(BodyError::Truncated)) };
        let step = read(&mut self.response, cx, &mut connection.wire, &self.worker.buffers, &mut self.trailers);
        if step.is_pending() && self.deadline.poll_expired(cx) {
            return Poll::Ready(Err(BodyError::Timeout));
        }
        let step = ready!(step)?;
        if step != Step::End {
            self.deadline.set(self.allowed.body);
        }
        Poll::Ready(Ok(step))
    }

    /// Whether nothing more of the response comes, no trailers either.
    pub fn is_over(&self) -> bool {
        self.response.is_ended() && self.trailers.is_none()
    }

    /// The response's trailers, once its body is over.
    pub fn take_trailers(&mut self) -> Option<Box<Head>> {
        self.trailers.take()
    }

    /// After the response's end: moves what is left of the request. Ready with whether the request went out whole.
    pub fn poll_rest_of_request(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.connection.is_none() || !self.keeps_alive || self.is_refused || self.poll_request(cx).is_err() {
            return Poll::Ready(self.is_sent);
        }
        if self.is_sent || self.is_refused || self.deadline.poll_expired(cx) {
            return Poll::Ready(self.is_sent);
        }
        Poll::Pending
    }

    /// The connection, if both messages ended on it and it may carry more.
    pub fn finish(&mut self) -> Option<Box<Connection>> {
        let is_reusable = self.is_sent && self.response.is_ended() && self.keeps_alive;
        self.connection.take().filter(|_| is_reusable)
    }
}
