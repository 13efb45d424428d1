//! What is tried again, where, and what never is.
use crate::harness::origin::{Cut, Origin, Script};
use crate::harness::program::Ringway;
use crate::harness::wait_for;
use crate::hashing::{BY_PATH, fleet, upstream};
use ringway::base::clock;
use std::time::Duration;

fn owner_of<'a>(origins: &'a mut [Origin], ringway: &Ringway, path: &str) -> &'a mut Origin {
    let served = ringway.client().get(path).unwrap().header("x-origin").unwrap().to_string();
    origins.iter_mut().find(|origin| origin.id == served).unwrap()
}

#[test]
fn a_dead_owner_costs_nobody_an_error() {
    let (mut origins, upstream) = fleet(&["a", "b", "c"]);
    let ringway = Ringway::start(&format!("{BY_PATH}{upstream}"));
    let owner = owner_of(&mut origins, &ringway, "/k");
    owner.stop();
    let mut client = ringway.client();
    for _ in 0..20 {
        assert_eq!(client.get("/k").unwrap().status, 200);
        assert_eq!(client.post("/k", b"x").unwrap().status, 200, "nothing was sent to the dead one");
    }
    let metrics = ringway.metrics();
    assert!(metrics.sum_of("ringway_retries_total", &[("reason", "connect")]) >= 1.0);
    assert_eq!(metrics.sum("ringway_retry_budget_exhausted_total"), 0.0, "moving on costs no budget");
    owner.restart();
}

#[test]
fn a_stale_connection_repeats_a_get_and_never_a_post() {
    let origin = Origin::start("a");
    let ringway = Ringway::start(&format!("[[listener]]\naddress = \"LISTEN\"\n{BY_PATH}{}", upstream(&[&origin])));
    let mut client = ringway.client();
    // The origin takes the next request on the kept connection and closes without a byte.
    for (method, expected) in [("GET", 200), ("POST", 502)] {
        origin.script(Script::default());
        assert_eq!(client.get("/warm").unwrap().status, 200);
        let before = origin.requests().len();
        origin.script(Script { cut: Some((0, Cut::Close)), delay: Duration::from_millis(100), ..Script::default() });
        let body = (method == "POST").then_some(&b"once"[..]);
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| client.request(method, "/stale", &[], body).unwrap().status);
            origin.wait_for_requests(before + 1);
            // The repeat, if there is one, finds an origin that answers.
            origin.script(Script::default());
            assert_eq!(asked.join().unwrap(), expected, "{method}");
        });
        let sent =
            origin.requests().iter().filter(|seen| seen.line.starts_with(method) && seen.path() == "/stale").count();
        assert_eq!(sent, if method == "GET" { 2 } else { 1 }, "{method}");
    }
    assert_eq!(ringway.metrics().sum("ringway_retries_total"), 0.0, "a repeat on a fresh connection is no retry");
}

#[test]
fn a_502_is_asked_again_elsewhere_and_a_post_is_not() {
    let (mut origins, upstream) = fleet(&["a", "b", "c"]);
    let ringway = Ringway::start(&format!("{BY_PATH}{upstream}"));
    let owner = owner_of(&mut origins, &ringway, "/k");
    owner.script(Script { status: 502, ..Script::default() });
    let mut client = ringway.client();
    let moved = client.get("/k").unwrap();
    assert_eq!(moved.status, 200);
    assert_ne!(moved.header("x-origin"), Some(owner.id.as_str()));
    assert_eq!(
        client.request("PUT", "/k", &[], Some(b"body")).unwrap().status,
        200,
        "idempotent, and its body was kept"
    );
    assert_eq!(client.post("/k", b"body").unwrap().status, 502, "passed on as it is");
    assert_eq!(ringway.metrics().sum_of("ringway_retries_total", &[("reason", "502")]), 2.0);
}

#[test]
fn a_body_too_large_to_keep_is_not_sent_twice() {
    let (mut origins, upstream) = fleet(&["a", "b"]);
    let ringway = Ringway::start(&format!("{BY_PATH}{upstream}"));
    let owner = owner_of(&mut origins, &ringway, "/k");
    owner.script(Script { status: 502, ..Script::default() });
    let status = ringway.client().request("PUT", "/k", &[], Some(&vec![b'x'; 17 << 10])).unwrap().status;
    assert_eq!(status, 502);
}

#[test]
fn the_budget_ends_a_storm() {
    let (origins, upstream) = fleet(&["a", "b", "c", "d"]);
    let ringway = Ringway::start(&format!("{BY_PATH}{upstream}\n[upstream.u.outlier]\nmax_ejected = \"0%\"\n"));
    for origin in &origins {
        origin.script(Script { status: 502, ..Script::default() });
    }
    let mut client = ringway.client();
    for number in 0..50 {
        assert_eq!(client.get(&format!("/{number}")).unwrap().status, 502);
    }
    let metrics = ringway.metrics();
    let retries = metrics.sum("ringway_retries_total");
    assert!((10.0..=20.0).contains(&retries), "{retries} retries for 50 requests");
    assert!(metrics.sum("ringway_retry_budget_exhausted_total") > 0.0);
}

#[test]
fn an_origin_that_is_silent_too_long_is_a_504() {
    let origin = Origin::start("a");
    let route = "[[route]]\nupstream = \"u\"\nkey = [\"path\"]\ntimeout = \"200ms\"\n";
    let ringway = Ringway::start(&format!("{route}{}", upstream(&[&origin])));
    origin.script(Script { cut: Some((0, Cut::Stall)), ..Script::default() });
    let mut client = ringway.client();
    assert_eq!(client.get("/").unwrap().status, 504);
    origin.script(Script::default());
    assert_eq!(client.get("/").unwrap().status, 200, "the client's connection goes on");
}

#[test]
fn attempts_zero_means_one() {
    let (mut origins, upstream) = fleet(&["a", "b"]);
    let route = "[[route]]\nupstream = \"u\"\nkey = [\"path\"]\nretry = { attempts = 0 }\n";
    let ringway = Ringway::start(&format!("{route}{upstream}"));
    owner_of(&mut origins, &ringway, "/k").stop();
    // The kept connection is dead; the fresh one is refused.
    assert_eq!(ringway.client().get("/k").unwrap().status, 502);
}

#[test]
fn a_retry_waits_as_long_as_it_is_told() {
    let (mut origins, upstream) = fleet(&["a", "b", "c"]);
    let pausing = "[route.retry]\nbackoff = \"400ms\"\n";
    let ringway = Ringway::start(&format!("{BY_PATH}{pausing}{upstream}"));
    let owner = owner_of(&mut origins, &ringway, "/k");
    owner.script(Script { status: 502, ..Script::default() });
    let asked = clock::now();
    assert_eq!(ringway.client().get("/k").unwrap().status, 200);
    assert!(asked.elapsed() >= Duration::from_millis(200), "half of it at least: {:?}", asked.elapsed());
    owner.stop();
    let metrics = ringway.metrics();
    assert_eq!(metrics.sum_of("ringway_retries_total", &[("reason", "502")]), 1.0);
    wait_for("the end of both", || (ringway.metrics().sum("ringway_endpoint_in_flight") == 0.0).then_some(()));
}
