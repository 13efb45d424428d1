//! A byte stream to one server of a store, secured as its settings say.
use super::StoreError;
use super::settings::Settings;
use crate::base::address::Address;
use crate::base::address::Location;
use crate::net::stream::Socket;
use crate::net::stream::Stream;
use std::io;
use std::time::Duration;

/// Longest time to connect, a TLS handshake included.
const CONNECT: Duration = Duration::from_secs(2);

/// Connects to one server.
///
/// # Errors
/// When it cannot be reached in time, or does not prove who it is.
pub async fn dial(settings: &Settings, server: &Location) -> Result<Stream, StoreError> {
    let connected = tokio::time::timeout(CONNECT, connect(settings, server)).await;
    connected
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(|error| StoreError::Connect(server.to_string(), error))
}

async fn connect(settings: &Settings, server: &Location) -> io::Result<Stream> {
    let addresses: Vec<Address> = match server {
        Location::At(address) => vec![address.clone()],
        Location::Named(name) => tokio::net::lookup_host((&*name.host, name.port)).await?.map(Address::Ip).collect(),
    };
    let mut failed = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        match Socket::connect(&address).await {
            Ok(socket) => {
                socket.set_nodelay()?;
                return match &settings.tls {
                    Some(tls) => tls.handshake(socket, server, &[]).await,
                    None => Ok(Stream::Plain(socket)),
                };
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}
