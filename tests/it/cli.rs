//! Commands and exit codes.
use crate::harness::http::Client;
use crate::harness::program::{Ringway, command, program};
use crate::harness::wait_for;
use crate::hashing::{BY_PATH, fleet};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn file(name: &str) -> String {
    format!("{}/config/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn check_sums_a_good_file_up_and_lists_all_that_is_wrong_with_a_bad_one() {
    for arguments in [vec!["check", "-c"], vec!["-t", "-c"]] {
        let path = file("minimal.toml");
        let output = command(&[arguments.as_slice(), &[path.as_str()]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let said = text(&output.stdout);
        assert!(said.contains("2 endpoints, 320 points") && said.contains("expected peak/mean"), "{said}");
    }
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad.toml");
    std::fs::write(&bad, "[server]\nworkers = 0\n[[listner]]\n").unwrap();
    let output = command(&["check", "-c", bad.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("bad.toml:2:11:") && said.contains("bad.toml:3:3: unknown key \"listner\""), "{said}");
    let missing = command(&["run", "-c", "/nowhere.toml"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).contains("/nowhere.toml: cannot be read"), "{}", text(&missing.stderr));
}

#[test]
fn ring_tells_and_draws_who_owns_how_much() {
    let folder = tempfile::tempdir().unwrap();
    let (path, svg) = (folder.path().join("r.toml"), folder.path().join("ring.svg"));
    let endpoints = |count: usize| -> String {
        (0..count).map(|n| format!("{{ id = \"e{n}\", address = \"10.0.0.1:{}\" }}, ", n + 1)).collect()
    };
    let listen = "[[listener]]\naddress = \"127.0.0.1:0\"\n[[route]]\nupstream = \"small\"\nkey = [\"path\"]\n";
    let ketama = "ring = { algorithm = \"ketama\" }\n";
    let (few, many) = (endpoints(3), endpoints(200));
    let config =
        format!("{listen}[upstream.small]\nendpoints = [{few}]\n{ketama}[upstream.large]\nendpoints = [{many}]\n");
    std::fs::write(&path, config).unwrap();
    let config = path.to_str().unwrap();
    let output = command(&["ring", "-c", config, "--svg", svg.to_str().unwrap()]);
    let said = text(&output.stdout);
    assert!(
        said.contains("upstream large  ringway, 160 vnodes, 2 probes") && said.contains("200 endpoints, 32000 points"),
        "{said}"
    );
    let drawn = std::fs::read_to_string(&svg).unwrap();
    assert!(
        drawn.starts_with("<svg ") && drawn.contains("small (ketama)") && drawn.contains("prefers-color-scheme:dark")
    );
    let output = command(&["ring", "-c", config, "--upstream", "small", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&text(&output.stdout)).unwrap();
    let ring = &told["upstreams"][0];
    assert_eq!((ring["points"].as_u64(), ring["algorithm"].as_str()), (Some(480), Some("ketama")));
    let shares = ring["endpoints"].as_array().unwrap().iter().map(|endpoint| endpoint["share"].as_f64().unwrap());
    assert!((shares.sum::<f64>() - 1.0).abs() < 1e-9);
    let output = command(&["ring", "-c", config, "--upstream", "smal"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
}

#[test]
fn wrong_usage_is_exit_code_2_and_a_taken_port_is_1() {
    assert_eq!(command(&["fly"]).status.code(), Some(2));
    assert_eq!(command(&[]).status.code(), Some(2));
    assert_eq!(command(&["--version"]).status.code(), Some(0));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = command(&["demo", "--port", &port, "--admin-port", "0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(&format!("listen on 127.0.0.1:{port}")), "{}", text(&output.stderr));
}

#[test]
fn an_access_log_that_cannot_be_written_is_told_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("r.toml");
    let minimal = std::fs::read_to_string(file("minimal.toml")).unwrap();
    let text_of = format!(
        "{}\n[admin]\naddress = \"127.0.0.1:0\"\n[log]\naccess_path = \"/nowhere/a.log\"\n",
        minimal.replace("127.0.0.1:8080", "127.0.0.1:0")
    );
    std::fs::write(&config, text_of).unwrap();
    let output = command(&["run", "-c", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("open the access log /nowhere/a.log"), "{}", text(&output.stderr));
}

#[test]
fn status_and_reload_talk_to_a_running_proxy() {
    let (_origins, upstream) = fleet(&["a", "b"]);
    let ringway = Ringway::start(&format!("{BY_PATH}{upstream}"));
    let admin = format!("http://{}", ringway.admin);
    let status = command(&["status", "--admin", &admin]);
    assert!(text(&status.stdout).contains("generation 1"), "{}{}", text(&status.stdout), text(&status.stderr));
    let reload = command(&["reload", "--admin", &admin]);
    assert_eq!((reload.status.code(), text(&reload.stdout).as_str()), (Some(0), "nothing has changed\n"));
    let explain = command(&["explain", "--admin", &admin, "http://x/k", "-H", "x-a: b"]);
    assert!(text(&explain.stdout).contains("\nowner  "), "{}{}", text(&explain.stdout), text(&explain.stderr));
    let nobody = command(&["status", "--admin", "http://127.0.0.1:1"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(text(&nobody.stderr).contains("is the proxy running?"), "{}", text(&nobody.stderr));
}

#[test]
fn the_demo_serves_and_says_what_to_try() {
    let program = std::env::var("RINGWAY_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_ringway").into());
    let mut demo = Command::new(program)
        .args(["demo", "--port", "0", "--admin-port", "0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let tries: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.contains("Ctrl-C")).collect();
    let tries: Vec<&String> = tries.iter().filter(|line| line.trim_start().starts_with("curl ")).collect();
    assert_eq!(tries.len(), 3);
    for line in &tries {
        let url = line.split([' ', '\'']).find(|word| word.starts_with("http://")).unwrap();
        let (address, path) = url.trim_start_matches("http://").split_once('/').unwrap();
        let response = Client::new(address.parse().unwrap()).get(&format!("/{path}")).unwrap();
        assert_eq!(response.status, 200, "{line}");
    }
    let killed = Command::new("sh").args(["-c", &format!("kill -TERM {}", demo.id())]).status().unwrap();
    assert!(killed.success());
    let status = wait_for("the demo's end", || demo.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

#[test]
fn the_schema_and_completions_are_printed() {
    let schema = command(&["schema"]);
    let value: serde_json::Value = serde_json::from_slice(&schema.stdout).unwrap();
    assert_eq!(value["properties"]["listener"]["items"]["required"], serde_json::json!(["address"]));
    for (shell, expected) in [("bash", "complete -F"), ("zsh", "#compdef ringway"), ("fish", "complete -c ringway")] {
        let said = text(&command(&["completions", shell]).stdout);
        assert!(said.contains(expected) && said.contains("explain"), "{shell}: {said}");
    }
    assert_eq!(command(&["completions", "cmd.com"]).status.code(), Some(2));
}

#[test]
fn the_help_of_a_command_has_examples() {
    let list = text(&command(&["--help"]).stdout);
    assert!(list.contains("EXIT CODES") && list.contains("SIGHUP"), "{list}");
    for name in ["run", "demo", "check", "explain", "status", "reload", "drain", "undrain", "schema", "completions"] {
        let said = text(&command(&[name, "--help"]).stdout);
        assert!(said.contains(&format!("EXAMPLES\n  ringway {name}")), "{said}");
        let short = text(&command(&[name, "-h"]).stdout);
        assert!(!short.contains("EXAMPLES"), "-h is the short one: {short}");
    }
}

#[test]
fn a_probe_is_told_whether_the_proxy_is_ready() {
    let (_origins, upstream) = fleet(&["a"]);
    let ringway = Ringway::start(&format!("{BY_PATH}{upstream}"));
    let admin = format!("http://{}", ringway.admin);
    let ready = command(&["status", "--ready", "--admin", &admin]);
    assert_eq!((ready.status.code(), ready.stdout.len()), (Some(0), 0), "{}", text(&ready.stderr));
    drop(ringway);
    assert_eq!(command(&["status", "--ready", "--admin", &admin]).status.code(), Some(1));
}

#[test]
fn a_reader_that_has_seen_enough_ends_a_command_without_a_word() {
    let config = file("cache-fleet.toml");
    for arguments in
        [&["ring", "-c", &config][..], &["explain", "-c", &config, "/"], &["schema"], &["completions", "bash"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(program()).args(arguments).stdout(writer).output().unwrap();
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(141), String::new()), "{arguments:?}");
    }
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = Command::new(program()).args(["check", "-c", "/nowhere.toml"]).stderr(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(141));
}
