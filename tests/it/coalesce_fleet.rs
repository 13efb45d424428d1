//! One fetch for the askers of many proxies, by a real store: behind real caches, over deaths, and without the store. Each story is
//! told of each engine.
use crate::coalesce::{Asking, Hand, ask, got, role, until_waiting};
use crate::dashboard;
use crate::harness::http::Client;
use crate::harness::locks::LockServer;
use crate::harness::nginx::Nginx;
use crate::harness::origin::{Origin, Script};
use crate::harness::program::{Ringway, command};
use crate::harness::wait_for;
use crate::skip;
use crate::stories;
use ringway::base::clock;
use serde_json::Value;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A lease, in seconds, that a busy machine does not lose, and one that is soon over.
const LONG: u64 = 5;
const SHORT: u64 = 2;

/// How many clients each proxy has.
const CLIENTS: usize = 200;

/// `[route.coalesce]`'s lines for a fleet, and its store.
fn stored(store: &impl LockServer, lease: u64, lines: &str) -> String {
    format!("store = \"e\"\nlease = \"{lease}s\"\n{lines}\n{}", table(store, lease))
}

fn table(store: &impl LockServer, lease: u64) -> String {
    format!("[store.e]\n{}\n", store.lock_lines(store.address(), lease))
}

/// Starts a proxy and waits until its store gives locks: one that may have forgotten some does not at once.
#[track_caller]
fn start(config: &str) -> Ringway {
    let proxy = Ringway::start(config);
    until_given(&proxy);
    proxy
}

#[track_caller]
fn until_given(proxy: &Ringway) {
    wait_for("locks to be given", || {
        let metrics = proxy.metrics();
        let is_given =
            metrics.get("ringway_store_up{store=\"e\"}") == 1.0 && metrics.sum("ringway_cap_degraded") == 0.0;
        is_given.then_some(())
    });
}

/// Waits until a lease is given, and as many wait for it as proxies that are named.
#[track_caller]
fn until_asked<S: LockServer>(store: &S, waiting: &[&Ringway]) {
    wait_for("who asks at the store", || {
        // Where there is no line in the store those who wait for it are known here alone.
        let listed = if S::IS_FAIR { 1 + waiting.len() } else { 1 };
        (store.locks().len() == listed && waiting.iter().all(|proxy| waiters(proxy) == 1.0)).then_some(())
    });
}

fn waiters(proxy: &Ringway) -> f64 {
    proxy.metrics().get("ringway_lock_waiters{use=\"coalesce\"}")
}

/// As from everywhere: the fleet has one name.
fn ask_fleet(address: SocketAddr, path: String) -> JoinHandle<(u16, Duration)> {
    thread::spawn(move || {
        let began = clock::now();
        let mut client = Client::patient(address, Duration::from_secs(60));
        // A full queue of connections that wait is no story of this.
        let answer = loop {
            match client.request("GET", &path, &[("Host", "fleet.example")], None) {
                Ok(answer) => break answer,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
                Err(error) => panic!("{error}"),
            }
        };
        (answer.status, began.elapsed())
    })
}

fn eight_hundred_clients_of_four_proxies_cost_one_fetch_behind_real_caches(store: impl LockServer) {
    let origin = Origin::start("origin");
    let fetch = Duration::from_millis(500);
    let headers = vec![("Cache-Control", "max-age=3600".to_string())];
    origin.script(Script { headers, ..Script::default() });
    let caches: Option<Vec<Nginx>> = ["c1", "c2"].into_iter().map(|id| Nginx::caching(id, origin.address)).collect();
    let Some(caches) = caches else { skip!("no nginx") };
    let headers = vec![("Cache-Control", "max-age=3600".to_string())];
    origin.script(Script { headers, delay: fetch, ..Script::default() });
    let endpoints: Vec<String> =
        caches.iter().map(|cache| format!("{{ id = \"{}\", address = \"{}\" }}", cache.id, cache.address)).collect();
    // However busy the machine is, nobody gives up.
    let config = format!(
        "[[route]]\nupstream = \"u\"\nkey = [\"path\"]\ntimeout = \"5m\"\n[route.coalesce]\nwait = \"60s\"\n{}\
         [upstream.u]\nendpoints = [{}]\nconnect_timeout = \"30s\"\n",
        stored(&store, LONG, ""),
        endpoints.join(", ")
    );
    let proxies = [(); 4].map(|()| start(&config));
    let mut keys = 0;
    for key in ["/one", "/two"] {
        let asked: Vec<_> = (0..4 * CLIENTS).map(|n| ask_fleet(proxies[n % 4].address, key.to_string())).collect();
        let mut answers: Vec<(u16, Duration)> = asked.into_iter().map(|asked| asked.join().unwrap()).collect();
        assert!(answers.iter().all(|(status, _)| *status == 200));
        answers.sort_by_key(|(_, took)| *took);
        let fetched = origin.requests().iter().filter(|seen| seen.path() == key).count();
        assert_eq!(fetched, 1, "fetches of {key}; the last answer came after {:?}", answers[answers.len() - 1].1);
        keys += 1;
    }
    let roles = |name: &str| proxies.iter().map(|proxy| role(proxy, name)).sum::<f64>();
    assert_eq!(["timeout", "failed", "bypass", "unshared", "hit_for_miss"].map(roles), [0.0; 5]);
    assert_eq!(roles("filler") + roles("peer") + roles("local"), (keys * 4 * CLIENTS) as f64);
    assert!(roles("filler") >= keys as f64);
    wait_for("the store to be empty", || store.locks().is_empty().then_some(()));
    for proxy in &proxies {
        let metrics = proxy.metrics();
        assert_eq!(metrics.sum("ringway_lock_lost_total"), 0.0);
        assert!(metrics.get("ringway_lock_acquire_seconds_count{use=\"coalesce\",result=\"granted\"}") >= keys as f64);
    }
}

fn others_wait_for_the_one_that_fetches_and_ask_after_it_one_by_one(store: impl LockServer) {
    let origin = Hand::new();
    let config = origin.config(&stored(&store, LONG, ""));
    let [a, b] = [1, 2].map(|_| start(&config));
    let first = ask_fleet(a.address, "/k".into());
    let asked = origin.next();
    let others: Vec<_> = (0..5).map(|_| ask_fleet(b.address, "/k".into())).collect();
    until_asked(&store, &[&b]);
    until_waiting(&b, 4);
    origin.is_left_alone();
    // Another key is nobody's business.
    let other = ask_fleet(b.address, "/other".into());
    origin.next().answer(200, "", b"other");
    assert_eq!(other.join().unwrap().0, 200);
    asked.answer(200, "", b"one");
    assert_eq!(first.join().unwrap().0, 200);
    origin.next().answer(200, "", b"one");
    assert!(others.into_iter().all(|asked| asked.join().unwrap().0 == 200));
    origin.is_left_alone();
    assert_eq!((role(&a, "filler"), role(&b, "filler"), role(&b, "peer"), role(&b, "local")), (1.0, 1.0, 1.0, 4.0));
    wait_for("the store to be empty", || store.locks().is_empty().then_some(()));
}

fn a_proxy_that_is_killed_while_it_fetches_keeps_others_waiting_for_one_lease<S: LockServer>(store: S) {
    let origin = Hand::new();
    let config = origin.config(&stored(&store, SHORT, ""));
    let [mut a, b] = [1, 2].map(|_| start(&config));
    let lost = thread::spawn({
        let address = a.address;
        move || Client::new(address).request("GET", "/k", &[("Host", "fleet.example")], None).map(drop)
    });
    let first = origin.next();
    let others: Vec<_> = (0..5).map(|_| ask_fleet(b.address, "/k".into())).collect();
    until_asked(&store, &[&b]);
    a.signal("KILL");
    a.wait();
    let began = clock::now();
    origin.next().answer(200, "", b"k");
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5) + S::LATE, "a lease of two seconds, and one, and a busy machine: {took:?}");
    assert!(others.into_iter().all(|asked| asked.join().unwrap().0 == 200));
    origin.is_left_alone();
    drop(first);
    assert!(lost.join().unwrap().is_err());
}

fn a_fetch_that_takes_too_long_elsewhere_is_made_once_more_by_each_proxy(store: impl LockServer) {
    let origin = Hand::new();
    let config = origin.config(&stored(&store, LONG, "wait = \"3s\""));
    let [a, b] = [1, 2].map(|_| start(&config));
    let slow = ask_fleet(a.address, "/k".into());
    let first = origin.next();
    let others: Vec<_> = (0..5).map(|_| ask_fleet(b.address, "/k".into())).collect();
    until_waiting(&b, 4);
    let again = origin.next();
    // Those who wait here know that it was asked just now.
    again.answer(200, "", b"k");
    assert!(others.into_iter().all(|asked| asked.join().unwrap().0 == 200));
    assert_eq!((role(&b, "timeout"), role(&b, "local")), (1.0, 4.0));
    origin.is_left_alone();
    first.answer(200, "", b"k");
    assert_eq!(slow.join().unwrap().0, 200);
}

fn an_answer_that_is_nobody_elses_holds_up_no_other_proxy(store: impl LockServer) {
    let origin = Hand::new();
    let config = origin.config(&stored(&store, LONG, ""));
    let [a, b] = [1, 2].map(|_| start(&config));
    let first = ask_fleet(a.address, "/k".into());
    let mut asked = origin.next();
    let second = ask_fleet(b.address, "/k".into());
    until_asked(&store, &[&b]);
    // The head alone says so; its body may take its time.
    asked.send(b"HTTP/1.1 200 X\r\nCache-Control: private\r\nContent-Length: 1\r\nConnection: close\r\n\r\n");
    origin.next().answer(200, "Cache-Control: private\r\n", b"b");
    assert_eq!(second.join().unwrap().0, 200);
    asked.send(b"a");
    assert_eq!(first.join().unwrap().0, 200);
}

fn whoever_leaves_while_other_proxies_fetch_leaves_nothing_in_the_store(store: impl LockServer) {
    let origin = Hand::new();
    let config = origin.config(&stored(&store, LONG, ""));
    let [a, b] = [1, 2].map(|_| start(&config));
    let first = ask_fleet(a.address, "/k".into());
    let asked = origin.next();
    let mut leaver = Client::new(b.address);
    leaver.send(b"GET /k HTTP/1.1\r\nHost: fleet.example\r\n\r\n").unwrap();
    until_asked(&store, &[&b]);
    drop(leaver);
    until_asked(&store, &[]);
    assert_eq!(waiters(&b), 0.0);
    asked.answer(200, "", b"k");
    assert_eq!(first.join().unwrap().0, 200);
    wait_for("the store to be empty", || store.locks().is_empty().then_some(()));
    origin.is_left_alone();
}

fn what_a_cache_says_it_has_is_asked_for_without_a_lease(store: impl LockServer) {
    let origin = Hand::new();
    let proxy = start(&origin.config(&stored(&store, LONG, "")));
    let leases = || proxy.metrics().get("ringway_lock_acquire_seconds_count{use=\"coalesce\",result=\"granted\"}");
    let answered = |path: &str, fields: &str| {
        let asking = ask(&proxy, path);
        origin.next().answer(200, fields, b"x");
        assert_eq!(got(asking).status, 200);
        leases()
    };
    let lasting = "Age: 5\r\nCache-Control: max-age=3600\r\n";
    assert_eq!([1, 2, 3].map(|_| answered("/a", lasting)), [1.0; 3], "the cache has it");
    assert_eq!(answered("/b", lasting), 2.0, "another one");
    assert_eq!([1, 2].map(|_| answered("/c", "Cache-Control: max-age=3600\r\n")), [3.0, 4.0], "no cache said so");
    let purging = thread::spawn({
        let address = proxy.address;
        move || Client::new(address).request("PURGE", "/a", &[], None).unwrap().status
    });
    origin.next().answer(200, "", b"");
    assert_eq!(purging.join().unwrap(), 200);
    assert_eq!(answered("/a", lasting), 5.0, "it was told to forget");
    let asking = thread::spawn({
        let address = proxy.address;
        move || Client::new(address).request("GET", "/b", &[("Cache-Control", "no-cache")], None).unwrap().status
    });
    origin.next().answer(200, lasting, b"x");
    assert_eq!((asking.join().unwrap(), leases()), (200, 6.0), "a client wants it anew");
}

fn without_its_store_a_fleet_coalesces_by_proxy_or_refuses_and_says_so(mut store: impl LockServer) {
    let origin = Hand::new();
    let lines = |mode: &str| format!("store = \"e\"\nlease = \"2s\"\non_store_loss = \"{mode}\"\n");
    let refusing = format!(
        "[[route]]\npath_prefix = \"/refuse\"\nupstream = \"u\"\n[route.coalesce]\n{}{}",
        lines("refuse"),
        origin.config(&format!("{}{}", lines("local"), table(&store, SHORT)))
    );
    let proxy = start(&refusing);
    let asking = ask(&proxy, "/refuse/a");
    origin.next().answer(200, "", b"a");
    assert_eq!(got(asking).status, 200);
    assert_eq!(proxy.metrics().sum("ringway_cap_degraded"), 0.0);
    // One that waits for its answer has it, whatever becomes of the store.
    let waits = ask(&proxy, "/a");
    let asked = origin.next();
    store.kill();
    wait_for("the loss", || (proxy.metrics().sum("ringway_cap_degraded") == 2.0).then_some(()));
    asked.answer(200, "", b"a");
    assert_eq!(got(waits).status, 200);
    let refused = got(ask(&proxy, "/refuse/a"));
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert!(refused.text().starts_with("store_lost:"), "{}", refused.text());
    let asking: Vec<Asking> = (0..3).map(|_| ask(&proxy, "/b")).collect();
    let asked = origin.next();
    until_waiting(&proxy, 2);
    asked.answer(200, "", b"b");
    assert!(asking.into_iter().all(|asking| got(asking).status == 200));
    origin.is_left_alone();
    let metrics = proxy.metrics();
    for mode in ["local", "refuse"] {
        assert_eq!(metrics.get(&format!("ringway_cap_degraded{{use=\"coalesce\",mode=\"{mode}\"}}")), 1.0);
    }
    assert_eq!((role(&proxy, "refused"), metrics.get("ringway_store_up{store=\"e\"}")), (1.0, 0.0));
    let status: Value = serde_json::from_str(proxy.admin_get("/api/v1/status").unwrap().text()).unwrap();
    assert_eq!(
        (&status["coalesce"][0]["degraded"], &status["coalesce"][1]["degraded"]),
        (&"refuse".into(), &"local".into())
    );
    let told = command(&["status", "--admin", &format!("http://{}", proxy.admin)]);
    let told = String::from_utf8(told.stdout).unwrap();
    for line in ["REQUESTS ARE REFUSED", "each proxy asks for its own"] {
        assert!(told.contains(line), "{told}");
    }
    let lines = [
        "Route /refuse: store e is lost, requests are refused.",
        "Route /: store e is lost, each proxy asks for its own.",
    ];
    dashboard::tells(&proxy, &lines);
    store.restart();
    wait_for("the store", || (proxy.metrics().sum("ringway_cap_degraded") == 0.0).then_some(()));
    let asking = ask(&proxy, "/refuse/a");
    origin.next().answer(200, "", b"a");
    assert_eq!(got(asking).status, 200);
}

stories! {
    eight_hundred_clients_of_four_proxies_cost_one_fetch_behind_real_caches
    others_wait_for_the_one_that_fetches_and_ask_after_it_one_by_one
    a_proxy_that_is_killed_while_it_fetches_keeps_others_waiting_for_one_lease
    a_fetch_that_takes_too_long_elsewhere_is_made_once_more_by_each_proxy
    an_answer_that_is_nobody_elses_holds_up_no_other_proxy
    whoever_leaves_while_other_proxies_fetch_leaves_nothing_in_the_store
    what_a_cache_says_it_has_is_asked_for_without_a_lease
    without_its_store_a_fleet_coalesces_by_proxy_or_refuses_and_says_so
}
