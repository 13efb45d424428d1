//! Members in real stores: told at once, kept while the store is gone, registered by `ringway register`. Each story is told of
//! each engine.
use crate::dashboard;
use crate::harness::origin::Origin;
use crate::harness::program::{Ringway, program};
use crate::harness::store::{KINDS_OF_GARBAGE, RING, Server};
use crate::harness::{free_address, wait_for};
use crate::hashing::BY_PATH;
use crate::members::{members, upstream_status, wait_for_members};
use crate::stories;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

/// A proxy's configuration with this store.
pub fn config(store: &impl Server, discovery: &str) -> String {
    config_of(store, &[store.address()], "", discovery)
}

pub fn config_of(store: &impl Server, servers: &[SocketAddr], more: &str, discovery: &str) -> String {
    format!(
        "{BY_PATH}[store.s]\n{}\n{more}\n[upstream.{RING}.discovery]\nprovider = \"store\"\nstore = \"s\"\n\
         allow = [\"127.0.0.0/8\"]\n{discovery}\n",
        store.lines(servers)
    )
}

fn put(store: &impl Server, origin: &Origin) {
    store.put(&origin.id, &origin.address.to_string(), 1);
}

fn store_is_up(ringway: &Ringway) -> bool {
    upstream_status(ringway)["discovery"]["store"]["up"] == true
}

#[track_caller]
fn wait_for_problem(ringway: &Ringway, part: &str) {
    wait_for(&format!("the problem {part:?}"), || {
        upstream_status(ringway)["discovery"]["problem"].as_str()?.contains(part).then_some(())
    });
}

/// Every request has an answer.
#[track_caller]
fn serves(ringway: &Ringway) {
    let mut client = ringway.client();
    (0..20).for_each(|n| assert_eq!(client.get(&format!("/{n}")).unwrap().status, 200));
}

fn members_are_there_from_the_first_request_and_changes_are_told(store: impl Server) {
    let [a, b, c] = ["a", "b", "c"].map(Origin::start);
    put(&store, &a);
    store.put("b", &b.address.to_string(), 2);
    let ringway = Ringway::start(&config(&store, "settle = \"0s\""));
    assert_eq!(members(&ringway), ["a", "b"]);
    assert_eq!(upstream_status(&ringway)["endpoints"][1]["weight"], 2);
    put(&store, &c);
    wait_for_members(&ringway, &["a", "b", "c"]);
    let mut client = ringway.client();
    (0..40).for_each(|n| assert_eq!(client.get(&format!("/{n}")).unwrap().status, 200));
    assert!(!c.requests().is_empty());
    store.delete("a");
    wait_for_members(&ringway, &["b", "c"]);
    for kind in 0..KINDS_OF_GARBAGE {
        store.put_garbage(kind);
        wait_for_problem(&ringway, "1 left out: endpoint z");
        assert_eq!(members(&ringway), ["b", "c"]);
    }
    let metrics = ringway.metrics();
    assert_eq!(metrics.get("ringway_store_up{store=\"s\"}"), 1.0);
    assert!(metrics.get("ringway_store_rtt_seconds_count{store=\"s\",op=\"list\"}") >= 3.0);
    assert_eq!(state(&ringway), ["up"]);
    assert_eq!(metrics.sum("ringway_cap_degraded"), 0.0);
}

fn after_two_hundred_changes_the_ring_is_what_the_store_has(store: impl Server) {
    let ringway = Ringway::spawn(&config(&store, "settle = \"0s\"\nmin_members = 0")).until_alive();
    let mut expected = BTreeMap::new();
    for n in 0..200u32 {
        let id = format!("m{}", n * 7 % 23);
        if n % 3 == 2 && expected.remove(&id).is_some() {
            store.delete(&id);
        } else {
            store.put(&id, &format!("10.0.0.{}:80", n + 1), n % 4 + 1);
            expected.insert(id, format!("10.0.0.{}:80", n + 1));
        }
    }
    let found = || {
        let status = upstream_status(&ringway);
        let text = |endpoint: &serde_json::Value, name: &str| endpoint[name].as_str().unwrap().to_string();
        let endpoints = status["endpoints"].as_array().unwrap().iter();
        endpoints.map(|endpoint| (text(endpoint, "id"), text(endpoint, "address"))).collect::<BTreeMap<_, _>>()
    };
    wait_for("the store's own list", || (found() == expected).then_some(()));
}

fn five_hundred_that_join_at_once_are_a_few_swaps(store: impl Server) {
    let ringway = Ringway::spawn(&config(&store, "")).until_alive();
    wait_for("the store", || store_is_up(&ringway).then_some(()));
    let before = ringway.generation();
    let member = |n: usize| (format!("m{n}"), format!("10.1.{}.{}:80", n / 250, n % 250 + 1));
    store.put_many(&(0..500).map(member).collect::<Vec<_>>());
    let mut count = 0;
    while count < 500 {
        count = wait_for("more of them", || Some(members(&ringway).len()).filter(|more| *more > count));
    }
    assert!(ringway.generation() - before <= 20, "{} swaps", ringway.generation() - before);
}

/// How it stands with the store.
fn state(ringway: &Ringway) -> Vec<&'static str> {
    let metrics = ringway.metrics();
    let is = |state: &&str| metrics.get(&format!("ringway_store_state{{store=\"s\",state=\"{state}\"}}")) == 1.0;
    ["up", "settling", "suspect", "lost"].into_iter().filter(is).collect()
}

fn while_the_store_is_gone_the_last_members_serve_and_an_empty_one_takes_none<S: Server>(mut store: S) {
    let [a, b] = ["a", "b"].map(Origin::start);
    [&a, &b].into_iter().for_each(|origin| put(&store, origin));
    let ringway = Ringway::start(&config(&store, ""));
    wait_for_members(&ringway, &["a", "b"]);
    store.kill();
    wait_for("the loss", || (!store_is_up(&ringway)).then_some(()));
    serves(&ringway);
    let metrics = ringway.metrics();
    assert_eq!(metrics.get("ringway_store_up{store=\"s\"}"), 0.0);
    assert_eq!(state(&ringway), ["lost"]);
    assert_eq!(metrics.get("ringway_cap_degraded{use=\"discovery\",mode=\"serve-last\"}"), 1.0);
    dashboard::tells(&ringway, &["Upstream u: store s is lost, the last members serve."]);
    assert_eq!(ringway.admin_get("/readyz").unwrap().status, 200);
    store.lose_data();
    store.restart();
    wait_for("the store", || store_is_up(&ringway).then_some(()));
    wait_for_problem(&ringway, "min_members");
    assert_eq!(members(&ringway), ["a", "b"]);
    serves(&ringway);
    put(&store, &a);
    wait_for("its first member", || (upstream_status(&ringway)["discovery"]["waiting_to_go"] == 1).then_some(()));
    assert_eq!(members(&ringway), ["a", "b"], "after a loss nobody goes at once");
    assert_eq!(state(&ringway), ["settling"]);
    // Its revisions tell; other stores number nothing that never goes back.
    let lives = if S::NUMBERS_ITS_DATA { 1.0 } else { 0.0 };
    assert_eq!(ringway.metrics().get("ringway_store_incarnations_total{store=\"s\"}"), lives);
}

fn a_store_that_is_stopped_is_noticed_and_serves_again_when_it_goes_on(mut store: impl Server) {
    let [a, b] = ["a", "b"].map(Origin::start);
    put(&store, &a);
    let ringway = Ringway::start(&config(&store, ""));
    wait_for_members(&ringway, &["a"]);
    store.process().signal("STOP");
    wait_for("the loss", || (!store_is_up(&ringway)).then_some(()));
    serves(&ringway);
    store.process().signal("CONT");
    wait_for("the store", || store_is_up(&ringway).then_some(()));
    put(&store, &b);
    wait_for_members(&ringway, &["a", "b"]);
    assert!(ringway.metrics().get("ringway_store_reconnects_total{store=\"s\"}") >= 1.0);
}

fn the_last_list_on_disk_serves_a_start_without_the_store(mut store: impl Server) {
    let [a, b] = ["a", "b"].map(Origin::start);
    put(&store, &a);
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("members.json");
    let config = config(&store, &format!("snapshot = \"{}\"", kept.display()));
    let first = Ringway::start(&config);
    wait_for("the list on disk", || kept.exists().then_some(()));
    drop(first);
    store.kill();
    let ringway = Ringway::start(&config);
    assert_eq!(members(&ringway), ["a"]);
    serves(&ringway);
    store.restart();
    wait_for("the store", || store_is_up(&ringway).then_some(()));
    put(&store, &b);
    wait_for_members(&ringway, &["a", "b"]);
}

fn requests_are_refused_while_the_store_is_lost_where_that_is_wanted(mut store: impl Server) {
    let a = Origin::start("a");
    put(&store, &a);
    let ringway = Ringway::start(&config(&store, "on_store_loss = \"refuse\"\nmax_stale = \"300ms\""));
    let status = || ringway.client().get("/k").unwrap().status;
    assert_eq!(status(), 200);
    store.kill();
    wait_for("the refusal", || (status() == 503).then_some(()));
    let refused = ringway.client().get("/k").unwrap();
    assert!(refused.text().contains("store_lost") && refused.header("retry-after").is_some(), "{}", refused.text());
    assert_eq!(ringway.metrics().get("ringway_cap_degraded{use=\"discovery\",mode=\"refuse\"}"), 1.0);
    assert_eq!(upstream_status(&ringway)["discovery"]["refuses"], true);
    dashboard::tells(&ringway, &["Upstream u: store s is lost, requests are refused."]);
    store.restart();
    put(&store, &a);
    wait_for("service again", || (status() == 200).then_some(()));
}

/// `ringway register`, killed at the end of the test.
pub struct Registered(pub Child);

impl Registered {
    pub fn start(ringway: &Ringway, origin: &Origin) -> Self {
        Self::start_as(ringway, "s", RING, origin)
    }

    pub fn start_as(ringway: &Ringway, store: &str, upstream: &str, origin: &Origin) -> Self {
        let mut command = Command::new(program());
        command.args(["register", "--store", store, "--upstream", upstream, "--id", &origin.id]);
        command.args(["--address", &origin.address.to_string(), "-c"]).arg(ringway.config_path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.0.kill().unwrap_or_default();
        self.0.wait().map(drop).unwrap_or_default();
    }
}

fn a_registration_lasts_as_long_as_its_program(mut store: impl Server) {
    let [a, b, c] = ["a", "b", "c"].map(Origin::start);
    put(&store, &a);
    let ringway = Ringway::start(&config(&store, "settle = \"0s\""));
    let mut told = Registered::start(&ringway, &b);
    let killed = Registered::start(&ringway, &c);
    wait_for_members(&ringway, &["a", "b", "c"]);
    let pid = told.0.id();
    assert!(Command::new("sh").args(["-c", &format!("kill -TERM {pid}")]).status().unwrap().success());
    assert!(wait_for("its end", || told.0.try_wait().unwrap()).success());
    assert!(!store.has("b"), "taken back before it ended");
    wait_for_members(&ringway, &["a", "c"]);
    // All its data lost, it is registered anew.
    store.lose_data();
    store.restart();
    wait_for("the registration", || store.has("c").then_some(()));
    drop(killed);
    wait_for("the end of its lease", || (!store.has("c")).then_some(()));
}

fn a_dead_server_is_passed_over_and_a_wrong_word_is_told<S: Server>(mut store: S) {
    let a = Origin::start("a");
    store.demand("right", (&a.id, &a.address.to_string()));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("word");
    std::fs::write(&file, S::word("wrong")).unwrap();
    let servers = [free_address(), store.address()];
    let servers = if S::TAKES_SEVERAL { &servers[..] } else { &servers[1..] };
    let ringway = Ringway::spawn(&config_of(&store, servers, &store.login(&file), "")).until_alive();
    wait_for_problem(&ringway, S::REFUSAL);
    assert_eq!(ringway.client().get("/k").unwrap().status, 503);
    std::fs::write(&file, S::word("right")).unwrap();
    wait_for_members(&ringway, &["a"]);
    assert_eq!(ringway.client().get("/k").unwrap().status, 200);
}

stories! {
    members_are_there_from_the_first_request_and_changes_are_told
    after_two_hundred_changes_the_ring_is_what_the_store_has
    five_hundred_that_join_at_once_are_a_few_swaps
    while_the_store_is_gone_the_last_members_serve_and_an_empty_one_takes_none
    a_store_that_is_stopped_is_noticed_and_serves_again_when_it_goes_on
    the_last_list_on_disk_serves_a_start_without_the_store
    requests_are_refused_while_the_store_is_lost_where_that_is_wanted
    a_registration_lasts_as_long_as_its_program
    a_dead_server_is_passed_over_and_a_wrong_word_is_told
}
