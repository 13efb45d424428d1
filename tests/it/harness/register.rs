//! An upstream that counts the unsafe way: it reads, waits and writes. It checks fencing tokens as docs/LOCKS.md says, and sees
//! whether two requests of one path were there at one time.
use super::http::{Wire, field};
use std::collections::HashMap;
use std::io::{Result, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Time between two looks at whether one that stays may go on.
const LOOK: Duration = Duration::from_millis(2);

/// What happened at one path.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Entry {
    pub value: u64,
    /// Most requests at one time.
    pub most: usize,
    now: usize,
    /// Highest token so far.
    highest: String,
    /// Each request's token in the order they came to write, and whether it was let to.
    pub writes: Vec<(String, bool)>,
    /// The `Host` of each, in that order.
    pub hosts: Vec<String>,
    /// What `Fencing-Key` said, the last time.
    pub told: Option<String>,
}

/// The server; it ends with the test.
pub struct Register {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    entries: Mutex<HashMap<String, Entry>>,
    pause: Mutex<Duration>,
    held: Mutex<Option<Arc<AtomicBool>>>,
}

/// Requests that stay between reading and writing until this is dropped.
pub struct Held(Arc<AtomicBool>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Register {
    /// A register that takes so long between reading and writing.
    pub fn start(pause: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind to loopback");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared { pause: Mutex::new(pause), ..Shared::default() });
        let serving = shared.clone();
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let shared = serving.clone();
                // A broken connection is what some tests are about.
                thread::spawn(move || serve(stream, &shared).unwrap_or_default());
            }
        });
        Self { address, shared }
    }

    /// Takes another time from now on.
    pub fn set_pause(&self, pause: Duration) {
        *lock(&self.shared.pause) = pause;
    }

    /// Those that come from now on stay for as long as is wanted.
    pub fn hold(&self) -> Held {
        let is_free = Arc::new(AtomicBool::new(false));
        *lock(&self.shared.held) = Some(is_free.clone());
        Held(is_free)
    }

    /// Those that come from now on do not stay; who stays already goes on staying.
    pub fn hold_no_more(&self) {
        *lock(&self.shared.held) = None;
    }

    /// What happened at a path.
    pub fn at(&self, path: &str) -> Entry {
        lock(&self.shared.entries).get(path).cloned().unwrap_or_default()
    }

    /// Requests that are at a path now.
    pub fn now(&self, path: &str) -> usize {
        self.at(path).now
    }

    /// `[upstream.u]` of it alone.
    pub fn upstream(&self) -> String {
        format!("[upstream.u]\nendpoints = [{{ id = \"r\", address = \"{}\" }}]\n", self.address)
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> Result<()> {
    let mut wire = Wire::new(stream)?;
    wire.stream.set_read_timeout(None)?;
    while let Some((line, headers)) = wire.head()? {
        let length = field(&headers, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        wire.exactly(length)?;
        let path = line.split(' ').nth(1).unwrap_or_default().to_string();
        let token = field(&headers, "fencing-token").unwrap_or_default().to_string();
        let host = field(&headers, "host").unwrap_or_default().to_string();
        let (pause, held) = (*lock(&shared.pause), lock(&shared.held).clone());
        let read = with(shared, &path, |entry| {
            entry.now += 1;
            entry.most = entry.most.max(entry.now);
            entry.told = field(&headers, "fencing-key").map(str::to_string);
            entry.value
        });
        thread::sleep(pause);
        while held.as_ref().is_some_and(|is_free| !is_free.load(Ordering::SeqCst)) {
            thread::sleep(LOOK);
        }
        let value = with(shared, &path, |entry| {
            entry.now -= 1;
            let is_let = token >= entry.highest;
            entry.writes.push((token.clone(), is_let));
            entry.hosts.push(host);
            is_let.then(|| {
                entry.highest = token;
                entry.value = read + 1;
                entry.value
            })
        });
        let (status, body) = value.map_or((409, "outdated".to_string()), |value| (200, value.to_string()));
        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        wire.stream.write_all(answer.as_bytes())?;
    }
    Ok(())
}

fn with<T>(shared: &Shared, path: &str, act: impl FnOnce(&mut Entry) -> T) -> T {
    act(lock(&shared.entries).entry(path.to_string()).or_default())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
