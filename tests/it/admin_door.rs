//! Who may come in by the operators' door, and what they may change there.
use crate::harness::http::Client;
use crate::harness::program::{Ringway, command};
use crate::harness::wait_for;
use crate::hashing::{BY_PATH, fleet, upstream};
use std::process::{Command, Output};

/// A proxy whose admin interface wants the token in `admin.token`.
fn with_token(token: &str) -> (Vec<crate::harness::origin::Origin>, Ringway, std::path::PathBuf) {
    let (origins, upstream) = fleet(&["a", "b"]);
    let folder = tempfile::tempdir().unwrap().keep();
    let path = folder.join("admin.token");
    std::fs::write(&path, format!("{token}\n")).unwrap();
    let admin = format!("[admin]\naddress = \"ADMIN\"\ntoken_file = \"{}\"\n", path.display());
    let ringway = Ringway::start(&format!("{admin}{BY_PATH}{upstream}"));
    (origins, ringway, path)
}

fn status(ringway: &Ringway, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
    let body = (method == "POST").then_some(&b""[..]);
    Client::new(ringway.admin).request(method, path, headers, body).unwrap().status
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_token_is_needed_for_all_but_probes_and_scrapes() {
    let (_origins, ringway, path) = with_token("correct-horse-battery");
    let good = ("Authorization", "Bearer correct-horse-battery");
    for (method, path) in [
        ("GET", "/api/v1/status"),
        ("GET", "/api/v1/config"),
        ("GET", "/api/v1/history"),
        ("GET", "/nothing"),
        ("POST", "/api/v1/reload"),
        ("POST", "/api/v1/loglevel"),
        ("POST", "/api/v1/upstreams/u/endpoints/a/drain"),
    ] {
        let json = ("Content-Type", "application/json");
        for wrong in [&[json][..], &[json, ("Authorization", "Bearer wrong")], &[json, ("Authorization", "Bearer")]] {
            assert_eq!(status(&ringway, method, path, wrong), 401, "{method} {path} {wrong:?}");
        }
        assert_ne!(status(&ringway, method, path, &[good]), 401, "{method} {path}");
        assert_eq!(status(&ringway, method, path, &[good, ("Host", "evil.example")]), 403, "{method} {path}");
        assert_eq!(status(&ringway, method, path, &[good, ("X-Forwarded-For", "1.1.1.1")]), 403, "{method} {path}");
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(status(&ringway, "GET", path, &[]), 200, "{path}");
    }
    let refusal = Client::new(ringway.admin).get("/api/v1/status").unwrap();
    assert_eq!(refusal.header("www-authenticate"), Some("Bearer"));

    // Read again at a reload, although no configuration changed.
    std::fs::write(&path, "another-horse-battery").unwrap();
    assert_eq!(status(&ringway, "POST", "/api/v1/reload", &[good]), 200);
    assert_eq!(status(&ringway, "GET", "/api/v1/status", &[good]), 401);
    assert_eq!(status(&ringway, "GET", "/api/v1/status", &[("Authorization", "Bearer another-horse-battery")]), 200);
    assert!(!ringway.stderr().contains("horse"), "a token is never logged");
}

#[test]
fn commands_show_the_token_by_file_or_environment() {
    let (_origins, ringway, path) = with_token("correct-horse-battery");
    let admin = format!("http://{}", ringway.admin);
    let without = command(&["status", "--admin", &admin]);
    assert_eq!(without.status.code(), Some(1));
    assert!(said(&without).contains("give --token-file FILE, or set RINGWAY_TOKEN"), "{}", said(&without));
    let file = path.to_str().unwrap();
    for arguments in [&["status"][..], &["reload"], &["drain", "a", "--wait"], &["undrain", "a"], &["explain", "/x"]] {
        let output = command(&[arguments, &["--admin", &admin, "--token-file", file]].concat());
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", said(&output));
    }
    let program = std::env::var("RINGWAY_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_ringway").into());
    let by_environment = Command::new(program)
        .args(["status", "--admin", &admin])
        .env("RINGWAY_TOKEN", "correct-horse-battery")
        .output()
        .unwrap();
    assert_eq!(by_environment.status.code(), Some(0), "{}", said(&by_environment));
    let missing = command(&["status", "--admin", &admin, "--token-file", "/nowhere"]);
    assert!(said(&missing).contains("read the token in /nowhere"), "{}", said(&missing));
    let other = command(&["status", "--admin", "ftp://127.0.0.1:1"]);
    assert!(said(&other).contains("is not the URL of an admin interface"), "{}", said(&other));
}

#[test]
fn an_endpoint_that_is_the_admin_address_reaches_nothing() {
    let origins = fleet(&["a"]).0;
    let own = "[[route]]\nupstream = \"own\"\npath_prefix = \"/api\"\nvia = false\n[[route]]\nupstream = \"own\"\npath = \"/metrics\"\n";
    let upstreams = format!(
        "{}[upstream.own]\nendpoints = [{{ id = \"admin\", address = \"ADMIN\" }}]\n",
        upstream(&origins.iter().collect::<Vec<_>>())
    );
    let ringway = Ringway::start(&format!("{BY_PATH}{own}{upstreams}"));
    let host = ringway.admin.to_string();
    for path in ["/api/v1/status", "/metrics"] {
        let answer = ringway.client().request("GET", path, &[("Host", &host)], None).unwrap();
        assert_eq!(answer.status, 403, "{path}: {}", answer.text());
    }
    let json = [("Host", host.as_str()), ("Content-Type", "application/json")];
    assert_eq!(ringway.client().request("POST", "/api/v1/reload", &json, Some(b"")).unwrap().status, 403);
    assert!(ringway.stderr().contains("is this proxy's own admin address"), "{}", ringway.stderr());
}

#[test]
fn history_tells_what_changed_and_what_moved() {
    let (origins, both) = fleet(&["a", "b"]);
    let ringway = Ringway::start(&format!("{BY_PATH}{both}"));
    ringway.rewrite_config(&format!("{BY_PATH}{}", upstream(&[&origins[0]])));
    ringway.rewrite_config("nonsense");
    ringway.admin_post("/api/v1/upstreams/u/endpoints/a/drain", "").unwrap();
    let history = ringway.admin_get("/api/v1/history").unwrap();
    let history: serde_json::Value = serde_json::from_str(history.text()).unwrap();
    let changes = history.as_array().unwrap();
    let causes: Vec<&str> = changes.iter().map(|change| change["cause"].as_str().unwrap()).collect();
    assert_eq!(causes, ["drain", "file", "start"], "newest first, and what was refused changed nothing");
    assert_eq!(changes[0]["what"][0], "endpoint u/a");
    assert_eq!(changes[1]["what"][0], "endpoint u/b removed");
    assert_eq!(changes[1]["generation"], 2);
    let moved = changes[1]["upstreams"][0]["moved"].as_f64().unwrap();
    assert!((0.3..0.7).contains(&moved), "{moved}");
    assert_eq!(changes[1]["upstreams"][0]["fingerprint"].as_str().unwrap().len(), 16);
    assert!(changes[0]["time"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn the_log_level_can_be_raised_until_the_file_says_otherwise() {
    let (_origins, upstream) = fleet(&["a"]);
    let ringway = Ringway::start(&format!("{BY_PATH}{upstream}"));
    let level = || ringway.admin_get("/api/v1/loglevel").unwrap().text().to_string();
    assert!(level().contains("\"info\""), "{}", level());
    let set = |body: &str| ringway.admin_post("/api/v1/loglevel", body).unwrap().status;
    assert_eq!(set("{\"level\": \"debug\"}"), 200);
    assert!(level().contains("\"debug\""), "{}", level());
    ringway.client().get("/").unwrap();
    for wrong in ["", "debug", "{\"level\": \"loud\"}", "{}", &" ".repeat(10_000)] {
        assert_eq!(set(wrong), 400, "{wrong}");
    }
    ringway.rewrite_config(&format!("{BY_PATH}{upstream}# changed\n"));
    assert!(level().contains("\"debug\""), "another change leaves it");
    ringway.rewrite_config(&format!("[log]\nlevel = \"warn\"\n{BY_PATH}{upstream}"));
    assert!(level().contains("\"warn\""), "{}", level());
}

#[test]
fn the_ring_and_the_configuration_are_shown_without_secrets() {
    let (_origins, upstream) = fleet(&["a", "b"]);
    let check = "[upstream.u.health_check]\nheaders = { Authorization = \"Bearer hunter2\" } # token hunter2\n";
    let ringway = Ringway::start(&format!("{BY_PATH}{upstream}{check}"));
    let config = ringway.admin_get("/api/v1/config").unwrap();
    assert!(config.text().contains("{ Authorization = \"***\" } # ***"), "{}", config.text());
    assert!(!config.text().contains("hunter2"));
    let ring = ringway.admin_get("/api/v1/upstreams/u/ring").unwrap();
    let ring: serde_json::Value = serde_json::from_str(ring.text()).unwrap();
    assert_eq!((&ring["points"], &ring["algorithm"]), (&320.into(), &"ringway".into()));
    let share = |index: usize| ring["endpoints"][index]["share"].as_f64().unwrap();
    assert!((share(0) + share(1) - 1.0).abs() < 1e-9);
    assert_eq!(ringway.admin_get("/api/v1/upstreams/none/ring").unwrap().status, 404);
}

#[test]
fn beyond_loopback_a_token_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.toml");
    let check = |admin: &str| {
        let rest = "[[listener]]\naddress = \"127.0.0.1:0\"\n[[route]]\nupstream = \"u\"\n[upstream.u]\nendpoints = [{ id = \"a\", address = \"127.0.0.1:1\" }]\n";
        std::fs::write(&path, format!("[admin]\n{admin}\n{rest}")).unwrap();
        let output = command(&["check", "-c", path.to_str().unwrap()]);
        (output.status.code(), said(&output))
    };
    let (code, told) = check("address = \"0.0.0.0:9900\"");
    assert!(code == Some(2) && told.contains("r.toml:2:11: \"0.0.0.0:9900\" is not a loopback address"), "{told}");
    let token = folder.path().join("t");
    let with = format!("address = \"0.0.0.0:9900\"\ntoken_file = \"{}\"", token.display());
    let (code, told) = check(&with);
    assert!(code == Some(2) && told.contains("r.toml:3:14:") && told.contains("cannot be read"), "{told}");
    std::fs::write(&token, "two words").unwrap();
    assert!(check(&with).1.contains("does not hold a token"), "{}", check(&with).1);
    std::fs::write(&token, "short\n").unwrap();
    let (code, told) = check(&with);
    assert!(code == Some(0) && told.contains("a token that can be guessed"), "{told}");
}

#[test]
fn a_new_token_that_cannot_be_read_keeps_the_old_one() {
    let (_origins, ringway, path) = with_token("correct-horse-battery");
    let good = ("Authorization", "Bearer correct-horse-battery");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(status(&ringway, "POST", "/api/v1/reload", &[good]), 422);
    assert_eq!(status(&ringway, "GET", "/api/v1/status", &[good]), 200);
    wait_for("the log", || ringway.stderr().contains("cannot be read").then_some(()));
}
