//! Reads the PROXY header that a balancer sends before everything else, TLS included. Nothing after it is taken.
use crate::listener::door::Door;
use crate::net::proxy_protocol;
use crate::net::proxy_protocol::Progress;
use crate::net::stream::Socket;
use crate::worker::wheel::Deadline;
use bytes::BytesMut;
use ipnet::IpNet;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::Poll;
use tokio::io::AsyncReadExt;

/// Who is behind `peer`, by its header: itself when it speaks for itself. `None`: it may not speak here, or said nothing usable in
/// time.
pub async fn read(
    door: &Door,
    stream: &mut Socket,
    peer: SocketAddr,
    trusted: &[IpNet],
    deadline: &Deadline,
) -> Option<SocketAddr> {
    let ip = peer.ip().to_canonical();
    if !trusted.iter().any(|network| network.contains(&ip)) {
        tracing::debug!(%peer, "A peer that may not send PROXY headers was refused.");
        return None;
    }
    let mut seen = door.worker.buffers.take();
    let client = header(door, stream, &mut seen, deadline).await;
    door.worker.buffers.give(seen);
    match client {
        Ok(client) => Some(client.unwrap_or(peer)),
        Err(error) => {
            tracing::debug!(%peer, %error, "A PROXY header was refused.");
            None
        }
    }
}

async fn header(
    door: &Door,
    stream: &mut Socket,
    seen: &mut BytesMut,
    deadline: &Deadline,
) -> io::Result<Option<SocketAddr>> {
    seen.resize(proxy_protocol::MAX_V2, 0);
    let mut taken = 0;
    loop {
        let peeked = poll_fn(|cx| match stream.poll_peek(cx, &mut seen[taken..]) {
            Poll::Pending if deadline.poll_expired(cx) || door.lets_go(stream) => {
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            peeked => peeked,
        });
        let count = peeked.await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let progress = proxy_protocol::parse(&seen[..taken + count]).map_err(io::Error::other)?;
        let (end, client) = match progress {
            Progress::Partial => (taken + count, None),
            Progress::Complete { consumed, client } => (consumed, Some(client)),
        };
        // It is there already: this waits for nothing.
        stream.read_exact(&mut seen[taken..end]).await?;
        taken = end;
        if let Some(client) = client {
            return Ok(client);
        }
    }
}
