//! One accepted connection: its handshake, then the protocol it speaks.
use crate::listener::Front;
use crate::listener::door::Door;
use crate::listener::h2;
use crate::listener::http1;
use crate::listener::limits::Held;
use crate::listener::proxy_header;
use crate::net::certs;
use crate::net::stream::Socket;
use crate::net::stream::Stream;
use crate::proxy::context::ClientCertificate;
use crate::proxy::context::ConnInfo;
use crate::proxy::context::Named;
use crate::telemetry::labels::RefusedReason;
use crate::worker::wheel::Deadline;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The first bytes of every HTTP/2 connection by prior knowledge (RFC 9113 section 3.4) that no HTTP/1.1 request has.
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// Counts a connection as long as it is there.
struct Open {
    front: Rc<Front>,
    door: Rc<Door>,
}

impl Open {
    fn new(front: &Rc<Front>, door: &Rc<Door>) -> Self {
        let index = door.worker.index;
        door.stats.of(index).connections.inc();
        front.loads.of(index).open.inc();
        Self { front: front.clone(), door: door.clone() }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let index = self.door.worker.index;
        self.door.stats.of(index).connections.dec();
        self.front.loads.of(index).open.dec();
    }
}

/// Serves a connection in a task of its own.
pub fn start(front: &Rc<Front>, door: &Rc<Door>, stream: Socket, peer: SocketAddr) {
    let open = Open::new(front, door);
    let door = door.clone();
    drop(tokio::task::spawn_local(async move {
        serve(door, stream, peer).await;
        drop(open);
    }));
}

async fn serve(door: Rc<Door>, stream: Socket, peer: SocketAddr) {
    // One deadline from accept to the first head, whatever has to come before it.
    let deadline = door.worker.wheel.deadline();
    deadline.set(door.settings().header_timeout);
    // In a box: a connection should not carry the room of its beginning to its end.
    match Box::pin(open(&door, stream, peer, &deadline)).await {
        Ok(Opened { stream, is_h2: true, conn, _held }) => Box::pin(h2::serve(door, stream, conn, deadline)).await,
        Ok(Opened { stream, is_h2: false, conn, _held }) => http1::serve(door, stream, conn, deadline).await,
        Err(refused) => refused.into_iter().for_each(|reason| door.refused(reason)),
    }
}

/// A connection on which requests may come.
struct Opened {
    stream: Stream,
    is_h2: bool,
    conn: Rc<ConnInfo>,
    /// Counts for its address.
    _held: Option<Held>,
}

/// What comes before requests: who is there, whether it may, TLS, and which protocol. Fails with the reason to count, if there is
/// one.
async fn open(
    door: &Rc<Door>,
    mut stream: Socket,
    peer: SocketAddr,
    deadline: &Deadline,
) -> Result<Opened, Option<RefusedReason>> {
    let plan = door.plan();
    let peer = match &plan.settings.proxy_protocol {
        None => peer,
        Some(trusted) => Box::pin(proxy_header::read(door, &mut stream, peer, trusted, deadline))
            .await
            .ok_or(RefusedReason::ProxyProtocol)?,
    };
    let held = match plan.settings.max_connections_per_ip {
        None => None,
        Some(most) => Some(plan.addresses.hold(peer.ip(), most).ok_or(RefusedReason::MaxConnectionsPerIp)?),
    };
    let protocols = plan.settings.protocols;
    let (stream, is_h2, client_certificate, named) = match &plan.tls {
        None => {
            let is_h2 = protocols.h2 && (!protocols.http1 || speaks_h2(door, &stream, deadline).await);
            (Stream::Plain(stream), is_h2, None, None)
        }
        // In a box: connections in clear should not carry the room a handshake needs.
        Some(acceptor) => {
            let stream = Box::pin(handshake(door, acceptor, stream, deadline)).await?;
            let session = stream.get_ref().1;
            let is_h2 = session.alpn_protocol().map_or(!protocols.http1, |name| name == b"h2");
            let leaf = session.peer_certificates().and_then(<[_]>::first);
            let client_certificate = leaf.map(|leaf| Box::new(ClientCertificate::new(leaf)));
            let several = plan.settings.tls.as_ref().filter(|tls| tls.certificates().len() > 1);
            let named = several.zip(session.server_name()).map(|(tls, name)| {
                Box::new(Named { server_name: name.trim_end_matches('.').to_ascii_lowercase(), tls: tls.clone() })
            });
            (Stream::ServerTls(stream), is_h2, client_certificate, named)
        }
    };
    let conn = Rc::new(ConnInfo {
        listener: door.name.clone(),
        stats: door.stats.clone(),
        peer,
        secure: plan.tls.is_some(),
        client_certificate,
        trusted_proxies: door.trusted_proxies(),
        named,
    });
    Ok(Opened { stream, is_h2, conn, _held: held })
}

/// Looks at the first bytes without taking them. A client that does not say enough in time is left to `http1`.
async fn speaks_h2(door: &Door, stream: &Socket, deadline: &Deadline) -> bool {
    let mut has_ended = false;
    loop {
        let mut first = [0; H2_PREFACE.len()];
        let peeked = poll_fn(|cx| match stream.poll_peek(cx, &mut first) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending if deadline.poll_expired(cx) || door.lets_go(stream) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        let Some(Ok(count)) = peeked.await else { return false };
        if count == 0 || !H2_PREFACE.starts_with(&first[..count]) {
            return false;
        }
        if count == H2_PREFACE.len() {
            return true;
        }
        // Half a preface, and no more will come: its client has left.
        if has_ended {
            return false;
        }
        // The rest must come, and peeking shows the same bytes until it does.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        if poll_fn(|cx| Poll::Ready(deadline.poll_expired(cx))).await {
            return false;
        }
        has_ended = stream.has_ended().await;
    }
}

/// Secures a connection within the listener's limit of time; fails with the reason to count, or without one when the client
/// left before it said anything.
async fn handshake(
    door: &Door,
    acceptor: &TlsAcceptor,
    stream: Socket,
    deadline: &Deadline,
) -> Result<Box<TlsStream<Socket>>, Option<RefusedReason>> {
    // Until the client speaks, nothing is held for it but its socket.
    let mut first = [0];
    let spoken = poll_fn(|cx| match stream.poll_peek(cx, &mut first) {
        Poll::Ready(Ok(1..)) => Poll::Ready(Ok(())),
        Poll::Ready(_) => Poll::Ready(Err(None)),
        Poll::Pending if door.lets_go(&stream) => Poll::Ready(Err(None)),
        Poll::Pending if deadline.poll_expired(cx) => Poll::Ready(Err(Some(RefusedReason::TlsTimeout))),
        Poll::Pending => Poll::Pending,
    });
    spoken.await?;
    let turn = door.handshakes.begin();
    let mut accepting = pin!(acceptor.accept(stream));
    let accepted = poll_fn(|cx| match accepting.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(result.map_err(|error| why_refused(door, &error))),
        Poll::Pending if turn.poll_given_up(cx) => Poll::Ready(Err(RefusedReason::TlsLimit)),
        Poll::Pending if deadline.poll_expired(cx) => Poll::Ready(Err(RefusedReason::TlsTimeout)),
        Poll::Pending => Poll::Pending,
    });
    accepted.await.map(Box::new).map_err(Some)
}

fn why_refused(door: &Door, error: &io::Error) -> RefusedReason {
    tracing::debug!(listener = %door.name, %error, "A TLS handshake failed.");
    if certs::is_client_refused(error) { RefusedReason::TlsClientCertificate } else { RefusedReason::Tls }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a task holds for as long as its connection is open.
    const MAX_SIZE: usize = 448;

    fn size_of_task<F: Future>(_: impl FnOnce(Rc<Door>, Socket, SocketAddr) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_connection_is_small() {
        let size = size_of_task(serve);
        assert!(size <= MAX_SIZE, "{size} bytes: box what is rarely there");
    }
}
