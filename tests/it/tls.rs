//! TLS on listeners: which certificate is shown, who may connect, what is resumed, and files that change under way.
use crate::harness::origin::Origin;
use crate::harness::program::Ringway;
use crate::harness::tls::{Authority, Pair, Relay, Shake, client_config, write};
use crate::harness::{PATIENCE, wait_for};
use crate::hashing::upstream;
use crate::skip;
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tempfile::TempDir;

const ROUTE: &str = "[[route]]\nupstream = \"u\"\n";

/// The program with TLS on its listener, an origin behind it, and the authority its certificates come from.
struct Site {
    origin: Origin,
    ringway: Ringway,
    authority: Authority,
    folder: TempDir,
}

impl Site {
    /// With a certificate for each list of names, named `0`, `1` and so on, and more keys in `tls` (`FOLDER` is theirs).
    fn start(names: &[&[&str]], tls: &str) -> Self {
        Self::prepared(names, tls, |_| {})
    }

    fn prepared(names: &[&[&str]], tls: &str, prepare: impl FnOnce(&Path)) -> Self {
        let (folder, authority, origin) = (tempfile::tempdir().unwrap(), Authority::new("ours"), Origin::start("a"));
        prepare(folder.path());
        let pairs = names.iter().enumerate().map(|(number, names)| {
            let keys = authority.issue(names).write(folder.path(), &number.to_string());
            format!("{{ {keys} }}, ")
        });
        let pairs: String = pairs.collect();
        let tls = tls.replace("FOLDER", folder.path().to_str().unwrap());
        let listener = format!(
            "[[listener]]\naddress = \"LISTEN\"\nheader_timeout = \"2s\"\ntls = {{ certificates = [{pairs}]{tls} }}\n"
        );
        let ringway = Ringway::start(&format!("{listener}{ROUTE}{}", upstream(&[&origin])));
        Self { origin, ringway, authority, folder }
    }

    /// A way in clear to the program, by TLS to the host `name`.
    fn door(&self, name: &str, config: ClientConfig) -> Relay {
        Relay::client(self.ringway.address, name, config)
    }

    /// What a client that trusts our authority sees when it asks for `name`.
    fn shaken(&self, name: &str) -> Shake {
        let door = self.door(name, client_config(&self.authority, None));
        let response = crate::harness::http::Client::new(door.address).get("/").unwrap();
        assert_eq!(response.status, 200);
        door.shakes().remove(0)
    }

    fn refused(&self, reason: &str) -> f64 {
        self.ringway.metrics().sum_of("ringway_connections_refused_total", &[("reason", reason)])
    }
}

fn leaf(folder: &Path, name: &str) -> Vec<u8> {
    CertificateDer::from_pem_file(folder.join(format!("{name}.pem"))).unwrap().to_vec()
}

fn get(address: SocketAddr) -> std::io::Result<u16> {
    crate::harness::http::Client::new(address).get("/").map(|response| response.status)
}

/// Runs `openssl s_client` towards the program and gives all it says; `None` when there is no openssl.
fn s_client(address: SocketAddr, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-ign_eof", "-connect", &address.to_string()]).args(arguments);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.ok()?;
    // The answer ends the connection, and with it the program.
    let request = b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    child.stdin.as_mut().unwrap().write_all(request).unwrap_or_default();
    let output = child.wait_with_output().unwrap();
    Some(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_clients_server_name_picks_the_certificate() {
    let site = Site::start(&[&["first.test"], &["*.b.test", "b.test"], &["x.b.test"]], "");
    for (name, certificate) in [("first.test", "0"), ("b.test", "1"), ("y.b.test", "1"), ("x.b.test", "2")] {
        let shake = site.shaken(name);
        assert_eq!(shake.peer, Some(leaf(site.folder.path(), certificate)), "{name}");
    }
    // A name that nobody has, or none: the first.
    let door = site.door("else.test", client_config(&site.authority, None));
    get(door.address).unwrap_err();
    wait_for("the failure", || door.failures().first().filter(|why| why.contains("first.test")).cloned());
    let seen = site.origin.requests();
    assert!(seen.iter().all(|request| request.header("x-forwarded-proto") == Some("https")), "{seen:?}");
}

#[test]
fn a_request_for_a_host_of_another_certificate_is_misdirected() {
    let site = Site::start(&[&["a.test"], &["*.b.test", "b.test"], &["x.b.test"]], "");
    let door = |name| site.door(name, client_config(&site.authority, None));
    let asked = |door: &Relay, host: &str| {
        let headers = [("Host", host), ("Accept", "application/json")];
        crate::harness::http::Client::new(door.address).request("GET", "/", &headers, None).unwrap()
    };
    for (named, host, status) in [
        ("a.test", "a.test", 200),
        ("a.test", "A.Test:443", 200),
        ("a.test", "b.test", 421),
        ("a.test", "y.b.test.", 421),
        ("b.test", "a.test", 421),
        // What was shown is for these, too, whoever else would be.
        ("b.test", "x.b.test", 200),
        ("x.b.test", "y.b.test", 421),
        // Nobody's certificate is for these: routes decide.
        ("a.test", "else.test", 200),
        ("a.test", "10.0.0.1", 200),
        ("a.test", "z.y.b.test", 200),
    ] {
        let response = asked(&door(named), host);
        assert_eq!(response.status, status, "{named} {host}");
        assert_eq!(response.text().contains("misdirected"), status == 421, "{}", response.text());
    }
    // HTTP/2 alike: there a client that reuses a connection does it for real.
    let arguments = ["-s", "-k", "--http2", "-o", "/dev/null", "-w", "%{http_version} %{http_code}", "-m", "10"];
    let resolve = format!("a.test:{0}:127.0.0.1", site.ringway.address.port());
    let url = format!("https://a.test:{}/", site.ringway.address.port());
    for (host, expected) in [("a.test", "2 200"), ("b.test", "2 421")] {
        let mut curl = Command::new("curl");
        curl.args(arguments).args(["--resolve", &resolve, "-H", &format!("Host: {host}"), &url]);
        let Ok(output) = curl.output() else { skip!("curl is not installed") };
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{host}");
    }
}

#[test]
fn with_one_certificate_no_host_is_misdirected() {
    let site = Site::start(&[&["a.test"]], "");
    let door = site.door("a.test", client_config(&site.authority, None));
    for host in ["a.test", "b.test", "localhost"] {
        let mut client = crate::harness::http::Client::new(door.address);
        assert_eq!(client.request("GET", "/", &[("Host", host)], None).unwrap().status, 200, "{host}");
    }
}

/// Runs openssl in `folder`; false when there is none.
fn openssl(folder: &Path, arguments: &str) -> bool {
    let mut command = Command::new("openssl");
    command.args(arguments.split(' ')).current_dir(folder).stdin(Stdio::null());
    let Ok(output) = command.output() else { return false };
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    true
}

/// An authority, certificates `a` and `b` of it, and its word on both, good for `days`. False when there is no openssl.
fn with_ocsp(folder: &Path, days: u32) -> bool {
    let run = |arguments: &str| openssl(folder, arguments);
    let ec = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30";
    if !folder.join("ca.pem").exists() {
        if !run(&format!("req -x509 {ec} -keyout ca.key -out ca.pem -subj /CN=authority")) {
            return false;
        }
        let mut index = String::new();
        for (name, serial) in [("a", "0A11CE"), ("b", "0B0B0B")] {
            run(&format!(
                "req -x509 {ec} -keyout {name}.key -out {name}.pem -subj /CN={name}.test -set_serial 0x{serial} \
                 -addext subjectAltName=DNS:{name}.test -CA ca.pem -CAkey ca.key"
            ));
            index += &format!("V\t401231235959Z\t\t{serial}\tunknown\t/CN={name}.test\n");
        }
        std::fs::write(folder.join("index"), index).unwrap();
    }
    for name in ["a", "b"] {
        run(&format!("ocsp -issuer ca.pem -cert {name}.pem -no_nonce -reqout request"));
        let signer = "-CA ca.pem -rsigner ca.pem -rkey ca.key";
        run(&format!("ocsp -index index {signer} -reqin request -respout {name}.new -ndays {days}"));
        std::fs::rename(folder.join(format!("{name}.new")), folder.join(format!("{name}.ocsp"))).unwrap();
    }
    true
}

#[test]
fn what_the_authority_says_of_a_certificate_is_stapled_and_renewed() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start("a"));
    if !with_ocsp(folder.path(), 7) {
        skip!("openssl is not installed")
    }
    let at = folder.path().display();
    let pair = |name: &str| {
        format!("{{ cert = \"{at}/{name}.pem\", key = \"{at}/{name}.key\", ocsp = \"{at}/{name}.ocsp\" }}")
    };
    let tls = format!("tls = {{ certificates = [{}, {}] }}", pair("a"), pair("b"));
    let config = format!("[[listener]]\naddress = \"LISTEN\"\n{tls}\n{ROUTE}{}", upstream(&[&origin]));
    let ringway = Ringway::start(&config);
    let asked =
        |arguments: &[&str]| s_client(ringway.address, &[&["-servername", "a.test"], arguments].concat()).unwrap();
    for version in ["-tls1_2", "-tls1_3"] {
        let said = asked(&["-status", version]);
        assert!(said.contains("OCSP Response Status: successful") && said.contains("0A11CE"), "{said}");
        assert!(said.contains("Cert Status: good") && said.contains("HTTP/1.1 200"), "{said}");
    }
    // Another word for the same certificate is taken up, one for another certificate is not.
    let until = |said: &str| said.lines().find(|line| line.contains("Next Update")).map(str::to_owned);
    let before = until(&asked(&["-status"])).unwrap();
    with_ocsp(folder.path(), 9);
    let after = wait_for("the new word", || until(&asked(&["-status"])).filter(|after| *after != before));
    std::fs::copy(folder.path().join("b.ocsp"), folder.path().join("other")).unwrap();
    std::fs::rename(folder.path().join("other"), folder.path().join("a.ocsp")).unwrap();
    wait_for("the refusal", || ringway.stderr().contains("it is about another certificate").then_some(()));
    assert_eq!(until(&asked(&["-status"])), Some(after));
    for (content, why) in [("", "not one response in DER"), ("-----BEGIN OCSP-----", "not one response in DER")] {
        std::fs::write(folder.path().join("a.ocsp"), content).unwrap();
        let told = crate::harness::program::command(&["check", "-c", ringway.config_path().to_str().unwrap()]);
        let told = String::from_utf8_lossy(&told.stderr).into_owned() + &String::from_utf8_lossy(&told.stdout);
        assert!(told.contains(why) && told.contains("ringway.toml:3:"), "{told}");
    }
}

#[test]
fn both_versions_are_spoken_unless_the_older_is_turned_off() {
    let site = Site::start(&[&["a.test"]], "");
    let Some(said) = s_client(site.ringway.address, &["-tls1_2", "-servername", "a.test"]) else {
        skip!("openssl is not installed")
    };
    assert!(said.contains("TLSv1.2") && said.contains("HTTP/1.1 200"), "{said}");
    let said = s_client(site.ringway.address, &["-tls1_3"]).unwrap();
    assert!(said.contains("TLSv1.3") && said.contains("HTTP/1.1 200"), "{said}");
    let strict = Site::start(&[&["a.test"]], ", min_version = \"1.3\"");
    let said = s_client(strict.ringway.address, &["-tls1_2"]).unwrap();
    assert!(!said.contains("HTTP/1.1 200"), "{said}");
    assert!(s_client(strict.ringway.address, &["-tls1_3"]).unwrap().contains("HTTP/1.1 200"));
    assert_eq!(strict.refused("tls"), 1.0);
}

#[test]
fn alpn_offers_what_the_listener_speaks() {
    let site = Site::start(&[&["a.test"]], "");
    let Some(said) = s_client(site.ringway.address, &["-alpn", "http/1.1"]) else { skip!("openssl is not installed") };
    assert!(said.contains("ALPN protocol: http/1.1"), "{said}");
    assert!(s_client(site.ringway.address, &["-alpn", "h2,http/1.1"]).unwrap().contains("ALPN protocol: h2"));
}

#[test]
fn sessions_are_resumed_with_tickets_and_without() {
    let site = Site::start(&[&["a.test"]], "");
    for how in [&["-tls1_2"][..], &["-tls1_2", "-no_ticket"]] {
        let Some(said) = s_client(site.ringway.address, &[how, &["-reconnect"]].concat()) else {
            skip!("openssl is not installed")
        };
        let count = said.lines().filter(|line| line.starts_with("Reused, ")).count();
        assert_eq!(count, 5, "{how:?}: {said}");
    }
    let door = site.door("a.test", client_config(&site.authority, None));
    (0..3).for_each(|_| assert_eq!(get(door.address).unwrap(), 200));
    let resumed: Vec<bool> = door.shakes().iter().map(|shake| shake.resumed).collect();
    assert_eq!(resumed, [false, true, true]);
}

#[test]
fn a_client_certificate_is_required_once_an_authority_is_named() {
    let clients = Authority::new("clients");
    let ca = |folder: &Path| drop(write(folder, "clients.pem", &clients.pem()));
    let site = Site::prepared(&[&["a.test"]], ", client_ca = \"FOLDER/clients.pem\"", ca);
    let alice = clients.issue(&["alice"]);
    let door = site.door("a.test", client_config(&site.authority, Some(&alice)));
    let mut client = crate::harness::http::Client::new(door.address);
    let forged = [("Client-Cert", ":AAAA:"), ("client-cert-subject", "CN=root"), ("Client-Cert-Chain", ":AAAA:")];
    assert_eq!(client.request("GET", "/", &forged, None).unwrap().status, 200);
    let seen = &site.origin.requests()[0];
    alice.write(site.folder.path(), "alice");
    assert_eq!(seen.header("client-cert").unwrap(), format!(":{}:", base64(&leaf(site.folder.path(), "alice"))));
    assert_eq!((seen.header("client-cert-subject"), seen.header("client-cert-chain")), (Some("CN=alice"), None));
    // Nobody without one, nor with one of somebody else, nor with one that has ended.
    let foreign = Authority::new("others").issue(&["alice"]);
    let ended = clients.issue_until(&["alice"], 2020);
    for pair in [None, Some(&foreign), Some(&ended)] {
        let door = site.door("a.test", client_config(&site.authority, pair));
        get(door.address).unwrap_err();
    }
    wait_for("the refusals", || (site.refused("tls_client_certificate") == 3.0).then_some(()));
    assert_eq!(site.origin.requests().len(), 1);
}

#[test]
fn an_optional_client_certificate_is_told_when_there_is_one() {
    let clients = Authority::new("clients");
    let ca = |folder: &Path| drop(write(folder, "clients.pem", &clients.pem()));
    let tls = ", client_ca = \"FOLDER/clients.pem\", client_auth = \"optional\"";
    let site = Site::prepared(&[&["a.test"]], tls, ca);
    let alice = clients.issue(&["alice"]);
    for pair in [None, Some(&alice)] {
        assert_eq!(get(site.door("a.test", client_config(&site.authority, pair)).address).unwrap(), 200);
    }
    let subjects: Vec<Option<String>> =
        site.origin.requests().iter().map(|seen| seen.header("client-cert-subject").map(String::from)).collect();
    assert_eq!(subjects, [None, Some("CN=alice".to_string())]);
    let foreign = Authority::new("others").issue(&["alice"]);
    get(site.door("a.test", client_config(&site.authority, Some(&foreign))).address).unwrap_err();
}

#[test]
fn a_slow_handshake_is_given_up_in_time_and_keeps_nobody_waiting() {
    let site = Site::start(&[&["a.test"]], "");
    let silent: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(site.ringway.address).unwrap()).collect();
    let stalled: Vec<TcpStream> = (0..50)
        .map(|_| {
            let mut stream = TcpStream::connect(site.ringway.address).unwrap();
            stream.write_all(&[0x16, 0x03, 0x01]).unwrap();
            stream
        })
        .collect();
    assert_eq!(get(site.door("a.test", client_config(&site.authority, None)).address).unwrap(), 200);
    for mut stream in silent.into_iter().chain(stalled) {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    }
    assert_eq!(site.refused("tls_timeout"), 100.0);
    // Who leaves without a word is no refusal; who speaks no TLS is one.
    drop(TcpStream::connect(site.ringway.address).unwrap());
    crate::harness::http::raw_for(site.ringway.address, b"GET / HTTP/1.1\r\n\r\n", Duration::from_secs(5));
    wait_for("the refusal", || (site.refused("tls") == 1.0).then_some(()));
}

#[test]
fn a_hundred_swaps_of_the_certificate_fail_no_handshake() {
    let site = Site::start(&[&["a.test"]], "");
    let done = AtomicBool::new(false);
    let pairs: Vec<Pair> = (0..8).map(|_| site.authority.issue(&["a.test"])).collect();
    let renewals =
        |result| site.ringway.metrics().sum_of("ringway_tls_certificate_reloads_total", &[("result", result)]);
    let shakes = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..3)
            .map(|number| {
                let (site, done) = (&site, &done);
                scope.spawn(move || {
                    let mut config = client_config(&site.authority, None);
                    if number > 0 {
                        config.resumption = rustls::client::Resumption::disabled();
                    }
                    let door = site.door("a.test", config);
                    while !done.load(Ordering::Relaxed) {
                        assert_eq!(get(door.address).unwrap(), 200);
                    }
                    assert!(door.failures().is_empty(), "{:?}", door.failures());
                    door.shakes()
                })
            })
            .collect();
        let end = SetOnDrop(&done);
        for swap in 1..=100 {
            pairs[swap % pairs.len()].write(site.folder.path(), "0");
            wait_for("the swap", || (renewals("success") >= swap as f64).then_some(()));
        }
        drop(end);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect::<Vec<Shake>>()
    });
    let shown: std::collections::BTreeSet<_> = shakes.iter().filter_map(|shake| shake.peer.clone()).collect();
    assert!(shown.len() >= pairs.len(), "{} certificates were seen in {} handshakes", shown.len(), shakes.len());
    assert!(shakes.iter().any(|shake| shake.resumed), "sessions outlive a swap");
    assert_eq!(site.ringway.metrics().get("ringway_config_last_reload_successful"), 1.0);
}

/// Ends the clients also when the test fails before it would.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_bad_pair_is_refused_and_the_old_one_stays() {
    let site = Site::start(&[&["a.test"]], "");
    let before = site.shaken("a.test").peer;
    let failures = || {
        let failed = [("result", "failure")];
        site.ringway.metrics().sum_of("ringway_tls_certificate_reloads_total", &failed)
    };
    let other = site.authority.issue(&["a.test"]);
    write(site.folder.path(), "0.pem", &other.cert);
    wait_for("the refusal", || (failures() == 1.0).then_some(()));
    assert!(site.ringway.stderr().contains("are refused, the old ones stay: failed to use the key"));
    assert_eq!(site.shaken("a.test").peer, before);
    // The whole configuration is refused as well while it names a bad pair, and says where.
    let config = std::fs::read_to_string(site.ringway.config_path()).unwrap();
    site.ringway.rewrite_config(&format!("{config}\n# touched\n"));
    assert!(site.ringway.stderr().contains("ringway.toml:"), "{}", site.ringway.stderr());
    assert_eq!(site.shaken("a.test").peer, before);
    write(site.folder.path(), "0.key", &other.key);
    wait_for("the new one", || (site.shaken("a.test").peer != before).then_some(()));
}

#[test]
fn the_end_of_each_certificate_is_told() {
    let site = Site::start(&[&["a.test", "b.test"], &["c.test"]], "");
    let end = 3_786_912_000.0;
    let metrics = site.ringway.metrics();
    for name in ["a.test", "c.test"] {
        assert_eq!(metrics.sum_of("ringway_tls_certificate_not_after_seconds", &[("name", name)]), end);
    }
    let status = site.ringway.admin_get("/api/v1/status").unwrap();
    let status: serde_json::Value = serde_json::from_str(status.text()).unwrap();
    assert_eq!(
        status["listeners"][0]["certificates"][1],
        serde_json::json!({ "name": "c.test", "not_after": end as i64 })
    );
    site.authority.issue_until(&["a.test"], 2080).write(site.folder.path(), "0");
    wait_for("the new end", || {
        let ends = site.ringway.metrics().sum_of("ringway_tls_certificate_not_after_seconds", &[("name", "a.test")]);
        (ends < end).then_some(())
    });
}

#[test]
fn who_may_connect_is_asked_again_when_the_authority_has_changed() {
    let clients = Authority::new("clients");
    let ca = |folder: &Path| drop(write(folder, "clients.pem", &clients.pem()));
    let site = Site::prepared(&[&["a.test"]], ", client_ca = \"FOLDER/clients.pem\"", ca);
    let alice = clients.issue(&["alice"]);
    let door = site.door("a.test", client_config(&site.authority, Some(&alice)));
    (0..2).for_each(|_| assert_eq!(get(door.address).unwrap(), 200));
    assert!(door.shakes()[1].resumed);
    write(site.folder.path(), "clients.pem", &Authority::new("others").pem());
    // A session from before must not be a way around the new authority.
    wait_for("the refusal", || get(door.address).is_err().then_some(()));
    get(door.address).unwrap_err();
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
