//! Members in a real etcd: told at once, kept while it is gone, registered by `ringway register`.
use crate::harness::etcd::Etcd;
use crate::harness::origin::Origin;
use crate::harness::program::{Ringway, program};
use crate::harness::{free_address, wait_for};
use crate::hashing::BY_PATH;
use crate::members::{members, upstream_status, wait_for_members};
use crate::skip;
use serde_json::json;
use std::process::{Child, Command, Stdio};

fn config(servers: &[std::net::SocketAddr], store: &str, discovery: &str) -> String {
    let servers: Vec<String> = servers.iter().map(|server| format!("\"http://{server}\"")).collect();
    format!(
        "{BY_PATH}[store.e]\nengine = \"etcd\"\nendpoints = [{}]\nlease_ttl = \"1s\"\n{store}\n\
         [upstream.u.discovery]\nprovider = \"store\"\nstore = \"e\"\nallow = [\"127.0.0.0/8\"]\n{discovery}\n",
        servers.join(", ")
    )
}

fn put(etcd: &Etcd, origin: &Origin) {
    etcd.put(&format!("/ringway/rings/u/{}", origin.id), &origin.address.to_string());
}

fn store_is_up(ringway: &Ringway) -> bool {
    upstream_status(ringway)["discovery"]["store"]["up"] == true
}

#[test]
fn members_are_there_from_the_first_request_and_changes_are_told() {
    let Some(etcd) = Etcd::start() else { skip!("no etcd") };
    let [a, b, c] = ["a", "b", "c"].map(Origin::start);
    put(&etcd, &a);
    etcd.put("/ringway/rings/u/b", &json!({ "addr": b.address.to_string(), "weight": 2, "zone": "z" }).to_string());
    etcd.put("/ringway/rings/other/x", "10.0.0.1:80");
    let ringway = Ringway::start(&config(&[etcd.address], "", ""));
    assert_eq!(members(&ringway), ["a", "b"]);
    assert_eq!(upstream_status(&ringway)["endpoints"][1]["weight"], 2);
    put(&etcd, &c);
    wait_for_members(&ringway, &["a", "b", "c"]);
    let mut client = ringway.client();
    (0..40).for_each(|n| assert_eq!(client.get(&format!("/{n}")).unwrap().status, 200));
    assert!(!c.requests().is_empty());
    etcd.delete("/ringway/rings/u/a");
    wait_for_members(&ringway, &["b", "c"]);
    for garbage in ["no address", "{\"addr\":", "169.254.169.254:80"] {
        etcd.put("/ringway/rings/u/z", garbage);
        wait_for("the problem", || {
            upstream_status(&ringway)["discovery"]["problem"].as_str()?.contains("1 left out: endpoint z").then_some(())
        });
        assert_eq!(members(&ringway), ["b", "c"]);
    }
    let metrics = ringway.metrics();
    assert_eq!(metrics.get("ringway_store_up{store=\"e\"}"), 1.0);
    assert!(metrics.get("ringway_store_rtt_seconds_count{store=\"e\"}") >= 3.0);
    assert_eq!(metrics.sum("ringway_cap_degraded"), 0.0);
}

#[test]
fn five_hundred_that_join_at_once_are_a_few_swaps() {
    let Some(etcd) = Etcd::start() else { skip!("no etcd") };
    let ringway = Ringway::spawn(&config(&[etcd.address], "", "")).until_alive();
    wait_for("the store", || store_is_up(&ringway).then_some(()));
    let before = ringway.generation();
    for some in 0..10 {
        let put = |n: usize| json!({ "request_put": { "key": key(n), "value": BASE64.encode(format!("10.1.{}.{}:80", n / 250, n % 250 + 1)) } });
        // One transaction holds 128 operations at most.
        let operations: Vec<_> = (some * 50..some * 50 + 50).map(put).collect();
        etcd.call("/v3/kv/txn", &json!({ "success": operations }));
    }
    wait_for("all of them", || (members(&ringway).len() == 500).then_some(()));
    assert!(ringway.generation() - before <= 20, "{} swaps", ringway.generation() - before);
}

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;

fn key(n: usize) -> String {
    BASE64.encode(format!("/ringway/rings/u/m{n}"))
}

#[test]
fn while_the_store_is_gone_the_last_members_serve_and_an_empty_one_takes_none() {
    let Some(mut etcd) = Etcd::start() else { skip!("no etcd") };
    let [a, b] = ["a", "b"].map(Origin::start);
    [&a, &b].into_iter().for_each(|origin| put(&etcd, origin));
    let ringway = Ringway::start(&config(&[etcd.address], "", ""));
    let mut client = ringway.client();
    let mut serves = || (0..20).for_each(|n| assert_eq!(client.get(&format!("/{n}")).unwrap().status, 200));
    etcd.kill();
    wait_for("the loss", || (!store_is_up(&ringway)).then_some(()));
    serves();
    let metrics = ringway.metrics();
    assert_eq!(metrics.get("ringway_store_up{store=\"e\"}"), 0.0);
    assert_eq!(metrics.get("ringway_cap_degraded{use=\"discovery\",mode=\"serve-last\"}"), 1.0);
    assert_eq!(ringway.admin_get("/readyz").unwrap().status, 200);
    etcd.lose_data();
    etcd.restart();
    wait_for("the store", || store_is_up(&ringway).then_some(()));
    wait_for("the refusal of its empty list", || {
        upstream_status(&ringway)["discovery"]["problem"].as_str()?.contains("min_members").then_some(())
    });
    assert_eq!(members(&ringway), ["a", "b"]);
    serves();
    put(&etcd, &a);
    wait_for("its first member", || (upstream_status(&ringway)["discovery"]["waiting_to_go"] == 1).then_some(()));
    assert_eq!(members(&ringway), ["a", "b"], "after a loss nobody goes at once");
}

#[test]
fn requests_are_refused_while_the_store_is_lost_where_that_is_wanted() {
    let Some(mut etcd) = Etcd::start() else { skip!("no etcd") };
    let a = Origin::start("a");
    put(&etcd, &a);
    let refuse = "on_store_loss = \"refuse\"\nmax_stale = \"300ms\"";
    let ringway = Ringway::start(&config(&[etcd.address], "", refuse));
    let status = || ringway.client().get("/k").unwrap().status;
    assert_eq!(status(), 200);
    etcd.kill();
    wait_for("the refusal", || (status() == 503).then_some(()));
    let refused = ringway.client().get("/k").unwrap();
    assert!(refused.text().contains("store_lost") && refused.header("retry-after").is_some(), "{}", refused.text());
    assert_eq!(ringway.metrics().get("ringway_cap_degraded{use=\"discovery\",mode=\"refuse\"}"), 1.0);
    assert_eq!(upstream_status(&ringway)["discovery"]["refuses"], true);
    etcd.restart();
    wait_for("service again", || (status() == 200).then_some(()));
}

/// `ringway register`, killed at the end of the test.
struct Registered(Child);

impl Registered {
    fn start(ringway: &Ringway, id: &str, address: &str) -> Self {
        let config = ringway.config_path();
        let mut command = Command::new(program());
        command.args(["register", "--store", "e", "--upstream", "u", "--id", id, "--address", address, "-c"]);
        command.arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.0.kill().unwrap_or_default();
        self.0.wait().map(drop).unwrap_or_default();
    }
}

#[test]
fn a_registration_lasts_as_long_as_its_program() {
    let Some(mut etcd) = Etcd::start() else { skip!("no etcd") };
    let [a, b, c] = ["a", "b", "c"].map(Origin::start);
    put(&etcd, &a);
    let ringway = Ringway::start(&config(&[etcd.address], "", "settle = \"0s\""));
    let mut told = Registered::start(&ringway, "b", &b.address.to_string());
    let killed = Registered::start(&ringway, "c", &c.address.to_string());
    wait_for_members(&ringway, &["a", "b", "c"]);
    let pid = told.0.id();
    assert!(Command::new("sh").args(["-c", &format!("kill -TERM {pid}")]).status().unwrap().success());
    assert!(wait_for("its end", || told.0.try_wait().unwrap()).success());
    assert!(!etcd.has("/ringway/rings/u/b"), "taken back before it ended");
    wait_for_members(&ringway, &["a", "c"]);
    // All its data lost, it is registered anew.
    etcd.lose_data();
    etcd.restart();
    wait_for("the registration", || etcd.has("/ringway/rings/u/c").then_some(()));
    drop(killed);
    wait_for("the end of its lease", || (!etcd.has("/ringway/rings/u/c")).then_some(()));
}

#[test]
fn a_dead_server_is_passed_over_and_a_wrong_password_is_told() {
    let Some(etcd) = Etcd::start() else { skip!("no etcd") };
    let a = Origin::start("a");
    put(&etcd, &a);
    etcd.call("/v3/auth/role/add", &json!({ "name": "root" }));
    etcd.call("/v3/auth/user/add", &json!({ "name": "root", "password": "right" }));
    etcd.call("/v3/auth/user/grant", &json!({ "user": "root", "role": "root" }));
    etcd.call("/v3/auth/enable", &json!({}));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pw");
    std::fs::write(&file, "wrong\n").unwrap();
    let login = format!("username = \"root\"\npassword_file = \"{}\"", file.display());
    let servers = [free_address(), etcd.address];
    let ringway = Ringway::spawn(&config(&servers, &login, "")).until_alive();
    wait_for("the refusal", || {
        upstream_status(&ringway)["discovery"]["problem"].as_str()?.contains("authentication failed").then_some(())
    });
    assert_eq!(ringway.client().get("/k").unwrap().status, 503);
    std::fs::write(&file, "right\n").unwrap();
    wait_for_members(&ringway, &["a"]);
    assert_eq!(ringway.client().get("/k").unwrap().status, 200);
}
