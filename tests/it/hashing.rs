//! Each key goes to the endpoint that the ring names, whatever way it comes.
use crate::harness::origin::Origin;
use crate::harness::program::{Ringway, command};
use std::collections::BTreeSet;

/// Origins with these ids, and an upstream of them as TOML.
pub fn fleet(ids: &[&str]) -> (Vec<Origin>, String) {
    let origins: Vec<Origin> = ids.iter().map(|id| Origin::start(id)).collect();
    let toml = upstream(&origins.iter().collect::<Vec<_>>());
    (origins, toml)
}

/// `[upstream.u]` of these origins.
pub fn upstream(origins: &[&Origin]) -> String {
    let lines =
        origins.iter().map(|origin| format!("{{ id = \"{}\", address = \"{}\" }}, ", origin.id, origin.address));
    format!("[upstream.u]\nendpoints = [{}]\n", lines.collect::<String>())
}

pub const BY_PATH: &str = "[[route]]\nupstream = \"u\"\nkey = [\"path\"]\n";

fn owner(text: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(text).unwrap();
    value["owner"].as_str().unwrap().to_string()
}

#[test]
fn explain_names_the_endpoint_that_serves() {
    let (_origins, upstream) = fleet(&["a", "b", "c", "d"]);
    let ringway = Ringway::start(&format!("{BY_PATH}{upstream}"));
    let config = ringway.config_path();
    let mut client = ringway.client();
    let mut servers = BTreeSet::new();
    for number in 0..400 {
        let path = format!("/item/{number}");
        let served = client.get(&path).unwrap().header("x-origin").unwrap().to_string();
        let live = ringway.admin_get(&format!("/api/v1/explain?url={path}")).unwrap();
        assert_eq!(owner(live.text()), served, "{path}");
        if number < 10 {
            let url = format!("http://example.com{path}");
            let offline = command(&["explain", "-c", config.to_str().unwrap(), "--json", &url]);
            assert_eq!(owner(std::str::from_utf8(&offline.stdout).unwrap()), served, "{path}");
        }
        servers.insert(served);
    }
    assert_eq!(servers.len(), 4, "every endpoint owns some keys");
    assert_eq!(ringway.metrics().sum_of("ringway_requests_by_position_total", &[("position", "owner")]), 400.0);
}

#[test]
fn alternatives_are_tried_in_order_and_a_missing_key_is_counted() {
    let (_origins, upstream) = fleet(&["a", "b", "c"]);
    let route = "[[route]]\nname = \"r\"\nupstream = \"u\"\nkey = [\"header:x-user\", \"cookie:sid + path\"]\n";
    let ringway = Ringway::start(&format!("{route}{upstream}"));
    let mut client = ringway.client();
    let mut server_of = |path: &str, headers: &[(&str, &str)]| {
        client.request("GET", path, headers, None).unwrap().header("x-origin").unwrap().to_string()
    };
    for user in ["1", "2", "3", "4"] {
        let by_user: BTreeSet<String> = (0..8).map(|n| server_of(&format!("/{n}"), &[("X-User", user)])).collect();
        assert_eq!(by_user.len(), 1, "one user, one endpoint");
    }
    let joined = server_of("/p", &[("Cookie", "a=b; sid=7")]);
    assert_eq!(joined, server_of("/p", &[("cookie", "sid=7")]));
    server_of("/p", &[]);
    assert_eq!(ringway.metrics().get("ringway_key_missing_total{route=\"r\"}"), 1.0);
}

#[test]
fn a_route_may_reject_requests_without_a_key() {
    let (_origins, upstream) = fleet(&["a", "b"]);
    let route = "[[route]]\nupstream = \"u\"\nkey = [\"header:x-user\"]\non_missing_key = \"reject\"\n";
    let ringway = Ringway::start(&format!("{route}{upstream}"));
    let refused = ringway.client().request("GET", "/", &[("Accept", "application/json")], None).unwrap();
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("\"error\":\"key_missing\""), "{}", refused.text());
}

#[test]
fn the_most_specific_route_takes_a_request() {
    let (origins, _) = fleet(&["a", "b"]);
    let [a, b] = [&origins[0], &origins[1]].map(|origin| {
        format!("[upstream.{0}]\nendpoints = [{{ id = \"{0}\", address = \"{1}\" }}]\n", origin.id, origin.address)
    });
    let routes =
        "[[route]]\nupstream = \"a\"\n[[route]]\nupstream = \"b\"\npath_prefix = \"/b\"\nmethods = [\"GET\"]\n";
    let ringway = Ringway::start(&format!("{routes}{a}{b}"));
    let mut client = ringway.client();
    assert_eq!(client.get("/bee").unwrap().header("x-origin"), Some("a"));
    assert_eq!(client.get("/b/ee?x").unwrap().header("x-origin"), Some("b"));
    assert_eq!(client.get("/a/../b").unwrap().status, 400, "means another route than it says");
    assert_eq!(client.post("/b", b"x").unwrap().header("x-origin"), Some("a"));
}
