//! A stream that has left HTTP (RFC 8441): its DATA frames are the client's side of a tunnel.
use super::stream::H2Downstream;
use crate::proxy::response::Response;
use crate::proxy::tunnel::End;
use crate::wire::batch::Piece;
use bytes::BytesMut;
use h2::Reason;
use h2::SendStream;
use std::io;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

/// Runs the tunnel that `response`, whose head was sent, has opened.
pub async fn run(response: Response<H2Downstream>, send: SendStream<Piece>) {
    let end = |client| Stream { client, send, has_sent: false, is_shut: false };
    if let Some(tunnel) = response.into_tunnel(end) {
        tunnel.run().await;
    }
}

/// The client's side.
#[derive(Debug)]
struct Stream {
    client: H2Downstream,
    send: SendStream<Piece>,
    has_sent: bool,
    is_shut: bool,
}

impl Stream {
    /// Waits until all that was sent found room in the client's window, and a byte more would.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.send.reserve_capacity(1);
        while self.has_sent && self.send.capacity() == 0 {
            match ready!(self.send.poll_capacity(cx)) {
                Some(room) => room.map_err(io::Error::other).map(drop)?,
                None => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl End for Stream {
    fn poll_read(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<io::Result<usize>> {
        while let Some(data) = ready!(self.client.receive.poll_data(cx)) {
            let data = data.map_err(io::Error::other)?;
            // The client may send as much again once this was passed on: nothing is read before.
            self.client.receive.flow_control().release_capacity(data.len()).map_err(io::Error::other)?;
            if !data.is_empty() {
                out.extend_from_slice(&data);
                return Poll::Ready(Ok(data.len()));
            }
        }
        Poll::Ready(Ok(0))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<io::Result<()>> {
        if out.is_empty() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_room(cx))?;
        self.has_sent = true;
        let piece = Piece::new(&self.client.side.door.worker, std::mem::take(out));
        Poll::Ready(self.send.send_data(piece, false).map_err(io::Error::other))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if std::mem::replace(&mut self.is_shut, true) {
            return Poll::Ready(Ok(()));
        }
        let nothing = Piece::new(&self.client.side.door.worker, BytesMut::new());
        Poll::Ready(self.send.send_data(nothing, true).map_err(io::Error::other))
    }

    fn watch(&self) {
        self.client.side.batch.watch();
    }

    fn has_failed(&mut self, cx: &mut Context<'_>) -> bool {
        self.send.poll_reset(cx).is_ready()
    }

    fn abort(&mut self) {
        self.send.send_reset(Reason::CONNECT_ERROR);
    }
}
