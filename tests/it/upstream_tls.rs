//! TLS to endpoints: they must prove who they are, before a byte of a request is sent.
use crate::harness::origin::Origin;
use crate::harness::program::{Ringway, command};
use crate::harness::tls::{Authority, Relay, server_config, write};
use crate::harness::wait_for;
use tempfile::TempDir;

const ROUTE: &str = "[[route]]\nupstream = \"u\"\n";

/// An origin that speaks TLS with the certificate that `issue` gives, and the authority clients should trust, as a file.
struct Secure {
    origin: Origin,
    relay: Relay,
    folder: TempDir,
    authority: Authority,
}

impl Secure {
    fn start(names: &[&str]) -> Self {
        let authority = Authority::new("ours");
        let pair = authority.issue(names);
        Self::with(authority, |_| server_config(&pair, None))
    }

    fn with(authority: Authority, config: impl FnOnce(&Authority) -> rustls::ServerConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "ca.pem", &authority.pem());
        let origin = Origin::start("a");
        let mut config = config(&authority);
        // What the relay passes on is understood as HTTP/1.1.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let relay = Relay::server(origin.address, config);
        Self { origin, relay, folder, authority }
    }

    /// The whole configuration, with these keys in `tls` and more in the upstream; `CA` stands for the authority's file.
    fn config(&self, tls: &str, more: &str) -> String {
        let tls = tls.replace("CA", &format!("ca = \"{}\"", self.folder.path().join("ca.pem").display()));
        let address = self.relay.address;
        format!("{ROUTE}[upstream.u]\nendpoints = [{{ id = \"a\", address = \"{address}\" }}]\n{tls}\n{more}\n")
    }
}

/// How a request through these settings ends.
#[track_caller]
fn ends(secure: &Secure, tls: &str) -> (u16, String) {
    let ringway = Ringway::start(&secure.config(tls, ""));
    let response = ringway.client().get("/x").unwrap();
    if response.status == 502 {
        let failed = ringway.metrics().sum_of("ringway_upstream_errors_total", &[("reason", "tls")]);
        assert_eq!(failed, 1.0);
        assert!(ringway.stderr().contains("TLS with an endpoint failed."), "{}", ringway.stderr());
    }
    (response.status, response.text().split(':').next().unwrap().to_string())
}

#[test]
fn a_request_goes_over_tls_and_its_connection_is_used_again() {
    let secure = Secure::start(&["127.0.0.1"]);
    let ringway = Ringway::start(&secure.config("tls = { CA }", ""));
    let mut client = ringway.client();
    for number in 0..20 {
        let body = vec![b'x'; 3000 * number];
        assert_eq!(client.post(&format!("/{number}"), &body).unwrap().text(), format!("a /{number}\n"));
    }
    let seen = secure.origin.requests();
    assert!(seen.iter().all(|request| request.header("x-forwarded-proto") == Some("http")), "{seen:?}");
    assert!(seen.iter().enumerate().all(|(number, request)| request.body.len() == 3000 * number));
    let shakes = secure.relay.shakes();
    assert_eq!(shakes.len(), secure.origin.connections());
    // One for each worker that was asked: one client is on one worker.
    assert_eq!(shakes.len(), 1, "{shakes:?}");
    assert_eq!((shakes[0].server_name.as_deref(), shakes[0].alpn.as_deref()), (None, Some(&b"http/1.1"[..])));
}

#[test]
fn the_configured_name_is_sent_and_expected() {
    let secure = Secure::start(&["cache.internal", "*.other.internal"]);
    assert_eq!(ends(&secure, "tls = { CA, server_name = \"cache.internal\" }").0, 200);
    assert_eq!(ends(&secure, "tls = { CA, server_name = \"x.other.internal\" }").0, 200);
    let names: Vec<_> = secure.relay.shakes().into_iter().filter_map(|shake| shake.server_name).collect();
    assert_eq!(names, ["cache.internal", "x.other.internal"]);
    let refused = (502, "upstream_tls".to_string());
    assert_eq!(ends(&secure, "tls = { CA, server_name = \"cache.external\" }"), refused);
    // Without a name the certificate has to name the address.
    assert_eq!(ends(&secure, "tls = { CA }"), refused);
    assert_eq!(secure.origin.requests().len(), 2);
}

#[test]
fn who_does_not_prove_who_it_is_gets_no_request() {
    let refused = (502, "upstream_tls".to_string());
    let expired =
        Secure::with(Authority::new("ours"), |ours| server_config(&ours.issue_until(&["127.0.0.1"], 2020), None));
    assert_eq!(ends(&expired, "tls = { CA }"), refused);
    let unknown =
        Secure::with(Authority::new("ours"), |_| server_config(&Authority::new("theirs").issue(&["127.0.0.1"]), None));
    assert_eq!(ends(&unknown, "tls = { CA }"), refused);
    assert!(expired.origin.requests().is_empty() && unknown.origin.requests().is_empty());
    for whoever in [&expired, &unknown] {
        assert_eq!(ends(whoever, "tls = { verify = false }").0, 200);
    }
}

#[test]
fn an_endpoint_that_speaks_no_tls_is_refused_in_words_of_its_own() {
    let secure = Secure::start(&["127.0.0.1"]);
    let plain = secure
        .config("tls = { CA }", "")
        .replace(&secure.relay.address.to_string(), &secure.origin.address.to_string());
    let ringway = Ringway::start(&plain);
    assert!(ringway.client().get("/").unwrap().text().starts_with("upstream_tls: "));
}

#[test]
fn an_endpoint_that_never_answers_the_handshake_is_given_up_in_time() {
    let secure = Secure::start(&["127.0.0.1"]);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let config = secure.config("tls = { CA }", "connect_timeout = \"200ms\"");
    let ringway = Ringway::start(&config.replace(&secure.relay.address.to_string(), &address));
    let response = ringway.client().get("/").unwrap();
    assert_eq!((response.status, response.text().starts_with("upstream_tls: ")), (502, true));
}

#[test]
fn our_own_certificate_is_shown_to_an_endpoint_that_asks() {
    let clients = Authority::new("clients");
    let secure =
        Secure::with(Authority::new("ours"), |ours| server_config(&ours.issue(&["127.0.0.1"]), Some(&clients)));
    let shown = clients.issue(&["ringway"]).write(secure.folder.path(), "client");
    assert_eq!(ends(&secure, &format!("tls = {{ CA, {shown} }}")).0, 200);
    assert!(secure.relay.shakes()[0].peer.is_some());
    // In TLS 1.3 the refusal comes when our handshake is done: it is still told as what it is.
    assert_eq!(ends(&secure, "tls = { CA }"), (502, "upstream_tls".to_string()));
    let foreign = secure.authority.issue(&["ringway"]).write(secure.folder.path(), "foreign");
    assert_eq!(ends(&secure, &format!("tls = {{ CA, {foreign} }}")), (502, "upstream_tls".to_string()));
    assert_eq!(secure.origin.requests().len(), 1);
}

#[test]
fn sessions_are_resumed_on_new_connections_also_after_a_reload() {
    let secure = Secure::start(&["127.0.0.1"]);
    let config = secure.config("tls = { CA }", "max_idle = 0");
    let ringway = Ringway::start(&config);
    let ask = || assert_eq!(ringway.client().get("/").unwrap().status, 200);
    ask();
    ask();
    ringway.rewrite_config(&format!("{config}\n# touched\n"));
    ask();
    let resumed: Vec<bool> = secure.relay.shakes().iter().map(|shake| shake.resumed).collect();
    assert_eq!(resumed, [false, true, true]);
}

#[test]
fn connections_made_under_other_settings_are_not_used_again() {
    let secure = Secure::start(&["127.0.0.1"]);
    let ringway = Ringway::start(&secure.config("tls = { CA }", ""));
    let mut client = ringway.client();
    assert_eq!(client.get("/").unwrap().status, 200);
    let other = write(secure.folder.path(), "other.pem", &Authority::new("other").pem());
    ringway.rewrite_config(&secure.config(&format!("tls = {{ ca = \"{}\" }}", other.display()), ""));
    assert_eq!(client.get("/").unwrap().status, 502);
    ringway.rewrite_config(&secure.config("tls = { CA }", ""));
    assert_eq!(client.get("/").unwrap().status, 200);
    // A bad file changes nothing.
    write(secure.folder.path(), "other.pem", "nothing");
    ringway.rewrite_config(&secure.config(&format!("tls = {{ ca = \"{}\" }}", other.display()), ""));
    assert!(ringway.stderr().contains("find a certificate in"), "{}", ringway.stderr());
    assert_eq!(client.get("/").unwrap().status, 200);
    assert_eq!(secure.origin.requests().len(), 3);
}

#[test]
fn health_checks_go_by_the_same_tls() {
    let secure = Secure::start(&["127.0.0.1"]);
    let check = "health_check = { interval = \"100ms\", rise = 1, fall = 1 }";
    let ringway = Ringway::start(&secure.config("tls = { CA }", check));
    let up = || ringway.metrics().sum_of("ringway_endpoint_up", &[("endpoint", "a")]);
    secure.origin.wait_for_requests(2);
    assert_eq!((secure.origin.requests()[0].path(), up()), ("/healthz", 1.0));
    let other = write(secure.folder.path(), "other.pem", &Authority::new("other").pem());
    ringway.rewrite_config(&secure.config(&format!("tls = {{ ca = \"{}\" }}", other.display()), check));
    wait_for("the endpoint to be down", || (up() == 0.0).then_some(()));
}

#[test]
fn a_name_of_a_host_is_what_its_certificate_has_to_say() {
    let secure = Secure::start(&["localhost"]);
    let config = secure.config("tls = { CA }", "").replace("127.0.0.1:", "localhost:");
    let ringway = Ringway::start(&config);
    wait_for("the name to be looked up", || (ringway.client().get("/").unwrap().status == 200).then_some(()));
    assert_eq!(secure.relay.shakes()[0].server_name.as_deref(), Some("localhost"));
}

#[test]
fn files_that_change_are_taken_up_and_bad_ones_are_not() {
    let secure = Secure::start(&["127.0.0.1"]);
    let ringway = Ringway::start(&secure.config("tls = { CA }", "max_idle = 0"));
    let status = || ringway.client().get("/").unwrap().status;
    let renewals = |result| ringway.metrics().sum_of("ringway_tls_certificate_reloads_total", &[("result", result)]);
    assert_eq!(status(), 200);
    write(secure.folder.path(), "ca.pem", "nothing");
    wait_for("the refusal", || (renewals("failure") == 1.0).then_some(()));
    assert_eq!(status(), 200);
    write(secure.folder.path(), "ca.pem", &Authority::new("others").pem());
    wait_for("the change", || (renewals("success") == 1.0).then_some(()));
    assert_eq!(status(), 502);
    write(secure.folder.path(), "ca.pem", &secure.authority.pem());
    wait_for("the change back", || (status() == 200).then_some(()));
}

#[test]
fn a_bad_file_is_told_with_its_place() {
    let secure = Secure::start(&["127.0.0.1"]);
    let one = secure.authority.issue(&["one"]);
    let pair = crate::harness::tls::Pair { key: secure.authority.issue(&["two"]).key, ..one };
    let shown = pair.write(secure.folder.path(), "client");
    let text =
        format!("[[listener]]\naddress = \"127.0.0.1:0\"\n{}", secure.config(&format!("tls = {{ CA, {shown} }}"), ""));
    let path = write(secure.folder.path(), "ringway.toml", &text);
    let output = command(&["check", "-c", path.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("ringway.toml:7:") && said.contains("client.key for its certificate"), "{said}");
}

#[test]
fn a_tls_endpoint_that_closes_idle_connections_costs_nobody_a_request() {
    let secure = Secure::start(&["127.0.0.1"]);
    let ringway = Ringway::start(&secure.config("tls = { CA }", ""));
    let mut client = ringway.client();
    assert_eq!(client.post("/", b"1").unwrap().status, 200);
    let Secure { mut origin, relay, .. } = secure;
    origin.stop();
    origin.restart();
    wait_for("the relay to close", || (relay.passed_ends() == 1).then_some(()));
    assert_eq!(client.post("/", b"2").unwrap().status, 200);
    assert_eq!(relay.shakes().len(), 2);
}
