//! The operators' door.
use crate::harness::http::Client;
use crate::harness::program::Ringway;
use crate::hashing::{BY_PATH, fleet};
use crate::skip;
use std::io::Write;
use std::process::{Command, Stdio};

#[test]
fn prometheus_accepts_the_metrics() {
    let (_origins, upstream) = fleet(&["a", "b"]);
    let ringway = Ringway::start(&format!("{BY_PATH}{upstream}"));
    ringway.client().get("/").unwrap();
    let text = ringway.admin_get("/metrics").unwrap();
    let tool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut tool) = tool else { skip!("promtool is not installed (Debian: prometheus)") };
    tool.stdin.take().unwrap().write_all(&text.body).unwrap();
    let output = tool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

#[test]
fn status_config_and_upstreams_tell_what_runs() {
    let (origins, upstream) = fleet(&["a", "b"]);
    let ringway = Ringway::start(&format!("{BY_PATH}{upstream}"));
    ringway.client().get("/").unwrap();
    let status: serde_json::Value = serde_json::from_str(ringway.admin_get("/api/v1/status").unwrap().text()).unwrap();
    assert_eq!((&status["ready"], &status["generation"], &status["workers"]), (&true.into(), &1.into(), &2.into()));
    let endpoint = &status["upstreams"][0]["endpoints"][0];
    assert_eq!((&endpoint["id"], &endpoint["state"]), (&"a".into(), &"up".into()));
    assert_eq!(endpoint["address"], origins[0].address.to_string());
    assert!(ringway.admin_get("/api/v1/config").unwrap().text().contains("key = [\"path\"]"));
    assert_eq!(ringway.admin_get("/healthz").unwrap().status, 200);
    assert_eq!(ringway.admin_get("/nothing").unwrap().status, 404);
    let unknown = ringway.admin_get("/api/v1/upstreams/u/explain?key=x").unwrap();
    assert!(unknown.text().contains("\"owner\""), "{}", unknown.text());
}

#[test]
fn calls_through_a_proxy_or_from_elsewhere_are_refused() {
    let (_origins, upstream) = fleet(&["a"]);
    let ringway = Ringway::start(&format!("{BY_PATH}{upstream}"));
    let status = |headers: &[(&str, &str)]| {
        Client::new(ringway.admin).request("GET", "/api/v1/status", headers, None).unwrap().status
    };
    assert_eq!(status(&[]), 200);
    assert_eq!(status(&[("Via", "1.1 x")]), 403);
    assert_eq!(status(&[("X-Forwarded-For", "1.1.1.1")]), 403);
    assert_eq!(status(&[("Origin", "http://evil.example")]), 403);
    let post = Client::new(ringway.admin).request("POST", "/api/v1/reload", &[], Some(b"")).unwrap();
    assert_eq!(post.status, 403, "POST needs a content type that no form has");
}

#[test]
fn the_access_log_tells_each_request_and_survives_rotation() {
    let (_origins, upstream) = fleet(&["a", "b"]);
    let log = "[log]\naccess_path = \"access.log\"\n";
    let ringway = Ringway::start(&format!("{log}{BY_PATH}{upstream}"));
    let path = ringway.folder().join("access.log");
    let lines = |path: &std::path::Path| -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let response = ringway.client().get("/x?y=\"").unwrap();
    let line = crate::harness::wait_for("a line", || lines(&path).into_iter().next());
    assert_eq!((&line["path"], &line["status"], &line["position"]), (&"/x?y=\"".into(), &200.into(), &"owner".into()));
    assert_eq!(line["endpoint"], response.header("x-origin").unwrap());
    assert_eq!((&line["key_source"], &line["attempts"], &line["upstream"]), (&"path".into(), &1.into(), &"u".into()));
    let old = ringway.folder().join("access.log.1");
    std::fs::rename(&path, &old).unwrap();
    ringway.signal("USR1");
    crate::harness::wait_for("the new file", || path.exists().then_some(()));
    ringway.client().get("/after").unwrap();
    crate::harness::wait_for("a line in the new file", || (!lines(&path).is_empty()).then_some(()));
    assert_eq!(lines(&old).len() + lines(&path).len(), 2);
}
