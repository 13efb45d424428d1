//! Changes that do more than one may without a person's word: held, told, let through.
use crate::dashboard::dom;
use crate::harness::origin::Origin;
use crate::harness::program::{Ringway, command};
use crate::harness::wait_for;
use crate::hashing::{BY_PATH, fleet, upstream};
use crate::members::{list, members, wait_for_members};
use crate::skip;
use serde_json::Value;
use std::path::PathBuf;
use tempfile::TempDir;

/// A proxy whose members are in a file, with further settings of `[upstream.u]` and of its discovery.
struct Found {
    _folder: TempDir,
    path: PathBuf,
    ringway: Ringway,
}

impl Found {
    fn start(first: &[&Origin], guard: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("members.json");
        std::fs::write(&path, list(first)).unwrap();
        let discovery = format!("path = \"{}\"\nallow = [\"127.0.0.0/8\"]\n{more}", path.display());
        let config = format!("{BY_PATH}[upstream.u.transition]\n{guard}\n[upstream.u.discovery]\n{discovery}\n");
        Self { _folder: folder, path, ringway: Ringway::start(&config) }
    }

    fn write(&self, origins: &[&Origin]) {
        let new = self.path.with_extension("new");
        std::fs::write(&new, list(origins)).unwrap();
        std::fs::rename(new, &self.path).unwrap();
    }

    #[track_caller]
    fn wait_until_held(&self, why: &str) -> Value {
        wait_for("what is held", || {
            held(&self.ringway).into_iter().find(|held| held["why"].as_str().unwrap().contains(why))
        })
    }
}

fn status(ringway: &Ringway) -> Value {
    serde_json::from_str(ringway.admin_get("/api/v1/status").unwrap().text()).unwrap()
}

fn held(ringway: &Ringway) -> Vec<Value> {
    status(ringway)["held"].as_array().unwrap().clone()
}

/// Runs a command against the proxy: what it says, and its exit code.
fn told(ringway: &Ringway, words: &[&str]) -> (String, Option<i32>) {
    let admin = format!("http://{}", ringway.admin);
    let output = command(&[words, &["--admin", &admin]].concat());
    (String::from_utf8([output.stdout, output.stderr].concat()).unwrap(), output.status.code())
}

fn causes(ringway: &Ringway) -> Vec<String> {
    let history: Value = serde_json::from_str(ringway.admin_get("/api/v1/history").unwrap().text()).unwrap();
    history.as_array().unwrap().iter().map(|change| change["cause"].as_str().unwrap().to_string()).collect()
}

/// Nobody has to wait for members that vanish.
const AT_ONCE: &str = "max_drop = \"100%\"";

#[test]
fn too_many_that_go_are_held_until_somebody_approves() {
    let origins = ["a", "b", "c", "d"].map(Origin::start);
    let all: Vec<&Origin> = origins.iter().collect();
    let found = Found::start(&all, "", AT_ONCE);
    let ringway = &found.ringway;
    found.write(&all[..1]);
    let change = found.wait_until_held("3 of 4 endpoints would go, more than guard.max_removed = 50%");
    assert_eq!((&change["upstream"], &change["what"][0]), (&"u".into(), &"endpoint u/b removed".into()), "{change}");
    assert!(change["moved"].as_f64().unwrap() > 0.5, "{change}");
    assert_eq!((members(ringway), ringway.generation()), (vec!["a".into(), "b".into(), "c".into(), "d".into()], 1));
    let metrics = ringway.metrics();
    assert_eq!(metrics.get("ringway_membership_held{upstream=\"u\"}"), 1.0);
    let counted = [("upstream", "u"), ("reason", "max_removed")];
    assert_eq!(metrics.sum_of("ringway_membership_held_back_total", &counted), 1.0);
    assert!(ringway.stderr().contains("ERROR") && ringway.stderr().contains("HELD until `ringway approve`"));
    let (shown, _) = told(ringway, &["status"]);
    assert!(shown.contains("HELD since ") && shown.contains("upstream u: 3 of 4 endpoints would go"), "{shown}");
    assert_eq!(causes(ringway), ["held", "start"]);

    let (said, code) = told(ringway, &["approve"]);
    assert!(code == Some(0) && said.contains("upstream u: 1 members, "), "{said}");
    assert_eq!((members(ringway), ringway.generation()), (vec!["a".to_string()], 2), "in force when approve says so");
    assert_eq!((held(ringway), ringway.metrics().get("ringway_membership_held{upstream=\"u\"}")), (vec![], 0.0));
    assert_eq!(causes(ringway), ["approved", "held", "start"]);
    assert_eq!(told(ringway, &["approve"]), ("nothing is held\n".into(), Some(0)));
    assert_eq!(ringway.client().get("/k").unwrap().header("x-origin"), Some("a"));
}

#[test]
fn the_page_shows_what_is_held_with_a_button() {
    let origins = ["a", "b", "c"].map(Origin::start);
    let all: Vec<&Origin> = origins.iter().collect();
    let found = Found::start(&all, "", AT_ONCE);
    found.write(&all[..1]);
    found.wait_until_held("2 of 3");
    let Some(dom) = dom(&format!("http://{}/", found.ringway.admin)) else { skip!("chromium is not installed") };
    assert!(dom.contains("2 of 3 endpoints would go") && dom.contains("aria-label=\"Approve: upstream u\""), "{dom}");
    assert!(dom.contains("endpoint u/b removed"), "{dom}");
}

#[test]
fn a_source_that_changes_its_mind_needs_no_word() {
    let origins = ["a", "b", "c", "d"].map(Origin::start);
    let all: Vec<&Origin> = origins.iter().collect();
    let found = Found::start(&all, "guard = { max_removed = \"25%\" }", AT_ONCE);
    found.write(&all[..2]);
    found.wait_until_held("2 of 4");
    found.write(&all[..1]);
    found.wait_until_held("3 of 4");
    assert_eq!(members(&found.ringway).len(), 4);
    found.write(&all[..3]);
    wait_for_members(&found.ringway, &["a", "b", "c"]);
    assert!(held(&found.ringway).is_empty());
    assert_eq!(causes(&found.ringway), ["discovery", "held", "held", "start"]);
}

#[test]
fn what_comes_is_taken_up_while_removals_are_held_and_addresses_always() {
    let origins = ["a", "b", "c", "d"].map(Origin::start);
    let all: Vec<&Origin> = origins.iter().collect();
    let found = Found::start(&all[..3], "", AT_ONCE);
    let elsewhere = Origin::start("a");
    found.write(&[&elsewhere, &origins[3]]);
    found.wait_until_held("2 of 3");
    wait_for_members(&found.ringway, &["a", "b", "c", "d"]);
    let address = &status(&found.ringway)["upstreams"][0]["endpoints"][0]["address"];
    assert_eq!(*address, elsewhere.address.to_string());

    let strict = Found::start(&all[..3], "guard = { max_moved = \"5%\" }", AT_ONCE);
    strict.write(&[&elsewhere, &origins[1], &origins[2], &origins[3]]);
    let change = strict.wait_until_held("of the keys would move, more than guard.max_moved = 5%");
    let moved = change["moved"].as_f64().unwrap();
    wait_for("the new address", || {
        let now = status(&strict.ringway);
        (now["upstreams"][0]["endpoints"][0]["address"] == elsewhere.address.to_string()).then_some(())
    });
    assert_eq!(members(&strict.ringway), ["a", "b", "c"]);
    let counted = [("upstream", "u"), ("reason", "max_moved")];
    assert_eq!(strict.ringway.metrics().sum_of("ringway_membership_held_back_total", &counted), 1.0);
    let (said, _) = told(&strict.ringway, &["approve", "u"]);
    assert!(said.contains(&format!("4 members, {:.2}% of keys moved", moved * 100.0)), "{said} {moved}");
    assert_eq!(told(&strict.ringway, &["approve", "other"]).1, Some(1));
}

#[test]
fn members_that_wait_to_go_are_let_go_by_an_approval_and_held_after_their_time() {
    let origins = ["a", "b", "c", "d"].map(Origin::start);
    let all: Vec<&Origin> = origins.iter().collect();
    let patient = Found::start(&all, "", "settle = \"1h\"");
    patient.write(&all[..1]);
    wait_for("those that wait", || {
        (status(&patient.ringway)["upstreams"][0]["discovery"]["waiting_to_go"] == 3).then_some(())
    });
    assert!(held(&patient.ringway).is_empty());
    assert_eq!(told(&patient.ringway, &["approve"]).1, Some(0));
    assert_eq!(members(&patient.ringway), ["a"]);

    let hasty = Found::start(&all, "", "settle = \"100ms\"");
    hasty.write(&all[..1]);
    hasty.wait_until_held("3 of 4");
    assert_eq!(members(&hasty.ringway).len(), 4);
}

#[test]
fn a_guard_that_is_raised_lets_through_what_it_held_and_force_does_at_once() {
    let origins = ["a", "b", "c", "d"].map(Origin::start);
    let all: Vec<&Origin> = origins.iter().collect();
    let found = Found::start(&all, "", AT_ONCE);
    found.write(&all[..1]);
    found.wait_until_held("3 of 4");
    let config = std::fs::read_to_string(found.ringway.config_path()).unwrap();
    let raised =
        config.replace("[upstream.u.transition]", "[upstream.u.transition]\nguard = { max_removed = \"80%\" }");
    found.ringway.rewrite_config(&raised);
    wait_for_members(&found.ringway, &["a"]);
    assert!(held(&found.ringway).is_empty());

    let forced = Found::start(&all, "", AT_ONCE);
    forced.write(&all[..1]);
    forced.wait_until_held("3 of 4");
    let (said, code) = told(&forced.ringway, &["reload", "--force"]);
    assert!(code == Some(0) && said.contains("nothing has changed; upstream u: 1 members"), "{said}");
    assert_eq!(members(&forced.ringway), ["a"]);
}

#[test]
fn what_is_held_is_not_kept_on_disk() {
    let origins = ["a", "b", "c", "d"].map(Origin::start);
    let all: Vec<&Origin> = origins.iter().collect();
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept.json");
    let found = Found::start(&all, "", &format!("{AT_ONCE}\nsnapshot = \"{}\"", kept.display()));
    let on_disk = || std::fs::read_to_string(&kept).unwrap_or_default().matches("\"id\"").count();
    wait_for("the list on disk", || (on_disk() == 4).then_some(()));
    found.write(&all[..1]);
    found.wait_until_held("3 of 4");
    found.ringway.admin_post("/api/v1/approve?upstream=u", "").unwrap();
    wait_for("the approved list on disk", || (on_disk() == 1).then_some(()));
}

#[test]
fn a_persons_file_is_published_with_a_warning_unless_it_is_guarded() {
    let (origins, four) = fleet(&["a", "b", "c", "d"]);
    let one = upstream(&[&origins[0]]);
    let ringway = Ringway::start(&format!("{BY_PATH}{four}"));
    ringway.rewrite_config(&format!("{BY_PATH}{one}"));
    assert_eq!(members(&ringway), ["a"]);
    assert!(ringway.stderr().contains("more than guards allow: upstream u: 3 of 4 endpoints would go"));

    let guarded = |upstream: &str| format!("[server]\nworkers = 2\nguard_config = true\n{BY_PATH}{upstream}");
    let ringway = Ringway::start(&guarded(&four));
    ringway.rewrite_config(&guarded(&one));
    assert_eq!((members(&ringway).len(), ringway.generation()), (4, 1));
    let change = held(&ringway)[0].clone();
    assert_eq!((&change["upstream"], change["why"].as_str().unwrap().contains("3 of 4")), (&Value::Null, true));
    let metrics = ringway.metrics();
    assert_eq!(metrics.get("ringway_config_held"), 1.0);
    assert_eq!(metrics.get("ringway_config_reloads_total{result=\"held\"}"), 1.0);
    assert_eq!(metrics.get("ringway_config_last_reload_successful"), 0.0);
    let (said, code) = told(&ringway, &["reload"]);
    assert!(code == Some(1) && said.contains("held: upstream u: 3 of 4"), "{said}");
    let (said, code) = told(&ringway, &["approve"]);
    assert!(code == Some(0) && said.contains("configuration: generation 2"), "{said}");
    assert_eq!((members(&ringway), held(&ringway).len()), (vec!["a".to_string()], 0));

    // Without a word it waits; back to what runs, nothing does.
    ringway.rewrite_config(&guarded(&four));
    assert_eq!(members(&ringway).len(), 4, "those that come are no loss");
    ringway.rewrite_config(&format!("{BY_PATH}{one}"));
    assert_eq!(held(&ringway).len(), 1, "a file that turns the guard off is guarded too");
    ringway.rewrite_config(&guarded(&four));
    assert!(held(&ringway).is_empty());
    ringway.rewrite_config(&guarded(&one));
    let (said, code) = told(&ringway, &["reload", "--force"]);
    assert!(code == Some(0) && said.contains("WARNING, more than guards allow"), "{said}");
    assert_eq!(members(&ringway), ["a"]);
}
