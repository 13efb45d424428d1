//! Whether a connection is accepted, and secured if it is to be.
use super::ProbeError;
use super::Target;
use crate::base::address::Address;
use crate::net::stream::Socket;
use crate::net::stream::Stream;
use std::io;
use std::time::Duration;

/// Connects to the first address that takes it, each given its part of `allowed`; dropping the stream closes it. `port`
/// replaces the one of each address. With TLS towards the upstream and something to say (`alpn`), the stream is secured.
pub async fn connect(
    target: &Target,
    port: Option<u16>,
    alpn: &[&[u8]],
    allowed: Duration,
) -> Result<Stream, ProbeError> {
    let part = allowed / target.addresses.len().max(1) as u32;
    let mut failed = ProbeError::Timeout(allowed);
    for address in target.addresses.iter() {
        let address = port.map_or_else(|| address.clone(), |port| address.with_port(port));
        let tls = target.tls.as_ref().filter(|_| !alpn.is_empty());
        let connecting = async {
            let socket = Socket::connect(&address).await?;
            match tls {
                None => Ok(Stream::Plain(socket)),
                Some(tls) => tls.handshake(socket, &target.location, alpn).await,
            }
        };
        match tokio::time::timeout(part, connecting).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failed = ProbeError::Connect(address, error),
            Err(_) => failed = timed_out(address),
        }
    }
    Err(failed)
}

fn timed_out(address: Address) -> ProbeError {
    ProbeError::Connect(address, io::ErrorKind::TimedOut.into())
}
