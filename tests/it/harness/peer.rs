//! An upstream server of which a test plays the part itself, byte by byte, and a client likewise.
use super::http::{Fields, Wire};
use super::wait_for;
use crate::harness::program::Ringway;
use socket2::SockRef;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// A listening socket; nothing answers but the test.
pub struct Peer {
    listener: TcpListener,
    pub address: SocketAddr,
}

impl Peer {
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a plain socket");
        Self { address: listener.local_addr().expect("it is bound"), listener }
    }

    /// The next connection, and the head of the request on it.
    #[track_caller]
    pub fn accept(&self) -> (Wire, String, Fields) {
        let stream = wait_for("a connection", || self.listener.accept().ok()).0;
        stream.set_nonblocking(false).expect("a plain socket");
        let mut wire = Wire::new(stream).expect("a plain socket");
        let (line, fields) = wire.head().expect("a head").expect("a head");
        (wire, line, fields)
    }

    /// `[upstream.u]` of this one.
    pub fn upstream(&self) -> String {
        format!("[upstream.u]\nendpoints = [{{ id = \"a\", address = \"{}\" }}]\n", self.address)
    }
}

/// A new connection to the program on which these bytes were sent.
pub fn client(ringway: &Ringway, bytes: &[u8]) -> Wire {
    let mut wire = Wire::new(TcpStream::connect(ringway.address).expect("it accepts")).expect("a plain socket");
    wire.stream.write_all(bytes).expect("it reads");
    wire
}

/// Closes with a reset.
pub fn reset(wire: Wire) {
    SockRef::from(&wire.stream).set_linger(Some(Duration::ZERO)).expect("a plain socket");
}
