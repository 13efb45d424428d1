//! Whether a connection is accepted.
use super::ProbeError;
use crate::base::address::Address;
use crate::net::stream::Socket;
use crate::net::stream::Stream;

/// Connects; dropping the stream closes it.
pub async fn connect(address: &Address) -> Result<Stream, ProbeError> {
    Socket::connect(address).await.map(Stream::Plain).map_err(|error| ProbeError::Connect(address.clone(), error))
}
