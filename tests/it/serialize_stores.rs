//! Requests that take turns over two proxies, by a real store: one at a time, tokens that rise, and what happens without it. Each
//! story is told of each engine.
use crate::dashboard;
use crate::harness::http::{Client, Response};
use crate::harness::locks::LockServer;
use crate::harness::origin::{Body, Cut, Framing, Origin, Script};
use crate::harness::program::{Ringway, command};
use crate::harness::register::Register;
use crate::harness::wait_for;
use crate::hashing::upstream;
use crate::serialize::{check_tokens, post_all};
use crate::stories;
use ringway::base::clock;
use serde_json::Value;
use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A lease, in seconds, that a busy machine does not lose.
const LONG: u64 = 5;
/// A lease that is soon lost.
const SHORT: u64 = 2;

/// A route for each pair of a path and settings.
pub fn config(store: &impl LockServer, upstream: &str, lease: u64, routes: &[(&str, &str)]) -> String {
    config_at(store, store.address(), upstream, lease, routes)
}

/// The same, with the store at another address.
pub fn config_at(
    store: &impl LockServer,
    address: SocketAddr,
    upstream: &str,
    lease: u64,
    routes: &[(&str, &str)],
) -> String {
    let route = |(path, settings): &(&str, &str)| {
        format!(
            "[[route]]\npath_prefix = \"{path}\"\nupstream = \"u\"\nkey = [\"path\"]\n\
             [route.serialize]\nstore = \"e\"\nlease = \"{lease}s\"\n{settings}\n"
        )
    };
    let routes: String = routes.iter().map(route).collect();
    format!("{routes}[store.e]\n{}\n{upstream}", store.lock_lines(address, lease))
}

/// Starts a proxy and waits until its store gives locks: one that may have forgotten some does not at once.
#[track_caller]
pub fn start_on(config: &str) -> Ringway {
    let ringway = Ringway::start(config);
    wait_for("locks to be given", || {
        (ringway.admin_get("/metrics").ok()?.text().contains("ringway_store_up{store=\"e\"} 1\n") && !is_lost(&ringway))
            .then_some(())
    });
    ringway
}

#[track_caller]
fn start(store: &impl LockServer, register: &Register, lease: u64, settings: &str) -> Ringway {
    start_on(&config(store, &register.upstream(), lease, &[("/", settings)]))
}

pub fn post_later(address: SocketAddr, path: &str) -> JoinHandle<Response> {
    let path = path.to_string();
    thread::spawn(move || Client::patient(address, Duration::from_secs(40)).post(&path, b"").unwrap())
}

fn turns(ringway: &Ringway) -> Value {
    let status: Value = serde_json::from_str(ringway.admin_get("/api/v1/status").unwrap().text()).unwrap();
    status["serialize"].clone()
}

pub fn is_lost(ringway: &Ringway) -> bool {
    turns(ringway)[0]["degraded"].is_string()
}

pub fn word(response: &Response) -> (u16, String, Option<&str>) {
    let word = response.text().split(':').next().unwrap_or_default().to_string();
    (response.status, word, response.header("retry-after"))
}

fn a_count_over_two_proxies_is_exact_and_nothing_is_left_behind(store: impl LockServer) {
    let register = Register::start(Duration::from_millis(1));
    let [mut a, b] = [1, 2].map(|_| start(&store, &register, LONG, "wait = \"30s\""));
    let posting = [&a, &b].map(|ringway| {
        let address = ringway.address;
        thread::spawn(move || post_all(address, "/n", 3, 20))
    });
    assert!(posting.into_iter().all(|posting| posting.join().unwrap().is_empty()));
    let entry = register.at("/n");
    assert_eq!((entry.value, entry.most), (120, 1));
    check_tokens(&entry.writes);
    wait_for("the store to be empty", || store.locks().is_empty().then_some(()));
    for metrics in [a.metrics(), b.metrics()] {
        assert_eq!(metrics.get("ringway_lock_acquire_seconds_count{use=\"serialize\",result=\"granted\"}"), 60.0);
        assert_eq!((metrics.sum("ringway_lock_lost_total"), metrics.sum("ringway_cap_degraded")), (0.0, 0.0));
        assert_eq!(metrics.get("ringway_store_up{store=\"e\"}"), 1.0);
    }
    // Nor by one that ends right after its last answer.
    assert_eq!(a.client().post("/n", b"").unwrap().status, 200);
    assert!(a.stop().success());
    assert_eq!(store.locks(), [""; 0]);
}

fn proxies_have_their_turns_in_the_order_they_asked<S: LockServer>(store: S) {
    if !S::IS_FAIR {
        return;
    }
    let register = Register::start(Duration::ZERO);
    let [a, b] = [1, 2].map(|_| start(&store, &register, LONG, "wait = \"30s\""));
    let held = register.hold();
    let first = post_later(a.address, "/k");
    wait_for("the holder", || (register.now("/k") == 1).then_some(()));
    let second = post_later(b.address, "/k");
    wait_for("who waits at the store", || (store.locks().len() == 2).then_some(()));
    let third = post_later(a.address, "/k");
    wait_for("who waits behind", || (waiting(&a) == 1.0).then_some(()));
    drop(held);
    let statuses = [first, second, third].map(|asked| asked.join().unwrap().status);
    assert_eq!(statuses, [200; 3]);
    let seen = register.at("/k");
    assert_eq!(seen.hosts, [&a, &b, &a].map(|ringway| ringway.address.to_string()));
    check_tokens(&seen.writes);
}

fn waiting(ringway: &Ringway) -> f64 {
    ringway.metrics().sum("ringway_serialize_queue_depth")
}

/// Longest time until a lock of a holder that died or slept is somebody else's, and a second for a busy machine.
fn outlasting<S: LockServer>() -> Duration {
    Duration::from_secs(SHORT) + S::LATE + Duration::from_secs(1)
}

fn the_lock_of_a_killed_proxy_passes_on_and_its_late_write_is_refused<S: LockServer>(store: S) {
    let register = Register::start(Duration::ZERO);
    let [mut a, b] = [1, 2].map(|_| start(&store, &register, SHORT, ""));
    let held = register.hold();
    let asked = post_later_unheard(a.address, "/n");
    wait_for("the holder", || (register.now("/n") == 1).then_some(()));
    register.hold_no_more();
    a.signal("KILL");
    a.wait();
    let began = clock::now();
    assert_eq!(b.client().post("/n", b"").unwrap().status, 200);
    let took = began.elapsed();
    assert!(took < outlasting::<S>(), "{took:?}");
    drop(held);
    wait_for("the late write", || (register.now("/n") == 0).then_some(()));
    let writes = register.at("/n").writes;
    assert_eq!(writes.iter().map(|(_, is_let)| *is_let).collect::<Vec<_>>(), [true, false]);
    assert!(writes[1].0 < writes[0].0 && register.at("/n").value == 1);
    asked.join().unwrap();
}

fn a_proxy_that_slept_through_its_lease_knows_when_it_wakes<S: LockServer>(store: S) {
    let register = Register::start(Duration::ZERO);
    let [a, b] = [1, 2].map(|_| start(&store, &register, SHORT, ""));
    let held = register.hold();
    let asked = post_later(a.address, "/n");
    wait_for("the holder", || (register.now("/n") == 1).then_some(()));
    register.hold_no_more();
    a.signal("STOP");
    assert_eq!(b.client().post("/n", b"").unwrap().status, 200);
    a.signal("CONT");
    assert_eq!(word(&asked.join().unwrap()).1, "lease_lost");
    drop(held);
    wait_for("the late write", || (register.now("/n") == 0).then_some(()));
    let writes = register.at("/n").writes;
    assert_eq!(writes.iter().map(|(_, is_let)| *is_let).collect::<Vec<_>>(), [true, false]);
    // It has another lease by now, or soon.
    wait_for("its next turn", || (a.client().post("/n", b"").unwrap().status == 200).then_some(()));
    assert_eq!(register.at("/n").value, 2);
}

/// A POST whose answer may never come.
fn post_later_unheard(address: SocketAddr, path: &str) -> JoinHandle<()> {
    let path = path.to_string();
    thread::spawn(move || Client::new(address).post(&path, b"").map(drop).unwrap_or_default())
}

fn without_its_store_a_route_does_as_it_is_told_and_says_so(mut store: impl LockServer) {
    let register = Register::start(Duration::ZERO);
    let modes = ["refuse", "local", "bypass"];
    let settings = modes.map(|mode| (format!("/{mode}"), format!("on_store_loss = \"{mode}\"")));
    let routes: Vec<(&str, &str)> = settings.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let ringway = start_on(&config(&store, &register.upstream(), SHORT, &routes));
    let post = |path: &str| ringway.client().post(path, b"").unwrap();
    modes.iter().for_each(|mode| assert_eq!(post(&format!("/{mode}")).status, 200));
    assert_eq!(ringway.metrics().sum("ringway_cap_degraded"), 0.0);
    store.kill();
    wait_for("the loss", || is_lost(&ringway).then_some(()));
    assert_eq!(word(&post("/refuse")), (503, "store_lost".into(), Some("1")));
    for (mode, most) in [("local", 1), ("bypass", 2)] {
        let (path, held) = (format!("/{mode}/x"), register.hold());
        let asked = [post_later(ringway.address, &path), post_later(ringway.address, &path)];
        wait_for("both", || (register.now(&path) == most && waiting(&ringway) == 2.0 - most as f64).then_some(()));
        drop(held);
        assert!(asked.into_iter().all(|asked| asked.join().unwrap().status == 200));
        let entry = register.at(&path);
        assert_eq!((entry.most, &entry.told), (most, &None), "{mode}");
        assert!(entry.writes.iter().all(|(token, _)| token.is_empty()));
    }
    let metrics = ringway.metrics();
    for mode in modes {
        assert_eq!(metrics.get(&format!("ringway_cap_degraded{{use=\"serialize\",mode=\"{mode}\"}}")), 1.0);
        let told = turns(&ringway);
        assert!(told.as_array().unwrap().iter().any(|route| route["degraded"] == mode), "{told}");
    }
    assert_eq!(metrics.get("ringway_store_up{store=\"e\"}"), 0.0);
    assert_eq!(metrics.get("ringway_store_state{store=\"e\",state=\"lost\"}"), 1.0);
    let told = command(&["status", "--admin", &format!("http://{}", ringway.admin)]);
    let told = String::from_utf8(told.stdout).unwrap();
    for line in ["REQUESTS ARE REFUSED", "within this proxy, without tokens", "REQUESTS PASS WITHOUT TURNS"] {
        assert!(told.contains(line), "{told}");
    }
    let lines = [
        "Route /refuse: store e is lost, requests are refused.",
        "Route /local: store e is lost, requests take turns within this proxy, without tokens.",
        "Route /bypass: store e is lost, requests pass without turns.",
    ];
    dashboard::tells(&ringway, &lines);
    register.hold_no_more();
    store.restart();
    wait_for("turns by the store", || (post("/refuse").status == 200).then_some(()));
    assert_eq!(ringway.metrics().sum("ringway_cap_degraded"), 0.0);
    check_tokens(&register.at("/refuse").writes);
}

fn when_a_lease_is_lost_its_request_ends_or_goes_on_as_told(mut store: impl LockServer) {
    let register = Register::start(Duration::ZERO);
    let held = register.hold();
    let routes = [("/abort", ""), ("/finish", "on_lease_lost = \"finish\"")];
    let ringway = start_on(&config(&store, &register.upstream(), SHORT, &routes));
    let [aborts, finishes] = ["/abort", "/finish"].map(|path| post_later(ringway.address, path));
    wait_for("both", || (register.now("/abort") + register.now("/finish") == 2).then_some(()));
    store.kill();
    assert_eq!(word(&aborts.join().unwrap()), (503, "lease_lost".into(), Some("1")));
    assert_eq!(register.now("/abort"), 1, "it was told before the upstream answered");
    drop(held);
    assert_eq!(finishes.join().unwrap().status, 200);
    wait_for("the count", || (ringway.metrics().sum("ringway_lock_lost_total") == 2.0).then_some(()));
}

fn a_response_under_way_breaks_off_with_its_lease_whoever_took_it<S: LockServer>(store: S) {
    let origin = Origin::start("a");
    let ringway = start_on(&config(&store, &upstream(&[&origin]), SHORT, &[("/", "")]));
    let cut = Some((200, Cut::Stall));
    let endless = Script { framing: Framing::Chunked(5), body: Body::Bytes(500), cut, ..Script::default() };
    for number in 0..S::WAYS {
        origin.script(endless.clone());
        let address = ringway.address;
        let asked = thread::spawn(move || Client::new(address).post("/k", b"").map(drop));
        origin.wait_for_requests(2 * number + 1);
        store.take(&store.locks()[0], number);
        assert!(asked.join().unwrap().is_err(), "the client must not take it for a whole response");
        wait_for("the count", || {
            let lost = ringway.metrics().get("ringway_lock_lost_total{use=\"serialize\",reason=\"session\"}");
            (lost == number as f64 + 1.0).then_some(())
        });
        origin.script(Script::default());
        assert_eq!(ringway.client().post("/k", b"").unwrap().status, 200);
    }
}

fn a_store_that_slept_leaves_no_ghosts_and_one_that_lost_its_data_gives_higher_tokens(mut store: impl LockServer) {
    let register = Register::start(Duration::ZERO);
    let [a, b] = [1, 2].map(|_| start(&store, &register, SHORT, ""));
    [&a, &b].iter().for_each(|ringway| assert_eq!(ringway.client().post("/n", b"").unwrap().status, 200));
    store.set_asleep(true);
    let refused = [&a, &b].map(|ringway| post_later(ringway.address, "/n"));
    for refused in refused {
        assert_eq!(word(&refused.join().unwrap()).1, "store_lost");
    }
    store.set_asleep(false);
    let began = clock::now();
    for ringway in [&a, &b] {
        wait_for("a turn", || (ringway.client().post("/n", b"").unwrap().status == 200).then_some(()));
    }
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    wait_for("the store to be empty", || store.locks().is_empty().then_some(()));
    store.lose_data();
    store.restart();
    for ringway in [&a, &b] {
        wait_for("a turn", || (ringway.client().post("/n", b"").unwrap().status == 200).then_some(()));
    }
    let entry = register.at("/n");
    assert_eq!((entry.value, entry.most), (6, 1));
    check_tokens(&entry.writes);
    let metrics = a.metrics();
    assert_eq!(metrics.get("ringway_store_incarnations_total{store=\"e\"}"), 1.0);
    assert_eq!(metrics.get("ringway_store_state{store=\"e\",state=\"up\"}"), 1.0);
    for op in ["ping", "acquire", "release"] {
        let name = format!("ringway_store_rtt_seconds_count{{store=\"e\",op=\"{op}\"}}");
        assert!(metrics.get(&name) >= 3.0, "{op}");
    }
}

stories! {
    a_count_over_two_proxies_is_exact_and_nothing_is_left_behind
    proxies_have_their_turns_in_the_order_they_asked
    the_lock_of_a_killed_proxy_passes_on_and_its_late_write_is_refused
    a_proxy_that_slept_through_its_lease_knows_when_it_wakes
    without_its_store_a_route_does_as_it_is_told_and_says_so
    when_a_lease_is_lost_its_request_ends_or_goes_on_as_told
    a_response_under_way_breaks_off_with_its_lease_whoever_took_it
    a_store_that_slept_leaves_no_ghosts_and_one_that_lost_its_data_gives_higher_tokens
}
