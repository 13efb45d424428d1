//! What is shipped around the program: units, alert rules, the board. Each is put before the tool that will read it, and every
//! query before a real Prometheus that has scraped a real Ringway.
use crate::harness::free_address;
use crate::harness::http::Client;
use crate::harness::program::{Ringway, command, program};
use crate::harness::wait_for;
use crate::hashing::{BY_PATH, fleet};
use crate::skip;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

fn shipped(path: &str) -> String {
    format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))
}

/// Runs a tool; nothing when it is not installed.
fn tool(name: &str, arguments: &[&str]) -> Option<Output> {
    Command::new(name).args(arguments).stdin(Stdio::null()).output().ok()
}

#[track_caller]
fn assert_fine(output: &Output) {
    let said = [&output.stdout[..], &output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn systemd_takes_the_unit() {
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("ringway.service");
    let text = fs::read_to_string(shipped("deploy/ringway.service")).unwrap();
    fs::write(&unit, text.replace("/usr/local/bin/ringway", program().to_str().unwrap())).unwrap();
    let Some(output) = tool("systemd-analyze", &["verify", unit.to_str().unwrap()]) else {
        skip!("systemd-analyze is not installed")
    };
    assert_fine(&output);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "systemd has something to say about it");
}

#[test]
fn the_configuration_of_the_containers_is_fine() {
    assert_fine(&command(&["check", "-c", &shipped("docker/conf/ringway.toml")]));
    let manifest = fs::read_to_string(shipped("deploy/kubernetes.yaml")).unwrap();
    let indented = manifest.split("ringway.toml: |\n").nth(1).unwrap().split("\n---").next().unwrap();
    let toml: String = indented.lines().map(|line| format!("{}\n", line.trim_start_matches("    "))).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ringway.toml");
    fs::write(&path, toml).unwrap();
    assert_fine(&command(&["check", "-c", path.to_str().unwrap()]));
}

#[test]
fn prometheus_takes_the_rules_and_they_fire_when_they_should() {
    let folder = shipped("docker/prometheus");
    let run = |arguments: &[&str]| {
        Command::new("promtool").args(arguments).current_dir(&folder).stdin(Stdio::null()).output().ok()
    };
    let Some(output) = run(&["check", "config", "prometheus.yml"]) else { skip!("promtool is not installed") };
    assert_fine(&output);
    assert_fine(&run(&["check", "rules", "rules.yml"]).unwrap());
    assert_fine(&run(&["test", "rules", "rules_test.yml"]).unwrap());
}

/// Series that only come into being when something goes wrong, or changes.
const QUIET: [&str; 6] = ["5..", "retries", "retry_budget", "errors", "connections_refused", "== 0"];

#[test]
fn every_query_of_the_board_and_the_rules_is_answered() {
    let (_origins, upstream) = fleet(&["a", "b"]);
    let ringway = Ringway::start(&format!("{BY_PATH}{upstream}"));
    let Some(prometheus) = Prometheus::start(ringway.admin) else { skip!("prometheus is not installed") };
    let mut client = ringway.client();
    // Rates want two scrapes that differ.
    wait_for("two scrapes with requests", || {
        client.get("/x").unwrap();
        let rate = prometheus.query("sum(rate(ringway_requests_total[1m]))");
        rate.pointer("/0/value/1").filter(|rate| *rate != "0").cloned()
    });
    let mut queries = board_queries();
    queries.extend(rule_queries());
    assert!(queries.len() > 30, "{}", queries.len());
    for query in queries {
        let query = query.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$upstream", ".*");
        let found = prometheus.query(&query);
        // An alert's condition does not hold now: ask for what it compares.
        let is_quiet =
            QUIET.iter().any(|quiet| query.contains(quiet)) || query.contains(" > ") || query.contains(" < ");
        assert!(is_quiet || found.as_array().is_some_and(|series| !series.is_empty()), "{query} finds nothing");
    }
}

fn board_queries() -> Vec<String> {
    let text = fs::read_to_string(shipped("docker/grafana/ringway.json")).unwrap();
    let board: serde_json::Value = serde_json::from_str(&text).unwrap();
    let targets =
        board["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let annotations = board["annotations"]["list"].as_array().unwrap().iter();
    targets.chain(annotations).map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

/// The expressions of `rules.yml`, on one line or as a block.
fn rule_queries() -> Vec<String> {
    let text = fs::read_to_string(shipped("docker/prometheus/rules.yml")).unwrap();
    let after = text.split("expr: ").skip(1);
    after
        .map(|rest| match rest.strip_prefix("|\n") {
            Some(block) => block.lines().take_while(|line| line.starts_with("          ")).collect(),
            None => rest.lines().next().unwrap().to_owned(),
        })
        .collect()
}

/// A real Prometheus that scrapes one address five times a second. Dropping it kills it.
struct Prometheus {
    address: SocketAddr,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    fn start(target: SocketAddr) -> Option<Self> {
        let (folder, address) = (tempfile::tempdir().unwrap(), free_address());
        let config = folder.path().join("prometheus.yml");
        let scrape =
            "global: { scrape_interval: 200ms, scrape_timeout: 200ms }\nscrape_configs:\n  - job_name: ringway\n";
        fs::write(&config, format!("{scrape}    static_configs: [{{ targets: [\"{target}\"] }}]\n")).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", Path::join(folder.path(), "data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let prometheus = Self { address, child, _folder: folder };
        wait_for("Prometheus", || Client::new(address).get("/-/ready").ok().filter(|ready| ready.status == 200));
        Some(prometheus)
    }

    /// The series a query finds.
    #[track_caller]
    fn query(&self, query: &str) -> serde_json::Value {
        let path = format!("/api/v1/query?query={}", utf8_percent_encode(query, NON_ALPHANUMERIC));
        let response = Client::new(self.address).get(&path).unwrap();
        let mut answer: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].take()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}
