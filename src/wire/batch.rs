//! A stream for the `h2` crate whose writes go out together: what is written is kept until its owner sends it, once each
//! time it was polled. The owner keeps a handle of its own, so that it can still speak when `h2` is gone.
use crate::net::stream::Stream;
use crate::wire::frames::Meter;
use crate::worker::Worker;
use bytes::Buf;
use bytes::BytesMut;
use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;

/// Bytes that may wait to be sent; a writer waits when there are more.
const HIGH_WATER: usize = 64 << 10;
/// Bytes read and forgotten of a peer that was told to go.
const MAX_DISCARDED: usize = 1 << 20;

/// A stream with what waits to be sent on it.
#[derive(Debug, Clone)]
pub struct Batch(Rc<RefCell<Inner>>);

#[derive(Debug)]
struct Inner {
    worker: Rc<Worker>,
    stream: Stream,
    out: BytesMut,
    /// Counts the frames of a client; an endpoint's are not counted.
    meter: Option<Meter>,
    has_sent: bool,
    has_heard: bool,
    discarded: usize,
}

impl Batch {
    /// A stream on which nothing was written yet.
    pub fn new(worker: Rc<Worker>, stream: Stream, meter: Option<Meter>) -> Self {
        let inner =
            Inner { worker, stream, out: BytesMut::new(), meter, has_sent: false, has_heard: false, discarded: 0 };
        Self(Rc::new(RefCell::new(inner)))
    }

    /// Sends what waits; ready when nothing does.
    pub fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.0.borrow_mut();
        ready!(inner.poll_send(cx))?;
        // TLS may hold encrypted bytes back; on TCP this does nothing.
        Pin::new(&mut inner.stream).poll_flush(cx)
    }

    /// Whether something was sent since this was last asked.
    pub fn take_progress(&self) -> bool {
        std::mem::take(&mut self.0.borrow_mut().has_sent)
    }

    /// Whether something came since this was last asked.
    pub fn take_heard(&self) -> bool {
        std::mem::take(&mut self.0.borrow_mut().has_heard)
    }

    /// Looks at the meter.
    pub fn with_meter<T>(&self, look: impl FnOnce(&mut Meter) -> T) -> Option<T> {
        self.0.borrow_mut().meter.as_mut().map(look)
    }

    /// Lets the system find out when the peer is gone without a word.
    pub fn watch(&self) {
        self.0.borrow().stream.watch();
    }

    /// Sends what waits, closes our side and reads on, so that unread bytes do not reset the connection before the peer has
    /// seen its end. Ready when the peer has closed too, or does not stop.
    pub fn poll_linger(&self, cx: &mut Context<'_>) -> Poll<()> {
        let inner = &mut *self.0.borrow_mut();
        inner.meter = None;
        if ready!(inner.poll_send(cx)).is_err() || ready!(Pin::new(&mut inner.stream).poll_shutdown(cx)).is_err() {
            return Poll::Ready(());
        }
        let mut room = [0; 4096];
        while inner.discarded < MAX_DISCARDED {
            let mut buf = ReadBuf::new(&mut room);
            if ready!(Pin::new(&mut inner.stream).poll_read(cx, &mut buf)).is_err() || buf.filled().is_empty() {
                break;
            }
            inner.discarded += buf.filled().len();
        }
        Poll::Ready(())
    }
}

impl Inner {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.out))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(written);
            self.has_sent = true;
        }
        if self.out.capacity() > 0 {
            self.worker.buffers.give(std::mem::take(&mut self.out));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Batch {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.0.borrow_mut();
        if inner.meter.as_ref().is_some_and(|meter| meter.fault().is_some()) {
            // Whoever drives the connection looks now, and ends it: nothing more is read for this peer.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut inner.stream).poll_read(cx, buf))?;
        inner.has_heard = true;
        let Some(meter) = &mut inner.meter else { return Poll::Ready(Ok(())) };
        let came = buf.filled().len() - before;
        let shown = meter.received(&buf.filled()[before..]);
        buf.set_filled(before + shown);
        if shown == 0 && came > 0 {
            // Nothing at all would be the end of the stream.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Batch {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let inner = &mut *self.0.borrow_mut();
        if inner.out.len() >= HIGH_WATER {
            ready!(inner.poll_send(cx))?;
        }
        if inner.out.capacity() == 0 {
            inner.out = inner.worker.buffers.take();
        }
        inner.out.extend_from_slice(bytes);
        if let Some(meter) = &mut inner.meter {
            meter.sent(bytes.len());
        }
        Poll::Ready(Ok(bytes.len()))
    }

    /// Does nothing: the owner sends.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.0.borrow_mut();
        ready!(inner.poll_send(cx))?;
        Pin::new(&mut inner.stream).poll_shutdown(cx)
    }
}

/// A piece of a body on its way into a batch; its buffer goes back to the worker when it was written.
#[derive(Debug)]
pub struct Piece {
    worker: Rc<Worker>,
    bytes: BytesMut,
}

impl Piece {
    /// A piece in a buffer of the worker's.
    pub fn new(worker: &Rc<Worker>, bytes: BytesMut) -> Self {
        Self { worker: worker.clone(), bytes }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.worker.buffers.give(std::mem::take(&mut self.bytes));
    }
}
