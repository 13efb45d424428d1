//! The accept loop: one task for each listener and worker. TLS and HTTP begin in the connection's own task.
use crate::listener::Front;
use crate::listener::connection;
use crate::listener::door::Door;
use crate::net::socket;
use crate::net::socket::Acceptor;
use crate::net::stream::Socket;
use crate::telemetry::labels::RefusedReason;
use crate::telemetry::logging::Throttle;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

/// The part of the mean by which a worker may hold more connections than the emptiest before it hands new ones over: few
/// connections are spread evenly, of many a small difference is not worth the way.
const MAX_AHEAD_OF_MEAN: u64 = 8;
/// Most connections that are taken from a queue before it is closed: as many as one can hold. Another program may go on filling it.
const MAX_LAST: usize = socket::BACKLOG as usize;
/// Connections accepted before others have their turn: a burst of new ones holds nobody up for longer than these take, each a tenth of
/// a millisecond where it also connects to an endpoint.
const MAX_IN_A_ROW: u32 = 2;
/// Pause when descriptors or memory are short: the next accept would fail as well.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the door is drained, then empties the queues of what the kernel already accepted. There are several queues when
/// they were taken over from a program with more workers.
pub async fn run(front: Rc<Front>, door: Rc<Door>, queues: Vec<Acceptor>) {
    let (mut turn, mut accepts) = (0, 0u32);
    loop {
        let accepted = tokio::select! {
            biased;
            () = door.stopped.notified() => break,
            accepted = poll_fn(|cx| poll_accept(&queues, &mut turn, cx)) => accepted,
        };
        match accepted {
            Ok((stream, peer)) => admit(&front, &door, stream, peer),
            Err(error) => slow_down(&door, &error).await,
        }
        accepts = accepts.wrapping_add(1);
        if accepts.is_multiple_of(MAX_IN_A_ROW) {
            // Connections that are there have their turn, and those just accepted begin.
            tokio::task::yield_now().await;
        }
    }
    // Closing a listening socket resets what waits in its queue: serve that first.
    for queue in &queues {
        queue.retire();
        for _ in 0..MAX_LAST {
            match queue.accept_waiting() {
                Ok(Some((stream, peer))) => admit(&front, &door, stream, peer),
                Ok(None) => break,
                Err(error) => tracing::debug!(%error, "A connection that waited was lost."),
            }
        }
    }
}

/// The next connection of any queue; each has its turn.
fn poll_accept(queues: &[Acceptor], turn: &mut usize, cx: &mut Context<'_>) -> Poll<io::Result<(Socket, SocketAddr)>> {
    for _ in queues {
        *turn = (*turn + 1) % queues.len();
        if let Poll::Ready(accepted) = queues[*turn].poll_accept(cx) {
            return Poll::Ready(accepted);
        }
    }
    Poll::Pending
}

fn admit(front: &Rc<Front>, door: &Rc<Door>, stream: Socket, peer: SocketAddr) {
    let open: u64 = door.stats.iter().map(|cell| cell.connections.get()).sum();
    if open >= door.settings().max_connections as u64 {
        return door.refused(RefusedReason::MaxConnections);
    }
    // A door that closes gives nobody away: the other workers' may be closed already.
    match front.emptier_worker().filter(|_| !door.is_draining()) {
        Some(worker) => hand_over(front, door, worker, stream, peer),
        None => connection::start(front, door, stream, peer),
    }
}

/// Gives a fresh connection to another worker; keeps it when that one is too busy to take it.
fn hand_over(front: &Rc<Front>, door: &Rc<Door>, worker: usize, stream: Socket, peer: SocketAddr) {
    let stream = match stream.loosen() {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!(%error, "A connection was lost while it was handed over."),
    };
    let name = door.name.clone();
    let (keep, job_name) = (stream.try_clone(), name);
    let job = move |_: &Rc<crate::worker::Worker>| Front::here(|front| front.adopt(&job_name, stream, peer));
    // Counted until it is there, so that the next one does not go the same way for want of news.
    let coming = &front.loads.of(worker).coming;
    coming.fetch_add(1, Ordering::Relaxed);
    if front.remote.try_run_on(worker, Box::new(job)).is_err() {
        coming.fetch_sub(1, Ordering::Relaxed);
        if let Ok(stream) = keep.and_then(Socket::adopt) {
            connection::start(front, door, stream, peer);
        }
    }
}

async fn slow_down(door: &Door, error: &io::Error) {
    // The peer left between its handshake and our accept: nothing is wrong here.
    if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        return;
    }
    door.refused(RefusedReason::Descriptors);
    static SHORTAGE: Throttle = Throttle::new();
    if let Some(held_back) = SHORTAGE.pass() {
        tracing::warn!(
            listener = %door.name, %error, held_back,
            "No connection could be accepted; raise the limit of open files (ulimit -n) if this stays."
        );
    }
    tokio::time::sleep(SHORTAGE_PAUSE).await;
}

/// To whom a worker hands over, if it is so far ahead of the emptiest that it should.
pub(super) fn emptiest(loads: &[u64], own: usize) -> Option<usize> {
    let mean = loads.iter().sum::<u64>() / loads.len() as u64;
    let (worker, load) = loads.iter().enumerate().min_by_key(|(_, load)| **load)?;
    (loads[own] > load + mean / MAX_AHEAD_OF_MEAN).then_some(worker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_ahead_hands_over_to_the_emptiest() {
        assert_eq!(emptiest(&[0, 0], 0), None);
        assert_eq!(emptiest(&[1, 0], 0), Some(1));
        assert_eq!(emptiest(&[8, 9], 0), None);
        assert_eq!(emptiest(&[20, 9, 1], 0), Some(2));
        assert_eq!(emptiest(&[510, 490], 0), None);
        assert_eq!(emptiest(&[600, 400], 0), Some(1));
        assert_eq!(emptiest(&[20], 0), None);
    }

    #[test]
    fn eight_connections_are_split_evenly_wherever_they_come_in() {
        let mut loads = [0, 0];
        for own in [0, 0, 0, 1, 0, 0, 0, 0] {
            loads[emptiest(&loads, own).unwrap_or(own)] += 1;
        }
        assert_eq!(loads, [4, 4]);
    }
}
