//! Keys go over to new owners one by one, in one order, each once.
use crate::harness::origin::Script;
use crate::harness::program::{Ringway, command};
use crate::harness::wait_for;
use crate::hashing::{BY_PATH, fleet, upstream};
use serde_json::Value;

const KEYS: usize = 60;

fn owners(ringway: &Ringway) -> Vec<String> {
    let mut client = ringway.client();
    let mut ask = |key: usize| client.get(&format!("/{key}")).unwrap().header("x-origin").unwrap().to_string();
    (0..KEYS).map(&mut ask).collect()
}

fn ramp(length: &str) -> String {
    format!("transition = {{ ramp = \"{length}\" }}\n")
}

fn status_of(ringway: &Ringway, id: &str) -> Value {
    let status: Value = serde_json::from_str(ringway.admin_get("/api/v1/status").unwrap().text()).unwrap();
    let endpoints = status["upstreams"][0]["endpoints"].as_array().unwrap().clone();
    endpoints.into_iter().find(|endpoint| endpoint["id"] == id).unwrap()
}

#[test]
fn an_endpoint_that_joins_takes_its_keys_one_by_one() {
    let (origins, two) = fleet(&["a", "b"]);
    let (more, _) = fleet(&["c"]);
    let three = upstream(&origins.iter().chain(&more).collect::<Vec<_>>());
    let ringway = Ringway::start(&format!("{BY_PATH}{two}{}", ramp("2s")));
    let before = owners(&ringway);
    ringway.rewrite_config(&format!("{BY_PATH}{three}{}", ramp("2s")));
    let mut last = before.clone();
    wait_for("the end of the ramp", || {
        let now = owners(&ringway);
        for (key, (now, last)) in now.iter().zip(&last).enumerate() {
            assert!(now == last || now == "c" && *last == before[key], "{key}: {last} -> {now}");
        }
        last = now;
        status_of(&ringway, "c")["ramp"].is_null().then_some(())
    });
    let plain = Ringway::start(&format!("{BY_PATH}{three}"));
    assert_eq!(owners(&ringway), owners(&plain), "in the end it is as if it had always been there");
    assert_eq!(ringway.metrics().sum("ringway_transition_progress"), 0.0);
}

#[test]
fn a_ramp_that_has_just_begun_is_told_and_can_be_turned_round() {
    let (origins, two) = fleet(&["a", "b"]);
    let (more, _) = fleet(&["c"]);
    let three = upstream(&origins.iter().chain(&more).collect::<Vec<_>>());
    let ringway = Ringway::start(&format!("{BY_PATH}{two}{}", ramp("1h")));
    let before = owners(&ringway);
    ringway.rewrite_config(&format!("{BY_PATH}{three}{}", ramp("1h")));
    // In an hour's first seconds hardly a key is over.
    let moved = |now: &[String]| now.iter().zip(&before).filter(|(now, before)| now != before).count();
    assert!(moved(&owners(&ringway)) <= 2);
    assert!(status_of(&ringway, "c")["ramp"].as_f64().unwrap() < 0.1);
    let metrics = ringway.metrics();
    assert!(metrics.get("ringway_transition_progress{endpoint=\"c\",upstream=\"u\"}") < 0.1);
    let key = (0..KEYS).find(|key| {
        let told = ringway.admin_get(&format!("/api/v1/explain?url=/{key}")).unwrap();
        told.text().contains("in a gradual change")
    });
    assert!(key.is_some(), "explain says why c is passed over");
    // Without a ramp in the file the change is made at once.
    ringway.rewrite_config(&format!("{BY_PATH}{three}{}", ramp("0s")));
    assert!(moved(&owners(&ringway)) > 5 && status_of(&ringway, "c")["ramp"].is_null());
}

#[test]
fn a_drain_hands_over_key_by_key_and_waits_until_all_are() {
    let (_origins, upstream) = fleet(&["a", "b", "c"]);
    let ringway = Ringway::start(&format!("{BY_PATH}{upstream}{}", ramp("1s")));
    let before = owners(&ringway);
    let admin = format!("http://{}", ringway.admin);
    let drained = command(&["drain", "u/c", "--wait", "--admin", &admin]);
    assert_eq!(drained.status.code(), Some(0), "{}", String::from_utf8_lossy(&drained.stderr));
    assert!(status_of(&ringway, "c")["ramp"].is_null() && status_of(&ringway, "c")["state"] == "draining");
    let after = owners(&ringway);
    for (before, after) in before.iter().zip(&after) {
        assert!(after != "c" && (before == after || before == "c"));
    }
    command(&["undrain", "u/c", "--admin", &admin]);
    wait_for("all keys to be back", || (owners(&ringway) == before).then_some(()));
}

#[test]
fn weights_go_up_and_down_gradually() {
    let (_origins, upstream) = fleet(&["a", "b"]);
    let heavy = upstream.replacen("\" }, ", "\", weight = 5 }, ", 1);
    let config = |upstream: &str, length: &str| format!("{BY_PATH}{upstream}{}", ramp(length));
    let ringway = Ringway::start(&config(&upstream, "1h"));
    let before = owners(&ringway);
    ringway.rewrite_config(&config(&heavy, "1h"));
    let moved = |now: &[String], then: &[String]| now.iter().zip(then).filter(|(now, then)| now != then).count();
    assert!(moved(&owners(&ringway), &before) <= 2, "up: hardly begun");
    ringway.rewrite_config(&config(&heavy, "0s"));
    let heavy_owners = owners(&ringway);
    assert!(moved(&heavy_owners, &before) > 5);
    ringway.rewrite_config(&config(&heavy, "1h"));
    ringway.rewrite_config(&config(&upstream, "1h"));
    assert!(moved(&owners(&ringway), &heavy_owners) <= 2, "down: hardly begun");
}

#[test]
fn who_was_started_anew_comes_back_gradually_and_who_was_only_ill_at_once() {
    let (mut origins, upstream) = fleet(&["a", "b", "c"]);
    let check = "[upstream.u.health_check]\ninterval = \"20ms\"\n";
    let ringway = Ringway::start(&format!("{BY_PATH}{upstream}{}{check}", ramp("1h")));
    let before = owners(&ringway);
    let is = |state: &'static str| status_of(&ringway, "c")["state"] == state;
    origins[2].script(Script { status: 500, ..Script::default() });
    wait_for("c to be down", || is("down").then_some(()));
    origins[2].script(Script::default());
    wait_for("c to be up", || is("up").then_some(()));
    assert!(status_of(&ringway, "c")["ramp"].is_null());
    assert_eq!(owners(&ringway), before, "it has what it had");
    origins[2].stop();
    let refused =
        || status_of(&ringway, "c")["last_check"]["problem"].as_str().is_some_and(|it| it.contains("connect"));
    wait_for("c to be refused", || (is("down") && refused()).then_some(()));
    origins[2].restart();
    wait_for("c to be up again", || is("up").then_some(()));
    assert!(status_of(&ringway, "c")["ramp"].as_f64().is_some_and(|share| share < 0.1));
    let has = owners(&ringway).iter().filter(|owner| *owner == "c").count();
    assert!(has <= 2, "{has} keys at once");
}
