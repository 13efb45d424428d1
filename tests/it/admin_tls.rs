//! The operators' door behind TLS.
use crate::harness::http::Client;
use crate::harness::program::{Ringway, command, program};
use crate::harness::tls::{Authority, Relay, client_config, write};
use crate::harness::wait_for;
use crate::hashing::{BY_PATH, fleet};
use std::path::Path;
use std::process::Output;

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn status(ringway: &Ringway, arguments: &[&str]) -> Output {
    let url = format!("https://{}", ringway.admin);
    command(&[&["status", "--admin", &url], arguments].concat())
}

/// A proxy whose admin interface speaks TLS with the pair `admin` in `folder`, ready by what a command with `arguments` finds.
fn start(folder: &Path, more: &str, arguments: &[&str]) -> Ringway {
    let (cert, key) = (folder.join("admin.pem"), folder.join("admin.key"));
    let pair = format!("certificates = [{{ cert = \"{}\", key = \"{}\" }}]", cert.display(), key.display());
    let admin = format!("[admin]\naddress = \"ADMIN\"\ntls = {{ {pair}{more} }}\n");
    let upstream = "[upstream.u]\nendpoints = [{ id = \"a\", address = \"127.0.0.1:1\" }]\n";
    Ringway::start_until(&program(), &format!("{admin}{BY_PATH}{upstream}"), &|ringway| {
        status(ringway, &[&["--ready"], arguments].concat()).status.success()
    })
}

#[test]
fn commands_and_scrapes_reach_it_by_https_alone_and_a_renewed_certificate_is_taken_up() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new("ours"));
    authority.issue(&["127.0.0.1", "localhost"]).write(folder.path(), "admin");
    let ca = write(folder.path(), "ca.pem", &authority.pem());
    let ringway = start(folder.path(), "", &["--ca", ca.to_str().unwrap()]);

    let untrusted = status(&ringway, &[]);
    assert!(untrusted.status.code() == Some(1) && said(&untrusted).contains("--ca"), "{}", said(&untrusted));
    let clear = command(&["status", "--admin", &format!("http://{}", ringway.admin)]);
    assert_eq!(clear.status.code(), Some(1), "{}", said(&clear));

    let relay = Relay::client(ringway.admin, "localhost", client_config(&authority, None));
    let host = ringway.admin.to_string();
    let get = |path: &str, origin: &str| {
        let fields = [("Host", host.as_str()), ("Origin", origin), ("Connection", "close")];
        Client::new(relay.address).request("GET", path, &fields, None).unwrap()
    };
    let own = format!("https://{host}");
    assert_eq!(get("/api/v1/status", &own).status, 200);
    assert_eq!(get("/api/v1/status", &format!("http://{host}")).status, 403, "a page in clear is not of its own");
    let certificate = "ringway_tls_certificate_not_after_seconds{listener=\"[admin]\",name=\"localhost\"}";
    assert!(get("/metrics", &own).text().contains(certificate), "{}", get("/metrics", &own).text());

    let others = Authority::new("others");
    let other_ca = write(folder.path(), "other.pem", &others.pem());
    others.issue(&["127.0.0.1"]).write(folder.path(), "admin");
    let trusts_others = ["--ca", other_ca.to_str().unwrap()];
    wait_for("the other certificate", || status(&ringway, &trusts_others).status.success().then_some(()));
}

#[test]
fn callers_show_who_they_are_where_that_is_asked() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new("ours"));
    authority.issue(&["127.0.0.1"]).write(folder.path(), "admin");
    authority.issue(&["operator"]).write(folder.path(), "me");
    let ca = write(folder.path(), "ca.pem", &authority.pem());
    let [ca, cert, key] =
        [ca, folder.path().join("me.pem"), folder.path().join("me.key")].map(|path| path.display().to_string());
    let known = ["--ca", &ca, "--cert", &cert, "--key", &key];
    let ringway = start(folder.path(), &format!(", client_ca = \"{ca}\""), &known);
    assert_eq!(status(&ringway, &known).status.code(), Some(0));
    let unknown = status(&ringway, &["--ca", &ca]);
    assert_eq!(unknown.status.code(), Some(1), "{}", said(&unknown));
    let half = command(&["status", "--cert", &cert]);
    assert!(half.status.code() == Some(2) && said(&half).contains("--key"), "{}", said(&half));
}

#[test]
fn tls_without_a_certificate_is_refused_and_changes_nothing() {
    let (_origins, upstream) = fleet(&["a"]);
    let ringway = Ringway::start(&format!("{BY_PATH}{upstream}"));
    let before = ringway.generation();
    ringway.rewrite_config(&format!("[admin]\naddress = \"ADMIN\"\ntls = {{}}\n{BY_PATH}{upstream}"));
    assert_eq!((ringway.generation(), ringway.client().get("/").unwrap().status), (before, 200));
    assert!(ringway.stderr().contains("[admin.tls] has no \"certificates\""), "{}", ringway.stderr());
}
