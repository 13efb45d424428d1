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
    /// When whoever asked was last seen to be there. What is known of its end: it left after this, and this thread may see it late.
    pub seen: Instant,
    /// Whether it was answered, or whoever asked had gone.
    pub is_over: bool,
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
    written: usize,
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
        History::of(book.visits.clone(), numbers)
    }

    /// Requests that were let write so far.
    pub fn writes(&self) -> usize {
        lock(&self.shared.book).written
    }

    /// Whether a request for this key that came by this proxy is at work.
    pub fn works_for(&self, key: &str, proxy: &str) -> bool {
        let book = lock(&self.shared.book);
        book.visits.iter().rev().any(|visit| !visit.is_over && visit.key == key && visit.proxy == proxy)
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> Result<()> {
    let mut wire = Wire::new(stream)?;
    wire.stream.set_read_timeout(None)?;
    while let Some((line, headers)) = wire.head()? {
        let length = field(&headers, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        wire.exactly(length)?;
        let text = |name: &str| field(&headers, name).unwrap_or_default().to_string();
        let target = line.split(' ').nth(1).unwrap_or_default().to_string();
        let key = target.split('?').next().unwrap_or_default().to_string();
        let (token, began) = (text("fencing-token"), clock::now());
        let until = began + (shared.work)(&target);
        let (index, read) = {
            let mut book = lock(&shared.book);
            let (key, token, proxy) = (key.clone(), token.clone(), text("host"));
            let read = book.numbers.entry(key.clone()).or_default().0;
            book.visits.push(Visit { key, token, proxy, began, seen: began, is_over: false, is_let: None });
            (book.visits.len() - 1, read)
        };
        let is_there = works(&wire.stream, until, |seen| lock(&shared.book).visits[index].seen = seen)?;
        let is_let = {
            let mut book = lock(&shared.book);
            let entry = book.numbers.entry(key).or_default();
            let is_let = is_there.then(|| token >= entry.1);
            if is_let == Some(true) {
                *entry = (read + 1, token);
                book.written += 1;
            }
            let visit = &mut book.visits[index];
            (visit.is_over, visit.is_let) = (true, is_let);
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

/// Works until a moment; says whether whoever asked is still there then, and all the time when it was seen to be.
fn works(stream: &TcpStream, until: Instant, mut see: impl FnMut(Instant)) -> Result<bool> {
    stream.set_nonblocking(true)?;
    let is_there = loop {
        let looked = clock::now();
        match stream.peek(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(1) => {}
            _ => break false,
        }
        see(looked);
        if looked >= until {
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
    naps: Vec<(String, Instant, Instant)>,
    losses: Vec<(Instant, Instant)>,
    /// When the machine let nobody run, and how much of that is too much.
    pauses: Vec<(Instant, Instant)>,
    margin: Duration,
}

/// A proxy that wakes up knows within this that its leases are over, on a machine that lets it run.
const WAKING: Duration = Duration::from_millis(300);
/// One after the other have to run before a lease that is over has ended its request: who keeps it, and who sends the request. Each may
/// be held up for as long as the test was.
const RUNNERS: u32 = 2;

impl History {
    /// A history of these visits.
    pub fn of(visits: Vec<Visit>, numbers: BTreeMap<String, u64>) -> Self {
        let (naps, losses, pauses, margin) = (Vec::new(), Vec::new(), Vec::new(), Duration::MAX);
        Self { visits, numbers, naps, losses, pauses, margin }
    }

    /// What a proxy did while it slept between two moments is excused: it does not know that its lease is over. Its writes are not.
    pub fn excuse(&mut self, proxy: &str, from: Instant, to: Instant) {
        self.naps.push((proxy.to_string(), from, to));
    }

    /// The same for all proxies, where the store loses its data and does not wait until leases are over.
    pub fn excuse_all(&mut self, from: Instant, to: Instant) {
        self.losses.push((from, to));
    }

    /// Between these moments the machine let the test itself not run, and so perhaps no proxy. A proxy gives up a lease a `margin` before
    /// the store does: only where it may have been held up for as long is anything excused.
    pub fn excuse_pauses(&mut self, pauses: Vec<(Instant, Instant)>, margin: Duration) {
        (self.pauses, self.margin) = (pauses, margin);
    }

    /// How long whoever has to run may have been held up between two moments.
    fn held_up(&self, from: Instant, to: Instant) -> Duration {
        let within =
            |(began, ended): &(Instant, Instant)| (*ended).min(to).saturating_duration_since((*began).max(from));
        RUNNERS * self.pauses.iter().map(within).sum::<Duration>()
    }

    /// Whether the machine's own pauses explain that one was there when the next began.
    fn is_held_up(&self, one: &Visit, next: &Visit) -> bool {
        let since = next.began.checked_sub(self.margin).unwrap_or(next.began);
        self.held_up(since, one.seen) >= self.margin
    }

    fn has_slept(&self, visit: &Visit) -> bool {
        self.naps.iter().any(|(proxy, from, to)| {
            let knows = *to + WAKING + self.held_up(*to, visit.seen);
            *proxy == visit.proxy && visit.began <= knows && visit.seen >= *from && visit.seen <= knows
        })
    }

    fn is_forgotten(&self, visit: &Visit) -> bool {
        self.losses.iter().any(|(from, to)| visit.began <= *to && visit.seen >= *from)
    }

    /// All that must not have happened, in words.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut by_key: BTreeMap<&str, Vec<&Visit>> = BTreeMap::new();
        self.visits.iter().for_each(|visit| by_key.entry(&visit.key).or_default().push(visit));
        for (key, visits) in by_key {
            let is_excused = |visit: &Visit| self.has_slept(visit) || self.is_forgotten(visit);
            let mut awake: Vec<&Visit> = visits.iter().copied().filter(|visit| !is_excused(visit)).collect();
            awake.sort_by_key(|visit| visit.began);
            let mut late = Vec::new();
            for pair in awake.windows(2) {
                let (one, next) = (pair[0], pair[1]);
                if one.seen > next.began {
                    if self.is_held_up(one, next) {
                        late.push(one.token.as_str());
                        continue;
                    }
                    let over = one.seen - next.began;
                    problems.push(format!("{key}: two holders at one time, for {over:?}: {one:?} and {next:?}"));
                }
                if one.token >= next.token {
                    problems.push(format!("{key}: a token does not rise: {one:?}, then {next:?}"));
                }
            }
            let is_late = |visit: &Visit| late.contains(&visit.token.as_str());
            if let Some(late) = awake.iter().find(|visit| visit.is_let == Some(false) && !is_late(visit)) {
                problems.push(format!("{key}: outdated, and awake: {late:?}"));
            }
            let written: Vec<&Visit> = visits.iter().copied().filter(|visit| visit.is_let == Some(true)).collect();
            // Two that may both have held the lock, and wrote in the order of their tokens, may both have read before.
            let excused = written.iter().filter(|visit| self.is_forgotten(visit) || is_late(visit)).count() as u64;
            let (number, count) = (self.numbers.get(key).copied().unwrap_or(0), written.len() as u64);
            if number > count || number + excused < count {
                problems.push(format!("{key}: {count} writes made it {number}"));
            }
            let mut tokens: Vec<&str> = written.iter().map(|visit| visit.token.as_str()).collect();
            tokens.sort_unstable();
            if let Some(pair) = tokens.windows(2).find(|pair| pair[0] == pair[1]) {
                problems.push(format!("{key}: two writes by one token: {}", pair[0]));
            }
        }
        if let Some(visit) = self.visits.iter().find(|visit| visit.token.len() != 41) {
            problems.push(format!("no token: {visit:?}"));
        }
        problems
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
