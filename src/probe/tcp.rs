//! Whether a connection is accepted.
use super::ProbeError;
use super::Target;
use crate::base::address::Address;
use crate::net::stream::Socket;
use crate::net::stream::Stream;
use std::io;
use std::time::Duration;

/// Connects to the first address that takes it, each given its part of `allowed`; dropping the stream closes it. `port`
/// replaces the one of each address.
pub async fn connect(target: &Target, port: Option<u16>, allowed: Duration) -> Result<Stream, ProbeError> {
    let part = allowed / target.addresses.len().max(1) as u32;
    let mut failed = ProbeError::Timeout(allowed);
    for address in target.addresses.iter() {
        let address = port.map_or_else(|| address.clone(), |port| address.with_port(port));
        match tokio::time::timeout(part, Socket::connect(&address)).await {
            Ok(Ok(socket)) => return Ok(Stream::Plain(socket)),
            Ok(Err(error)) => failed = ProbeError::Connect(address, error),
            Err(_) => failed = timed_out(address),
        }
    }
    Err(failed)
}

fn timed_out(address: Address) -> ProbeError {
    ProbeError::Connect(address, io::ErrorKind::TimedOut.into())
}
