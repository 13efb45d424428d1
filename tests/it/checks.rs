//! Active health checks against servers that fail them, each in its own way.
use crate::harness::nginx::Nginx;
use crate::harness::origin::{Origin, Script};
use crate::harness::program::Ringway;
use crate::harness::python::{FileServer, GrpcServer};
use crate::harness::wait_for;
use crate::hashing::{BY_PATH, fleet, upstream};
use crate::skip;
use std::net::SocketAddr;
use std::time::Duration;

/// A check that finds out fast; further keys may follow it.
const CHECK: &str = "[upstream.u.health_check]\ninterval = \"20ms\"\n";

fn endpoints(endpoints: &[(&str, SocketAddr)]) -> String {
    let lines = endpoints.iter().map(|(id, address)| format!("{{ id = \"{id}\", address = \"{address}\" }}, "));
    format!("[upstream.u]\nendpoints = [{}]\n", lines.collect::<String>())
}

#[track_caller]
fn wait_until(ringway: &Ringway, id: &str, is_up: bool) {
    let what = format!("{id} to be {}", if is_up { "up" } else { "down" });
    let up = || ringway.metrics().sum_of("ringway_endpoint_up", &[("endpoint", id)]);
    wait_for(&what, || (up() == f64::from(u8::from(is_up))).then_some(()));
}

fn endpoint(ringway: &Ringway, id: &str) -> serde_json::Value {
    let status: serde_json::Value = serde_json::from_str(ringway.admin_get("/api/v1/status").unwrap().text()).unwrap();
    let all = status["upstreams"][0]["endpoints"].as_array().unwrap();
    all.iter().find(|endpoint| endpoint["id"] == id).unwrap().clone()
}

fn unhealthy() -> Script {
    Script { status: 500, ..Script::default() }
}

#[test]
fn a_file_server_without_its_file_is_down_until_it_is_back() {
    let Some(python) = FileServer::start() else { skip!("there is no python3 (Debian: python3)") };
    python.write("healthz", "all is well\n");
    python.write("x", "x\n");
    let other = Origin::start("other");
    let upstream = endpoints(&[("python", python.address), ("other", other.address)]);
    let ringway = Ringway::start(&format!("{BY_PATH}{upstream}{CHECK}expect_body = \"is well\"\n"));
    let checks = |result| {
        let labels = [("endpoint", "python"), ("result", result)];
        ringway.metrics().sum_of("ringway_health_checks_total", &labels)
    };
    wait_for("checks", || (checks("success") >= 3.0).then_some(()));
    // The other one says another text: its very first check marked it down.
    wait_until(&ringway, "other", false);
    assert!(endpoint(&ringway, "other")["last_check"]["problem"].as_str().unwrap().contains("find the expected text"));
    python.remove("healthz");
    wait_until(&ringway, "python", false);
    assert!(checks("failure") >= 3.0, "it takes three failures");
    assert!(endpoint(&ringway, "python")["last_check"]["problem"].as_str().unwrap().contains("it was 404"));
    python.write("healthz", "all is well\n");
    wait_until(&ringway, "python", true);
    assert_eq!(ringway.client().get("/x").unwrap().text(), "x\n", "the one that is up serves every key");
}

#[test]
fn an_nginx_that_died_is_down_and_comes_back() {
    let (Some(mut a), Some(b)) = (Nginx::start("a"), Nginx::start("b")) else {
        skip!("nginx is not installed (Debian: nginx-light)")
    };
    let upstream = endpoints(&[("a", a.address), ("b", b.address)]);
    // Ejections would hide what the checks do.
    let outlier = "[upstream.u.outlier]\nmax_ejected = \"0%\"\n";
    let ringway = Ringway::start(&format!("{BY_PATH}{upstream}{outlier}{CHECK}"));
    let mut client = ringway.client();
    let path = (0..).map(|n| format!("/{n}")).find(|path| client.get(path).unwrap().header("x-origin") == Some("a"));
    let path = path.unwrap();
    let generation = ringway.generation();
    a.kill();
    wait_until(&ringway, "a", false);
    assert_eq!(client.get(&path).unwrap().header("x-origin"), Some("b"));
    let retries = ringway.metrics().sum("ringway_retries_total");
    client.get(&path).unwrap();
    assert_eq!(ringway.metrics().sum("ringway_retries_total"), retries, "nobody tries the dead one any more");
    let explained = ringway.admin_get(&format!("/api/v1/explain?url={path}")).unwrap();
    assert!(explained.text().contains("\"skipped\": \"down: its health checks fail\""), "{}", explained.text());
    assert!(explained.text().contains("\"owner\": \"a\""), "the mask is not the ring: {}", explained.text());
    a.restart();
    wait_until(&ringway, "a", true);
    assert_eq!(client.get(&path).unwrap().header("x-origin"), Some("a"), "its keys come home");
    assert_eq!(ringway.generation(), generation, "a verdict is no new generation");
}

#[test]
fn a_connection_is_enough_for_a_tcp_check_also_at_another_port() {
    let mut a = Origin::start("a");
    let listening = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listening.local_addr().unwrap().port();
    let upstream = endpoints(&[("a", a.address), ("b", "127.0.0.1:1".parse().unwrap())]);
    let ringway = Ringway::start(&format!("{BY_PATH}{upstream}{CHECK}kind = \"tcp\"\n"));
    wait_until(&ringway, "b", false);
    a.script(unhealthy());
    assert_eq!(endpoint(&ringway, "a")["state"], "up", "nobody asks what it says");
    ringway.rewrite_config(&format!("{BY_PATH}{upstream}{CHECK}kind = \"tcp\"\nport = {port}\n"));
    wait_until(&ringway, "b", true);
    ringway.rewrite_config(&format!("{BY_PATH}{upstream}{CHECK}kind = \"tcp\"\n"));
    wait_until(&ringway, "b", false);
    a.stop();
    wait_until(&ringway, "a", false);
}

#[test]
fn a_grpc_server_is_asked_by_the_health_protocol() {
    let Some(mut grpc) = GrpcServer::start() else {
        skip!("Python has no grpcio and grpcio-health-checking (pip: grpcio grpcio-health-checking)")
    };
    let other = Origin::start("other");
    let upstream = endpoints(&[("grpc", grpc.address), ("other", other.address)]);
    let ringway = Ringway::start(&format!("{BY_PATH}{upstream}{CHECK}kind = \"grpc\"\n"));
    wait_until(&ringway, "other", false);
    wait_for("a check", || (endpoint(&ringway, "grpc")["last_check"]["ok"] == true).then_some(()));
    grpc.set("", "NOT_SERVING");
    wait_until(&ringway, "grpc", false);
    assert!(endpoint(&ringway, "grpc")["last_check"]["problem"].as_str().unwrap().contains("it said NOT_SERVING"));
    grpc.set("", "SERVING");
    wait_until(&ringway, "grpc", true);
    let service = format!("{BY_PATH}{upstream}{CHECK}kind = \"grpc\"\nservice = \"cart.v1.Cart\"\n");
    ringway.rewrite_config(&service);
    wait_until(&ringway, "grpc", false);
    let problem = endpoint(&ringway, "grpc")["last_check"]["problem"].as_str().unwrap().to_string();
    assert!(problem.contains("gRPC status 0: it was 5"), "{problem}");
    grpc.set("cart.v1.Cart", "SERVING");
    wait_until(&ringway, "grpc", true);
}

#[test]
fn the_request_of_a_check_is_as_configured() {
    let origin = Origin::start("a");
    let check = "method = \"HEAD\"\npath = \"/up?x=1\"\nhost = \"cache.internal\"\nheaders = { X-Probe = \"1\" }\n";
    let ringway = Ringway::start(&format!("{BY_PATH}{}{CHECK}{check}", upstream(&[&origin])));
    let asked = &origin.wait_for_requests(2)[1];
    assert_eq!(asked.line, "HEAD /up?x=1 HTTP/1.1");
    assert_eq!((asked.header("host"), asked.header("x-probe")), (Some("cache.internal"), Some("1")));
    assert!(asked.header("user-agent").unwrap().starts_with("ringway-health-check/"));
    assert_eq!(asked.connection, 2, "each check has a connection of its own");
    assert_eq!(ringway.metrics().sum("ringway_requests_total"), 0.0, "checks are no requests of clients");
}

#[test]
fn a_silent_server_fails_by_the_timeout() {
    let origins = fleet(&["a", "b"]).0;
    let upstream = upstream(&origins.iter().collect::<Vec<_>>());
    let ringway = Ringway::start(&format!("{BY_PATH}{upstream}{CHECK}timeout = \"50ms\"\n"));
    origins[0].script(Script { delay: Duration::from_secs(1), ..Script::default() });
    wait_until(&ringway, "a", false);
    assert!(endpoint(&ringway, "a")["last_check"]["problem"].as_str().unwrap().contains("an answer within 50ms"));
}

#[test]
fn whoever_flaps_needs_longer_to_come_back() {
    let (origins, upstream) = fleet(&["a", "b"]);
    let ringway = Ringway::start(&format!("{BY_PATH}{upstream}{CHECK}fall = 1\nrise = 2\n"));
    let successes = || {
        let labels = [("endpoint", "a"), ("result", "success")];
        ringway.metrics().sum_of("ringway_health_checks_total", &labels)
    };
    wait_for("the first check", || (successes() >= 1.0).then_some(()));
    for needed in [2.0, 4.0, 8.0] {
        origins[0].script(unhealthy());
        wait_until(&ringway, "a", false);
        let before = successes();
        origins[0].script(Script::default());
        wait_until(&ringway, "a", true);
        assert!(successes() - before >= needed, "{} of {needed}", successes() - before);
    }
}

#[test]
fn when_too_few_are_left_verdicts_are_ignored_and_readiness_is_lost() {
    let (origins, upstream) = fleet(&["a", "b"]);
    let ringway = Ringway::start(&format!("{BY_PATH}{upstream}{CHECK}"));
    origins.iter().for_each(|origin| origin.script(unhealthy()));
    for id in ["a", "b"] {
        wait_until(&ringway, id, false);
    }
    let ready = || ringway.admin_get("/readyz").unwrap();
    assert_eq!(ready().status, 503);
    assert!(ready().text().contains("upstream u has no available endpoint"), "{}", ready().text());
    assert_eq!(ringway.client().get("/").unwrap().status, 500, "better to ask than to refuse");
    assert!(ringway.admin_get("/api/v1/status").unwrap().text().contains("\"panic\": true"));
    origins[0].script(Script::default());
    wait_for("readiness", || (ready().status == 200).then_some(()));
    assert_eq!(ringway.client().get("/").unwrap().header("x-origin"), Some("a"), "verdicts count again");
}

#[test]
fn a_reload_keeps_verdicts_and_a_new_address_starts_afresh() {
    let (origins, both) = fleet(&["a", "b"]);
    let ringway = Ringway::start(&format!("{BY_PATH}{both}{CHECK}"));
    origins[0].script(unhealthy());
    wait_until(&ringway, "a", false);
    // Asked at the longest interval from now on: what stays is what was found before.
    let slow = "[upstream.u.health_check]\ninterval = \"1h\"\n";
    ringway.rewrite_config(&format!("{BY_PATH}{both}{slow}"));
    assert_eq!(endpoint(&ringway, "a")["state"], "down");
    let moved = Origin::start("a");
    let after = upstream(&[&moved, &origins[1]]);
    ringway.rewrite_config(&format!("{BY_PATH}{after}{slow}"));
    assert_eq!(endpoint(&ringway, "a")["state"], "up");
    moved.wait_for_requests(1);
    ringway.rewrite_config(&format!("{BY_PATH}{both}{slow}"));
    wait_until(&ringway, "a", false);
    ringway.rewrite_config(&format!("{BY_PATH}{both}"));
    assert_eq!(endpoint(&ringway, "a")["state"], "up", "without checks there is no verdict of checks");
    assert!(endpoint(&ringway, "a")["last_check"].is_null());
}

#[test]
fn an_endpoint_that_goes_is_asked_no_more() {
    let (origins, both) = fleet(&["a", "b"]);
    let ringway = Ringway::start(&format!("{BY_PATH}{both}{CHECK}"));
    origins[1].wait_for_requests(1);
    ringway.rewrite_config(&format!("{BY_PATH}{}{CHECK}", upstream(&[&origins[0]])));
    let (asked, before) = (origins[1].requests().len(), origins[0].requests().len());
    origins[0].wait_for_requests(before + 10);
    // The reload may have met one check on its way.
    assert!(origins[1].requests().len() <= asked + 1);
}
