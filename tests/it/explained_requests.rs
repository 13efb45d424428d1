//! `Ringway-Explain`: whoever shows the debug token is told where a request went and why; nobody else is told anything.
use crate::harness::h2;
use crate::harness::origin::{Origin, Script};
use crate::harness::program::Ringway;
use crate::hashing::{BY_PATH, fleet, upstream};
use ::h2::client::Builder;
use serde_json::Value;
use std::path::PathBuf;
use tempfile::TempDir;

const TOKEN: &str = "0123456789abcdef0123";
const SHOWN: (&str, &str) = ("Ringway-Explain", TOKEN);

/// A folder with the token's file, and what a configuration says of it.
fn token() -> (TempDir, PathBuf, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("debug.token");
    std::fs::write(&path, format!("{TOKEN}\n")).unwrap();
    let admin = format!("[admin]\naddress = \"ADMIN\"\ndebug_token_file = \"{}\"\n", path.display());
    (folder, path, admin)
}

fn explanation(ringway: &Ringway, path: &str, fields: &[(&str, &str)]) -> Option<Value> {
    let response = ringway.client().request("GET", path, fields, None).unwrap();
    let told = response.header("ringway-explain")?;
    assert_eq!(response.header("vary"), Some("Ringway-Explain"), "caches keep it apart");
    Some(serde_json::from_str(told).unwrap())
}

#[test]
fn who_shows_the_token_is_told_what_explain_says_and_who_served() {
    let (_folder, _, admin) = token();
    let (origins, upstream) = fleet(&["a", "b", "c"]);
    let ringway = Ringway::start(&format!("{admin}{BY_PATH}{upstream}"));
    for n in 0..20 {
        let path = format!("/k%C3%A9y/{n}");
        let told = explanation(&ringway, &path, &[SHOWN]).unwrap();
        let live = ringway.admin_get(&format!("/api/v1/explain?url=/k%25C3%25A9y/{n}")).unwrap();
        let live: Value = serde_json::from_str(live.text()).unwrap();
        for name in ["route", "upstream", "key", "source", "hash", "owner", "generation", "fingerprint"] {
            assert_eq!(told[name], live[name], "{name}: {told} {live}");
        }
        assert_eq!(
            (&told["endpoint"], &told["position"], &told["attempts"]),
            (&told["owner"], &"owner".into(), &1.into())
        );
        assert_eq!(told["candidates"].as_array().unwrap().len(), 3);
    }
    for seen in origins.iter().flat_map(Origin::requests) {
        assert_eq!(seen.header("ringway-explain"), None, "no endpoint sees it");
    }
    assert!(!ringway.stderr().contains(TOKEN) && !ringway.stdout().contains(TOKEN), "nor does a log");
}

#[test]
fn without_the_token_nobody_is_told_anything() {
    let (_folder, _, admin) = token();
    let (origins, upstream) = fleet(&["a"]);
    // An endpoint that says such a thing itself is not passed on.
    origins[0].script(Script { headers: vec![("Ringway-Explain", "forged".into())], ..Script::default() });
    let ringway = Ringway::start(&format!("{admin}{BY_PATH}{upstream}"));
    let longer = format!("{TOKEN}0");
    for wrong in ["", "1", "true", &TOKEN[1..], &longer, &TOKEN.to_uppercase()] {
        assert_eq!(explanation(&ringway, "/k", &[("Ringway-Explain", wrong)]), None, "{wrong}");
    }
    for other in ["Ringway_Explain", "X-Ringway-Explain", "Authorization"] {
        assert_eq!(explanation(&ringway, "/k", &[(other, TOKEN)]), None, "{other}");
    }
    assert_eq!(explanation(&ringway, "/k", &[]), None);
    assert!(explanation(&ringway, "/k", &[("Ringway-Explain", "wrong"), SHOWN]).is_some());
    assert!(origins[0].requests().iter().all(|seen| seen.header("ringway-explain").is_none()));
    let closed = Ringway::start(&format!("{BY_PATH}{upstream}"));
    assert_eq!(explanation(&closed, "/k", &[("Ringway-Explain", "")]), None, "no token, no door");
}

#[test]
fn retries_errors_and_answers_of_our_own_are_told_too() {
    let (_folder, _, admin) = token();
    let (mut origins, upstream) = fleet(&["a", "b"]);
    let routes = format!("{BY_PATH}[[route]]\nname = \"away\"\npath = \"/away\"\nredirect = {{ to = \"/\" }}\n");
    let ringway = Ringway::start(&format!("{admin}{routes}{upstream}"));
    let own = explanation(&ringway, "/away", &[SHOWN]).unwrap();
    assert_eq!((&own["route"], &own["attempts"], &own["upstream"]), (&"away".into(), &0.into(), &Value::Null));
    let owner = explanation(&ringway, "/k", &[SHOWN]).unwrap()["owner"].as_str().unwrap().to_string();
    let at = origins.iter().position(|origin| origin.id == owner).unwrap();
    origins[at].stop();
    let told = explanation(&ringway, "/k", &[SHOWN]).unwrap();
    assert_eq!((&told["owner"], &told["attempts"]), (&owner.as_str().into(), &2.into()), "{told}");
    assert!(told["endpoint"] != told["owner"] && told["position"] == "retry", "{told}");
    origins.iter_mut().for_each(Origin::stop);
    let failed = ringway.client().request("GET", "/k", &[SHOWN], None).unwrap();
    let told: Value = serde_json::from_str(failed.header("ringway-explain").unwrap()).unwrap();
    assert_eq!((failed.status, &told["attempts"]), (502, &2.into()), "{told}");
}

#[test]
fn a_key_as_long_as_a_head_is_told_in_part() {
    let (_folder, _, admin) = token();
    let (_origins, upstream) = fleet(&["a"]);
    let ringway = Ringway::start(&format!("{admin}{BY_PATH}{upstream}"));
    let response = ringway.client().request("GET", &format!("/{}", "~".repeat(8000)), &[SHOWN], None).unwrap();
    assert_eq!(response.status, 200);
    let told = response.header("ringway-explain").unwrap();
    assert!(told.len() < 2000 && told.is_ascii(), "{told}");
    assert!(serde_json::from_str::<Value>(told).unwrap()["key"].as_str().unwrap().ends_with("..."));
}

#[test]
fn over_http2_it_is_the_same() {
    let (_folder, _, admin) = token();
    let (origins, upstream) = fleet(&["a", "b"]);
    let ringway = Ringway::start(&format!("{admin}{BY_PATH}{upstream}"));
    let ask = |shown: &'static str| {
        h2::client(ringway.address, &Builder::new(), |mut send| async move {
            let request = http::Request::get("http://x.example/k").header("ringway-explain", shown).body(()).unwrap();
            send = send.ready().await.unwrap();
            let response = send.send_request(request, true).unwrap().0.await.unwrap();
            response.headers().get("ringway-explain").map(|told| told.to_str().unwrap().to_string())
        })
    };
    let told: Value = serde_json::from_str(&ask(TOKEN).unwrap()).unwrap();
    assert_eq!((&told["key"], &told["endpoint"]), (&"/k".into(), &told["owner"]));
    assert_eq!(ask("wrong"), None);
    assert!(origins.iter().flat_map(Origin::requests).all(|seen| seen.header("ringway-explain").is_none()));
}

#[test]
fn another_token_counts_from_the_reload_on_and_must_not_be_the_operators() {
    let (folder, path, admin) = token();
    let a = Origin::start("a");
    let ringway = Ringway::start(&format!("{admin}{BY_PATH}{}", upstream(&[&a])));
    assert!(explanation(&ringway, "/k", &[SHOWN]).is_some());
    let second = "another-token-of-length";
    std::fs::write(&path, second).unwrap();
    let reload = || ringway.admin_post("/api/v1/reload", "").unwrap();
    assert!(reload().text().contains("the debug token is another"));
    assert_eq!(explanation(&ringway, "/k", &[SHOWN]), None);
    assert!(explanation(&ringway, "/k", &[("Ringway-Explain", second)]).is_some());
    std::fs::remove_file(&path).unwrap();
    assert_eq!(reload().status, 422);
    assert!(explanation(&ringway, "/k", &[("Ringway-Explain", second)]).is_some(), "the old one stays");
    std::fs::write(&path, second).unwrap();
    let operators = folder.path().join("admin.token");
    std::fs::write(&operators, second).unwrap();
    let both = format!("{admin}token_file = \"{}\"\n{BY_PATH}{}", operators.display(), upstream(&[&a]));
    ringway.rewrite_config(&both);
    assert!(ringway.stderr().contains("the same token as \"token_file\""), "{}", ringway.stderr());
}
