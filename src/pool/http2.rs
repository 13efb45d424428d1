//! An HTTP/2 connection to an endpoint, shared by the requests of one worker: each has a lease on it, a task of its own drives
//! it. What a request is, is not known here.
use crate::net::stream::Stream;
use crate::snapshot::places::Place;
use crate::wire::batch::Batch;
use crate::wire::batch::Piece;
use crate::worker::Worker;
use crate::worker::wheel::Deadline;
use h2::Ping;
use h2::PingPong;
use h2::client;
use h2::client::SendRequest;
use std::cell::Cell;
use std::cell::RefCell;
use std::future::Future;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::time::Duration;
use tokio::sync::Notify;

/// Requests on one connection at a time, also when the endpoint allows more: another connection is made then.
const MAX_STREAMS: usize = 128;
/// What an endpoint may send of one response before it was passed on, and of all: so much that slow clients never hold up others.
const STREAM_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS as u32;
/// Bytes of one request that may wait for the connection.
const MAX_SEND_BUFFER: usize = 64 << 10;
/// Limit of a response's head, as `h2` counts.
const MAX_HEAD: u32 = 128 << 10;
/// Silence while requests are under way, after which the endpoint is asked whether it is there; how long it may take to
/// answer; and how long it is believed then. Servers of gRPC take more pings than these for an attack.
const SILENCE: Duration = Duration::from_secs(30);
const PONG_WITHIN: Duration = Duration::from_secs(10);
const BELIEVED: Duration = Duration::from_secs(330);

/// A connection, as the pool keeps it.
#[derive(Debug)]
pub(super) struct Shared {
    send: RefCell<SendRequest<Piece>>,
    state: Rc<State>,
    /// The sweep before which its last request ended.
    idle_since: Cell<u64>,
    /// What secures it: the id of a [`TlsClient`](crate::net::tls_client::TlsClient); 0 is in clear.
    pub(super) security: u64,
}

/// What the pool, the requests and the task of a connection share.
#[derive(Debug, Default)]
struct State {
    streams: Cell<usize>,
    served: Cell<bool>,
    /// The endpoint's settings came: it speaks HTTP/2, and how many streams it takes is known.
    is_ready: Cell<bool>,
    is_over: Cell<bool>,
    /// Told when it is ready, a stream ended, or the connection did.
    freed: Rc<Notify>,
}

/// One request's share of a connection.
#[derive(Debug)]
pub struct Lease {
    send: SendRequest<Piece>,
    state: Rc<State>,
    is_reused: bool,
    is_secure: bool,
}

impl Shared {
    /// Begins HTTP/2 on a stream and waits for the endpoint's settings; `freed` is told when a request ends. `None`: the endpoint
    /// does not speak HTTP/2, or not in time.
    pub(super) async fn start(
        worker: &Rc<Worker>,
        stream: Stream,
        security: u64,
        freed: &Rc<Notify>,
        deadline: &Deadline,
        place: Place,
    ) -> Option<Self> {
        let batch = Batch::new(worker.clone(), stream, None);
        // Nothing is waited for here: our preface is written into the batch.
        let (send, mut connection) = builder().handshake(batch.clone()).await.ok()?;
        let state = Rc::new(State { freed: freed.clone(), ..State::default() });
        let driver = Driver {
            ping: connection.ping_pong(),
            connection,
            silence: worker.wheel.deadline(),
            is_asked: false,
            batch,
            state: state.clone(),
            _place: place,
        };
        driver.silence.set(SILENCE);
        drop(tokio::task::spawn_local(driver));
        while !state.is_ready.get() {
            if state.is_over.get() || !told(freed, deadline).await {
                return None;
            }
        }
        Some(Self { send: RefCell::new(send), state, idle_since: Cell::new(u64::MAX), security })
    }

    /// A share of the connection, if it takes another request; with `is_fresh` only if it never served one.
    pub(super) fn lease(&self, sweep: u64, is_fresh: bool) -> Option<Lease> {
        let limit = self.send.borrow().current_max_send_streams().min(MAX_STREAMS);
        let is_unfit = is_fresh && self.state.served.get();
        if is_unfit || !self.is_open() || self.state.streams.get() >= limit {
            return None;
        }
        self.state.streams.set(self.state.streams.get() + 1);
        self.idle_since.set(sweep);
        let is_reused = self.state.served.get();
        Some(Lease {
            send: self.send.borrow().clone(),
            state: self.state.clone(),
            is_reused,
            is_secure: self.security > 0,
        })
    }

    /// Whether it takes requests at all: neither ended nor told to take no more.
    pub(super) fn is_open(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        !self.state.is_over.get() && !matches!(self.send.borrow_mut().poll_ready(&mut cx), Poll::Ready(Err(_)))
    }

    /// Whether nothing was under way on it for more than so many sweeps.
    pub(super) fn is_idle(&self, sweep: u64, max_sweeps: u64) -> bool {
        if self.state.streams.get() > 0 {
            self.idle_since.set(sweep);
        }
        sweep.saturating_sub(self.idle_since.get()) > max_sweeps
    }
}

impl Lease {
    /// Where the request goes.
    pub fn send(&mut self) -> &mut SendRequest<Piece> {
        &mut self.send
    }

    /// Whether the connection served a request before: then it may have died unnoticed.
    pub fn is_reused(&self) -> bool {
        self.is_reused
    }

    /// Whether the connection is encrypted.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// A response came.
    pub fn note_response(&self) {
        self.state.served.set(true);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.state.streams.set(self.state.streams.get() - 1);
        self.state.freed.notify_waiters();
    }
}

fn builder() -> client::Builder {
    let mut builder = client::Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEAD)
        .max_send_buffer_size(MAX_SEND_BUFFER)
        // None until the endpoint has said how many.
        .initial_max_send_streams(0);
    builder
}

/// Drives a connection to its end: until it failed, or nobody holds it any more.
struct Driver {
    connection: client::Connection<Batch, Piece>,
    ping: Option<PingPong>,
    silence: Deadline,
    is_asked: bool,
    batch: Batch,
    state: Rc<State>,
    /// Given up with the connection.
    _place: Place,
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let driver = self.get_mut();
        let ended = Pin::new(&mut driver.connection).poll(cx);
        let sent = driver.batch.poll_send(cx);
        if !driver.state.is_ready.get() && driver.connection.max_concurrent_send_streams() > 0 {
            driver.state.is_ready.set(true);
            driver.state.freed.notify_waiters();
        }
        let is_over = ended.is_ready() || matches!(sent, Poll::Ready(Err(_))) || driver.is_dead(cx);
        if let Poll::Ready(Err(error)) = &ended {
            tracing::debug!(%error, "An HTTP/2 connection to an endpoint failed.");
        }
        if is_over { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Driver {
    /// Whether the endpoint was asked and did not answer.
    fn is_dead(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(ping) = &mut self.ping else { return false };
        if self.is_asked && ping.poll_pong(cx).is_ready() {
            self.is_asked = false;
            self.silence.set(BELIEVED);
        }
        if self.batch.take_heard() && !self.is_asked {
            self.silence.set(SILENCE);
        }
        if !self.silence.poll_expired(cx) {
            return false;
        }
        if self.is_asked {
            tracing::debug!("An endpoint did not answer a ping.");
            return true;
        }
        self.is_asked = self.state.streams.get() > 0 && ping.send_ping(Ping::opaque()).is_ok();
        self.silence.set(if self.is_asked { PONG_WITHIN } else { SILENCE });
        // Registers for the new moment, and lets the ping out.
        cx.waker().wake_by_ref();
        false
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.state.is_over.set(true);
        self.state.freed.notify_waiters();
    }
}

/// Waits for `freed`, within the deadline; whether it was told.
pub(super) async fn told(freed: &Notify, deadline: &Deadline) -> bool {
    let mut notified = std::pin::pin!(freed.notified());
    poll_fn(|cx| match notified.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(true),
        Poll::Pending if deadline.poll_expired(cx) => Poll::Ready(false),
        Poll::Pending => Poll::Pending,
    })
    .await
}
