//! Who owned a key at a moment of the past.
use crate::harness::program::{Ringway, command};
use crate::hashing::{BY_PATH, fleet, upstream};
use ringway::base::clock;
use serde_json::Value;
use std::time::Duration;

fn owner(ringway: &Ringway, path: &str, at: Option<Duration>) -> Result<String, String> {
    let at = at.map(|at| format!("&at={}", clock::rfc3339(at))).unwrap_or_default();
    let told = ringway.admin_get(&format!("/api/v1/explain?url={path}{at}")).unwrap();
    let told: Value = serde_json::from_str(told.text()).unwrap();
    told["owner"].as_str().map(str::to_string).ok_or_else(|| told["error"].as_str().unwrap().to_string())
}

/// The moment, once the next one is another: changes are told apart by the millisecond.
fn now() -> Duration {
    let now = clock::since_epoch();
    std::thread::sleep(Duration::from_millis(2));
    now
}

#[test]
fn owners_of_the_past_are_those_that_were_told_then() {
    let (origins, four) = fleet(&["a", "b", "c", "d"]);
    let three = upstream(&[&origins[0], &origins[1], &origins[3]]);
    let heavy = four.replace("id = \"b\"", "id = \"b\", weight = 3");
    let seeded = format!("{heavy}[upstream.u.ring]\nseed = 7\nvnodes = 80\n");
    let ringway = Ringway::start(&format!("{BY_PATH}{four}"));
    let paths: Vec<String> = (0..40).map(|n| format!("/{n}")).collect();
    let owners = |at| -> Vec<String> { paths.iter().map(|path| owner(&ringway, path, at).unwrap()).collect() };
    let mut told = vec![(now(), owners(None))];
    for next in [&three, &heavy, &seeded, &four] {
        ringway.rewrite_config(&format!("{BY_PATH}{next}"));
        ringway.admin_post("/api/v1/upstreams/u/endpoints/a/drain", "").unwrap();
        told.push((now(), owners(None)));
    }
    for (number, (at, expected)) in told.iter().enumerate() {
        assert_eq!(owners(Some(*at)), *expected, "after change {number}");
    }
    let (distinct, all) = (|at: usize| &told[at].1, told.len());
    assert!((1..all).all(|at| distinct(at) != distinct(at - 1)), "each change moved something");

    let by_key =
        ringway.admin_get(&format!("/api/v1/upstreams/u/explain?key=/1&at={}", clock::rfc3339(told[1].0))).unwrap();
    let by_key: Value = serde_json::from_str(by_key.text()).unwrap();
    assert_eq!((&by_key["owner"], &by_key["generation"]), (&told[1].1[1].as_str().into(), &2.into()));
    assert!(by_key["since"][1] == "file" && by_key["candidates"].as_array().unwrap().len() == 3, "{by_key}");

    let admin = format!("http://{}", ringway.admin);
    let at = clock::rfc3339(told[3].0);
    let said = command(&["explain", "--admin", &admin, "/5", "--at", &at]);
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.starts_with(&format!("at          {at}  the ring was in force since ")), "{said}");
    assert!(said.contains(&format!("\nowner  {}\n", told[3].1[5])), "{said}");
}

#[test]
fn moments_that_are_not_known_are_refused_with_a_reason() {
    let (_origins, upstream) = fleet(&["a", "b"]);
    let before = now();
    let away = "[[route]]\npath = \"/away\"\nredirect = { to = \"/\" }\n";
    let ringway = Ringway::start(&format!("{BY_PATH}{away}{upstream}"));
    assert!(owner(&ringway, "/k", Some(before)).unwrap_err().contains("this proxy was started at "));
    let hour = clock::since_epoch() + Duration::from_secs(3600);
    assert!(owner(&ringway, "/k", Some(hour)).unwrap_err().contains("still to come"));
    let told = ringway.admin_get("/api/v1/explain?url=/k&at=yesterday").unwrap();
    assert!(told.status == 400 && told.text().contains("a moment is"), "{}", told.text());
    assert!(owner(&ringway, "/away", Some(now())).unwrap_err().contains("leads to no upstream"));
    for n in 0..60 {
        let state = if n % 2 == 0 { "drain" } else { "undrain" };
        ringway.admin_post(&format!("/api/v1/upstreams/u/endpoints/a/{state}"), "").unwrap();
        ringway.admin_post(&format!("/api/v1/upstreams/u/endpoints/b/{state}"), "").unwrap();
    }
    assert!(
        owner(&ringway, "/k", Some(before))
            .unwrap_err()
            .contains("older than what is kept: the last changes go back to")
    );
    assert!(owner(&ringway, "/k", Some(now())).is_ok());
}
