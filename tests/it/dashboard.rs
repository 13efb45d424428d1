//! The page for operators, in a real browser, and who is let in to it.
use crate::harness::http::{Client, Response};
use crate::harness::program::Ringway;
use crate::hashing::{BY_PATH, fleet};
use crate::skip;
use std::path::PathBuf;
use std::process::{Command, Stdio};

const TOKEN: &str = "correct-horse-battery";

/// What a browser makes of a page once its script has run; `None` where there is no browser.
pub fn dom(url: &str) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"];
    let offline = ["--disable-background-networking", "--disable-component-update", "--disable-sync"];
    let output = Command::new("chromium")
        .args(quiet)
        .args(offline)
        .arg(format!("--user-data-dir={}", folder.path().display()))
        // Time of the page's own: its answers are waited for, its timers are not.
        .args(["--virtual-time-budget=5000", "--dump-dom", url])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The page tells each of these things as something that goes on without its store. Not where there is no browser.
#[track_caller]
pub fn tells(ringway: &Ringway, lines: &[&str]) {
    let Some(page) = dom(&format!("http://{}/", ringway.admin)) else { return };
    for line in lines {
        assert!(page.contains(&format!("<p>{line}</p>")), "{line}: {page}");
    }
}

/// A proxy whose admin interface wants [`TOKEN`].
fn with_token() -> (Vec<crate::harness::origin::Origin>, Ringway) {
    let (origins, upstream) = fleet(&["a", "b"]);
    let path: PathBuf = tempfile::tempdir().unwrap().keep().join("admin.token");
    std::fs::write(&path, TOKEN).unwrap();
    let admin = format!("[admin]\naddress = \"ADMIN\"\ntoken_file = \"{}\"\n", path.display());
    let ringway = Ringway::start(&format!("{admin}{BY_PATH}{upstream}"));
    (origins, ringway)
}

fn call(ringway: &Ringway, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> Response {
    let body = (method == "POST").then_some(body.as_bytes());
    Client::new(ringway.admin).request(method, path, fields, body).unwrap()
}

#[test]
fn a_browser_shows_the_ring_its_endpoints_and_who_owns_a_key() {
    let (_origins, upstream) = fleet(&["one", "two", "three"]);
    let ringway = Ringway::start(&format!("{BY_PATH}{upstream}"));
    ringway.admin_post("/api/v1/upstreams/u/endpoints/two/drain", "").unwrap();
    let Some(dom) = dom(&format!("http://{}/#url=/cat%26dog", ringway.admin)) else {
        skip!("chromium is not installed")
    };
    for id in ["one", "two", "three"] {
        assert!(dom.contains(&format!("<b>{id}</b>")), "{id}: {dom}");
    }
    assert!(
        dom.contains("2 of 3 up") && dom.contains(">draining</span>") && dom.contains(">Take back</button>"),
        "{dom}"
    );
    assert!(dom.contains("ready · version") && dom.contains("endpoint u/two"), "{dom}");
    assert!(dom.contains("skipped: draining: an operator sent it away"), "{dom}");
    assert!(dom.contains("<dd class=\"mono\">/cat&amp;dog</dd>"), "the key, as text: {dom}");
    assert!(dom.contains("id=\"trouble\" role=\"alert\" hidden"), "{dom}");
}

#[test]
fn the_page_loads_nothing_from_elsewhere_and_runs_no_script_but_its_own() {
    let (_origins, upstream) = fleet(&["a"]);
    let ringway = Ringway::start(&format!("{BY_PATH}{upstream}"));
    let page = call(&ringway, "GET", "/", &[], "");
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
    let outside = page.text().replace("http://www.w3.org/2000/svg", "");
    assert!(!outside.contains("http://") && !outside.contains("https://") && !outside.contains("//cdn"));
    assert_eq!(page.header("cache-control"), Some("no-store"));
}

#[test]
fn whoever_has_the_token_is_let_in_once_and_may_act_from_the_page_alone() {
    let (_origins, ringway) = with_token();
    let origin = format!("http://{}", ringway.admin);
    let (own, elsewhere) = (("Origin", origin.as_str()), ("Origin", "http://evil.example"));
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let asked = call(&ringway, "GET", "/", &[], "");
    assert!(asked.status == 401 && asked.text().contains("Admin token") && !asked.text().contains("\"upstreams\""));

    let right = format!("token={TOKEN}");
    assert_eq!(call(&ringway, "POST", "/login", &[form, own], "token=wrong").status, 401);
    assert_eq!(call(&ringway, "POST", "/login", &[form, elsewhere], &right).status, 403);
    assert_eq!(call(&ringway, "POST", "/login", &[form], &right).status, 403, "a page tells where it is from");
    let opened = call(&ringway, "POST", "/login", &[form, own], &right);
    assert_eq!((opened.status, opened.header("location")), (303, Some("/")));
    let set = opened.header("set-cookie").unwrap().to_string();
    assert!(set.contains("; HttpOnly; SameSite=Strict; ") && !set.contains(TOKEN), "{set}");

    let cookie = ("Cookie", set.split(';').next().unwrap());
    let page = call(&ringway, "GET", "/", &[cookie], "");
    assert!(page.status == 200 && page.text().contains("data-login=\"yes\""));
    assert_eq!(call(&ringway, "GET", "/api/v1/status", &[cookie], "").status, 200);
    let drain = "/api/v1/upstreams/u/endpoints/a/drain";
    assert_eq!(call(&ringway, "POST", drain, &[cookie], "").status, 403, "nobody's page sent it");
    assert_eq!(call(&ringway, "POST", drain, &[cookie, elsewhere], "").status, 403);
    assert_eq!(call(&ringway, "POST", drain, &[cookie, own], "").status, 200);
    assert_eq!(call(&ringway, "GET", "/api/v1/status", &[("Cookie", "ringway_session=9.00")], "").status, 401);
    let left = call(&ringway, "POST", "/logout", &[cookie, own], "");
    assert!(left.status == 303 && left.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert!(!ringway.stderr().contains("horse"), "a token is never logged");
}
