//! What happened under locks, as the upstream saw it, and whether it may have: holders of a key never at one time, tokens that rise, no
//! write by an outdated holder, no write lost. It knows nothing of stores.
use super::http::{Wire, field};
use ringway::base::clock;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Result, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Time between two looks at whether whoever asked is still there.
const LOOK: Duration = Duration::from_millis(2);

/// One request at the upstream.
#[derive(Debug, Clone)]
pub struct Visit {
    pub key: String,
    pub token: String,
    /// The proxy it came by: the address its client asked.
    pub proxy: String,
    pub began: Instant,
    /// When it was answered, or whoever asked had gone.
    pub ended: Option<Instant>,
    /// Whether it was let write; nothing when it had gone before it came to that.
    pub is_let: Option<bool>,
}

/// An upstream that reads a number, works for a time, and writes the number and one, unless it knows a higher token or whoever asked
/// has gone. It ends with the test.
pub struct Ledger {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    book: Mutex<Book>,
    work: fn(&str) -> Duration,
}

#[derive(Default)]
struct Book {
    visits: Vec<Visit>,
    /// Number and highest token by key.
    numbers: BTreeMap<String, (u64, String)>,
}

impl Ledger {
    /// One whose work for a path takes so long.
    pub fn start(work: fn(&str) -> Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind to loopback");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared { book: Mutex::default(), work });
        let serving = shared.clone();
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let shared = serving.clone();
                // Broken connections are what this is about.
                thread::spawn(move || serve(stream, &shared).unwrap_or_default());
            }
        });
        Self { address, shared }
    }

    /// `[upstream.u]` of it alone.
    pub fn upstream(&self) -> String {
        format!("[upstream.u]\nendpoints = [{{ id = \"l\", address = \"{}\" }}]\n", self.address)
    }

    /// What has happened.
    pub fn history(&self) -> History {
        let book = lock(&self.shared.book);
        let numbers = book.numbers.iter().map(|(key, (number, _))| (key.clone(), *number)).collect();
        History { visits: book.visits.clone(), numbers, excused: Vec::new() }
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> Result<()> {
    let mut wire = Wire::new(stream)?;
    wire.stream.set_read_timeout(None)?;
    while let Some((line, headers)) = wire.head()? {
        let length = field(&headers, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        wire.exactly(length)?;
        let text = |name: &str| field(&headers, name).unwrap_or_default().to_string();
        let key = line.split(' ').nth(1).unwrap_or_default().to_string();
        let (token, began) = (text("fencing-token"), clock::now());
        let until = began + (shared.work)(&key);
        let (index, read) = {
            let mut book = lock(&shared.book);
            let visit =
                Visit { key: key.clone(), token: token.clone(), proxy: text("host"), began, ended: None, is_let: None };
            book.visits.push(visit);
            (book.visits.len() - 1, book.numbers.entry(key.clone()).or_default().0)
        };
        let is_there = works(&wire.stream, until)?;
        let is_let = {
            let mut book = lock(&shared.book);
            let entry = book.numbers.entry(key).or_default();
            let is_let = is_there.then(|| token >= entry.1);
            if is_let == Some(true) {
                *entry = (read + 1, token);
            }
            let visit = &mut book.visits[index];
            (visit.ended, visit.is_let) = (Some(clock::now()), is_let);
            is_let
        };
        match is_let {
            None => return Ok(()),
            Some(true) => wire.stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?,
            Some(false) => wire.stream.write_all(b"HTTP/1.1 409 Conflict\r\nContent-Length: 8\r\n\r\noutdated")?,
        }
    }
    Ok(())
}

/// Works until a moment; says whether whoever asked is still there then.
fn works(stream: &TcpStream, until: Instant) -> Result<bool> {
    stream.set_nonblocking(true)?;
    let is_there = loop {
        match stream.peek(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(1) => {}
            _ => break false,
        }
        if clock::now() >= until {
            break true;
        }
        thread::sleep(LOOK);
    };
    stream.set_nonblocking(false)?;
    Ok(is_there)
}

/// What has happened, and what is excused of it.
#[derive(Debug)]
pub struct History {
    pub visits: Vec<Visit>,
    /// By key.
    pub numbers: BTreeMap<String, u64>,
    excused: Vec<(Option<String>, Instant, Instant)>,
}

impl History {
    /// A history of these visits.
    pub fn of(visits: Vec<Visit>, numbers: BTreeMap<String, u64>) -> Self {
        Self { visits, numbers, excused: Vec::new() }
    }

    /// What a proxy did while it slept between two moments is excused: it does not know that its lease is over. Its writes are not.
    pub fn excuse(&mut self, proxy: &str, from: Instant, to: Instant) {
        self.excused.push((Some(proxy.to_string()), from, to));
    }

    /// The same for all proxies, where the store loses its data and does not wait until leases are over.
    pub fn excuse_all(&mut self, from: Instant, to: Instant) {
        self.excused.push((None, from, to));
    }

    fn is_excused(&self, visit: &Visit) -> bool {
        self.excused.iter().any(|(proxy, from, to)| {
            proxy.as_ref().is_none_or(|proxy| *proxy == visit.proxy) && is_within(visit, *from, *to)
        })
    }

    fn is_excused_by_loss(&self, visit: &Visit) -> bool {
        self.excused.iter().any(|(proxy, from, to)| proxy.is_none() && is_within(visit, *from, *to))
    }

    /// All that must not have happened, in words.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut by_key: BTreeMap<&str, Vec<&Visit>> = BTreeMap::new();
        self.visits.iter().for_each(|visit| by_key.entry(&visit.key).or_default().push(visit));
        for (key, visits) in by_key {
            let mut awake: Vec<&Visit> = visits.iter().copied().filter(|visit| !self.is_excused(visit)).collect();
            awake.sort_by_key(|visit| visit.began);
            for pair in awake.windows(2) {
                let (one, next) = (pair[0], pair[1]);
                if one.ended.is_none_or(|ended| ended > next.began) {
                    problems.push(format!("{key}: two holders at one time: {one:?} and {next:?}"));
                }
                if one.token >= next.token {
                    problems.push(format!("{key}: a token does not rise: {one:?}, then {next:?}"));
                }
            }
            if let Some(late) = awake.iter().find(|visit| visit.is_let == Some(false)) {
                problems.push(format!("{key}: outdated, and awake: {late:?}"));
            }
            let written = visits.iter().filter(|visit| visit.is_let == Some(true)).count() as u64;
            // Two that may both have held the lock, and wrote in the order of their tokens, may both have read before.
            let excused = visits.iter().filter(|visit| visit.is_let == Some(true) && self.is_excused_by_loss(visit));
            let number = self.numbers.get(key).copied().unwrap_or(0);
            if number > written || number + (excused.count() as u64) < written {
                problems.push(format!("{key}: {written} writes made it {number}"));
            }
            let mut written: Vec<&&Visit> = visits.iter().filter(|visit| visit.is_let == Some(true)).collect();
            written.sort_by_key(|visit| visit.ended);
            if let Some(pair) = written.windows(2).find(|pair| pair[0].token >= pair[1].token) {
                problems.push(format!("{key}: written in the wrong order: {:?}, then {:?}", pair[0], pair[1]));
            }
        }
        if let Some(visit) = self.visits.iter().find(|visit| visit.token.len() != 41) {
            problems.push(format!("no token: {visit:?}"));
        }
        problems
    }
}

fn is_within(visit: &Visit, from: Instant, to: Instant) -> bool {
    visit.began <= to && visit.ended.is_none_or(|ended| ended >= from)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
