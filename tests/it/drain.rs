//! Drains: an endpoint finishes what it has and gets nothing new.
use crate::harness::origin::{Cut, Origin, Script};
use crate::harness::program::{Ringway, command};
use crate::harness::wait_for;
use crate::hashing::{BY_PATH, fleet, upstream};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `ringway drain` or `undrain` of a proxy, with further arguments.
fn order(ringway: &Ringway, order: &str, arguments: &[&str]) -> Output {
    let admin = format!("http://{}", ringway.admin);
    command(&[&[order, "--admin", &admin], arguments].concat())
}

fn state(ringway: &Ringway, id: &str) -> String {
    let status: serde_json::Value = serde_json::from_str(ringway.admin_get("/api/v1/status").unwrap().text()).unwrap();
    let all = status["upstreams"][0]["endpoints"].as_array().unwrap();
    all.iter().find(|endpoint| endpoint["id"] == id).unwrap()["state"].as_str().unwrap().to_string()
}

/// A path whose key this endpoint owns.
fn path_of(ringway: &Ringway, id: &str) -> String {
    let owned_by = |path: &String| ringway.client().get(path).unwrap().header("x-origin") == Some(id);
    (0..).map(|number| format!("/{number}")).find(owned_by).unwrap()
}

#[test]
fn a_drained_endpoint_gets_nothing_new_until_it_is_taken_back() {
    let (origins, both) = fleet(&["a", "b"]);
    let ringway = Ringway::start(&format!("{BY_PATH}{both}"));
    let path = path_of(&ringway, "a");
    let generation = ringway.generation();
    let drained = order(&ringway, "drain", &["a"]);
    assert_eq!(text(&drained.stdout), "u/a is draining, 0 in flight\n", "{}", text(&drained.stderr));
    assert_eq!(drained.status.code(), Some(0));
    let before = origins[0].requests().len();
    for number in 0..50 {
        assert_eq!(ringway.client().get(&format!("/{number}")).unwrap().header("x-origin"), Some("b"));
    }
    assert_eq!(origins[0].requests().len(), before);
    assert_eq!(state(&ringway, "a"), "draining");
    assert_eq!(ringway.metrics().sum_of("ringway_endpoint_up", &[("endpoint", "a")]), 0.0);
    let explained = ringway.admin_get(&format!("/api/v1/explain?url={path}")).unwrap();
    assert!(explained.text().contains("\"skipped\": \"draining: an operator sent it away\""), "{}", explained.text());
    let shown = command(&["status", "--admin", &format!("http://{}", ringway.admin)]);
    assert!(text(&shown.stdout).contains("draining"), "{}", text(&shown.stdout));
    wait_for("its idle connections to close", || (origins[0].open_connections() == 0).then_some(()));
    assert_eq!(text(&order(&ringway, "drain", &["u/a"]).stdout), "u/a is draining already, 0 in flight\n");
    assert_eq!(text(&order(&ringway, "undrain", &["a"]).stdout), "u/a is up, 0 in flight\n");
    assert_eq!(ringway.client().get(&path).unwrap().header("x-origin"), Some("a"), "its keys come home");
    assert_eq!(ringway.generation(), generation, "a drain is no new generation");
}

#[test]
fn a_connection_that_comes_back_from_a_draining_endpoint_is_not_kept() {
    let (origins, both) = fleet(&["a", "b"]);
    let ringway = Ringway::start(&format!("{BY_PATH}{both}"));
    let path = path_of(&ringway, "a");
    let before = origins[0].requests().len();
    origins[0].script(Script { delay: Duration::from_millis(1500), ..Script::default() });
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| ringway.client().get(&path).unwrap());
        origins[0].wait_for_requests(before + 1);
        order(&ringway, "drain", &["a"]);
        assert_eq!(slow.join().unwrap().header("x-origin"), Some("a"), "it finishes what it has");
    });
    wait_for("its connections to close", || (origins[0].open_connections() == 0).then_some(()));
}

#[test]
fn wait_ends_when_nothing_is_on_its_way() {
    let (origins, both) = fleet(&["a", "b"]);
    let ringway = Ringway::start(&format!("{BY_PATH}{both}"));
    let path = path_of(&ringway, "a");
    let before = origins[0].requests().len();
    origins[0].script(Script { cut: Some((0, Cut::Stall)), ..Script::default() });
    std::thread::scope(|scope| {
        let hanging = scope.spawn(|| ringway.client().get(&path));
        origins[0].wait_for_requests(before + 1);
        let too_short = order(&ringway, "drain", &["a", "--wait", "--timeout", "300ms"]);
        assert_eq!(too_short.status.code(), Some(1));
        assert!(text(&too_short.stderr).contains("u/a still has 1 in flight"), "{}", text(&too_short.stderr));
        let program = std::env::var("RINGWAY_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_ringway").into());
        let mut waiting = Command::new(program)
            .args(["drain", "u/a", "--wait", "--admin", &format!("http://{}", ringway.admin)])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        assert!(waiting.try_wait().unwrap().is_none(), "it waits");
        // The request ends: its endpoint is gone, and before it the one that would have been asked next.
        origins.into_iter().rev().for_each(|mut origin| origin.stop());
        assert_eq!(hanging.join().unwrap().unwrap().status, 502);
        let output = waiting.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(
            text(&output.stdout).ends_with("u/a is drained: nothing is on its way there\n"),
            "{}",
            text(&output.stdout)
        );
    });
}

#[test]
fn a_drain_survives_reloads_while_its_id_stays() {
    let (origins, both) = fleet(&["a", "b"]);
    let ringway = Ringway::start(&format!("{BY_PATH}{both}"));
    order(&ringway, "drain", &["a"]);
    ringway.rewrite_config(&format!("{BY_PATH}{both}# changed\n"));
    assert_eq!(state(&ringway, "a"), "draining");
    let moved = Origin::start("a");
    ringway.rewrite_config(&format!("{BY_PATH}{}", upstream(&[&moved, &origins[1]])));
    assert_eq!(state(&ringway, "a"), "draining", "another address is the same endpoint");
    ringway.rewrite_config(&format!("{BY_PATH}{}", upstream(&[&origins[1]])));
    ringway.rewrite_config(&format!("{BY_PATH}{both}"));
    assert_eq!(state(&ringway, "a"), "up", "who was gone comes back as new");
}

#[test]
fn a_panic_does_not_ask_who_is_draining() {
    let (origins, both) = fleet(&["a", "b"]);
    let check = "[upstream.u.health_check]\ninterval = \"20ms\"\n";
    let ringway = Ringway::start(&format!("{BY_PATH}{both}{check}"));
    order(&ringway, "drain", &["a"]);
    origins[1].script(Script { status: 500, ..Script::default() });
    wait_for("b to be down", || (state(&ringway, "b") == "down").then_some(()));
    for number in 0..20 {
        let answer = ringway.client().get(&format!("/{number}")).unwrap();
        assert_eq!((answer.status, answer.header("x-origin")), (500, Some("b")));
    }
    let last = order(&ringway, "drain", &["b"]);
    assert!(text(&last.stderr).contains("upstream u has no available endpoint"), "{}", text(&last.stderr));
    assert_eq!(ringway.client().get("/").unwrap().status, 503, "nobody is left");
    assert_eq!(ringway.admin_get("/readyz").unwrap().status, 503);
}

#[test]
fn an_endpoint_that_is_not_there_or_not_one_is_told() {
    let origins = fleet(&["a", "dc/b:1"]).0;
    let [u, v] = ["u", "v"]
        .map(|name| upstream(&origins.iter().collect::<Vec<_>>()).replace("upstream.u", &format!("upstream.{name}")));
    let other = "[[route]]\nupstream = \"v\"\npath_prefix = \"/v\"\nkey = [\"path\"]\n";
    let ringway = Ringway::start(&format!("{BY_PATH}{other}{u}{v}"));
    let none = order(&ringway, "drain", &["c"]);
    assert_eq!(none.status.code(), Some(2));
    assert!(text(&none.stderr).contains("there is no endpoint c"), "{}", text(&none.stderr));
    let several = order(&ringway, "drain", &["a"]);
    assert_eq!(several.status.code(), Some(2));
    assert!(text(&several.stderr).contains("write one of u/a, v/a"), "{}", text(&several.stderr));
    let slash = order(&ringway, "drain", &["v/dc/b:1"]);
    assert_eq!(text(&slash.stdout), "v/dc/b:1 is draining, 0 in flight\n", "{}", text(&slash.stderr));
    assert_eq!(order(&ringway, "drain", &["a", "--wait", "--timeout", "soon"]).status.code(), Some(2));
    let post = |path: &str| ringway.admin_post(path, "").unwrap().status;
    assert_eq!(post("/api/v1/upstreams/u/endpoints/a/drain"), 200);
    assert_eq!(post("/api/v1/upstreams/u/endpoints/nobody/drain"), 404);
    assert_eq!(post("/api/v1/upstreams/nothing/endpoints/a/drain"), 404);
    assert_eq!(ringway.admin_get("/api/v1/upstreams/u/endpoints/a/drain").unwrap().status, 405);
}
