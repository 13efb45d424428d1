//! Proxies that tell each other through a real store who owns what. Each story is told of each engine.
use crate::harness::program::{Ringway, command};
use crate::harness::redis::Redis;
use crate::harness::store::{BoardServer, Server};
use crate::harness::wait_for;
use crate::hashing::{BY_PATH, fleet as origins, upstream};
use crate::members::upstream_status;
use crate::skip;
use crate::stores::Registered;
use crate::stories;
use ringway::base::clock;
use serde_json::{Value, json};

fn config(store: &impl BoardServer, name: &str, upstream: &str) -> String {
    let store = format!("[store.e]\n{}\n", store.lines(&[store.address()]));
    format!("{BY_PATH}{upstream}{store}[fleet]\nstore = \"e\"\nname = \"{name}\"\npeers_ttl = \"30s\"\n")
}

fn told(ringway: &Ringway) -> Value {
    serde_json::from_str(ringway.admin_get("/api/v1/fleet").unwrap().text()).unwrap()
}

/// How many peers there are, and how many of them agree.
fn counts(ringway: &Ringway) -> (usize, u64) {
    let told = told(ringway);
    (told["peers"].as_array().unwrap().len(), told["agreeing"].as_u64().unwrap())
}

#[track_caller]
fn wait_for_counts(ringway: &Ringway, expected: (usize, u64)) {
    wait_for(&format!("{expected:?} peers that agree"), || (counts(ringway) == expected).then_some(()));
}

fn proxies_find_each_other_and_tell_who_disagrees_in_what(store: impl BoardServer) {
    let (_origins, same) = origins(&["a", "b", "c"]);
    let start = |name: &str| Ringway::start(&config(&store, name, &same));
    let proxies = ["p1", "p2", "p3"].map(start);
    for proxy in &proxies {
        wait_for_counts(proxy, (2, 2));
    }
    let heavy = same.replace("id = \"b\"", "id = \"b\", weight = 3");
    proxies[2].rewrite_config(&config(&store, "p3", &heavy));
    wait_for_counts(&proxies[0], (2, 1));
    wait_for_counts(&proxies[2], (2, 0));
    let other =
        told(&proxies[0])["peers"].as_array().unwrap().iter().find(|peer| peer["name"] == "p3").unwrap().clone();
    assert_eq!(
        (&other["agrees"], &other["differs"]),
        (&false.into(), &json!(["upstream u: b weighs 3 there, 1 here"]))
    );
    assert!(other["generation"] == 2 && other["rings"]["u"] != told(&proxies[0])["rings"]["u"], "{other}");
    wait_for("the time of disagreement", || {
        let metrics = proxies[0].metrics();
        let counts = (metrics.get("ringway_fleet_peers"), metrics.get("ringway_fleet_peers_agreeing"));
        (metrics.get("ringway_fleet_disagreement_seconds") > 0.0 && counts == (2.0, 1.0)).then_some(())
    });
    let shown = command(&["status", "--admin", &format!("http://{}", proxies[0].admin)]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("fleet  p1 and 2 peers by store e, 1 of them agree"), "{shown}");
    assert!(shown.contains("DISAGREES") && shown.contains("    upstream u: b weighs 3 there, 1 here"), "{shown}");
    assert!(proxies[0].stderr().contains("A peer disagrees on who owns what"));

    proxies[2].rewrite_config(&config(&store, "p3", &same));
    wait_for_counts(&proxies[0], (2, 2));
    assert_eq!(proxies[0].metrics().get("ringway_fleet_disagreement_seconds"), 0.0);
    assert_eq!(proxies[0].metrics().get("ringway_store_up{store=\"e\"}"), 1.0);
    assert!(proxies[0].stderr().contains("All peers agree again"));
}

fn who_ends_is_no_peer_at_once_and_who_is_killed_in_a_while(store: impl BoardServer) {
    let (_origins, same) = origins(&["a"]);
    // One name for all: they are told apart all the same. Only the last is to be missed soon; the first does not look by itself
    // for longer than anything here takes.
    let config = |ttl: &str| config(&store, "edge", &same).replace("30s", ttl);
    let mut proxies = ["10m", "10m", "1s"].map(|ttl| Ringway::start(&config(ttl)));
    wait_for_counts(&proxies[0], (2, 2));
    assert!(proxies[1].stop().success());
    let instance = told(&proxies[0])["instance"].as_str().unwrap().to_string();
    let prefix = instance.rsplit_once('-').unwrap().0;
    assert!(prefix.ends_with(&proxies[0].pid().to_string()), "{instance}");
    wait_for_counts(&proxies[0], (1, 1));
    proxies[2].signal("KILL");
    wait_for_counts(&proxies[0], (0, 0));
}

fn a_store_that_is_gone_changes_nothing_but_what_is_known(mut store: impl BoardServer) {
    let (_origins, same) = origins(&["a", "b"]);
    let start = |name: &str| Ringway::start(&config(&store, name, &same).replace("30s", "3s"));
    let proxies = ["p1", "p2"].map(start);
    wait_for_counts(&proxies[0], (1, 1));
    store.kill();
    wait_for("the loss", || (told(&proxies[0])["store"]["up"] == false).then_some(()));
    wait_for_counts(&proxies[0], (0, 0));
    assert!(told(&proxies[0])["problem"].is_string());
    assert_eq!(proxies[0].client().get("/k").unwrap().status, 200);
    assert_eq!(proxies[0].metrics().get("ringway_store_up{store=\"e\"}"), 0.0);
    store.lose_data();
    store.restart();
    proxies.iter().for_each(|proxy| wait_for_counts(proxy, (1, 1)));
    store.post("x", "nonsense");
    wait_for("the problem", || told(&proxies[0])["problem"].as_str()?.contains("cannot be read: x").then_some(()));
    assert_eq!(counts(&proxies[0]), (1, 1));
}

fn clocks_are_compared_over_the_store(store: impl BoardServer) {
    let (_origins, same) = origins(&["a"]);
    // Notices come each third of it: on a busy machine the first ones may cross.
    let often = |name| config(&store, name, &same).replace("30s", "3s");
    let proxies = ["p1", "p2"].map(|name| Ringway::start(&often(name)));
    for proxy in &proxies {
        let peer = wait_for("both to have heard of each other", || {
            told(proxy)["peers"].as_array()?.iter().find(|peer| peer["clock_ahead_ms"].is_i64()).cloned()
        });
        let [ahead, error] = ["clock_ahead_ms", "clock_error_ms"].map(|name| peer[name].as_i64().unwrap());
        assert!(ahead.abs() <= error, "one machine has one clock: {peer}");
    }
    // A peer whose clock is an hour ahead.
    let instance = told(&proxies[0])["instance"].as_str().unwrap().to_string();
    let hour = 3_600_000;
    let ahead = json!({
        "name": "late", "version": "0", "generation": 1, "rings": {},
        "at": clock::since_epoch().as_millis() as u64 + hour, "delays": { instance: hour + 1 },
    });
    store.post("late", &ahead.to_string());
    let skew = wait_for("its clock", || {
        let peers = told(&proxies[0])["peers"].clone();
        peers.as_array()?.iter().find(|peer| peer["name"] == "late")?["clock_ahead_ms"].as_i64()
    });
    assert!((skew - hour as i64).abs() < 10_000, "{skew}");
    assert!(proxies[0].metrics().get("ringway_fleet_clock_skew_seconds") > 3_590.0);
}

fn a_reload_joins_and_leaves(store: impl BoardServer) {
    let (origins, same) = origins(&["a"]);
    let first = Ringway::start(&config(&store, "p1", &same));
    let second = Ringway::start(&format!("{BY_PATH}{}", upstream(&[&origins[0]])));
    assert_eq!(second.admin_get("/api/v1/fleet").unwrap().status, 404);
    assert!(second.metrics().sum("ringway_fleet_peers") == 0.0 && counts(&first) == (0, 0));
    second.rewrite_config(&config(&store, "p2", &same));
    wait_for_counts(&first, (1, 1));
    wait_for_counts(&second, (1, 1));
    second.rewrite_config(&format!("{BY_PATH}{same}"));
    wait_for_counts(&first, (0, 0));
    second.rewrite_config(&config(&store, "p2", &same).replace("store = \"e\"", "store = \"f\""));
    assert!(second.stderr().contains("there is no [store.f]"), "{}", second.stderr());
}

fn keys_go_over_in_step_on_a_proxy_that_changes_later(store: impl BoardServer) {
    let (origins, three) = origins(&["a", "b", "c"]);
    let two = upstream(&[&origins[0], &origins[1]]);
    let ramp = "[upstream.u.transition]\nramp = \"40s\"\n";
    let proxies = ["p1", "p2"].map(|name| Ringway::start(&config(&store, name, &format!("{two}{ramp}"))));
    for proxy in &proxies {
        wait_for("its peer's clock", || told(proxy)["peers"][0]["clock_ahead_ms"].is_i64().then_some(()));
    }
    let progress = |proxy: &Ringway| -> Option<f64> {
        let status: Value = serde_json::from_str(proxy.admin_get("/api/v1/status").unwrap().text()).unwrap();
        status["upstreams"][0]["endpoints"].as_array()?.iter().find(|endpoint| endpoint["id"] == "c")?["ramp"].as_f64()
    };
    proxies[0].rewrite_config(&config(&store, "p1", &format!("{three}{ramp}")));
    wait_for("a part of the way", || (progress(&proxies[0])? > 0.1).then_some(()));
    proxies[1].rewrite_config(&config(&store, "p2", &format!("{three}{ramp}")));
    wait_for("both to be as far", || {
        let (first, second, again) = (progress(&proxies[0])?, progress(&proxies[1])?, progress(&proxies[0])?);
        // It was asked between the two: a clock's error is some milliseconds of forty seconds.
        (first - 0.01..again + 0.01).contains(&second).then_some(())
    });
    assert!(proxies[1].stderr().contains("in step with a proxy that began before"), "{}", proxies[1].stderr());
    assert!(!proxies[0].stderr().contains("in step with"), "the first waits for nobody");
}

/// The README's own example, with free ports in place of its.
#[test]
fn the_example_of_the_readme_works() {
    let Some(redis) = Redis::start() else { skip!("no redis") };
    let (origins, _) = origins(&["c1", "c2"]);
    let text = include_str!("../../config/fleet.toml").replace("127.0.0.1:6379", &redis.address.to_string());
    let text = text.replace("127.0.0.1:8080", "LISTEN").replace("127.0.0.1:9900", "ADMIN");
    let proxies = [1, 2].map(|_| Ringway::spawn(&text).until_alive());
    let _registered: Vec<Registered> =
        origins.iter().map(|origin| Registered::start_as(&proxies[0], "redis1", "app", origin)).collect();
    for proxy in &proxies {
        wait_for_counts(proxy, (1, 1));
        wait_for("both members", || (upstream_status(proxy)["endpoints"].as_array()?.len() == 2).then_some(()));
        wait_for("readiness", || (proxy.admin_get("/readyz").ok()?.status == 200).then_some(()));
    }
    let owner = |proxy: &Ringway| proxy.client().get("/a").unwrap().header("x-origin").map(str::to_string);
    assert_eq!(owner(&proxies[0]), owner(&proxies[1]));
    for proxy in &proxies {
        wait_for("a turn", || (proxy.client().post("/accounts/7", b"").unwrap().status == 200).then_some(()));
    }
    wait_for("one that is elected", || {
        let job = "ringway_leader{job=\"health_check/app\"}";
        (proxies.iter().map(|proxy| proxy.metrics().get(job)).sum::<f64>() == 1.0).then_some(())
    });
}

stories! {
    proxies_find_each_other_and_tell_who_disagrees_in_what
    who_ends_is_no_peer_at_once_and_who_is_killed_in_a_while
    a_store_that_is_gone_changes_nothing_but_what_is_known
    clocks_are_compared_over_the_store
    a_reload_joins_and_leaves
    keys_go_over_in_step_on_a_proxy_that_changes_later
}
