//! A log played through configurations: what was predicted is what happens.
use crate::harness::program::{Ringway, command};
use crate::harness::wait_for;
use crate::hashing::{fleet, upstream};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// Keyed by a field that only Ringway's own log knows of, or by the path.
const ROUTE: &str = "[[route]]\nupstream = \"u\"\nkey = [\"header:x-user\", \"path\"]\n";

fn written(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_string()
}

/// Asks for many keys, some of them often, and says who answered each request.
fn ask(ringway: &Ringway) -> Vec<String> {
    let mut client = ringway.client();
    let ask = |number: usize| {
        let (path, user) = (format!("/{}?x={number}", number % 150), format!("u{}", number % 40));
        let fields = if number.is_multiple_of(3) { vec![("X-User", user.as_str())] } else { vec![] };
        client.request("GET", &path, &fields, None).unwrap().header("x-origin").unwrap().to_string()
    };
    (0..600).map(ask).collect()
}

fn json(arguments: &[&str]) -> Value {
    let output = command(arguments);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_traffic_that_a_plan_says_moves_is_the_traffic_that_moves() {
    let (origins, three) = fleet(&["a", "b", "c"]);
    let (more, _) = fleet(&["d"]);
    let four = upstream(&origins.iter().chain(&more).collect::<Vec<_>>());
    let (old, new) = (Ringway::start(&format!("{ROUTE}{three}")), Ringway::start(&format!("{ROUTE}{four}")));
    let (before, after) = (ask(&old), ask(&new));
    let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    let log = wait_for("the access log", || Some(old.stdout()).filter(|log| log.lines().count() == before.len()));
    let folder = tempfile::tempdir().unwrap();
    let log = written(folder.path(), "access.log", &log);
    let configs = [old.config_path(), new.config_path()];
    let [old, new] = configs.each_ref().map(|path| path.to_str().unwrap());
    let plan = json(&["plan", old, new, "--log", &log, "--json"]);
    let traffic = &plan["traffic"];
    assert_eq!(
        (&traffic["requests"], &traffic["unreadable"], &traffic["unknown"]),
        (&600.into(), &0.into(), &0.into())
    );
    assert_eq!(traffic["moved_requests"], moved, "{traffic}");
    let text = String::from_utf8(command(&["plan", old, new, "--log", &log]).stdout).unwrap();
    assert!(text.contains("of 600 requests in the log move"), "{text}");
    let limit = format!("{}%", plan["traffic"]["moved"].as_f64().unwrap() * 100.0 - 0.1);
    assert_eq!(command(&["plan", old, new, "--log", &log, "--max-moved", &limit]).status.code(), Some(4));

    // The same log, side by side: as busy as the endpoints were.
    let replayed = json(&["replay", "-c", old, "-c", new, "--log", &log, "--cache-size", "1MiB", "--json"]);
    for (index, answered) in [before, after].iter().enumerate() {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        answered.iter().for_each(|id| *counts.entry(id).or_default() += 1);
        let upstream = &replayed["configurations"][index]["report"]["upstreams"][0];
        for endpoint in upstream["endpoints"].as_array().unwrap() {
            let count = counts.get(endpoint["id"].as_str().unwrap()).copied().unwrap_or(0);
            assert_eq!(endpoint["requests"], count, "{upstream}");
        }
        assert_eq!((&upstream["requests"], &upstream["hit_ratio"]), (&600.into(), &0.0.into()), "all URLs differ");
        let hottest = upstream["hot_keys"][0]["share"].as_f64().unwrap();
        assert!((0.008..0.1).contains(&hottest), "{upstream}");
    }
}

/// Answers that each endpoint has given so far, by its id.
fn answered(ringway: &Ringway) -> BTreeMap<String, u64> {
    let metrics = ringway.metrics();
    let of = |id: &str| metrics.sum_of("ringway_upstream_requests_total", &[("endpoint", id)]) as u64;
    ["a", "b", "c", "d"].map(|id| (id.to_string(), of(id))).into()
}

fn since(before: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    now.iter().map(|(id, count)| (id.clone(), count - before[id])).collect()
}

#[test]
fn what_a_running_proxy_says_of_its_traffic_is_what_the_change_then_does() {
    let (origins, three) = fleet(&["a", "b", "c"]);
    let (more, _) = fleet(&["d"]);
    let four = upstream(&origins.iter().chain(&more).collect::<Vec<_>>());
    let config = |upstream: &str| format!("[[listener]]\naddress = \"LISTEN\"\n{ROUTE}{upstream}");
    let ringway = Ringway::start(&config(&three));
    let plan = |text: &str| -> Value {
        let text = text.replace("LISTEN", "127.0.0.1:0");
        serde_json::from_str(ringway.admin_post("/api/v1/plan", &text).unwrap().text()).unwrap()
    };
    assert!(plan(&config(&four))["live"][0]["why"].as_str().unwrap().contains("no request with a key was seen"));
    let nothing = answered(&ringway);
    let before = ask(&ringway);
    let live = plan(&config(&four))["live"][0].clone();
    let first = answered(&ringway);
    ringway.rewrite_config(&config(&four));
    let after = ask(&ringway);
    let second = since(&first, &answered(&ringway));
    let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count() as f64 / 600.0;

    // Six hundred are a little more than what is kept without a choice.
    let seen = live["requests"].as_f64().unwrap();
    assert!((510.0..=600.0).contains(&seen) && live["why"].is_null(), "{live}");
    assert!((live["moved"].as_f64().unwrap() - moved).abs() <= 90.0 / 600.0, "{moved} in truth: {live}");
    for endpoint in live["endpoints"].as_array().unwrap() {
        let id = endpoint["id"].as_str().unwrap();
        for (side, counted) in [("before", &since(&nothing, &first)), ("after", &second)] {
            let (told, truth) = (endpoint[side].as_f64().unwrap(), counted[id] as f64);
            assert!(told <= truth && truth - told <= 600.0 - seen, "{id} {side}: {truth} in truth: {live}");
        }
    }
    // Other keys, another seed: hashes of these say nothing.
    for (part, other) in [("[upstream.u]", "[upstream.u]\nring = { seed = 7 }"), ("header:x-user", "host")] {
        let told = plan(&config(&four).replace(part, other));
        assert!(told["live"][0]["why"].as_str().is_some_and(|why| why.contains("other keys")), "{told}");
    }
}

#[test]
fn logs_of_other_servers_are_read_as_far_as_they_go() {
    let folder = tempfile::tempdir().unwrap();
    let config = |key: &str| {
        let listen = "[[listener]]\naddress = \"127.0.0.1:0\"\n";
        let endpoints =
            "endpoints = [{ id = \"a\", address = \"10.0.0.1:80\" }, { id = \"b\", address = \"10.0.0.2:80\" }]";
        format!("{listen}[[route]]\nupstream = \"u\"\nkey = [\"{key}\"]\n[upstream.u]\n{endpoints}\n")
    };
    // Such logs tell no listener: it is taken to be the first that a route names.
    let named = config("path").replace("[[listener]]", "[[listener]]\nname = \"l\"");
    let named = named.replace("[[route]]", "[[route]]\nlisteners = [\"l\"]");
    let by_path = written(folder.path(), "path.toml", &named);
    let by_field = written(folder.path(), "field.toml", &config("header:x-user"));
    let line =
        |n: usize| format!("10.0.0.9 - - [10/Oct/2000:13:55:36 -0700] \"GET /{n} HTTP/1.1\" 200 100 \"-\" \"x\"\n");
    let twice: String = (0..50).chain(0..50).map(line).collect();
    let path = folder.path().join("access.log.gz");
    let mut gzip = GzEncoder::new(std::fs::File::create(&path).unwrap(), Compression::fast());
    gzip.write_all(twice.as_bytes()).unwrap();
    gzip.write_all(b"no line\n").unwrap();
    gzip.finish().unwrap();
    let log = path.to_str().unwrap();
    let replayed = json(&["replay", "-c", &by_path, "--log", log, "--cache-size", "1MiB", "--json"]);
    assert_eq!((&replayed["lines"], &replayed["unreadable"]), (&101.into(), &1.into()));
    let upstream = &replayed["configurations"][0]["report"]["upstreams"][0];
    assert_eq!((&upstream["requests"], &upstream["hit_ratio"]), (&100.into(), &0.5.into()), "{upstream}");
    let output = command(&["replay", "-c", &by_field, "--log", log]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "nothing could be told: {text}");
    assert!(text.contains("the key is made of fields that this log does not have"), "{text}");
    // By standard input, which is empty here, and by a file that is not there.
    assert_eq!(command(&["replay", "-c", &by_path, "--log", "-"]).status.code(), Some(1));
    let wrong = command(&["plan", &by_path, &by_path, "--log", &by_path]);
    assert_eq!(wrong.status.code(), Some(1), "another file than was meant is no log in which nothing moves");
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("the log tells of no request"));
    let missing = command(&["plan", &by_path, &by_path, "--log", "/nowhere"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("open the log /nowhere"));
}
