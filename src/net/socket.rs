//! Binding with the options a front door needs. Knows no TLS.
use crate::base::address::Address;
use crate::net::stream::LOCAL_PEER;
use crate::net::stream::Loose;
use crate::net::stream::Socket as Connected;
use crate::net::unix;
use crate::net::unix::SocketFile;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Connections that may wait in one socket's accept queue.
pub const BACKLOG: i32 = 4096;

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

/// The sockets of one address: what its workers accept from, and what another program would need to accept in our place.
#[derive(Debug)]
pub struct Listening {
    /// At least one for each worker; one that gets several takes from all of them.
    pub bound: Vec<Bound>,
    /// For a hand-over.
    pub kept: Kept,
}

/// Descriptors of all sockets of one address, one for each queue. As long as this is there no queue is closed.
#[derive(Debug)]
pub struct Kept {
    sockets: Vec<OwnedFd>,
    file: Option<Arc<SocketFile>>,
}

impl Kept {
    /// The sockets of a listener that is not in the hands of workers.
    pub fn of(listener: &impl AsFd) -> io::Result<Self> {
        Ok(Self { sockets: vec![listener.as_fd().try_clone_to_owned()?], file: None })
    }

    /// Further descriptors of the same sockets.
    pub fn descriptors(&self) -> io::Result<Vec<OwnedFd>> {
        self.sockets.iter().map(OwnedFd::try_clone).collect()
    }

    /// Says whether a unix socket's file goes with us from now on, or with another program.
    pub fn set_ours(&self, is_ours: bool) {
        self.file.iter().for_each(|file| file.set_ours(is_ours));
    }
}

/// Takes an address for `count` workers. With port 0 the first socket picks the port; a unix socket's file gets `mode`.
///
/// # Errors
/// When somebody else listens there, or the system refuses.
pub fn listen(address: &Address, mode: u32, count: usize) -> io::Result<Listening> {
    match address {
        Address::Ip(address) => {
            ensure_free(*address)?;
            tcp(bind(*address, count)?, count)
        }
        Address::Unix(path) => {
            let (file, listener) = unix::bind(path, mode)?;
            unix(file, listener, count)
        }
    }
}

/// Listens at an address with the sockets of another program, for `count` workers. No queue is lost when there are more sockets
/// than workers, and none is left to one worker alone when there are fewer.
///
/// # Errors
/// When they do not listen, or the system refuses.
pub fn adopt(address: &Address, sockets: Vec<OwnedFd>, count: usize) -> io::Result<Listening> {
    let mut sockets = sockets.into_iter().map(Socket::from);
    let first = sockets.next().ok_or(io::ErrorKind::NotFound)?;
    match address {
        Address::Ip(_) => {
            let sockets = [first].into_iter().chain(sockets).map(listening).collect::<io::Result<Vec<_>>>()?;
            tcp(sockets.into_iter().map(TcpListener::from).collect(), count)
        }
        Address::Unix(path) => {
            let file = unix::adopt(path)?;
            unix(file, listening(first)?.into(), count)
        }
    }
}

/// The socket, if it is one that listens.
fn listening(socket: Socket) -> io::Result<Socket> {
    if socket.r#type()? != Type::STREAM || !socket.is_listener()? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a descriptor is not a listening stream socket"));
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn tcp(mut sockets: Vec<TcpListener>, count: usize) -> io::Result<Listening> {
    let first = sockets.first().ok_or(io::ErrorKind::NotFound)?;
    let (address, is_shared) = (first.local_addr()?, socket2::SockRef::from(first).reuse_port()?);
    // A queue of its own for each worker, where the address allows it.
    while sockets.len() < count && is_shared {
        match bind_one(address) {
            Ok(socket) => sockets.push(socket),
            Err(error) => {
                tracing::debug!(%error, %address, "Workers share a queue.");
                break;
            }
        }
    }
    for socket in &sockets {
        // What it accepts inherits this: small writes are sent at once, without a system call for each connection.
        socket2::SockRef::from(socket).set_tcp_nodelay(true)?;
    }
    let kept = sockets.iter().map(|socket| socket.as_fd().try_clone_to_owned()).collect::<io::Result<Vec<_>>>()?;
    for shared in 0..count.saturating_sub(sockets.len()) {
        sockets.push(sockets[shared].try_clone()?);
    }
    let bound = sockets.into_iter().map(Bound::Tcp).collect();
    Ok(Listening { bound, kept: Kept { sockets: kept, file: None } })
}

fn unix(file: Arc<SocketFile>, listener: UnixListener, count: usize) -> io::Result<Listening> {
    let kept = Kept { sockets: vec![listener.as_fd().try_clone_to_owned()?], file: Some(file.clone()) };
    let clones = (1..count).map(|_| listener.try_clone()).collect::<io::Result<Vec<_>>>()?;
    let bound = clones.into_iter().chain([listener]).map(|listener| Bound::Unix(file.clone(), listener)).collect();
    Ok(Listening { bound, kept })
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

    /// A connection that waits in the queue, if one does. Asks the system itself: the runtime may not have heard of it yet.
    pub fn accept_waiting(&self) -> io::Result<Option<(Connected, SocketAddr)>> {
        let accepted = match self {
            Self::Tcp(listener) => SockRef::from(listener).accept(),
            Self::Unix(_, listener) => SockRef::from(listener).accept(),
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        socket.set_nonblocking(true)?;
        let connected = match self {
            Self::Tcp(_) => Connected::adopt(Loose::Tcp(socket.into()))?,
            Self::Unix(..) => Connected::adopt(Loose::Unix(OwnedFd::from(socket).into()))?,
        };
        Ok(Some((connected, peer.as_socket().unwrap_or(LOCAL_PEER))))
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

    fn ports(sockets: &Listening) -> Vec<u16> {
        let port = |socket: &Bound| match socket.address().unwrap() {
            Address::Ip(address) => address.port(),
            Address::Unix(_) => panic!("no port was asked for"),
        };
        sockets.bound.iter().map(port).collect()
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
        assert!(listen(&taken.bound[0].address().unwrap(), 0, 1).is_err());
        assert!(listen(&any, 0, 1).is_ok());
    }

    /// Queues that are taken from and queues that are kept, when sockets for `before` workers are adopted for `after`.
    fn adopted(address: &str, before: usize, after: usize) -> (usize, usize) {
        let address = address.parse().unwrap();
        let theirs = listen(&address, 0o600, before).unwrap();
        let ours = adopt(&address, theirs.kept.descriptors().unwrap(), after).unwrap();
        (ours.bound.len(), ours.kept.sockets.len())
    }

    #[test]
    fn every_queue_is_taken_over_for_more_and_for_fewer_workers() {
        assert_eq!(adopted("127.0.0.1:0", 2, 2), (2, 2));
        assert_eq!(adopted("127.0.0.1:0", 3, 1), (3, 3));
        assert_eq!(adopted("[::1]:0", 1, 3), (3, 3));
        let folder = tempfile::tempdir().unwrap();
        let path = format!("unix:{}/s", folder.path().display());
        assert_eq!(adopted(&path, 2, 3), (3, 1));
    }

    #[test]
    fn a_socket_of_a_service_manager_is_shared_by_all_workers() {
        let theirs = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = adopt(&"127.0.0.1:0".parse().unwrap(), vec![theirs.into()], 3).unwrap();
        assert_eq!((ours.bound.len(), ours.kept.sockets.len()), (3, 1));
    }

    #[test]
    fn what_is_accepted_sends_small_writes_at_once() {
        let theirs = TcpListener::bind("127.0.0.1:0").unwrap();
        let any: Address = "127.0.0.1:0".parse().unwrap();
        for listening in [listen(&any, 0, 1).unwrap(), adopt(&any, vec![theirs.into()], 1).unwrap()] {
            let Bound::Tcp(listener) = &listening.bound[0] else { panic!("it is not of TCP") };
            listener.set_nonblocking(false).unwrap();
            let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            assert!(listener.accept().unwrap().0.nodelay().unwrap());
        }
    }

    #[test]
    fn what_does_not_listen_is_refused() {
        let address = "127.0.0.1:0".parse().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        let unbound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for descriptor in [OwnedFd::from(file), unbound.into(), datagrams.into()] {
            assert!(adopt(&address, vec![descriptor], 1).is_err());
        }
    }
}
