//! Turns over four proxies: how many, how fair, and how soon they go on when somebody is killed, sleeps or is cut off.
use super::{PROXIES, figure, longest, since, text};
use crate::harness::locks::LockServer;
use crate::harness::program::Ringway;
use crate::harness::register::Register;
use crate::harness::relay::Relay;
use crate::harness::wait_for;
use crate::harness::wait_within;
use crate::serialize::check_tokens;
use crate::serialize_stores::{config_at, is_lost, post_later, start_on, word};
use ringway::base::clock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Seconds that a lease lasts: one that a busy machine does not lose, and one that is soon over.
const LONG: u64 = 5;
const SHORT: u64 = 2;
const RUN: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(60);

fn start<S: LockServer>(store: &S, register: &Register, lease: u64) -> Ringway {
    start_on(&config_at(
        store,
        store.address(),
        &register.upstream(),
        lease,
        &[("/", "wait = \"30s\"\nmax_queue = 1000")],
    ))
}

/// T3.
pub fn turns_are_many_and_fair<S: LockServer>(store: S) {
    let register = Register::start(Duration::ZERO);
    let proxies = [(); PROXIES].map(|()| start(&store, &register, LONG));
    for (keys, clients, goal) in [(1, 2, 100.0), (64, 16, 500.0)] {
        let counts = [(); PROXIES].map(|()| AtomicUsize::new(0));
        let (is_over, failed) = (AtomicBool::new(false), AtomicUsize::new(0));
        let began = clock::now();
        thread::scope(|scope| {
            for number in 0..PROXIES * clients {
                let (proxy, count) = (&proxies[number % PROXIES], &counts[number % PROXIES]);
                let (is_over, failed) = (&is_over, &failed);
                scope.spawn(move || {
                    let mut client = proxy.client();
                    for turn in number.. {
                        if is_over.load(Ordering::Relaxed) {
                            return;
                        }
                        let path = format!("/{keys}/{}", turn * 7 % keys);
                        match client.post(&path, b"").is_ok_and(|answer| answer.status == 200) {
                            true => count.fetch_add(1, Ordering::Relaxed),
                            false => failed.fetch_add(1, Ordering::Relaxed),
                        };
                    }
                });
            }
            thread::sleep(RUN);
            is_over.store(true, Ordering::Relaxed);
        });
        let counts = counts.map(AtomicUsize::into_inner);
        let (least, most) = (counts.iter().min().copied().unwrap_or(0), counts.iter().max().copied().unwrap_or(1));
        let rate = counts.iter().sum::<usize>() as f64 / since(began).as_secs_f64();
        for key in 0..keys {
            let entry = register.at(&format!("/{keys}/{key}"));
            assert!(entry.most <= 1, "{} holders at one time", entry.most);
            check_tokens(&entry.writes);
        }
        assert_eq!(failed.into_inner(), 0, "turns that failed");
        let what = format!("{keys} keys, {} clients: turns a second", PROXIES * clients);
        figure::<S>("T3", &what, &format!("{rate:.0}"), &format!("at least {goal:.0}"), rate >= goal);
        if S::IS_FAIR && keys == 1 {
            let share = least as f64 / most as f64;
            figure::<S>("T3", "fewest turns of a proxy / most", &format!("{share:.2}"), "at least 0.80", share >= 0.8);
        }
    }
}

/// T4.
pub fn the_lock_of_the_killed_passes_on<S: LockServer>(store: S) {
    let register = Register::start(Duration::ZERO);
    let mut proxies = [(); PROXIES].map(|()| start(&store, &register, SHORT));
    let mut took = Vec::new();
    for round in 0..PROXIES {
        let path = format!("/{round}");
        let held = register.hold();
        let asked = thread::spawn({
            let (path, mut client) = (path.clone(), proxies[round].client());
            move || client.post(&path, b"").is_err()
        });
        wait_for("the holder", || (register.now(&path) == 1).then_some(()));
        register.hold_no_more();
        let others: Vec<_> = (1..PROXIES).map(|n| post_later(proxies[(round + n) % PROXIES].address, &path)).collect();
        thread::sleep(Duration::from_millis(300));
        proxies[round].signal("KILL");
        proxies[round].wait();
        let began = clock::now();
        took.push(wait_within(PATIENCE, "a grant", || (!register.at(&path).writes.is_empty()).then(|| since(began))));
        assert!(others.into_iter().all(|other| other.join().expect("an answer").status == 200));
        drop(held);
        assert!(asked.join().expect("a client"), "nobody answered for the killed one");
        let entry = register.at(&path);
        check_tokens(&entry.writes[..PROXIES - 1]);
        wait_for("the late write", || (register.now(&path) == 0).then_some(()));
        assert_eq!(register.at(&path).writes.iter().filter(|(_, is_let)| !is_let).count(), 1, "it is refused");
        proxies[round] = start(&store, &register, SHORT);
    }
    // Consul ends a session after up to twice its time, and then waits for its lock_delay, 1 s here.
    let goal = if S::IS_FAIR { SHORT + 1 } else { 2 * SHORT + 2 };
    let what = format!("holder killed, lease {SHORT} s: the next one's turn");
    longest::<S>("T4", &what, &took, Duration::from_secs(goal));
}

/// T7.
pub fn a_store_that_slept_leaves_no_ghosts<S: LockServer>(mut store: S) {
    let register = Register::start(Duration::ZERO);
    let proxies = [(); PROXIES].map(|()| start(&store, &register, SHORT));
    proxies.iter().for_each(|proxy| assert_eq!(proxy.client().post("/n", b"").expect("an answer").status, 200));
    store.set_asleep(true);
    let asked = proxies.each_ref().map(|proxy| post_later(proxy.address, "/n"));
    asked.into_iter().for_each(|asked| assert_eq!(word(&asked.join().expect("an answer")).1, "store_lost"));
    thread::sleep(Duration::from_secs(8 - SHORT));
    store.set_asleep(false);
    let began = clock::now();
    let first = wait_for("a turn", || {
        proxies
            .iter()
            .any(|proxy| proxy.client().post("/n", b"").is_ok_and(|it| it.status == 200))
            .then(|| since(began))
    });
    let what = "store asleep for 8 s: first turn after it woke up";
    longest::<S>("T7", what, &[first], Duration::from_secs(2));
    for proxy in &proxies {
        wait_for("a turn", || proxy.client().post("/n", b"").is_ok_and(|it| it.status == 200).then_some(()));
    }
    longest::<S>("T7", "all proxies have turns again", &[since(began)], Duration::from_secs(5));
    let empty = wait_within(PATIENCE, "the store to be empty", || store.locks().is_empty().then(|| since(began)));
    longest::<S>("T7", "nothing is left of what was given up", &[empty], Duration::from_secs(5));
    let entry = register.at("/n");
    assert!(entry.most <= 1);
    check_tokens(&entry.writes);
}

/// T8, by a relay that falls silent.
pub fn a_proxy_that_is_cut_off_gives_up_before_others_go_on<S: LockServer>(store: S) {
    let register = Register::start(Duration::ZERO);
    let ways: Vec<Relay> = (0..PROXIES).map(|_| Relay::start(store.address())).collect();
    let lease = 3;
    let start = |way: &Relay| {
        start_on(&config_at(&store, way.address, &register.upstream(), lease, &[("/", "wait = \"30s\"")]))
    };
    let proxies: Vec<Ringway> = ways.iter().map(start).collect();
    let held = register.hold();
    let asked = post_later(proxies[0].address, "/n");
    wait_for("the holder", || (register.now("/n") == 1).then_some(()));
    register.hold_no_more();
    let others: Vec<_> = proxies[1..].iter().map(|proxy| post_later(proxy.address, "/n")).collect();
    ways[0].set_cut(true);
    let began = clock::now();
    let (stopped, granted, noticed) = thread::scope(|scope| {
        let granted = scope.spawn(|| {
            wait_within(PATIENCE, "a grant", || (!register.at("/n").writes.is_empty()).then(|| since(began)))
        });
        let noticed = scope.spawn(|| wait_within(PATIENCE, "the loss", || is_lost(&proxies[0]).then(|| since(began))));
        assert_eq!(word(&asked.join().expect("an answer")).1, "lease_lost");
        (since(began), granted.join().expect("a grant"), noticed.join().expect("the loss"))
    });
    assert!(stopped < granted, "it stopped after {stopped:?}, others went on after {granted:?}");
    let told = format!("{} / {}", text(stopped), text(granted));
    let is_met = stopped <= Duration::from_secs(lease) * 2 / 3 + Duration::from_millis(500);
    figure::<S>("T8", "cut off, lease 3 s: holder stops / next one's turn", &told, "stops within 2/3 of it", is_met);
    let goal = Duration::from_millis(1000 * lease / 3 + 500);
    longest::<S>("T8", "the loss is noticed", &[noticed], goal);
    assert!(others.into_iter().all(|other| other.join().expect("an answer").status == 200));
    drop(held);
    ways[0].set_cut(false);
    let began = clock::now();
    let back = wait_for("a turn", || {
        proxies[0].client().post("/n", b"").is_ok_and(|it| it.status == 200).then(|| since(began))
    });
    longest::<S>("T8", "turns again after the cut is healed", &[back], Duration::from_secs(3));
    let writes = register.at("/n").writes;
    assert_eq!(writes.iter().filter(|(_, is_let)| !is_let).count(), 1, "only the late write is refused");
}

/// T13. What proxies ask of the store for a turn, with so many that wait for it.
pub fn a_turn_that_passes_on_wakes_one<S: LockServer>(store: S) {
    let register = Register::start(Duration::from_millis(20));
    let mut per_turn = Vec::new();
    for count in [PROXIES, 2 * PROXIES] {
        let ways: Vec<Relay> = (0..count).map(|_| Relay::start(store.address())).collect();
        let start = |way: &Relay| {
            start_on(&config_at(&store, way.address, &register.upstream(), LONG, &[("/", "wait = \"30s\"")]))
        };
        let proxies: Vec<Ringway> = ways.iter().map(start).collect();
        let asked = || ways.iter().map(Relay::asked).sum::<usize>();
        let (before, turns) = (asked(), 20);
        thread::scope(|scope| {
            for proxy in &proxies {
                scope.spawn(|| {
                    let mut client = proxy.client();
                    (0..turns).for_each(|_| assert_eq!(client.post("/n", b"").expect("an answer").status, 200));
                });
            }
        });
        per_turn.push((asked() - before) as f64 / (turns * count) as f64);
    }
    let told = format!("{:.1} with {PROXIES}, {:.1} with {}", per_turn[0], per_turn[1], 2 * PROXIES);
    let is_met = per_turn[1] <= 1.3 * per_turn[0];
    figure::<S>("T13", "messages to the store for a turn, proxies that wait", &told, "no more with more", is_met);
}
