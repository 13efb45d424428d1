//! Passing listening sockets from one program to the next: descriptors and one line that says what they are, over a unix socket.
//! Also those that a service manager has opened. The one file with `unsafe`.
use rustix::net::RecvAncillaryBuffer;
use rustix::net::RecvAncillaryMessage;
use rustix::net::RecvFlags;
use rustix::net::ReturnFlags;
use rustix::net::SendAncillaryBuffer;
use rustix::net::SendAncillaryMessage;
use rustix::net::SendFlags;
use serde::Deserialize;
use serde::Serialize;
use std::io;
use std::io::IoSlice;
use std::io::IoSliceMut;
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

/// The form of the line below. A program that finds another one in it takes nothing.
const VERSION: u32 = 1;
/// Descriptors in one message; the system takes 253.
const AT_ONCE: usize = 64;
/// What goes with them: a message needs a byte.
const CARRIER: u8 = b'+';
/// The longest line that is read.
const MAX_LINE: usize = 1 << 20;

/// What a socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Requests.
    Listener,
    /// Operators.
    Admin,
    /// The next program.
    Upgrade,
    /// Not said: a service manager opened it.
    Any,
}

/// One address and its sockets, a queue each.
#[derive(Debug)]
pub struct Doorway {
    /// What for.
    pub role: Role,
    /// The listener's name, or the one that the service manager gave.
    pub name: String,
    /// The address as the configuration has it; the real one when the service manager opened it.
    pub address: String,
    /// Its descriptors.
    pub sockets: Vec<OwnedFd>,
}

/// Everything that one program hands over.
#[derive(Debug, Default)]
pub struct Goods {
    /// Whether the giver was ready for requests, so that the taker had better be, too.
    pub is_ready: bool,
    /// The addresses.
    pub doorways: Vec<Doorway>,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    version: u32,
    is_ready: bool,
    doorways: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    role: Role,
    name: String,
    address: String,
    sockets: usize,
}

/// Sends it all. Waits as long as the stream's timeout says.
///
/// # Errors
/// When the other side is gone or takes nothing.
pub fn send(stream: &UnixStream, goods: &Goods) -> io::Result<()> {
    let descriptors: Vec<_> =
        goods.doorways.iter().flat_map(|doorway| doorway.sockets.iter().map(AsFd::as_fd)).collect();
    for some in descriptors.chunks(AT_ONCE) {
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut control = SendAncillaryBuffer::new(&mut room);
        control.push(SendAncillaryMessage::ScmRights(some));
        rustix::net::sendmsg(stream, &[IoSlice::new(&[CARRIER])], &mut control, SendFlags::NOSIGNAL)?;
    }
    let entry = |doorway: &Doorway| Entry {
        role: doorway.role,
        name: doorway.name.clone(),
        address: doorway.address.clone(),
        sockets: doorway.sockets.len(),
    };
    let doorways = goods.doorways.iter().map(entry).collect();
    let mut line = serde_json::to_vec(&Manifest { version: VERSION, is_ready: goods.is_ready, doorways })?;
    line.push(b'\n');
    (&*stream).write_all(&line)
}

/// Takes what [`send`] sends.
///
/// # Errors
/// When the other side ends too early, says something else, or the stream's timeout is over.
pub fn receive(stream: &UnixStream) -> io::Result<Goods> {
    let (mut line, mut descriptors) = (Vec::new(), Vec::new());
    while line.last() != Some(&b'\n') {
        let mut part = [0; 4096];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut control = RecvAncillaryBuffer::new(&mut room);
        let parts = &mut [IoSliceMut::new(&mut part)];
        let received = rustix::net::recvmsg(stream, parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(some) = message {
                descriptors.extend(some);
            }
        }
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if received.flags.contains(ReturnFlags::CTRUNC) || line.len() > MAX_LINE {
            return Err(wrong("some of it is lost: is the limit of open files too low?"));
        }
        line.extend_from_slice(&part[..received.bytes]);
    }
    understand(&line, descriptors)
}

fn understand(line: &[u8], descriptors: Vec<OwnedFd>) -> io::Result<Goods> {
    let start = line.iter().position(|byte| *byte != CARRIER).unwrap_or_default();
    let manifest: Manifest = serde_json::from_slice(&line[start..])?;
    if manifest.version != VERSION {
        return Err(wrong("the running program hands over in another way than this one knows"));
    }
    let mut descriptors = descriptors.into_iter();
    let mut doorways = Vec::new();
    for Entry { role, name, address, sockets } in manifest.doorways {
        let taken: Vec<OwnedFd> = descriptors.by_ref().take(sockets).collect();
        if taken.len() < sockets {
            return Err(wrong("descriptors are missing"));
        }
        doorways.push(Doorway { role, name, address, sockets: taken });
    }
    Ok(Goods { is_ready: manifest.is_ready, doorways })
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The sockets that a service manager has opened for this process (`LISTEN_FDS`), with the names it gave them.
///
/// # Errors
/// When what it says of them makes no sense.
#[allow(unsafe_code, reason = "a number in the environment becomes a descriptor here and nowhere else")]
pub fn activated() -> io::Result<Vec<Doorway>> {
    let mut doorways: Vec<Doorway> = Vec::new();
    for (number, name) in sd_notify::listen_fds_with_names()? {
        // SAFETY: the service manager opened it for this process (LISTEN_PID was compared), nothing else here owns a descriptor
        // that was open before the program began, and the numbers are each taken once, before any thread is started.
        let socket = unsafe { OwnedFd::from_raw_fd(number) };
        let address = address_of(&socket)?;
        match doorways.iter_mut().find(|doorway| doorway.address == address) {
            Some(same) => same.sockets.push(socket),
            None => doorways.push(Doorway { role: Role::Any, name, address, sockets: vec![socket] }),
        }
    }
    Ok(doorways)
}

fn address_of(socket: &OwnedFd) -> io::Result<String> {
    let address = socket2::SockRef::from(socket).local_addr()?;
    let path = || address.as_pathname().map(|path| format!("unix:{}", path.display()));
    Ok(address.as_socket().map(|address| address.to_string()).or_else(path).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn many_sockets_arrive_in_order() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let listeners: Vec<TcpListener> = (0..150).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        let mut sockets: Vec<OwnedFd> = listeners.into_iter().map(OwnedFd::from).collect();
        let rest = sockets.split_off(100);
        let doorway = |role, name: &str, sockets| Doorway { role, name: name.into(), address: "a".into(), sockets };
        let doorways = vec![doorway(Role::Listener, "+b\n", sockets), doorway(Role::Admin, "", rest)];
        let sent = std::thread::spawn(move || send(&ours, &Goods { is_ready: true, doorways }).unwrap());
        let goods = receive(&theirs).unwrap();
        sent.join().unwrap();
        assert!(goods.is_ready);
        assert_eq!((goods.doorways[0].name.as_str(), goods.doorways[0].sockets.len()), ("+b\n", 100));
        assert_eq!((goods.doorways[1].role, goods.doorways[1].sockets.len()), (Role::Admin, 50));
        let all = goods.doorways.into_iter().flat_map(|doorway| doorway.sockets);
        let arrived: Vec<u16> = all.map(|fd| TcpListener::from(fd).local_addr().unwrap().port()).collect();
        assert_eq!(arrived, ports);
    }

    #[test]
    fn half_a_hand_over_is_none() {
        for said in ["", "{\"version\":1", "nonsense\n", "{\"version\":2,\"is_ready\":true,\"doorways\":[]}\n"] {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            ours.write_all(said.as_bytes()).unwrap();
            drop(ours);
            assert!(receive(&theirs).is_err(), "{said:?}");
        }
        let more = br#"{"version":1,"is_ready":true,"doorways":[{"role":"admin","name":"","address":"","sockets":1}]}"#;
        assert!(understand(more, Vec::new()).is_err());
    }
}
