//! A relay of TCP that can fall silent: it takes connections and bytes, and forwards nothing, as a network does that drops all
//! packets. Nobody is told; nothing is closed.
use super::namespace::Namespace;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Time between two looks at whether it goes on.
const LOOK: Duration = Duration::from_millis(10);

/// A way to one server. It ends with the test.
pub struct Relay {
    pub address: SocketAddr,
    is_cut: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    beyond: Option<Namespace>,
}

impl Relay {
    /// A way to this address.
    pub fn start(to: SocketAddr) -> Self {
        Self::start_at(TcpListener::bind("127.0.0.1:0").expect("bind to loopback"), to, None)
    }

    /// A way through another network, which falls silent by its wire being pulled. A silent relay takes connections; there nobody does.
    pub fn start_beyond(beyond: Namespace, to: SocketAddr) -> Self {
        Self::start_at(beyond.listen(), to, Some(beyond))
    }

    fn start_at(listener: TcpListener, to: SocketAddr, beyond: Option<Namespace>) -> Self {
        let address = listener.local_addr().expect("a bound socket has an address");
        let is_cut = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(AtomicUsize::new(0));
        let (cut, count) = (is_cut.clone(), asked.clone());
        thread::spawn(move || {
            while let Ok((near, _)) = listener.accept() {
                let (cut, count) = (cut.clone(), count.clone());
                thread::spawn(move || {
                    wait(&cut);
                    // A server that is gone closes the connection, as it would itself.
                    let Ok(far) = TcpStream::connect(to) else { return };
                    let back = Arc::default();
                    let pairs = [(near.try_clone(), far.try_clone(), count), (Ok(far), Ok(near), back)];
                    for (from, to, count) in pairs {
                        let (Ok(from), Ok(to), cut) = (from, to, cut.clone()) else { return };
                        thread::spawn(move || forward(from, to, &cut, &count));
                    }
                });
            }
        });
        Self { address, is_cut, asked, beyond }
    }

    /// Messages that went to the server so far, as they came: mostly one for each thing it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Falls silent, or goes on with what has come meanwhile.
    pub fn set_cut(&self, is_cut: bool) {
        match &self.beyond {
            Some(beyond) => beyond.set_cut(is_cut),
            None => self.is_cut.store(is_cut, Ordering::SeqCst),
        }
    }
}

fn wait(cut: &AtomicBool) {
    while cut.load(Ordering::SeqCst) {
        thread::sleep(LOOK);
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, cut: &AtomicBool, count: &AtomicUsize) {
    let mut part = [0; 16 * 1024];
    from.set_nodelay(true).and_then(|()| to.set_nodelay(true)).unwrap_or_default();
    loop {
        let read = match from.read(&mut part) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        wait(cut);
        count.fetch_add(1, Ordering::Relaxed);
        if to.write_all(&part[..read]).is_err() {
            break;
        }
    }
    wait(cut);
    // It may be closed already.
    to.shutdown(Shutdown::Write).unwrap_or_default();
}
