//! A new connection, within its limit of time. Endpoints have addresses; names are resolved elsewhere.
use crate::net::stream::Stream;
use crate::worker::wheel::Deadline;
use std::future::Future;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;
use thiserror::Error;
use tokio::net::TcpStream;

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The endpoint refused, or cannot be reached.
    #[error("connect to {address}")]
    Io {
        /// Where to.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// Nobody answered in time.
    #[error("connect to {address} in time")]
    Timeout {
        /// Where to.
        address: SocketAddr,
    },
}

/// Connects to `address` before `deadline`, which the caller has set.
pub async fn connect(address: SocketAddr, deadline: &Deadline) -> Result<Stream, ConnectError> {
    let mut connecting = pin!(TcpStream::connect(address));
    let connected = poll_fn(|cx| {
        if let Poll::Ready(result) = connecting.as_mut().poll(cx) {
            return Poll::Ready(Some(result));
        }
        if deadline.poll_expired(cx) { Poll::Ready(None) } else { Poll::Pending }
    });
    match connected.await {
        None => Err(ConnectError::Timeout { address }),
        Some(Err(source)) => Err(ConnectError::Io { address, source }),
        Some(Ok(stream)) => {
            stream.set_nodelay(true).map_err(|source| ConnectError::Io { address, source })?;
            Ok(Stream::Tcp(stream))
        }
    }
}
