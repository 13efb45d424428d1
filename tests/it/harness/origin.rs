//! A scripted upstream server: answers with its id, records what it got byte for byte, and misbehaves on request.
use super::http::{Fields, Wire, field};
use super::wait_for;
use socket2::SockRef;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{Read, Result, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What the origin answers, from the next request on. `Script::default()` is a 200 with `ID PATH\n`, by Content-Length.
#[derive(Debug, Clone)]
pub struct Script {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Body,
    pub framing: Framing,
    /// Fields after the last chunk; needs [`Framing::Chunked`].
    pub trailers: Vec<(&'static str, &'static str)>,
    /// 1xx heads sent once the request's head is read, such as `"100 Continue"` or `"103 Early Hints\r\nlink: </a>"`.
    pub interim: Vec<&'static str>,
    /// Waits this long between the request and the response.
    pub delay: Duration,
    /// Answers before it reads the request's body.
    pub early: bool,
    /// What happens instead once so many bytes of the response are sent.
    pub cut: Option<(usize, Cut)>,
    /// Closes after the response without having said so: the connection that a proxy keeps is stale.
    pub close_unannounced: bool,
    /// Answers with these bytes and nothing else of the above.
    pub raw: Option<Vec<u8>>,
}

/// The body of an answer.
#[derive(Debug, Clone)]
pub enum Body {
    /// `ID PATH\n`
    Id,
    /// So many bytes: of the letters a to z, in turn.
    Bytes(usize),
    /// The request's body.
    Echo,
}

/// How an answer says where its body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Length,
    /// In chunks of so many bytes.
    Chunked(usize),
    Close,
}

/// What ends an answer too soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Nothing more comes, and the connection stays open until the other side leaves.
    Stall,
    /// RST.
    Reset,
    /// FIN.
    Close,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            body: Body::Id,
            framing: Framing::Length,
            trailers: Vec::new(),
            interim: Vec::new(),
            delay: Duration::ZERO,
            early: false,
            cut: None,
            close_unannounced: false,
            raw: None,
        }
    }
}

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Which connection, counted from 1.
    pub connection: usize,
    pub line: String,
    pub headers: Fields,
    /// Decoded; what had come when it broke off.
    pub body: Vec<u8>,
    pub trailers: Fields,
    /// Head and body as received, chunk framing included.
    pub raw: Vec<u8>,
    /// Whether the body came to its end.
    pub whole: bool,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        field(&self.headers, name)
    }

    pub fn path(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }
}

/// The server: one thread accepts, one thread serves each connection.
pub struct Origin {
    pub id: String,
    pub address: SocketAddr,
    shared: Arc<Shared>,
    running: Option<(TcpListener, JoinHandle<()>)>,
}

#[derive(Default)]
struct Shared {
    id: String,
    script: Mutex<Script>,
    seen: Mutex<Vec<Seen>>,
    open: Mutex<HashMap<usize, TcpStream>>,
    accepted: AtomicUsize,
}

impl Origin {
    /// An origin of that id on a port of its own.
    pub fn start(id: &str) -> Self {
        Self::start_at(id, "127.0.0.1:0")
    }

    /// An origin of that id at that address.
    pub fn start_at(id: &str, address: &str) -> Self {
        let listener = TcpListener::bind(address).expect("bind to loopback");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared { id: id.to_owned(), ..Shared::default() });
        let running = Some(accept(listener, &shared));
        Self { id: id.to_owned(), address, shared, running }
    }

    /// Changes what it answers.
    pub fn script(&self, script: Script) {
        *lock(&self.shared.script) = script;
    }

    /// Stops listening and closes every connection. Repeating it changes nothing.
    pub fn stop(&mut self) {
        if let Some((listener, thread)) = self.running.take() {
            // Linux wakes a blocked accept when its listening socket is shut down.
            SockRef::from(&listener).shutdown(Shutdown::Both).expect("a listening socket");
            thread.join().expect("the accepting thread did not panic");
        }
        for stream in lock(&self.shared.open).values() {
            // Whoever has left already needs no closing.
            stream.shutdown(Shutdown::Both).unwrap_or_default();
        }
    }

    /// Listens again, at the same port.
    pub fn restart(&mut self) {
        self.stop();
        let listener = wait_for("the origin's port", || TcpListener::bind(self.address).ok());
        self.running = Some(accept(listener, &self.shared));
    }

    /// Every request so far, in the order their bodies ended.
    pub fn requests(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// The requests, once there are `count`.
    #[track_caller]
    pub fn wait_for_requests(&self, count: usize) -> Vec<Seen> {
        let what = format!("{count} requests at {}", self.id);
        wait_for(&what, || Some(self.requests()).filter(|seen| seen.len() >= count))
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Connections open now.
    pub fn open_connections(&self) -> usize {
        lock(&self.shared.open).len()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop();
    }
}

fn accept(listener: TcpListener, shared: &Arc<Shared>) -> (TcpListener, JoinHandle<()>) {
    let (accepting, shared) = (listener.try_clone().expect("one more descriptor"), Arc::clone(shared));
    let thread = thread::spawn(move || {
        while let Ok((stream, _)) = accepting.accept() {
            let number = shared.accepted.fetch_add(1, Ordering::SeqCst) + 1;
            lock(&shared.open).insert(number, stream.try_clone().expect("one more descriptor"));
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let served = Wire::new(stream).and_then(|wire| serve(wire, number, &shared));
                // The map holds the second of two descriptors: the socket closes here, or sends its RST.
                lock(&shared.open).remove(&number);
                // A broken connection is what many tests are about.
                served.unwrap_or_default();
            });
        }
    });
    (listener, thread)
}

/// Serves one connection to its end.
fn serve(mut wire: Wire, connection: usize, shared: &Shared) -> Result<()> {
    // Idle connections wait as long as their test runs.
    wire.stream.set_read_timeout(None)?;
    while let Some((line, headers)) = wire.head()? {
        let script = lock(&shared.script).clone();
        let mut seen = Seen { connection, line, headers, body: vec![], trailers: vec![], raw: vec![], whole: false };
        for interim in &script.interim {
            wire.stream.write_all(format!("HTTP/1.1 {interim}\r\n\r\n").as_bytes())?;
        }
        if !script.early {
            receive(&mut wire, &mut seen, shared)?;
        }
        thread::sleep(script.delay);
        if let Some(raw) = &script.raw {
            wire.stream.write_all(raw)?;
            continue;
        }
        let answer = compose(&shared.id, &script, &seen);
        if let Some((after, cut)) = script.cut {
            return break_off(wire, &answer[..after.min(answer.len())], cut);
        }
        wire.stream.write_all(&answer)?;
        if script.early {
            receive(&mut wire, &mut seen, shared)?;
        }
        if script.close_unannounced || script.framing == Framing::Close {
            return Ok(());
        }
    }
    Ok(())
}

/// Reads a request's body and records the request, whole or not.
fn receive(wire: &mut Wire, seen: &mut Seen, shared: &Shared) -> Result<()> {
    let length = seen.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let read = match seen.header("transfer-encoding") {
        Some(_) => wire.chunked(),
        None => wire.exactly(length).map(|body| (body, Fields::new())),
    };
    seen.whole = read.is_ok();
    seen.raw = wire.take_raw(!seen.whole);
    let result = read.map(|(body, trailers)| (seen.body, seen.trailers) = (body, trailers));
    lock(&shared.seen).push(seen.clone());
    result
}

fn compose(id: &str, script: &Script, seen: &Seen) -> Vec<u8> {
    let body = match script.body {
        Body::Id => format!("{id} {}\n", seen.path()).into_bytes(),
        Body::Bytes(count) => (b'a'..=b'z').cycle().take(count).collect(),
        Body::Echo => seen.body.clone(),
    };
    let mut head = format!("HTTP/1.1 {} Scripted\r\nX-Origin: {id}\r\n", script.status);
    for (name, value) in &script.headers {
        write!(head, "{name}: {value}\r\n").expect("text grows");
    }
    let bodiless = seen.line.starts_with("HEAD ") || matches!(script.status, 204 | 304);
    match script.framing {
        _ if script.status == 204 => {}
        Framing::Length => write!(head, "Content-Length: {}\r\n", body.len()).expect("text grows"),
        Framing::Chunked(_) => head += "Transfer-Encoding: chunked\r\n",
        Framing::Close => head += "Connection: close\r\n",
    }
    let mut answer = (head + "\r\n").into_bytes();
    match script.framing {
        _ if bodiless => {}
        Framing::Chunked(size) => {
            for chunk in body.chunks(size.max(1)) {
                answer.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                answer.extend_from_slice(chunk);
                answer.extend_from_slice(b"\r\n");
            }
            answer.extend_from_slice(b"0\r\n");
            for (name, value) in &script.trailers {
                answer.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            }
            answer.extend_from_slice(b"\r\n");
        }
        Framing::Length | Framing::Close => answer.extend_from_slice(&body),
    }
    answer
}

fn break_off(mut wire: Wire, sent: &[u8], cut: Cut) -> Result<()> {
    wire.stream.write_all(sent)?;
    match cut {
        Cut::Close => Ok(()),
        // With no time to linger the kernel discards what is unsent and closes by RST.
        Cut::Reset => SockRef::from(&wire.stream).set_linger(Some(Duration::ZERO)),
        Cut::Stall => wire.stream.read_to_end(&mut Vec::new()).map(drop),
    }
}

/// A poisoned lock is a panic already reported; what it guards is still what the test wants to see.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
