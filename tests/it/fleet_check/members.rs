//! Members of four proxies: how soon changes are in force, what many at once cost, and a store that is away.
use super::{PROXIES, figure, fleet, longest, percentile, since, text};
use crate::harness::http::{Client, Wire};
use crate::harness::origin::Origin;
use crate::harness::program::Ringway;
use crate::harness::store::{RING, Server};
use crate::harness::wait_for;
use crate::members::{members, wait_for_members};
use crate::stores::config;
use ringway::base::clock;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

const CHANGES: usize = 250;
/// Time between two of them.
const APART: Duration = Duration::from_millis(60);

/// T1. From before it is written into the store until a request goes to the new address.
pub fn changes_are_in_force_at_once<S: Server>(store: S) {
    let origins = ["a", "b"].map(Origin::start);
    let put = |number: usize| store.put("m", &origins[number % 2].address.to_string(), 1);
    put(0);
    let proxies = fleet(|_| config(&store, "settle = \"0s\"\nmin_members = 0\nmax_drop = \"100%\""));
    let mut clients: Vec<Client> = proxies.iter().map(Ringway::client).collect();
    let mut took = Vec::new();
    for number in 1..=CHANGES {
        let (began, id) = (clock::now(), origins[number % 2].id.as_str());
        put(number);
        thread::scope(|scope| {
            let waiting: Vec<_> = clients
                .iter_mut()
                .map(|client| {
                    scope.spawn(move || {
                        wait_for("the change", || {
                            (client.get("/").ok()?.header("x-origin")? == id).then(|| since(began))
                        })
                    })
                })
                .collect();
            took.extend(waiting.into_iter().map(|waiting| waiting.join().expect("the change")));
        });
        // What comes within 50 ms of another is taken up with it, 50 ms after that at the latest.
        thread::sleep(APART);
    }
    let (p50, p99) = (percentile(&mut took, 50), percentile(&mut took, 99));
    let told = format!("p50 {}, p99 {} ({CHANGES} changes, none lost)", text(p50), text(p99));
    let goal = Duration::from_millis(50);
    figure::<S>("T1", "change in the store to a request that goes there", &told, "p99 at most 50 ms", p99 <= goal);
}

/// T2.
pub fn many_that_join_are_a_few_swaps<S: Server>(store: S) {
    let address = everywhere();
    let member = |n: usize| (format!("m{n}"), format!("127.1.{}.{}:{}", n / 250, n % 250 + 1, address.port()));
    let all: Vec<(String, String)> = (0..500).map(member).collect();
    store.put(&all[0].0, &all[0].1, 1);
    let proxies = fleet(|_| config(&store, ""));
    proxies.iter().for_each(|proxy| wait_for_members(proxy, &["m0"]));
    let before: Vec<u64> = proxies.iter().map(Ringway::generation).collect();
    let (is_over, failed, asked) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let (began, mut joined) = (clock::now(), Duration::ZERO);
    thread::scope(|scope| {
        for proxy in &proxies {
            scope.spawn(|| {
                let mut client = proxy.client();
                while !is_over.load(Ordering::Relaxed) {
                    let number = asked.fetch_add(1, Ordering::Relaxed);
                    let is_fine = client.get(&format!("/{number}")).is_ok_and(|answer| answer.status == 200);
                    failed.fetch_add(usize::from(!is_fine), Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(2));
                }
            });
        }
        store.put_many(&all);
        joined = since(began);
        for proxy in &proxies {
            wait_for("all of them", || (members(proxy).len() == 500).then_some(()));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let swaps = proxies.iter().zip(before).map(|(proxy, before)| proxy.generation() - before).max().unwrap_or(0);
    let what = "500 that join: swaps, at most of a proxy";
    figure::<S>("T2", what, &format!("{swaps} (written within {})", text(joined)), "at most 20", swaps <= 20);
    let (failed, asked) = (failed.into_inner(), asked.into_inner());
    figure::<S>("T2", "requests that failed meanwhile", &format!("{failed} of {asked}"), "0", failed == 0);
}

/// A server at every address of the machine, by one port.
fn everywhere() -> SocketAddr {
    let listener = TcpListener::bind("0.0.0.0:0").expect("bind to all addresses");
    let address = listener.local_addr().expect("a bound socket has an address");
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            thread::spawn(move || -> std::io::Result<()> {
                let mut wire = Wire::new(stream)?;
                while wire.head()?.is_some() {
                    wire.stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
                }
                Ok(())
            });
        }
    });
    address
}

/// T6, of members: one upstream goes on with what it had, the other is refused.
pub fn a_store_that_is_down_for_ten_seconds<S: Server>(mut store: S) {
    let origin = Origin::start("a");
    store.put("a", &origin.address.to_string(), 1);
    let refusing = |text: &str| {
        let at = text.find(&format!("[upstream.{RING}.discovery]")).expect("the upstream's members");
        let upstream = text[at..].replace(&format!("upstream.{RING}."), "upstream.cp.");
        let more = format!("name = \"{RING}\"\non_store_loss = \"refuse\"\nmax_stale = \"1s\"\n");
        format!("[[route]]\npath_prefix = \"/cp\"\nupstream = \"cp\"\nkey = [\"path\"]\n{text}{upstream}{more}")
    };
    let proxies = fleet(|_| refusing(&config(&store, "")));
    let status = |proxy: &Ringway, path: &str| proxy.client().get(path).map_or(0, |answer| answer.status);
    for proxy in &proxies {
        wait_for("members", || (status(proxy, "/cp") == 200 && status(proxy, "/") == 200).then_some(()));
    }
    store.kill();
    let began = clock::now();
    let (mut failed, mut asked, mut refused) = (0, 0, [None; PROXIES]);
    while since(began) < Duration::from_secs(10) {
        for (proxy, refused) in proxies.iter().zip(&mut refused) {
            asked += 1;
            failed += usize::from(status(proxy, "/") != 200);
            if refused.is_none() && status(proxy, "/cp") == 503 {
                *refused = Some(since(began));
            }
        }
        thread::sleep(Duration::from_millis(10));
    }
    figure::<S>("T6", "serve-last: requests that failed in 10 s", &format!("{failed} of {asked}"), "0", failed == 0);
    let refused: Vec<Duration> = refused.iter().map(|refused| refused.expect("it is refused")).collect();
    longest::<S>("T6", "refuse: first 503 (max_stale 1 s)", &refused, Duration::from_secs(2));
    store.restart();
    let began = clock::now();
    // Engines that keep nothing on a disk here have lost it.
    store.put("a", &origin.address.to_string(), 1);
    let back =
        proxies.iter().map(|proxy| wait_for("members again", || (status(proxy, "/cp") == 200).then(|| since(began))));
    longest::<S>(
        "T6",
        "refuse: served again after the store is ready",
        &back.collect::<Vec<_>>(),
        Duration::from_secs(3),
    );
}
