//! Locks under faults: proxies and stores that are killed, that sleep, that are cut off, and stores that forget. Whatever happens, no two
//! holders at one time that know of their leases, tokens that rise, and a count that is exact. Seeded: `SEED=n` repeats a run; `SECONDS_EACH`
//! makes it longer (`scripts/fleet-soak`).
use crate::harness::consul::Consul;
use crate::harness::etcd::Etcd;
use crate::harness::history::{History, Ledger, Visit};
use crate::harness::http::Client;
use crate::harness::locks::LockServer;
use crate::harness::namespace::Namespace;
use crate::harness::pauses::Pauses;
use crate::harness::program::Ringway;
use crate::harness::redis::Redis;
use crate::harness::relay::Relay;
use crate::harness::store::Server;
use crate::harness::wait_within;
use crate::harness::zookeeper::Zookeeper;
use crate::serialize_stores::config_at;
use crate::skip;
use ringway::base::clock;
use ringway::base::hash::mix64;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Length of leases in seconds.
const LEASE: u64 = 2;
/// So long before the store a proxy gives up a lease: it relies on two thirds of it.
const MARGIN: Duration = Duration::from_millis(LEASE * 1000 / 3);
const PROXIES: usize = 4;
const CLIENTS: u64 = 8;
/// Within this every proxy has its store back after a fault: leases and quarantines have run out, pauses between tries are over, and the
/// machine is a busy one.
const RECOVERY: Duration = Duration::from_secs(30);

/// Proxies, each with a way of its own to the store, and clients that come by any of them.
struct Fleet<S: LockServer> {
    store: S,
    ledger: Ledger,
    proxies: Vec<(Ringway, Relay)>,
    addresses: Arc<Mutex<Vec<SocketAddr>>>,
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<u64>>,
    /// Locks that were held while a fault came.
    long: usize,
    naps: Vec<(String, Instant, Instant)>,
    losses: Vec<(Instant, Instant)>,
    pauses: Pauses,
}

impl<S: LockServer> Fleet<S> {
    fn start(store: S) -> Self {
        let ledger = Ledger::start(work);
        let proxies: Vec<_> = (0..PROXIES).map(|index| proxy(&store, &ledger, index)).collect();
        let addresses = Arc::new(Mutex::new(proxies.iter().map(|(proxy, _)| proxy.address).collect()));
        Self {
            store,
            ledger,
            proxies,
            addresses,
            stop: Arc::default(),
            clients: Vec::new(),
            long: 0,
            naps: Vec::new(),
            losses: Vec::new(),
            pauses: Pauses::start(),
        }
    }

    /// A client that posts by any proxy until it is told to stop; how often it was answered with success.
    fn add_client(&mut self, number: u64, seed: u64) {
        let (addresses, stop) = (self.addresses.clone(), self.stop.clone());
        self.clients.push(thread::spawn(move || {
            let (mut state, mut count) = (mix64(seed ^ number << 32), 0);
            while !stop.load(Ordering::SeqCst) {
                state = mix64(state.wrapping_add(1));
                let address = addresses.lock().unwrap()[state as usize % PROXIES];
                // A proxy that is gone, or sleeps, answers nobody.
                let answer = Client::new(address).post(key(state >> 32), b"");
                count += u64::from(answer.is_ok_and(|answer| answer.status == 200));
                thread::sleep(Duration::from_millis(state >> 40 & 15));
            }
            count
        }));
    }

    /// A client that posts to one path by one proxy until it succeeds.
    fn add_single(&mut self, proxy: usize, path: String) {
        let (addresses, stop) = (self.addresses.clone(), self.stop.clone());
        self.clients.push(thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                let address = addresses.lock().unwrap()[proxy];
                if Client::new(address).post(&path, b"").is_ok_and(|answer| answer.status == 200) {
                    return 1;
                }
                thread::sleep(Duration::from_millis(50));
            }
            0
        }));
    }

    /// Waits until so many more requests have been let write.
    fn await_writes(&self, more: usize) {
        let before = self.ledger.writes();
        wait_within(RECOVERY, "turns", || (self.ledger.writes() >= before + more).then_some(()));
    }

    /// A proxy with a request whose turn has just begun and outlasts every fault; requests of the others wait for theirs.
    fn holder(&mut self) -> usize {
        self.long += 1;
        let (index, path) = (self.long % PROXIES, format!("/long/{}", self.long));
        self.add_single(index, path.clone());
        let proxy = self.proxies[index].0.address.to_string();
        wait_within(RECOVERY, "a holder", || self.ledger.works_for(&path, &proxy).then_some(()));
        (1..PROXIES).for_each(|other| self.add_single((index + other) % PROXIES, format!("{path}?briefly")));
        index
    }

    fn fault(&mut self, kind: u64) {
        let nap = Duration::from_millis(1000 * LEASE + 1000);
        match kind {
            0 => {
                let index = self.holder();
                self.proxies[index].0.signal("KILL");
                let fresh = proxy(&self.store, &self.ledger, index);
                self.addresses.lock().unwrap()[index] = fresh.0.address;
                self.proxies[index] = fresh;
            }
            1 => {
                let (index, from) = (self.holder(), clock::now());
                self.proxies[index].0.signal("STOP");
                thread::sleep(nap);
                self.proxies[index].0.signal("CONT");
                self.naps.push((self.proxies[index].0.address.to_string(), from, clock::now()));
            }
            2 => {
                let index = self.holder();
                self.proxies[index].1.set_cut(true);
                // Long enough that its locks are others' meanwhile.
                thread::sleep(Duration::from_secs(3 * LEASE));
                self.proxies[index].1.set_cut(false);
            }
            3 => {
                self.holder();
                self.store.set_asleep(true);
                thread::sleep(nap);
                self.store.set_asleep(false);
            }
            4 => {
                self.holder();
                self.store.kill();
                self.store.restart();
            }
            5 => {
                self.holder();
                self.lose_data();
            }
            _ => {
                // A holder that hears nothing of it.
                let index = self.holder();
                self.proxies[index].1.set_cut(true);
                self.lose_data();
                thread::sleep(nap);
                self.proxies[index].1.set_cut(false);
            }
        }
    }

    fn lose_data(&mut self) {
        let from = clock::now();
        self.store.lose_data();
        self.store.restart();
        self.losses.push((from, clock::now() + Duration::from_secs(LEASE)));
    }

    fn history(&self) -> History {
        let mut history = self.ledger.history();
        history.excuse_pauses(self.pauses.all(), MARGIN);
        self.naps.iter().for_each(|(proxy, from, to)| history.excuse(proxy, *from, *to));
        if !S::WAITS_FOR_THE_FORGOTTEN {
            self.losses.iter().for_each(|(from, to)| history.excuse_all(*from, *to));
        }
        history
    }
}

/// One more proxy, with a way of its own to the store: the last one's is a wire where this machine lets us have a network of our own.
#[allow(clippy::disallowed_macros, reason = "captured by the test runner")]
fn proxy<S: LockServer>(store: &S, ledger: &Ledger, index: usize) -> (Ringway, Relay) {
    let beyond = if index == PROXIES - 1 { Namespace::start() } else { None };
    println!("proxy {index} has {}", if beyond.is_some() { "a wire to the store" } else { "a relay to the store" });
    let relay = match beyond {
        Some(beyond) => Relay::start_beyond(beyond, store.address()),
        None => Relay::start(store.address()),
    };
    let config = config_at(store, relay.address, &ledger.upstream(), LEASE, &[("/", "wait = \"4s\"")]);
    (Ringway::start(&config), relay)
}

const FAULTS: [&str; 7] = [
    "kill of a proxy",
    "sleep of a proxy",
    "cut of a proxy",
    "sleep of the store",
    "kill of the store",
    "loss of data",
    "loss of data that a holder does not hear of",
];

/// Most requests are for two keys that take turns quickly, some for one that takes longer.
fn key(number: u64) -> &'static str {
    match number % 16 {
        0..=3 => "/slow",
        4..=9 => "/a",
        _ => "/b",
    }
}

/// Whoever is to have a lock while a fault comes has it for longer than any of them takes.
fn work(target: &str) -> Duration {
    Duration::from_millis(match target {
        "/slow" => 700,
        _ if target.starts_with("/long") && !target.contains('?') => 4000 * LEASE,
        _ => 30,
    })
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[allow(clippy::disallowed_macros, reason = "captured by the test runner")]
fn whatever_happens_holders_are_one_at_a_time_and_the_count_is_exact<S: LockServer>(store: S) {
    let seed = number("SEED").unwrap_or(1);
    println!("SEED={seed}");
    let mut fleet = Fleet::start(store);
    (0..CLIENTS).for_each(|number| fleet.add_client(number, seed));
    fleet.await_writes(20);
    let until = clock::now() + Duration::from_secs(number("SECONDS_EACH").unwrap_or(0));
    let (mut state, mut round) = (mix64(seed), 0);
    while round < FAULTS.len() || clock::now() < until {
        state = mix64(state.wrapping_add(1));
        // Each kind once, then any.
        let kind = if round < FAULTS.len() { round as u64 } else { (state >> 16) % FAULTS.len() as u64 };
        round += 1;
        println!("fault {round}: {}", FAULTS[kind as usize]);
        fleet.fault(kind);
        fleet.await_writes(5);
        let problems = fleet.history().problems();
        assert!(problems.is_empty(), "after a {}, the {round}th fault: {}", FAULTS[kind as usize], problems.join("\n"));
    }
    fleet.stop.store(true, Ordering::SeqCst);
    let told: u64 = std::mem::take(&mut fleet.clients).into_iter().map(|client| client.join().unwrap()).sum();
    let history = fleet.history();
    let problems = history.problems();
    assert!(problems.is_empty(), "at the end: {}", problems.join("\n"));
    // That each of them counts is among the problems; two that a store without memory let write at one time count as one.
    let written = fleet.ledger.writes() as u64;
    assert!(told <= written, "{told} were told of success, {written} had it");
    assert!(told > 50, "{told} in all");
    wait_within(RECOVERY, "the store to be empty", || fleet.store.locks().is_empty().then_some(()));
    let pause = fleet.pauses.longest();
    println!("{round} faults, {written} turns, {told} answered; the machine paused for {pause:?} at most");
}

#[test]
fn the_checker_sees_what_must_not_be() {
    let now = clock::now();
    let at = |ms: u64| now + Duration::from_millis(ms);
    let visit = |token: u64, began: u64, seen: u64, is_let: Option<bool>| Visit {
        key: "/k".into(),
        token: format!("{token:041}"),
        proxy: format!("p{token}"),
        began: at(began),
        seen: at(seen),
        is_over: true,
        is_let,
    };
    let of = |visits: &[Visit], number: u64| History::of(visits.to_vec(), [("/k".to_string(), number)].into());
    let check = |history: &History, expected: &str| {
        let problems = history.problems().join("\n");
        assert!(if expected.is_empty() { problems.is_empty() } else { problems.contains(expected) }, "{problems}");
    };
    let (yes, no) = (Some(true), Some(false));
    check(&of(&[visit(1, 0, 10, yes), visit(2, 10, 20, yes)], 2), "");
    check(&of(&[visit(1, 0, 11, yes), visit(2, 10, 20, yes)], 2), "two holders");
    check(&of(&[visit(2, 0, 10, yes), visit(1, 10, 20, None)], 1), "does not rise");
    check(&of(&[visit(1, 0, 10, yes), visit(2, 10, 20, yes)], 1), "2 writes made it 1");
    check(&of(&[visit(1, 0, 10, yes), visit(1, 10, 20, yes)], 2), "two writes by one token");
    check(&of(&[visit(1, 0, 10, no)], 0), "outdated, and awake");
    // One that slept is excused until it has had time to see what is over, and no longer.
    let slept = |seen: u64, from: u64, to: u64| {
        let mut history = of(&[visit(1, 0, seen, no), visit(2, 10, 20, yes)], 1);
        history.excuse("p1", at(from), at(to));
        history
    };
    check(&slept(30, 5, 29), "");
    check(&slept(900, 5, 29), "two holders");
    check(&slept(30, 31, 40), "two holders");
    // Nor are those whom the machine held up for as long as a lease is given up before its end.
    let held_up = |began: u64, ended: u64| {
        let mut history = of(&[visit(1, 0, 1010, no), visit(2, 1000, 1020, yes)], 1);
        history.excuse_pauses(vec![(at(began), at(ended))], Duration::from_millis(600));
        history
    };
    check(&held_up(600, 910), "");
    check(&held_up(600, 890), "two holders");
    check(&held_up(0, 400), "two holders");
    let mut both_wrote = of(&[visit(1, 0, 1010, yes), visit(2, 1000, 1020, yes)], 1);
    check(&both_wrote, "2 writes made it 1");
    both_wrote.excuse_pauses(vec![(at(500), at(1000))], Duration::from_millis(600));
    check(&both_wrote, "");
}

/// The story of each engine.
macro_rules! stories {
    ($($engine:ident $name:ident)*) => { $(
        #[test]
        fn $name() {
            match $engine::start() {
                Some(store) => whatever_happens_holders_are_one_at_a_time_and_the_count_is_exact(store),
                None => skip!(concat!("no ", stringify!($engine))),
            }
        }
    )* };
}

stories! {
    Etcd locks_in_etcd_hold_over_faults
    Redis locks_in_redis_hold_over_faults
    Consul locks_in_consul_hold_over_faults
    Zookeeper locks_in_zookeeper_hold_over_faults
}
