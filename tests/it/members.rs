//! Members from a file: taken up when it changes, kept when it cannot be used.
use crate::harness::origin::Origin;
use crate::harness::program::{Metrics, Ringway, command};
use crate::harness::wait_for;
use crate::hashing::BY_PATH;
use ringway::base::clock;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// A list of these origins, as JSON.
pub fn list(origins: &[&Origin]) -> String {
    let entry = |origin: &&Origin| serde_json::json!({ "id": origin.id, "address": origin.address.to_string() });
    serde_json::json!({ "endpoints": origins.iter().map(entry).collect::<Vec<_>>() }).to_string()
}

/// A folder with a list in it, and the configuration of an upstream of that list.
struct Listed {
    _folder: TempDir,
    path: PathBuf,
    config: String,
}

impl Listed {
    fn new(text: Option<&str>, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("members.json");
        text.into_iter().for_each(|text| std::fs::write(&path, text).unwrap());
        let config = format!(
            "{BY_PATH}[upstream.u.discovery]\npath = \"{}\"\nallow = [\"127.0.0.0/8\"]\n{more}",
            path.display()
        );
        Self { _folder: folder, path, config }
    }

    fn write(&self, text: &str) {
        let new = self.path.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, &self.path).unwrap();
    }
}

pub fn upstream_status(ringway: &Ringway) -> serde_json::Value {
    let status: serde_json::Value = serde_json::from_str(ringway.admin_get("/api/v1/status").unwrap().text()).unwrap();
    status["upstreams"][0].clone()
}

/// The ids of the members in force.
pub fn members(ringway: &Ringway) -> Vec<String> {
    let endpoints = upstream_status(ringway)["endpoints"].as_array().unwrap().clone();
    endpoints.iter().map(|endpoint| endpoint["id"].as_str().unwrap().to_string()).collect()
}

#[track_caller]
pub fn wait_for_members(ringway: &Ringway, expected: &[&str]) {
    wait_for(&format!("the members {expected:?}"), || (members(ringway) == expected).then_some(()));
}

#[track_caller]
fn wait_for_held_back(ringway: &Ringway, reason: &str) -> Metrics {
    let labels = [("upstream", "u"), ("reason", reason)];
    wait_for(&format!("a list held back as {reason}"), || {
        let metrics = ringway.metrics();
        (metrics.sum_of("ringway_membership_held_back_total", &labels) >= 1.0).then_some(metrics)
    })
}

fn servers(ringway: &Ringway) -> BTreeSet<String> {
    let mut client = ringway.client();
    let served = |n| client.get(&format!("/{n}")).unwrap().header("x-origin").unwrap().to_string();
    (0..60).map(served).collect()
}

#[test]
fn while_a_large_ring_is_built_others_go_on() {
    let origin = Origin::start("a");
    let listed = Listed::new(Some(&list(&[&origin])), "max_members = 4000\n");
    let ringway = Ringway::start(&listed.config);
    let before = ringway.generation();
    let member = |n: usize| serde_json::json!({ "id": format!("m{n}"), "address": format!("10.1.{}.{}:80", n / 250, n % 250 + 1) });
    listed.write(&serde_json::json!({ "endpoints": (0..4_000).map(member).collect::<Vec<_>>() }).to_string());
    let (end, mut longest) = (clock::now() + Duration::from_secs(120), Duration::ZERO);
    while ringway.generation() == before {
        assert!(clock::now() < end, "the list was not taken up");
        let asked = clock::now();
        assert_eq!(ringway.admin_get("/healthz").unwrap().status, 200);
        longest = longest.max(asked.elapsed());
    }
    // Who answers operators also talks to stores.
    let built = ringway.metrics().get("ringway_ring_build_seconds{upstream=\"u\"}");
    assert!(longest.as_secs_f64() < built / 2.0, "{longest:?} without an answer, {built} s to build");
}

#[test]
fn members_are_there_from_the_first_request_and_change_with_the_file() {
    let [a, b, c] = ["a", "b", "c"].map(Origin::start);
    let listed = Listed::new(Some(&list(&[&a, &b])), "");
    let ringway = Ringway::start(&listed.config);
    assert_eq!(servers(&ringway), ["a", "b"].map(String::from).into());
    let generation = ringway.generation();
    listed.write(&list(&[&a, &b, &c]));
    wait_for_members(&ringway, &["a", "b", "c"]);
    assert_eq!(ringway.generation(), generation + 1, "one swap");
    assert_eq!(servers(&ringway).len(), 3);
    listed.write(&list(&[&a, &c]));
    wait_for_members(&ringway, &["a", "c"]);
    assert_eq!(servers(&ringway), ["a", "c"].map(String::from).into());
    let metrics = ringway.metrics();
    assert_eq!(metrics.get("ringway_members{upstream=\"u\"}"), 2.0);
    assert_eq!(metrics.get("ringway_membership_apply_seconds_count{upstream=\"u\"}"), 2.0);
    assert!(metrics.get("ringway_membership_age_seconds{upstream=\"u\"}") >= 0.0);
    let plan = ringway.admin_post("/api/v1/plan", &std::fs::read_to_string(ringway.config_path()).unwrap()).unwrap();
    let plan: serde_json::Value = serde_json::from_str(plan.text()).unwrap();
    assert_eq!(plan["moved"], 0.0, "what is learned moves nothing: {plan}");
    let history = ringway.admin_get("/api/v1/history").unwrap();
    assert!(history.text().contains("\"discovery\"") && history.text().contains("endpoint u/c added"));
}

#[test]
fn counters_and_health_of_those_that_stay_are_kept() {
    let [a, b] = ["a", "b"].map(Origin::start);
    let listed = Listed::new(Some(&list(&[&a])), "");
    let ringway = Ringway::start(&listed.config);
    servers(&ringway);
    let drained = ringway.admin_post("/api/v1/upstreams/u/endpoints/a/drain", "").unwrap();
    assert_eq!(drained.status, 200);
    listed.write(&list(&[&a, &b]));
    wait_for_members(&ringway, &["a", "b"]);
    let status = upstream_status(&ringway);
    assert_eq!((&status["endpoints"][0]["ok"], &status["endpoints"][0]["state"]), (&60.into(), &"draining".into()));
    assert_eq!(servers(&ringway), ["b".to_string()].into());
}

#[test]
fn a_list_that_cannot_be_used_keeps_the_last_and_says_why() {
    let [a, b] = ["a", "b"].map(Origin::start);
    let good = list(&[&a, &b]);
    let listed = Listed::new(Some(&good), "max_members = 3\n");
    let ringway = Ringway::start(&listed.config);
    let many = format!(
        "{{\"endpoints\": [{}]}}",
        (0..4).map(|n| format!("{{\"id\": \"m{n}\", \"address\": \"10.0.0.1:1\"}}")).collect::<Vec<_>>().join(",")
    );
    let near = "{\"endpoints\": [{\"id\": \"a\", \"address\": \"169.254.169.254:80\"}]}";
    for (bad, reason, told) in [
        ("{", "unreadable", "line 1"),
        (near, "unreadable", "name its network in `allow`"),
        ("{\"endpoints\": []}", "min_members", "fewer than min_members = 1"),
        (&many, "max_members", "more than max_members = 3"),
    ] {
        listed.write(bad);
        wait_for("the problem", || {
            upstream_status(&ringway)["discovery"]["problem"].as_str()?.contains(told).then_some(())
        });
        wait_for_held_back(&ringway, reason);
        assert_eq!(members(&ringway), ["a", "b"]);
        assert_eq!(ringway.client().get("/k").unwrap().status, 200);
    }
    std::fs::remove_file(&listed.path).unwrap();
    wait_for("the missing file", || {
        upstream_status(&ringway)["discovery"]["problem"].as_str()?.contains("cannot be read").then_some(())
    });
    assert_eq!(members(&ringway), ["a", "b"]);
    listed.write(&good);
    wait_for("the end of the problem", || upstream_status(&ringway)["discovery"]["problem"].is_null().then_some(()));
    assert_eq!(ringway.generation(), 1, "nothing has changed in all this");
}

#[test]
fn without_a_list_requests_are_refused_until_there_is_one() {
    let a = Origin::start("a");
    let listed = Listed::new(None, "");
    let ringway = Ringway::spawn(&listed.config).until_alive();
    let refused = ringway.client().get("/k").unwrap();
    assert_eq!((refused.status, refused.text().contains("no_endpoint")), (503, true));
    assert_eq!(ringway.admin_get("/readyz").unwrap().status, 503);
    for page in ["/metrics", "/api/v1/status", "/api/v1/upstreams/u/ring", "/api/v1/explain?url=/k"] {
        assert_eq!(ringway.admin_get(page).unwrap().status, 200, "{page}");
    }
    listed.write(&list(&[&a]));
    wait_for("readiness", || (ringway.admin_get("/readyz").unwrap().status == 200).then_some(()));
    assert_eq!(ringway.client().get("/k").unwrap().header("x-origin"), Some("a"));
}

#[test]
fn many_that_vanish_at_once_stay_until_they_were_missing_for_long_enough() {
    let origins = ["a", "b", "c", "d"].map(Origin::start);
    let all: Vec<&Origin> = origins.iter().collect();
    let free = "[upstream.u.transition]\nguard = { max_removed = \"100%\" }\n";
    let listed = Listed::new(Some(&list(&all)), &format!("settle = \"1500ms\"\n{free}"));
    let ringway = Ringway::start(&listed.config);
    listed.write(&list(&all[..1]));
    let metrics = wait_for_held_back(&ringway, "max_drop");
    assert_eq!(metrics.get("ringway_members{upstream=\"u\"}"), 4.0);
    assert_eq!(upstream_status(&ringway)["discovery"]["waiting_to_go"], 3);
    assert!(ringway.stderr().contains("Too many members are missing at once"));
    wait_for_members(&ringway, &["a"]);
    assert_eq!(ringway.generation(), 2, "one swap, when their time was over");
}

#[test]
fn the_last_list_on_disk_serves_when_the_source_is_gone_at_the_start() {
    let [a, b] = ["a", "b"].map(Origin::start);
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept.json");
    let listed = Listed::new(Some(&list(&[&a, &b])), &format!("snapshot = \"{}\"\n", kept.display()));
    let mut first = Ringway::start(&listed.config);
    wait_for("the list on disk", || kept.exists().then_some(()));
    assert!(first.stop().success());
    std::fs::remove_file(&listed.path).unwrap();
    let second = Ringway::start(&listed.config);
    assert_eq!(servers(&second).len(), 2);
    let discovery = upstream_status(&second)["discovery"].clone();
    assert!(discovery["confirmed_seconds_ago"].is_null() && discovery["problem"].is_string(), "{discovery}");
}

#[test]
fn check_ring_and_explain_know_the_list() {
    let [a, b] = ["a", "b"].map(Origin::start);
    let listed = Listed::new(Some(&list(&[&a, &b])), "");
    let file = listed.path.with_extension("toml");
    let run = |command_line: &[&str]| -> (String, bool) {
        std::fs::write(&file, format!("[[listener]]\naddress = \"127.0.0.1:0\"\n{}", listed.config)).unwrap();
        let path: &Path = &file;
        let arguments: Vec<&str> =
            command_line.iter().map(|word| if *word == "FILE" { path.to_str().unwrap() } else { word }).collect();
        let output = command(&arguments);
        let told = [output.stdout, output.stderr].concat();
        (String::from_utf8(told).unwrap(), output.status.success())
    };
    let (told, is_fine) = run(&["check", "-c", "FILE"]);
    assert!(is_fine && told.contains("upstream u: 2 endpoints") && told.contains("members from file"), "{told}");
    assert!(run(&["ring", "-c", "FILE"]).0.contains("2 endpoints"));
    let (told, is_same) = run(&["plan", "FILE", "FILE"]);
    assert!(is_same, "{told}");
    assert!(run(&["explain", "-c", "FILE", "http://x.example/k"]).0.contains("candidates\n  "));
    listed.write("{");
    let (told, _) = run(&["explain", "-c", "FILE", "http://x.example/k"]);
    assert!(told.contains("owner  (nobody: the upstream has no endpoint)"), "{told}");
    let (told, is_fine) = run(&["check", "-c", "FILE"]);
    assert!(
        is_fine && told.contains("warning: upstream \"u\" has no members so far: ") && told.contains("line 1"),
        "{told}"
    );
}

#[test]
fn a_reload_begins_ends_and_changes_the_source() {
    let [a, b] = ["a", "b"].map(Origin::start);
    let (one, two) = (Listed::new(Some(&list(&[&a])), ""), Listed::new(Some(&list(&[&a, &b])), ""));
    let fixed = format!("{BY_PATH}{}", crate::hashing::upstream(&[&a]));
    let ringway = Ringway::start(&fixed);
    ringway.rewrite_config(&two.config);
    assert_eq!(members(&ringway), ["a", "b"], "the list is there with the reload itself");
    ringway.rewrite_config(&one.config);
    wait_for_members(&ringway, &["a"]);
    ringway.rewrite_config(&fixed);
    assert_eq!(members(&ringway), ["a"]);
    let missing = two.config.replace("members.json", "missing.json");
    assert!(upstream_status(&ringway)["discovery"].is_null());
    assert_eq!(ringway.metrics().sum("ringway_membership_held_back_total"), 0.0);
    ringway.rewrite_config(&missing);
    assert_eq!(members(&ringway), ["a"], "until there is a list, those from before stay");
    assert_eq!(ringway.metrics().sum("ringway_membership_held_back_total"), 1.0);
}
