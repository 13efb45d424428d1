//! Locks under faults: proxies and stores that are killed, that sleep, that are cut off, and stores that forget. Whatever happens, no two
//! holders at one time that know of their leases, tokens that rise, and a count that is exact. Seeded: `SEED=n` repeats a run; `SECONDS_EACH`
//! makes it longer (`scripts/fleet-soak`).
use crate::harness::consul::Consul;
use crate::harness::etcd::Etcd;
use crate::harness::history::{History, Ledger, Visit};
use crate::harness::http::Client;
use crate::harness::locks::LockServer;
use crate::harness::program::Ringway;
use crate::harness::redis::Redis;
use crate::harness::relay::Relay;
use crate::harness::store::Server;
use crate::harness::wait_for;
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
const PROXIES: usize = 3;
const CLIENTS: u64 = 8;

/// Proxies, each with a way of its own to the store, and clients that come by any of them.
struct Fleet<S: LockServer> {
    store: S,
    ledger: Ledger,
    proxies: Vec<(Ringway, Relay)>,
    addresses: Arc<Mutex<Vec<SocketAddr>>>,
    naps: Vec<(String, Instant, Instant)>,
    losses: Vec<(Instant, Instant)>,
}

impl<S: LockServer> Fleet<S> {
    fn start(store: S) -> Self {
        let ledger = Ledger::start(work);
        let start = || {
            let relay = Relay::start(store.address());
            (
                Ringway::start(&config_at(&store, relay.address, &ledger.upstream(), LEASE, &[("/", "wait = \"4s\"")])),
                relay,
            )
        };
        let proxies: Vec<_> = (0..PROXIES).map(|_| start()).collect();
        let addresses = Arc::new(Mutex::new(proxies.iter().map(|(proxy, _)| proxy.address).collect()));
        Self { store, ledger, proxies, addresses, naps: Vec::new(), losses: Vec::new() }
    }

    /// Clients that post until they are told to stop, each with a seed of its own; how often they were answered with success.
    fn crowd(&self, seed: u64, stop: &Arc<AtomicBool>) -> Vec<JoinHandle<u64>> {
        let client = |number: u64| {
            let (addresses, stop) = (self.addresses.clone(), stop.clone());
            thread::spawn(move || {
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
            })
        };
        (0..CLIENTS).map(client).collect()
    }

    /// Waits until so many more requests have been let write.
    fn await_writes(&self, more: usize) {
        let count = || self.ledger.history().visits.iter().filter(|visit| visit.is_let == Some(true)).count();
        let before = count();
        wait_for("turns", || (count() >= before + more).then_some(()));
    }

    /// The proxy of a visit that goes on for long yet.
    fn holder(&self) -> usize {
        let of = |visit: &Visit| self.proxies.iter().position(|(proxy, _)| proxy.address.to_string() == visit.proxy);
        wait_for("a holder", || {
            let visits = self.ledger.history().visits;
            let under_way = visits.iter().rev().filter(|visit| visit.ended.is_none() && visit.key == "/long");
            under_way.filter(|visit| visit.began.elapsed() < work(&visit.key) / 4).find_map(of)
        })
    }

    fn fault(&mut self, kind: u64) {
        let nap = Duration::from_millis(1000 * LEASE + 1000);
        match kind {
            0 => {
                let index = self.holder();
                self.proxies[index].0.signal("KILL");
                let relay = Relay::start(self.store.address());
                let lines = [("/", "wait = \"4s\"")];
                let config = config_at(&self.store, relay.address, &self.ledger.upstream(), LEASE, &lines);
                let fresh = Ringway::start(&config);
                self.addresses.lock().unwrap()[index] = fresh.address;
                self.proxies[index] = (fresh, relay);
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
                self.store.set_asleep(true);
                thread::sleep(nap);
                self.store.set_asleep(false);
            }
            4 => {
                self.store.kill();
                self.store.restart();
            }
            5 => self.lose_data(),
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
        // It needs a moment to notice after it was woken up.
        let late = Duration::from_millis(500);
        self.naps.iter().for_each(|(proxy, from, to)| history.excuse(proxy, *from, *to + late));
        if !S::WAITS_FOR_THE_FORGOTTEN {
            self.losses.iter().for_each(|(from, to)| history.excuse_all(*from, *to));
        }
        history
    }
}

const FAULTS: u64 = 7;

/// Most requests are for two keys that take turns quickly; some hold theirs while faults come, a few for longer than a lease.
fn key(number: u64) -> &'static str {
    match number % 16 {
        0 => "/long",
        1..=4 => "/slow",
        5..=10 => "/a",
        _ => "/b",
    }
}

fn work(path: &str) -> Duration {
    Duration::from_millis(match path {
        "/long" => 4000 * LEASE,
        "/slow" => 700,
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
    let stop = Arc::new(AtomicBool::new(false));
    let clients = fleet.crowd(seed, &stop);
    fleet.await_writes(20);
    let until = clock::now() + Duration::from_secs(number("SECONDS_EACH").unwrap_or(0));
    let (mut state, mut round) = (mix64(seed), 0);
    while round < FAULTS || clock::now() < until {
        state = mix64(state.wrapping_add(1));
        // Each kind once, then any.
        fleet.fault(if round < FAULTS { round } else { state >> 16 } % FAULTS);
        fleet.await_writes(5);
        let problems = fleet.history().problems();
        assert!(problems.is_empty(), "after {} faults: {}", round + 1, problems.join("\n"));
        round += 1;
    }
    stop.store(true, Ordering::SeqCst);
    let told: u64 = clients.into_iter().map(|client| client.join().unwrap()).sum();
    let history = fleet.history();
    let written: u64 = history.numbers.values().sum();
    assert!(told <= written, "{told} were told of success, {written} had it");
    assert!(told > 50, "{told} in all");
    wait_for("the store to be empty", || fleet.store.locks().is_empty().then_some(()));
    println!("{round} faults, {written} turns, {} answered", told);
}

#[test]
fn the_checker_sees_what_must_not_be() {
    let now = clock::now();
    let at = |ms: u64| now + Duration::from_millis(ms);
    let visit = |token: u64, began: u64, ended: u64, is_let: Option<bool>| Visit {
        key: "/k".into(),
        token: format!("{token:041}"),
        proxy: "p".into(),
        began: at(began),
        ended: Some(at(ended)),
        is_let,
    };
    let check = |visits: Vec<Visit>, number: u64, expected: &str| {
        let history = History::of(visits, [("/k".to_string(), number)].into());
        let problems = history.problems().join("\n");
        assert!(if expected.is_empty() { problems.is_empty() } else { problems.contains(expected) }, "{problems}");
    };
    let yes = Some(true);
    check(vec![visit(1, 0, 10, yes), visit(2, 10, 20, yes)], 2, "");
    check(vec![visit(1, 0, 11, yes), visit(2, 10, 20, yes)], 2, "two holders");
    check(vec![visit(2, 0, 10, yes), visit(1, 10, 20, None)], 1, "does not rise");
    check(vec![visit(1, 0, 10, yes), visit(2, 10, 20, yes)], 1, "2 writes made it 1");
    check(vec![visit(1, 0, 10, Some(false))], 0, "outdated, and awake");
    let mut slept =
        History::of(vec![visit(1, 0, 30, Some(false)), visit(2, 10, 20, yes)], [("/k".to_string(), 1)].into());
    assert!(!slept.problems().is_empty());
    slept.excuse("p", at(25), at(29));
    assert_eq!(slept.problems(), [""; 0]);
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
