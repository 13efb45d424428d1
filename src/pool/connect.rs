//! A new connection, within its limit of time. Endpoints have addresses, tried in turn; names are resolved elsewhere.
use crate::base::address::Address;
use crate::base::address::Location;
use crate::base::clock;
use crate::net::stream::Socket;
use crate::net::stream::Stream;
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
    /// Nobody answered in time.
    #[error("connect to {address} in time")]
    Timeout {
        /// Where to.
        address: Address,
    },
}

/// Connects to `endpoint` within `allowed`: the address first that took the last connection of this worker, then the others
/// in turn. Each gets its part of the time that is left. `deadline` is set here; the caller sets it anew for what follows.
pub async fn connect(
    endpoint: &Endpoint,
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
        match connect_to(&addresses[index], deadline).await {
            Ok(stream) => {
                live.prefer(index);
                return Ok(stream);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Connects to `address` before `deadline`, which the caller has set.
async fn connect_to(address: &Address, deadline: &Deadline) -> Result<Stream, ConnectError> {
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
