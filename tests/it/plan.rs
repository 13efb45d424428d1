//! What a change would do, told before it is made.
use crate::harness::http::Client;
use crate::harness::program::{Ringway, command};
use crate::hashing::{BY_PATH, fleet};
use serde_json::Value;
use std::path::Path;

fn config(names: &[&str], more: &str) -> String {
    let endpoint = |name: &&str| format!("{{ id = \"{name}\", address = \"10.0.0.1:80\" }}");
    let endpoints: Vec<String> = names.iter().map(endpoint).collect();
    format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n[[route]]\nupstream = \"u\"\nkey = [\"path\"]\n[upstream.u]\nendpoints = [{}]\n{more}",
        endpoints.join(", ")
    )
}

fn written(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_string()
}

#[test]
fn the_exit_code_says_whether_anything_moves_and_whether_it_is_too_much() {
    let folder = tempfile::tempdir().unwrap();
    let old = written(folder.path(), "old.toml", &config(&["a", "b", "c", "d"], ""));
    let same = written(folder.path(), "same.toml", &config(&["d", "c", "b", "a"], "max_idle = 3\n"));
    let new = written(folder.path(), "new.toml", &config(&["a", "b", "c", "d", "e"], ""));
    let bad = written(folder.path(), "bad.toml", "[[listner]]\n");
    let code = |arguments: &[&str]| command(&[&["plan"], arguments].concat()).status.code();
    assert_eq!(code(&[&old, &same]), Some(0));
    assert_eq!(code(&[&old, &new]), Some(3));
    assert_eq!(code(&[&old, &new, "--max-moved", "30%"]), Some(3));
    assert_eq!(code(&[&old, &new, "--max-moved", "5%"]), Some(4));
    assert_eq!(code(&[&old, &bad]), Some(2));
    assert_eq!(code(&[&old]), Some(2));
    assert_eq!(code(&[&old, &new, "--max-moved", "much"]), Some(2));
}

#[test]
fn what_moves_is_told_to_people_and_to_programs() {
    let folder = tempfile::tempdir().unwrap();
    let old = written(folder.path(), "old.toml", &config(&["a", "b", "c", "d"], ""));
    let new = written(folder.path(), "new.toml", &config(&["a", "b", "c", "d", "e"], ""));
    let output = command(&["plan", &old, &new, "--json"]);
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (moved, upstream) = (plan["moved"].as_f64().unwrap(), &plan["upstreams"][0]);
    assert!((0.1..0.3).contains(&moved), "{plan}");
    assert!(upstream["excess"].as_f64().unwrap() < 1e-9 && upstream["exact"] == true, "{upstream}");
    assert_eq!(upstream["endpoints"][4]["change"], "added");
    assert!((upstream["endpoints"][4]["gains"].as_f64().unwrap() - moved).abs() < 1e-9);
    let text = String::from_utf8(command(&["plan", &old, &new]).stdout).unwrap();
    let percent = format!("{:.2}%", moved * 100.0);
    assert!(text.contains(&format!("upstream u  {percent} of keys move")), "{text}");
    assert!(text.contains("  + e ") && text.contains("points 640 -> 800") && text.ends_with("moves\n"), "{text}");
    let keyed = config(&["a", "b", "c", "d"], "").replace("[\"path\"]", "[\"host\"]");
    let keyed = written(folder.path(), "keyed.toml", &keyed);
    let output = command(&["plan", &old, &keyed]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("key [\"path\"] -> [\"host\"]") && output.status.code() == Some(3), "{text}");
}

#[test]
fn a_running_proxy_tells_what_a_configuration_would_do_and_changes_nothing() {
    let (origins, upstream) = fleet(&["a", "b"]);
    let ringway = Ringway::start(&format!("{BY_PATH}{upstream}"));
    let post = |text: &str| {
        let headers = [("Connection", "close"), ("Content-Type", "application/toml")];
        Client::new(ringway.admin).request("POST", "/api/v1/plan", &headers, Some(text.as_bytes())).unwrap()
    };
    // Another address under the same id: nobody's keys move.
    let same = post(&config(&["a", "b"], ""));
    assert_eq!(same.status, 200, "{}", same.text());
    assert_eq!(serde_json::from_str::<Value>(same.text()).unwrap()["moved"], 0.0);
    let more = config(&["a", "b", "c"], "");
    let plan: Value = serde_json::from_str(ringway.admin_post("/api/v1/plan", &more).unwrap().text()).unwrap();
    assert!((0.2..0.5).contains(&plan["moved"].as_f64().unwrap()), "{plan}");
    for (text, expected) in [
        (more.replace("10.0.0.1:80", "${HOME}"), "stands for nothing"),
        (format!("include = [\"/etc/*\"]\n{more}"), "includes no files"),
        ("[[listner]]".into(), "body:1:3: unknown key"),
    ] {
        let refused = post(&text);
        assert!(refused.status == 422 && refused.text().contains(expected), "{}", refused.text());
    }
    // Files that are not there are not looked for.
    let files = format!("{more}ring = {{ secret_file = \"/nowhere/s\" }}\ntls = {{ ca = \"/nowhere/ca\" }}\n");
    assert_eq!(post(&files).status, 200, "{}", post(&files).text());
    assert_eq!(ringway.admin_get("/api/v1/plan").unwrap().status, 405);
    let status: Value = serde_json::from_str(ringway.admin_get("/api/v1/status").unwrap().text()).unwrap();
    assert_eq!(status["generation"], 1);
    drop(origins);
}

#[test]
fn the_command_compares_a_file_with_what_runs_and_counts_the_traffic_of_now() {
    let (origins, upstream) = fleet(&["a", "b"]);
    let ringway = Ringway::start(&format!("{BY_PATH}{upstream}"));
    let mut client = ringway.client();
    // One key is nine tenths of the traffic.
    for number in 0..200 {
        client.get(&if number % 10 == 0 { format!("/{number}") } else { "/hot".into() }).unwrap();
    }
    let admin = format!("http://{}", ringway.admin);
    let folder = tempfile::tempdir().unwrap();
    let main = config(&["a", "b", "c"], "").replace("10.0.0.1:80", "${NO_SUCH_NAME:-10.0.0.1}:80");
    let (front, upstreams) = main.split_once("[upstream.u]").unwrap();
    let new = written(folder.path(), "new.toml", &format!("include = [\"u.toml\"]\n{front}"));
    written(folder.path(), "u.toml", &format!("[upstream.u]{upstreams}"));
    let plan = |more: &[&str]| command(&[&["plan", "--admin", &admin], more].concat());

    let told = plan(&[&new, "--json"]);
    let json: Value = serde_json::from_slice(&told.stdout).expect("a plan");
    let (keys, live) = (json["moved"].as_f64().unwrap(), &json["live"][0]);
    assert!(told.status.code() == Some(3) && (0.2..0.5).contains(&keys), "{json}");
    assert_eq!(live["requests"], 200, "{live}");
    let moved = live["moved"].as_f64().unwrap();
    let hot_moves = moved > 0.5;
    assert!((moved - if hot_moves { 0.9 } else { 0.0 }).abs() <= 0.1, "the hot key counts for what it is: {live}");
    let text = String::from_utf8(plan(&[&new]).stdout).unwrap();
    let percent = format!("{:.2}%", moved * 100.0);
    let line = format!("traffic of now, upstream u  {percent} of its requests move, by 200 of the last minute");
    assert!(text.contains(&line) && text.contains("  + c "), "{text}");
    let largest = keys.max(moved);
    let limit = |share: f64| plan(&[&new, "--max-moved", &format!("{:.1}%", share * 100.0)]).status.code();
    assert_eq!((limit(largest + 0.01), limit(largest - 0.01)), (Some(3), Some(4)));

    let same = written(folder.path(), "same.toml", &config(&["b", "a"], ""));
    assert_eq!(plan(&[&same]).status.code(), Some(0));
    let bad = written(folder.path(), "bad.toml", "\n[[listner]]\n");
    let refused = plan(&[&bad]);
    let told = String::from_utf8_lossy(&refused.stderr).to_string();
    assert!(refused.status.code() == Some(2) && told.contains("bad.toml:2:3: unknown key"), "{told}");
    assert_eq!(plan(&[&same, &new]).status.code(), Some(2));
    assert_eq!(plan(&["/nowhere.toml"]).status.code(), Some(2));
    assert_eq!(command(&["plan", &same, &new, "--token-file", &same]).status.code(), Some(2));
    let nobody = crate::harness::free_address();
    assert_eq!(command(&["plan", "--admin", &format!("http://{nobody}"), &new]).status.code(), Some(1));
    assert_eq!(ringway.generation(), 1, "nothing has changed");
    drop(origins);
}
