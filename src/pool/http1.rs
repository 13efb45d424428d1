//! One HTTP/1.1 connection to an endpoint: drives `crate::http1` as a client.
use crate::head::Head;
use crate::http1::limits::Limits;
use crate::http1::parse;
use crate::net::stream::Stream;
use crate::snapshot::places::Place;
use crate::wire::HeadError;
use crate::wire::Wire;
use crate::worker::buffers::Buffers;
use std::task::Context;
use std::task::Poll;

/// A connection to an endpoint, owned by whoever uses it and dropped (closed) unless it is put back.
#[derive(Debug)]
pub struct Connection {
    /// The stream and what was read of it.
    pub wire: Wire,
    is_reused: bool,
    security: u64,
    place: Place,
}

impl Connection {
    /// A connection just made, secured by the [`TlsClient`](crate::net::tls_client::TlsClient) of this id; 0 is in clear.
    pub fn new(stream: Stream, security: u64, place: Place) -> Box<Self> {
        Box::new(Self { wire: Wire::new(stream), is_reused: false, security, place })
    }

    /// What secures it, as given to [`Connection::new`].
    pub fn security(&self) -> u64 {
        self.security
    }

    /// Whether it served a request before: then it may have died unnoticed.
    pub fn is_reused(&self) -> bool {
        self.is_reused
    }

    /// Reads a response head.
    pub fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &Buffers,
        limits: &Limits,
        head: &mut Head,
    ) -> Poll<Result<(), HeadError>> {
        self.wire.poll_head(cx, buffers, parse::response, limits, head)
    }

    /// Prepares it for being idle.
    pub(super) fn rest(&mut self, buffers: &Buffers) {
        self.is_reused = true;
        self.place.set_idle(true);
        self.wire.release(buffers);
    }

    /// Takes it up again.
    pub(super) fn resume(&mut self) {
        self.place.set_idle(false);
    }

    /// The worker of the request that should have its place next, if one waits.
    pub(super) fn next(&self) -> Option<usize> {
        self.place.next()
    }

    /// Tells the first in line to look for it among the idle.
    pub(super) fn offer(&self) {
        self.place.offer();
    }

    /// How many would rather have its place.
    pub(super) fn wanted(&self) -> usize {
        self.place.wanted()
    }

    /// Whether the endpoint closed it, or sent what nobody asked for.
    pub(super) fn is_disturbed(&mut self, cx: &mut Context<'_>) -> bool {
        self.wire.has_input() || self.wire.stream.is_disturbed(cx)
    }
}
