//! A new connection, secured if it is to be, within its limit of time. Endpoints have addresses, tried in turn; names are
//! resolved elsewhere.
use crate::base::address::Address;
use crate::base::address::Location;
use crate::base::clock;
use crate::net::stream::Socket;
use crate::net::stream::Stream;
use crate::net::tls_client::TlsClient;
use crate::snapshot::endpoint::Endpoint;
use crate::worker::wheel::Deadline;
use std::future::Future;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
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
    /// The endpoint's name was never resolved.
    #[error("connect to {0}: its name was never resolved")]
    Unresolved(Location),
    /// TLS failed: the endpoint did not prove who it is, refused us, or does not speak it.
    #[error("agree on TLS with {address}")]
    Tls {
        /// Where to.
        address: Address,
        /// Why not; timed out when the time for connecting was over.
        source: io::Error,
    },
    /// It does not speak HTTP/2, or has no room on its connections in time.
    #[error("speak HTTP/2 with {0} in time")]
    Protocol(Location),
    /// It has as many connections as it may have.
    #[error("have one more connection to {0}")]
    Full(Location),
    /// Nobody answered in time.
    #[error("connect to {address} in time")]
    Timeout {
        /// Where to.
        address: Address,
    },
}

/// Connects to `endpoint` within `allowed`: the address first that took the last connection of this worker, then the others
/// in turn. Each gets its part of the time that is left. `deadline` is set here; the caller sets it anew for what follows.
/// With `tls` the connection is secured, and offers `alpn`; an address where that fails is given up like one that refuses.
pub async fn connect(
    endpoint: &Endpoint,
    tls: Option<(&TlsClient, &[&[u8]])>,
    worker: usize,
    deadline: &Deadline,
    allowed: Duration,
) -> Result<Stream, ConnectError> {
    let addresses = &endpoint.addresses;
    let live = endpoint.live.of(worker);
    let (first, started) = (live.preferred(), clock::now());
    let mut failed = ConnectError::Unresolved(endpoint.address.clone());
    for turn in 0..addresses.len() {
        let index = (first + turn) % addresses.len();
        let left = allowed.saturating_sub(started.elapsed());
        deadline.set(left / (addresses.len() - turn) as u32);
        match connect_to(&addresses[index], &endpoint.address, tls, deadline).await {
            Ok(stream) => {
                live.prefer(index);
                return Ok(stream);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Connects to one `address` of `location` before `deadline`, which the caller has set.
async fn connect_to(
    address: &Address,
    location: &Location,
    tls: Option<(&TlsClient, &[&[u8]])>,
    deadline: &Deadline,
) -> Result<Stream, ConnectError> {
    let socket = match in_time(Socket::connect(address), deadline).await {
        None => return Err(ConnectError::Timeout { address: address.clone() }),
        Some(Err(source)) => return Err(ConnectError::Io { address: address.clone(), source }),
        Some(Ok(socket)) => socket,
    };
    let Some((tls, alpn)) = tls else { return Ok(Stream::Plain(socket)) };
    // In a box: requests in clear should not carry the room a handshake needs.
    let shaken = in_time(Box::pin(tls.handshake(socket, location, alpn)), deadline).await;
    shaken
        .unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
        .map_err(|source| ConnectError::Tls { address: address.clone(), source })
}

/// What `future` gives, unless the deadline expires first.
async fn in_time<T>(future: impl Future<Output = T>, deadline: &Deadline) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending if deadline.poll_expired(cx) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}
