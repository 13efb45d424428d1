//! Serves HTTP/2 on one connection with the `h2` crate. All its requests run in the connection's own task, each through the
//! same `Proxy::handle`; what they write goes out once each time the task was polled.
mod lanes;
mod stream;
mod tunnel;

use crate::listener::door::Door;
use crate::listener::settings::Settings;
use crate::net::stream::Stream;
use crate::proxy::context::ConnInfo;
use crate::telemetry::labels::RefusedReason;
use crate::wire::batch::Batch;
use crate::wire::batch::Piece;
use crate::wire::frames::Fault;
use crate::wire::frames::Meter;
use crate::worker::wheel::Deadline;
use h2::Reason;
use h2::RecvStream;
use h2::StreamId;
use h2::server;
use h2::server::SendResponse;
use http::Request;
use lanes::Lanes;
use std::future::Future;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use tokio::task::coop::unconstrained;

/// Requests under way at one time.
const MAX_STREAMS: u32 = 128;
/// What a client may send of one body before it was passed on, and of all its bodies.
const STREAM_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Response bytes of one stream that may wait for the connection.
const MAX_SEND_BUFFER: usize = 64 << 10;
/// Streams reset by the client before they were looked at, and streams we had to reset: more is an attack.
const MAX_PENDING_RESETS: usize = 64;
const MAX_LOCAL_RESETS: usize = 256;
/// Rounds in which a connection's requests are polled before other connections have their turn.
const MAX_ROUNDS: usize = 16;
/// How long a client may take to go once it was told to.
const GOODBYE: Duration = Duration::from_secs(2);
/// A connection without requests gives its memory back after this.
const REST: Duration = Duration::from_secs(1);

/// What all requests of a connection share.
#[derive(Debug)]
pub struct Side {
    door: Rc<Door>,
    conn: Rc<ConnInfo>,
    batch: Batch,
}

impl Side {
    /// Whether the fields that came last for this stream are wrong in a way that `h2` does not tell.
    fn is_marred(&self, stream: StreamId) -> bool {
        self.batch.with_meter(|meter| meter.take_marred(stream.into())) == Some(true)
    }
}

/// Serves requests until the client leaves, misbehaves or is asked to go.
pub async fn serve(door: Rc<Door>, stream: Stream, conn: Rc<ConnInfo>, deadline: Deadline) {
    let batch = Batch::new(door.worker.clone(), stream, Some(Meter::default()));
    let connection = match shake(&door, &batch, &deadline).await {
        Ok(connection) => connection,
        Err(reason) => return reason.into_iter().for_each(|reason| door.refused(reason)),
    };
    let side = Rc::new(Side { door: door.clone(), conn, batch: batch.clone() });
    let start = |request, respond| stream::serve(side.clone(), request, respond);
    let lanes = Lanes::new(poll_fn(|cx| Poll::Ready(cx.waker().clone())).await);
    let mut driver = Driver {
        connection,
        lanes,
        start,
        side: &side,
        phase: Phase::New,
        deadline,
        is_blocked: false,
        is_dismissed: false,
        write_deadline: door.worker.wheel.deadline(),
    };
    // The rounds are counted here: tokio's own count would end a round in its middle.
    unconstrained(poll_fn(|_| driver.poll())).await;
    let deadline = driver.deadline;
    drop((driver.connection, driver.lanes));
    deadline.set(GOODBYE);
    poll_fn(|cx| match batch.poll_linger(cx) {
        Poll::Pending if !deadline.poll_expired(cx) => Poll::Pending,
        _ => Poll::Ready(()),
    })
    .await;
}

type Connection = server::Connection<Batch, Piece>;

/// Exchanges prefaces, within the time for a head. Fails with what is counted, if anything is.
async fn shake(door: &Door, batch: &Batch, deadline: &Deadline) -> Result<Connection, Option<RefusedReason>> {
    let builder = builder(&door.settings());
    let mut shaking = pin!(builder.handshake::<_, Piece>(batch.clone()));
    poll_fn(|cx| {
        let shaken = shaking.as_mut().poll(cx);
        if let Poll::Ready(Err(_)) = batch.poll_send(cx) {
            return Poll::Ready(Err(None));
        }
        match shaken {
            Poll::Ready(Ok(connection)) => Poll::Ready(Ok(connection)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.is_library().then_some(RefusedReason::H2Protocol))),
            Poll::Pending if deadline.poll_expired(cx) => Poll::Ready(Err(Some(RefusedReason::HeaderTimeout))),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

fn builder(settings: &Settings) -> server::Builder {
    // `h2` counts 32 bytes more for each field; what lies between is refused by us, with a status of our own.
    let head = settings.limits.max_head_bytes + 32 * settings.limits.max_fields;
    let mut builder = server::Builder::new();
    builder
        .max_header_list_size(u32::try_from(head).unwrap_or(u32::MAX))
        .max_concurrent_streams(MAX_STREAMS)
        .enable_connect_protocol()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(MAX_SEND_BUFFER)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(Some(MAX_LOCAL_RESETS));
    builder
}

/// What the connection waits for; each has its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The first request.
    New,
    /// Requests under way to end.
    Busy,
    /// The rest of a head, this one of all.
    AmidHead(u64),
    /// Another request, for a moment.
    Resting,
    /// Another request.
    Idle,
    /// The client to go: it was told to.
    Leaving,
}

/// Drives a connection and its requests.
struct Driver<'a, F, S> {
    connection: Connection,
    lanes: Lanes<F>,
    start: S,
    side: &'a Side,
    phase: Phase,
    deadline: Deadline,
    is_blocked: bool,
    is_dismissed: bool,
    /// Runs while the client takes nothing.
    write_deadline: Deadline,
}

impl<F, S> Driver<'_, F, S>
where
    F: Future<Output = ()>,
    S: Fn(Request<RecvStream>, SendResponse<Piece>) -> F,
{
    /// Ready when the connection is over.
    fn poll(&mut self) -> Poll<()> {
        self.lanes.enter();
        let waker = self.lanes.connection();
        let cx = &mut Context::from_waker(&waker);
        let mut is_over = false;
        for _ in 0..MAX_ROUNDS {
            if self.lanes.take_connection() && self.poll_connection(cx).is_ready() {
                is_over = true;
                break;
            }
            let (polled, ended) = self.lanes.round();
            if ended > 0 {
                self.lanes.wake_connection();
            }
            if polled == 0 {
                break;
            }
        }
        is_over |= self.poll_send(cx).is_ready();
        self.lanes.leave();
        if is_over { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Moves frames both ways and starts requests. Ready when the connection is over.
    fn poll_connection(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if !self.lanes.has_room() {
                if self.connection.poll_closed(cx).is_ready() {
                    return Poll::Ready(());
                }
                break;
            }
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => self.lanes.start((self.start)(request, respond)),
                Poll::Ready(Some(Err(error))) => {
                    self.note(&error);
                    return Poll::Ready(());
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        self.look_ahead();
        if self.deadline.poll_expired(cx) { self.expire() } else { Poll::Pending }
    }

    fn note(&self, error: &h2::Error) {
        tracing::debug!(%error, "An HTTP/2 connection failed.");
        match error.reason() {
            Some(Reason::ENHANCE_YOUR_CALM) if error.is_library() => self.side.door.refused(RefusedReason::H2Flood),
            Some(_) if error.is_library() => self.side.door.refused(RefusedReason::H2Protocol),
            _ => {}
        }
    }

    /// Says what is waited for now, and how long.
    fn look_ahead(&mut self) {
        let door = &self.side.door;
        let meter = self.side.batch.with_meter(|meter| (meter.fault(), meter.amid_head()));
        let (fault, amid_head) = meter.unwrap_or_default();
        let fault = fault.filter(|_| !self.is_dismissed);
        let is_busy = self.lanes.busy() > 0;
        match (self.phase, fault, amid_head) {
            (_, Some(fault), _) => self.dismiss_for(fault),
            (Phase::Leaving, ..) if is_busy => self.deadline.set(GOODBYE),
            (Phase::Leaving, ..) => {}
            _ if door.is_draining() => self.bid_goodbye(),
            (Phase::New, ..) if !is_busy => {}
            (Phase::AmidHead(same), _, Some(head)) if same == head => {}
            (_, _, Some(head)) => self.enter(Phase::AmidHead(head), door.settings().header_timeout),
            (Phase::Busy, ..) if is_busy => {}
            _ if is_busy => {
                self.phase = Phase::Busy;
                self.deadline.clear();
            }
            // The end of the last response may still be on its way to a slow client.
            (Phase::Resting | Phase::Idle, ..) if !self.connection.has_streams() => {}
            (Phase::Resting | Phase::Idle, ..) if !self.side.batch.take_progress() => {}
            _ => self.enter(Phase::Resting, REST.min(door.settings().idle_timeout)),
        }
    }

    /// What was waited for did not come. Ready when the connection is to end now.
    fn expire(&mut self) -> Poll<()> {
        match self.phase {
            Phase::Resting => {
                self.lanes.shrink();
                self.enter(Phase::Idle, self.side.door.settings().idle_timeout.saturating_sub(REST));
                self.lanes.wake_connection();
            }
            Phase::Idle => self.bid_goodbye(),
            Phase::AmidHead(_) => self.dismiss(RefusedReason::HeaderTimeout, Reason::ENHANCE_YOUR_CALM),
            Phase::New if self.side.batch.with_meter(|meter| meter.amid_head().is_some()) == Some(true) => {
                self.dismiss(RefusedReason::HeaderTimeout, Reason::ENHANCE_YOUR_CALM);
            }
            // A client that never began, or does not go, is let go without a word.
            Phase::New | Phase::Leaving | Phase::Busy => return Poll::Ready(()),
        }
        Poll::Pending
    }

    /// Takes no more requests, and ends when those under way have.
    fn bid_goodbye(&mut self) {
        self.connection.graceful_shutdown();
        self.enter(Phase::Leaving, GOODBYE);
        self.lanes.wake_connection();
    }

    fn dismiss_for(&mut self, fault: Fault) {
        match fault {
            Fault::Resets => self.dismiss(RefusedReason::H2Resets, Reason::ENHANCE_YOUR_CALM),
            Fault::Control => self.dismiss(RefusedReason::H2Control, Reason::ENHANCE_YOUR_CALM),
            Fault::FrameSize => self.dismiss(RefusedReason::H2Protocol, Reason::FRAME_SIZE_ERROR),
            Fault::Compression => self.dismiss(RefusedReason::H2Protocol, Reason::COMPRESSION_ERROR),
        }
    }

    /// Ends the connection: the client costs more than it should, or breaks the rules for all of it.
    fn dismiss(&mut self, reason: RefusedReason, code: Reason) {
        self.side.door.refused(reason);
        self.is_dismissed = true;
        self.connection.abrupt_shutdown(code);
        self.enter(Phase::Leaving, GOODBYE);
        self.lanes.wake_connection();
    }

    fn enter(&mut self, phase: Phase, after: Duration) {
        self.phase = phase;
        self.deadline.set(after);
    }

    /// Sends what was written. Ready when the client takes nothing more.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.side.batch.poll_send(cx) {
            Poll::Ready(Ok(())) => {
                if std::mem::take(&mut self.is_blocked) {
                    self.write_deadline.clear();
                }
                Poll::Pending
            }
            Poll::Ready(Err(_)) => Poll::Ready(()),
            Poll::Pending => {
                if !std::mem::replace(&mut self.is_blocked, true) || self.side.batch.take_progress() {
                    self.write_deadline.set(self.side.door.settings().body_timeout);
                }
                if self.write_deadline.poll_expired(cx) { Poll::Ready(()) } else { Poll::Pending }
            }
        }
    }
}
