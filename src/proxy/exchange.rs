//! One exchange with one endpoint, over whichever protocol its connection speaks.
use crate::head::Head;
use crate::http1::framing::BodyLength;
use crate::pool::Connection;
use crate::pool::http1;
use crate::proxy::body::Downstream;
use crate::proxy::body::RequestBody;
use crate::proxy::forward;
use crate::proxy::forward::Allowed;
use crate::proxy::forward::ExchangeError;
use crate::proxy::forward_h2;
use crate::wire::body::BodyError;
use crate::wire::body::Step;
use crate::worker::Worker;
use crate::worker::buffers::Draft;
use crate::worker::wheel::Deadline;
use bytes::BytesMut;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;

/// A request under way to one endpoint, and its response. In a box from its beginning: it changes hands a few times.
#[derive(Debug)]
pub enum Exchange<D> {
    /// Over HTTP/1.1.
    Http1(Box<forward::Exchange<D>>),
    /// Over HTTP/2.
    Http2(Box<forward_h2::Exchange<D>>),
}

/// What a failed exchange leaves: why, how much of the request was written, and its body.
pub type Failed<D> = (ExchangeError, u64, Box<RequestBody<D>>);

/// Sends the request over `connection` and waits for the response's head. The body follows from the [`Exchange`]; when it
/// fails, the request's body comes back for another attempt. `received` is kept equal to the body bytes taken from the client,
/// also when nobody waits for the end.
pub async fn exchange<D: Downstream>(
    worker: &Rc<Worker>,
    connection: Connection,
    deadline: Deadline,
    allowed: &Allowed,
    draft: &Draft,
    request: Box<RequestBody<D>>,
    received: &mut u64,
) -> Result<(Box<Draft>, Exchange<D>), Box<Failed<D>>> {
    match connection {
        Connection::Http1(connection) => {
            let exchanged = forward::exchange(worker, connection, deadline, allowed, draft, request, received).await;
            exchanged.map(|(response, exchange)| (response, Exchange::Http1(exchange)))
        }
        Connection::Http2(lease) => {
            // In a box: requests over HTTP/1.1 should not carry its room.
            let exchanging = forward_h2::exchange(worker, *lease, deadline, allowed, draft, request, received);
            let exchanged = Box::pin(exchanging).await;
            exchanged.map(|(response, exchange)| (response, Exchange::Http2(exchange)))
        }
    }
}

impl<D: Downstream> Exchange<D> {
    /// Whether the request could be sent once more.
    pub fn can_replay(&self) -> bool {
        match self {
            Self::Http1(exchange) => exchange.can_replay(),
            Self::Http2(exchange) => exchange.can_replay(),
        }
    }

    /// The request's body, for another attempt; the exchange is over.
    pub fn into_request(self) -> Box<RequestBody<D>> {
        match self {
            Self::Http1(exchange) => exchange.into_request(),
            Self::Http2(exchange) => exchange.into_request(),
        }
    }

    /// No other attempt follows: what was kept of the request is forgotten.
    pub fn commit(&mut self) {
        match self {
            Self::Http1(exchange) => exchange.commit(),
            Self::Http2(exchange) => exchange.request().commit(),
        }
    }

    /// How the response's body is framed.
    pub fn response_length(&self) -> BodyLength {
        match self {
            Self::Http1(exchange) => exchange.response_length(),
            Self::Http2(exchange) => exchange.response_length(),
        }
    }

    /// What the client's side failed with while the response was under way; then it is no fault of the endpoint's.
    pub fn client_fault(&self) -> Option<&BodyError> {
        match self {
            Self::Http1(exchange) => exchange.client_fault(),
            Self::Http2(exchange) => exchange.client_fault(),
        }
    }

    /// Whether the endpoint takes what is left of the request after its response.
    pub fn takes_rest(&self) -> bool {
        match self {
            Self::Http1(exchange) => exchange.takes_rest(),
            Self::Http2(exchange) => exchange.takes_rest(),
        }
    }

    /// After a 101: the connection, its deadline and the client's side. HTTP/2 knows no 101.
    pub fn into_tunnel(self) -> Option<(Box<http1::Connection>, Deadline, D)> {
        match self {
            Self::Http1(exchange) => exchange.into_tunnel(),
            Self::Http2(_) => None,
        }
    }

    /// Body bytes taken from the client.
    pub fn received(&self) -> u64 {
        match self {
            Self::Http1(exchange) => exchange.received(),
            Self::Http2(exchange) => exchange.received(),
        }
    }

    /// Appends the next piece of the response's body to `out`, and moves request data meanwhile.
    pub fn poll_data(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<Result<Step, BodyError>> {
        match self {
            Self::Http1(exchange) => exchange.poll_data(cx, out),
            Self::Http2(exchange) => exchange.poll_data(cx, out),
        }
    }

    /// Whether nothing more of the response comes, no trailers either.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Http1(exchange) => exchange.is_over(),
            Self::Http2(exchange) => exchange.is_over(),
        }
    }

    /// The response's trailers, once its body is over.
    pub fn take_trailers(&mut self) -> Option<Box<Head>> {
        match self {
            Self::Http1(exchange) => exchange.take_trailers(),
            Self::Http2(exchange) => exchange.take_trailers(),
        }
    }

    /// After the response's end: moves what is left of the request. Ready with whether the request went out whole.
    pub fn poll_rest_of_request(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        match self {
            Self::Http1(exchange) => exchange.poll_rest_of_request(cx),
            Self::Http2(exchange) => exchange.poll_rest_of_request(cx),
        }
    }

    /// The connection to put back, if both messages ended on it, it may carry more and is not shared.
    pub fn finish(&mut self) -> Option<Box<http1::Connection>> {
        match self {
            Self::Http1(exchange) => exchange.finish(),
            Self::Http2(_) => None,
        }
    }
}
