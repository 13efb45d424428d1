//! Passive ejection, its growth, panic.
use crate::harness::origin::Script;
use crate::harness::program::Ringway;
use crate::harness::wait_for;
use crate::hashing::{BY_PATH, fleet};

fn up(ringway: &Ringway, id: &str) -> f64 {
    ringway.metrics().sum_of("ringway_endpoint_up", &[("endpoint", id)])
}

#[test]
fn an_endpoint_that_fails_is_left_out_and_comes_back() {
    let (origins, upstream) = fleet(&["a", "b", "c"]);
    let outlier = "[upstream.u.outlier]\neject_for = \"300ms\"\n";
    let ringway = Ringway::start(&format!("{BY_PATH}{upstream}{outlier}"));
    let mut client = ringway.client();
    let owner = client.get("/k").unwrap().header("x-origin").unwrap().to_string();
    let failing = origins.iter().find(|origin| origin.id == owner).unwrap();
    failing.script(Script { status: 503, ..Script::default() });
    for _ in 0..5 {
        assert_eq!(client.get("/k").unwrap().status, 503, "503 is not tried again unless listed");
    }
    wait_for("the ejection", || (up(&ringway, &owner) == 0.0).then_some(()));
    let other = client.get("/k").unwrap();
    assert_eq!(other.status, 200);
    assert_ne!(other.header("x-origin"), Some(owner.as_str()));
    let generation = ringway.generation();
    failing.script(Script::default());
    wait_for("its return", || (up(&ringway, &owner) == 1.0).then_some(()));
    assert_eq!(client.get("/k").unwrap().header("x-origin"), Some(owner.as_str()), "its keys come home");
    assert_eq!(ringway.metrics().sum_of("ringway_ejections_total", &[("endpoint", &owner)]), 1.0);
    assert_eq!(ringway.generation(), generation, "a verdict is no new generation");
}

#[test]
fn not_more_than_a_share_is_left_out() {
    let (origins, upstream) = fleet(&["a", "b"]);
    let ringway = Ringway::start(&format!("{BY_PATH}{upstream}"));
    for origin in &origins {
        origin.script(Script { status: 503, ..Script::default() });
    }
    let mut client = ringway.client();
    for number in 0..60 {
        client.get(&format!("/{number}")).unwrap();
    }
    wait_for("one ejection", || {
        let metrics = ringway.metrics();
        (metrics.sum("ringway_ejections_total") >= 1.0 && metrics.sum("ringway_endpoint_up") == 1.0).then_some(())
    });
    assert_eq!(client.get("/x").unwrap().status, 503, "the last one is asked whatever it says");
}

#[test]
fn a_share_of_failures_ejects_although_none_follow_each_other() {
    let (origins, upstream) = fleet(&["a", "b"]);
    let outlier = "[upstream.u.outlier]\nfailure_share = \"50%\"\nconsecutive_failures = 1000\n";
    let ringway = Ringway::start(&format!("{BY_PATH}{upstream}{outlier}"));
    let mut client = ringway.client();
    let owner = client.get("/k").unwrap().header("x-origin").unwrap().to_string();
    let failing = origins.iter().find(|origin| origin.id == owner).unwrap();
    for number in 0..16 {
        let status = if number % 4 == 0 { 200 } else { 503 };
        failing.script(Script { status, ..Script::default() });
        client.get("/k").unwrap();
    }
    // So far fewer than twenty exchanges: no share is worth a verdict.
    assert_eq!(ringway.metrics().sum("ringway_ejections_total"), 0.0);
    for _ in 0..8 {
        client.get("/k").unwrap();
    }
    wait_for("the ejection", || (up(&ringway, &owner) == 0.0).then_some(()));
}
