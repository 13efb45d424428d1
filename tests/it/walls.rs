//! Routing cannot be walked around: a request reaches only what its route says, over each protocol alike, and `explain` agrees.
use crate::harness::http::raw;
use crate::harness::origin::Origin;
use crate::harness::program::{Ringway, command};
use crate::skip;
use std::process::Command;

/// Three origins behind three routes: everything, `/admin`, and the host `inner.example`.
fn house() -> ([Origin; 3], Ringway) {
    let origins = ["open", "admin", "inner"].map(Origin::start);
    let upstreams = origins.iter().map(|origin| {
        format!("[upstream.{0}]\nendpoints = [{{ id = \"{0}\", address = \"{1}\" }}]\n", origin.id, origin.address)
    });
    let routes = "[[route]]\nupstream = \"open\"\n[[route]]\npath_prefix = \"/admin\"\nupstream = \"admin\"\n\
        [[route]]\nhosts = [\"inner.example\"]\nupstream = \"inner\"\n";
    let ringway = Ringway::start(&format!("{routes}{}", upstreams.collect::<String>()));
    (origins, ringway)
}

/// Targets, and whom they reach; `400` is nobody.
const TARGETS: &[(&str, &str)] = &[
    ("/", "open"),
    ("/admin", "admin"),
    ("/admin/x?y", "admin"),
    ("/admin/./x", "admin"),
    ("/admin/a%2Fb", "admin"),
    ("/administer", "open"),
    ("/ADMIN", "open"),
    ("/a//b", "open"),
    ("/a%2Fb/c%20d", "open"),
    ("/a;v=1", "open"),
    ("/?x=/../admin", "open"),
    ("//admin", "400"),
    ("///admin/x", "400"),
    ("/./admin", "400"),
    ("/a/../admin", "400"),
    ("/admin/..", "400"),
    ("/admin/../x", "400"),
    ("/%61dmin", "400"),
    ("/%2561dmin", "400"),
    ("/a/%2e%2e/admin", "400"),
    ("/a/%252e%252e/admin", "400"),
    ("/a/.%2e/admin", "400"),
    ("/a%2f..%2fadmin", "400"),
    ("/admin%2fx", "400"),
    ("/%2fadmin", "400"),
    ("/a/..;/admin", "400"),
    ("/a/..%3b/admin", "400"),
    ("/a\\..\\admin", "400"),
    ("/a/..%5cadmin", "400"),
    ("/..%00/admin", "400"),
    ("/admin%00", "400"),
    ("/admin%00.jpg", "400"),
    ("/a/%c0%ae%c0%ae/admin", "400"),
    ("/a%c0%af../admin", "400"),
    ("/a%00", "open"),
    ("/caf%c3%a9", "open"),
];

fn told(ringway: &Ringway, url: &str) -> String {
    let config = ringway.config_path();
    let output = command(&["explain", "-c", config.to_str().unwrap(), "--json", url]);
    if !output.status.success() {
        return "400".into();
    }
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    value["upstream"].as_str().unwrap().to_string()
}

#[test]
fn a_path_reaches_only_what_its_route_says() {
    let (origins, ringway) = house();
    let mut client = ringway.client();
    for (target, expected) in TARGETS {
        let response = client.get(target).unwrap();
        let reached = response.header("x-origin").map_or_else(|| response.status.to_string(), str::to_string);
        assert_eq!(reached, *expected, "{target}");
        assert_eq!(told(&ringway, target), *expected, "explain {target}");
    }
    let reached: usize = origins.iter().map(|origin| origin.requests().len()).sum();
    assert_eq!(reached, TARGETS.iter().filter(|(_, expected)| *expected != "400").count());
    // What an origin gets is what the client sent, byte for byte.
    let sent = TARGETS.iter().filter(|(_, expected)| *expected == "open").map(|(target, _)| *target);
    let seen = origins[0].requests();
    assert!(sent.eq(seen.iter().map(|seen| seen.path())));
}

#[test]
fn a_path_reaches_the_same_over_http2() {
    let (_origins, ringway) = house();
    for (target, expected) in TARGETS.iter().filter(|(target, _)| !target.contains('\\')) {
        let url = format!("http://{}{target}", ringway.address);
        let arguments = ["-s", "-S", "-m", "10", "--path-as-is", "--http2-prior-knowledge", "-w", "%{http_code}", &url];
        let Ok(output) = Command::new("curl").args(arguments).output() else { skip!("curl is not installed") };
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.starts_with(&format!("{expected} ")) || said.ends_with(expected), "{target}: {said}");
    }
}

#[test]
fn a_host_reaches_only_what_its_route_says() {
    let (_origins, ringway) = house();
    let port = ringway.address.port();
    let reached = |request: &str| {
        let bytes = raw(ringway.address, format!("{request}Connection: close\r\n\r\n").as_bytes());
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let origin = text.lines().find_map(|line| line.strip_prefix("X-Origin: ")).map(str::to_string);
        origin.unwrap_or_else(|| text.split(' ').nth(1).unwrap_or("nothing").to_string())
    };
    let host = |host: &str| reached(&format!("GET /x HTTP/1.1\r\nHost: {host}\r\n"));
    for inner in
        ["inner.example", "INNER.Example", "inner.example.", "inner.example:80", &format!("Inner.Example.:{port}")]
    {
        assert_eq!(host(inner), "inner", "{inner}");
        assert_eq!(told(&ringway, &format!("http://{inner}/x")), "inner");
    }
    for open in ["example", "xinner.example", "inner.example.evil", "sub.inner.example", "inner"] {
        assert_eq!(host(open), "open", "{open}");
        assert_eq!(told(&ringway, &format!("http://{open}/x")), "open");
    }
    for bad in [
        "inner%2eexample",
        "%69nner.example",
        "inner.example%00",
        "inner.example/",
        "a@inner.example",
        "inner.example:x",
        "inner.example:80:80",
        "inner example",
        "",
    ] {
        assert_eq!(host(bad), "400", "{bad}");
    }
    assert_eq!(reached("GET /x HTTP/1.1\r\nHost: open\r\nHost: inner.example\r\n"), "400");
    assert_eq!(reached("GET http://inner.example/x HTTP/1.1\r\nHost: open\r\n"), "inner");
    assert_eq!(reached("GET HTTP://open/admin HTTP/1.1\r\nHost: inner.example\r\n"), "admin");
    assert_eq!(reached("GET http://inner.example@open/x HTTP/1.1\r\nHost: open\r\n"), "400");
    assert_eq!(reached("GET http:/inner.example/x HTTP/1.1\r\nHost: open\r\n"), "400");
}
