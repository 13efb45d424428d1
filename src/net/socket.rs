//! Binding with the options a front door needs. Knows no TLS.
use crate::base::address::Address;
use crate::net::stream::LOCAL_PEER;
use crate::net::stream::Socket as Connected;
use crate::net::unix;
use crate::net::unix::SocketFile;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Connections that may wait in one socket's accept queue.
pub(super) const BACKLOG: i32 = 4096;

/// One worker's listening socket, before it belongs to a runtime.
#[derive(Debug)]
pub enum Bound {
    /// A socket and queue of its own at an address shared by SO_REUSEPORT.
    Tcp(TcpListener),
    /// A descriptor of the one socket at a path, whose queue all workers take from.
    Unix(Arc<SocketFile>, UnixListener),
}

/// One worker's listening socket.
#[derive(Debug)]
pub enum Acceptor {
    /// TCP.
    Tcp(tokio::net::TcpListener),
    /// A unix socket. The file comes first: it goes before the socket does, so that nobody connects to a dead one.
    Unix(Arc<SocketFile>, tokio::net::UnixListener),
}

/// Takes an address for `count` workers. With port 0 the first socket picks the port; a unix socket's file gets `mode`.
///
/// # Errors
/// When somebody else listens there, or the system refuses.
pub fn listen(address: &Address, mode: u32, count: usize) -> io::Result<Vec<Bound>> {
    match address {
        Address::Ip(address) => {
            ensure_free(*address)?;
            Ok(bind(*address, count)?.into_iter().map(Bound::Tcp).collect())
        }
        Address::Unix(path) => {
            let (file, listener) = unix::bind(path, mode)?;
            let clones = (1..count).map(|_| listener.try_clone()).collect::<io::Result<Vec<_>>>()?;
            Ok(clones.into_iter().chain([listener]).map(|listener| Bound::Unix(file.clone(), listener)).collect())
        }
    }
}

impl Bound {
    /// Where it listens; the port is the real one also when 0 was asked for.
    pub fn address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Address::Ip),
            Self::Unix(file, _) => Ok(Address::Unix(file.path().clone())),
        }
    }
}

impl Acceptor {
    /// Gives a socket to the runtime of this thread.
    pub fn adopt(bound: Bound) -> io::Result<Self> {
        match bound {
            Bound::Tcp(listener) => tokio::net::TcpListener::from_std(listener).map(Self::Tcp),
            Bound::Unix(file, listener) => {
                tokio::net::UnixListener::from_std(listener).map(|listener| Self::Unix(file, listener))
            }
        }
    }

    /// The next connection and who is on its other side.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Connected, SocketAddr)>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = ready!(listener.poll_accept(cx))?;
                Poll::Ready(Ok((Connected::Tcp(stream), peer)))
            }
            Self::Unix(_, listener) => {
                let (stream, _) = ready!(listener.poll_accept(cx))?;
                Poll::Ready(Ok((Connected::Unix(stream), LOCAL_PEER)))
            }
        }
    }

    /// Before the last connections are taken: nobody finds the way to a unix socket any more.
    pub fn retire(&self) {
        if let Self::Unix(file, _) = self {
            file.remove();
        }
    }
}

/// Binds `count` sockets to one address with SO_REUSEPORT, so that each worker accepts from its own.
fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    let first = bind_one(address)?;
    let address = first.local_addr()?;
    let mut sockets = vec![first];
    while sockets.len() < count {
        sockets.push(bind_one(address)?);
    }
    Ok(sockets)
}

/// Fails when somebody else already listens at `address`: SO_REUSEPORT alone would share the port with another process
/// of the same user without a word.
fn ensure_free(address: SocketAddr) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    let probe = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    probe.set_reuse_address(true)?;
    if address.is_ipv6() {
        probe.set_only_v6(true)?;
    }
    probe.bind(&address.into())
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(sockets: &[Bound]) -> Vec<u16> {
        let port = |socket: &Bound| match socket.address().unwrap() {
            Address::Ip(address) => address.port(),
            Address::Unix(_) => panic!("no port was asked for"),
        };
        sockets.iter().map(port).collect()
    }

    #[test]
    fn every_worker_gets_its_own_socket_at_one_port() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let ports = ports(&listen(&address.parse().unwrap(), 0, 3).unwrap());
            assert!(ports.len() == 3 && ports[0] != 0 && ports.iter().all(|port| *port == ports[0]), "{address}");
        }
    }

    #[test]
    fn a_port_in_use_is_noticed() {
        let any: Address = "127.0.0.1:0".parse().unwrap();
        let taken = listen(&any, 0, 1).unwrap();
        assert!(listen(&taken[0].address().unwrap(), 0, 1).is_err());
        assert!(listen(&any, 0, 1).is_ok());
    }
}
