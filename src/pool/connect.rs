//! A new connection, within its limit of time. Endpoints have addresses; names are resolved elsewhere.
use crate::base::address::Address;
use crate::net::stream::Socket;
use crate::net::stream::Stream;
use crate::worker::wheel::Deadline;
use std::future::Future;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;
use thiserror::Error;

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The endpoint refused, or cannot be reached.
    #[error("connect to {address}")]
    Io {
        /// Where to.
        address: Address,
        /// Why not.
        source: io::Error,
    },
    /// Nobody answered in time.
    #[error("connect to {address} in time")]
    Timeout {
        /// Where to.
        address: Address,
    },
}

/// Connects to `address` before `deadline`, which the caller has set.
pub async fn connect(address: &Address, deadline: &Deadline) -> Result<Stream, ConnectError> {
    let mut connecting = pin!(Socket::connect(address));
    let connected = poll_fn(|cx| {
        if let Poll::Ready(result) = connecting.as_mut().poll(cx) {
            return Poll::Ready(Some(result));
        }
        if deadline.poll_expired(cx) { Poll::Ready(None) } else { Poll::Pending }
    });
    match connected.await {
        None => Err(ConnectError::Timeout { address: address.clone() }),
        Some(Err(source)) => Err(ConnectError::Io { address: address.clone(), source }),
        Some(Ok(socket)) => Ok(Stream::Plain(socket)),
    }
}
