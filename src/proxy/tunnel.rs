//! A connection that has left HTTP: bytes go both ways until both sides have ended, one breaks off, or nobody says a word.
//! Whether it may come to that is `upgrade`'s business.
//!
//! Each direction owns a buffer only while bytes are in it, and reads again only when they are written: whoever reads
//! slowly slows the other side down.
use crate::pool::http1::Connection;
use crate::proxy::finish::Finish;
use crate::snapshot::stats;
use crate::wire::Wire;
use crate::wire::body::BodyError;
use crate::wire::body::BodyReader;
use crate::wire::body::Step;
use crate::worker::Worker;
use crate::worker::buffers::Buffers;
use crate::worker::wheel::Deadline;
use bytes::BytesMut;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

/// How often a side that is not read from is asked whether it is still there.
const PULSE: Duration = Duration::from_secs(1);

/// One side of a tunnel.
pub trait End {
    /// Appends what came to `out`; 0 is the end of what this side sends.
    fn poll_read(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<io::Result<usize>>;

    /// Writes what it can of `out`; ready when `out` is empty and nothing is held back.
    fn poll_write(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<io::Result<()>>;

    /// Ends what we send; this side may still send.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Prepares for being silent: a peer that is gone without a word is to be noticed by the system.
    fn watch(&self);

    /// Whether it was reset while nobody read from it.
    fn has_failed(&mut self, cx: &mut Context<'_>) -> bool;

    /// Makes its close a reset.
    fn abort(&mut self);
}

/// How a tunnel ended, for whoever holds the client's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Both sides ended, or time was up.
    Closed,
    /// A side broke off, and the other must not take it for an end.
    Broken,
}

/// Which side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Endpoint,
}

/// An upgraded connection and its request, which ends with it.
#[derive(Debug)]
pub struct Tunnel<D> {
    worker: Rc<Worker>,
    client: D,
    endpoint: Endpoint,
    up: Pipe,
    down: Pipe,
    /// For silence, and for an endpoint that is removed.
    deadline: Deadline,
    silence: Duration,
    pulse: Deadline,
    finish: Finish,
    open: Open,
}

impl<D: End> Tunnel<D> {
    /// A tunnel between `client`, who has been told of it, and the endpoint at the other end of `connection`.
    pub fn new(client: D, connection: Connection, deadline: Deadline, finish: Finish) -> Self {
        let worker = finish.proxy().worker.clone();
        let silence = finish.forward().map_or(Duration::ZERO, |forward| forward.tunnel_timeout);
        let open = Open::new(&finish.conn.stats, worker.index);
        let endpoint = Endpoint { wire: connection.wire, reader: BodyReader::of_tunnel(), worker: worker.clone() };
        let pulse = worker.wheel.deadline();
        let (up, down) = (Pipe::default(), Pipe::default());
        Self { worker, client, endpoint, up, down, deadline, silence, pulse, finish, open }
    }

    /// Moves bytes until it is over.
    pub async fn run(mut self) -> Ended {
        self.finish.answered = Some(self.finish.started.elapsed());
        self.client.watch();
        self.endpoint.watch();
        self.deadline.set(self.silence);
        let ended = poll_fn(|cx| self.poll(cx)).await;
        drop(self.open);
        ended
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        if self.deadline.poll_expired(cx) {
            return self.poll_time_up(cx);
        }
        let before = (self.up.moved, self.down.moved);
        let up = self.up.poll(cx, &mut self.client, &mut self.endpoint, &self.worker.buffers);
        let down = self.down.poll(cx, &mut self.endpoint, &mut self.client, &self.worker.buffers);
        (self.finish.bytes_in, self.finish.bytes_out) = (self.up.moved, self.down.moved);
        if before != (self.up.moved, self.down.moved) {
            self.deadline.set(self.silence);
        }
        match (up, down) {
            (Poll::Ready(Err(Failed::From)), _) | (_, Poll::Ready(Err(Failed::To))) => self.break_off(Side::Client),
            (Poll::Ready(Err(Failed::To)), _) | (_, Poll::Ready(Err(Failed::From))) => self.break_off(Side::Endpoint),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Ended::Closed),
            _ => self.poll_pulse(cx),
        }
    }

    /// A side that is not read from is reset without waking anybody: it is asked from time to time.
    fn poll_pulse(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        if self.up.is_reading() && self.down.is_reading() {
            return Poll::Pending;
        }
        if self.pulse.poll_expired(cx) {
            match (self.client.has_failed(cx), self.endpoint.has_failed(cx)) {
                (true, _) => return self.break_off(Side::Client),
                (_, true) => return self.break_off(Side::Endpoint),
                _ => self.pulse.set(PULSE),
            }
        } else if !self.pulse.is_armed() {
            self.pulse.set(PULSE);
        }
        Poll::Pending
    }

    /// Passes on that one side is gone.
    fn break_off(&mut self, side: Side) -> Poll<Ended> {
        match side {
            Side::Client => self.finish.error = Some("client_closed"),
            Side::Endpoint => {
                self.finish.error = Some("upstream_reset");
                let (proxy, ctx) = self.finish.parts();
                proxy.note_broken_body(ctx);
            }
        }
        self.client.abort();
        self.endpoint.abort();
        Poll::Ready(Ended::Broken)
    }

    /// Nobody said a word, or the endpoint is removed: an orderly end, as far as it takes no waiting.
    fn poll_time_up(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        self.finish.error = Some(if self.deadline.is_final() { "endpoint_removed" } else { "tunnel_timeout" });
        for ended in [self.client.poll_shutdown(cx), self.endpoint.poll_shutdown(cx)] {
            if let Poll::Ready(Err(error)) = ended {
                tracing::debug!(%error, "A side of a tunnel was gone at its end.");
            }
        }
        Poll::Ready(Ended::Closed)
    }
}

/// Counts a tunnel as long as it is there.
#[derive(Debug)]
struct Open {
    stats: Arc<stats::Listener>,
    worker: usize,
}

impl Open {
    fn new(stats: &Arc<stats::Listener>, worker: usize) -> Self {
        stats.of(worker).tunnels.inc();
        Self { stats: stats.clone(), worker }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.stats.of(self.worker).tunnels.dec();
    }
}

/// Where a direction failed: at the side it comes from or at the one it goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failed {
    From,
    To,
}

/// One direction.
#[derive(Debug, Default)]
struct Pipe {
    buffer: BytesMut,
    /// Whether something written may still be held back on our side.
    is_unflushed: bool,
    /// Whether the side it comes from has ended.
    is_ended: bool,
    /// Whether the side it goes to was told.
    is_closed: bool,
    /// Bytes passed on.
    moved: u64,
}

impl Pipe {
    /// Whether it waits for the side it comes from.
    fn is_reading(&self) -> bool {
        !self.is_ended && self.buffer.is_empty()
    }

    /// Moves bytes until it has to wait; ready when the end was passed on.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut impl End,
        to: &mut impl End,
        buffers: &Buffers,
    ) -> Poll<Result<(), Failed>> {
        while !self.is_closed {
            if self.is_unflushed {
                let before = self.buffer.len();
                let written = to.poll_write(cx, &mut self.buffer);
                self.moved += (before - self.buffer.len()) as u64;
                ready!(written).map_err(|error| failed(&error, Failed::To))?;
                self.is_unflushed = false;
            }
            if self.is_ended {
                self.release(buffers);
                ready!(to.poll_shutdown(cx)).map_err(|error| failed(&error, Failed::To))?;
                self.is_closed = true;
                break;
            }
            if self.buffer.capacity() == 0 {
                self.buffer = buffers.take();
            }
            match from.poll_read(cx, &mut self.buffer) {
                Poll::Ready(Ok(0)) => self.is_ended = true,
                Poll::Ready(Ok(_)) => self.is_unflushed = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(failed(&error, Failed::From))),
                Poll::Pending => {
                    self.release(buffers);
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn release(&mut self, buffers: &Buffers) {
        if self.buffer.capacity() > 0 {
            buffers.give(std::mem::take(&mut self.buffer));
        }
    }
}

fn failed(error: &io::Error, side: Failed) -> Failed {
    tracing::debug!(%error, ?side, "A tunnel broke off.");
    side
}

/// The endpoint's side.
#[derive(Debug)]
struct Endpoint {
    wire: Wire,
    reader: BodyReader,
    worker: Rc<Worker>,
}

impl End for Endpoint {
    fn poll_read(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<io::Result<usize>> {
        poll_raw(cx, &mut self.reader, &mut self.wire, &self.worker.buffers, out)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<io::Result<()>> {
        self.wire.poll_write(cx, out)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.poll_shutdown(cx)
    }

    fn watch(&self) {
        self.wire.stream.watch();
    }

    fn has_failed(&mut self, _: &mut Context<'_>) -> bool {
        self.wire.stream.has_failed()
    }

    fn abort(&mut self) {
        self.wire.stream.abort();
    }
}

/// [`End::poll_read`] from a wire, what was read ahead of the switch first.
pub fn poll_raw(
    cx: &mut Context<'_>,
    reader: &mut BodyReader,
    wire: &mut Wire,
    buffers: &Buffers,
    out: &mut BytesMut,
) -> Poll<io::Result<usize>> {
    match ready!(reader.poll_step(cx, wire, buffers, &mut None, out)) {
        Ok(Step::Data(count)) => Poll::Ready(Ok(count)),
        Ok(Step::End) => Poll::Ready(Ok(0)),
        Err(BodyError::Io(error)) => Poll::Ready(Err(error)),
        Err(error) => Poll::Ready(Err(io::Error::other(error))),
    }
}
