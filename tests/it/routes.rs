//! What a route can do beside sending a request to its owner.
use crate::harness::http::Response;
use crate::harness::origin::{Origin, Script};
use crate::harness::program::{Ringway, command};
use crate::harness::wait_for;
use std::fs;

/// An origin, and `[upstream.u]` of it alone.
pub fn one() -> (Origin, String) {
    let origin = Origin::start("o");
    let upstream = format!("[upstream.u]\nendpoints = [{{ id = \"o\", address = \"{}\" }}]\n", origin.address);
    (origin, upstream)
}

fn explained(ringway: &Ringway, arguments: &[&str]) -> serde_json::Value {
    let config = ringway.config_path();
    let output = command(&[&["explain", "-c", config.to_str().unwrap(), "--json"], arguments].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

/// What `check` says of a configuration that is wrong.
fn problems(config: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f.toml");
    fs::write(&file, format!("[[listener]]\naddress = \"127.0.0.1:0\"\n{config}")).unwrap();
    let output = command(&["check", "-c", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_redirect_sends_the_client_elsewhere_and_asks_nobody() {
    let (origin, upstream) = one();
    let routes = "[[route]]\nname = \"old\"\nhosts = [\"old.example\"]\nredirect = { to = \"https://{host}{path_and_query}\" }\n\
        [[route]]\nname = \"moved\"\npath_prefix = \"/moved\"\nredirect = { status = 302, to = \"{path_and_query}\" }\n\
        [[route]]\nname = \"rest\"\nupstream = \"u\"\n";
    let ringway = Ringway::start(&format!("{routes}{upstream}"));
    let mut client = ringway.client();
    let mut get =
        |host: &str, target: &str| -> Response { client.request("GET", target, &[("Host", host)], None).unwrap() };
    let moved = get("OLD.example:8080", "/a%20b?c=d&e");
    assert_eq!((moved.status, moved.header("location")), (308, Some("https://old.example/a%20b?c=d&e")));
    assert_eq!(moved.header("content-length"), Some("0"));
    // What a client sent neither ends the field nor names another host.
    assert_eq!(get("old.example", "/\\evil\"<").header("location"), Some("https://old.example/%5Cevil%22%3C"));
    let relative = get("x", "/moved//evil.example/");
    assert_eq!((relative.status, relative.header("location")), (302, Some("/moved//evil.example/")));
    assert_eq!(get("x", "/other").status, 200);
    assert_eq!(client.connections, 1, "a redirect keeps its connection");
    assert_eq!(origin.requests().len(), 1);
    let counted = [("route", "old"), ("upstream", "none"), ("code", "308")];
    assert_eq!(ringway.metrics().sum_of("ringway_requests_total", &counted), 2.0);
    let answer = &explained(&ringway, &["http://old.example/x?y"])["answer"];
    assert_eq!(answer, "308 to https://old.example/x?y");
}

#[test]
fn a_path_never_leads_to_another_site() {
    let ringway = Ringway::start("[[route]]\nredirect = { status = 301, to = \"{path_and_query}\" }\n");
    let mut client = ringway.client();
    for (target, location) in [("//evil.example/x", "/evil.example/x"), ("///evil", "/evil"), ("/\\evil", "/%5Cevil")] {
        assert_eq!(client.get(target).unwrap().header("location"), Some(location), "{target}");
    }
    assert_eq!(client.request("OPTIONS", "*", &[], None).unwrap().header("location"), Some("/"));
}

#[test]
fn a_fixed_answer_is_the_same_for_everybody() {
    let routes = "[[route]]\npath = \"/ok\"\nrespond = { body = \"fine\\n\", headers = { x-a = \"1\" } }\n\
        [[route]]\npath = \"/json\"\nrespond = { status = 418, body = '{\"a\":1}', headers = { content-type = \"application/json\" } }\n\
        [[route]]\npath = \"/none\"\nrespond = { status = 204 }\n";
    let ringway = Ringway::start(routes);
    let mut client = ringway.client();
    let ok = client.get("/ok").unwrap();
    assert_eq!((ok.status, ok.text(), ok.header("x-a")), (200, "fine\n", Some("1")));
    assert_eq!(ok.header("content-type"), Some("text/plain; charset=utf-8"));
    let head = client.request("HEAD", "/ok", &[], None).unwrap();
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("5"), 0));
    let json = client.get("/json").unwrap();
    assert_eq!((json.status, json.text(), json.header("content-type")), (418, "{\"a\":1}", Some("application/json")));
    let none = client.get("/none").unwrap();
    assert_eq!((none.status, none.header("content-length")), (204, None));
    assert_eq!(client.get("/other").unwrap().status, 404);
    assert_eq!(client.connections, 1);
    assert_eq!(explained(&ringway, &["/json"])["answer"], "418 with 7 bytes");
}

#[test]
fn a_route_does_one_thing() {
    let check = |config: &str, expected: &str| {
        let found = problems(config);
        assert!(found.contains(expected), "{found}");
    };
    check("[[route]]\n", "f.toml:3:1: [[route]] has no \"upstream\", \"redirect\" or \"respond\"");
    let both = "[[route]]\nredirect = { to = \"/x\" }\nrespond = { body = \"x\" }\n";
    check(both, "f.toml:5:11: a route has one of");
    let redirect = |inner: &str| format!("[[route]]\nredirect = {{ {inner} }}\n");
    check(&redirect("status = 304, to = \"/\""), "one of 301, 302, 303, 307, 308 is needed");
    check(&redirect("status = 301"), "[route.redirect] has no \"to\"");
    check(&redirect("to = \"//evil\""), "is not a place to go to");
    check(&redirect("to = \"ftp://a\""), "is not a place to go to");
    check(&redirect("to = \"/{hots}\""), "{hots} stands for nothing");
    check(&redirect("to = \"/a b\""), "visible ASCII");
    let respond = |inner: &str| format!("[[route]]\nrespond = {{ {inner} }}\n");
    check(&respond("status = 204, body = \"x\""), "an answer with status 204 has no body");
    check(&respond("headers = { \"content-length\" = \"1\" }"), "only Ringway sets it");
    check(&respond("headers = { \"x-a\" = \"b\\r\\nX-Evil: 1\" }"), "control characters");
    check(&respond("headers = { \"x a\" = \"b\" }"), "is not a field name");
    check("[[route]]\nrespond = {}\nallow = [\"10.0.0.0/33\"]\n", "f.toml:5:10: \"10.0.0.0/33\" is not a network");
}

#[test]
fn a_route_takes_the_clients_it_is_for() {
    let (origin, upstream) = one();
    let routes = "[[route]]\nname = \"in\"\nupstream = \"u\"\nallow = [\"127.0.0.0/8\", \"10.0.0.0/8\"]\ndeny = [\"10.6.0.0/16\"]\n";
    let listener = "[[listener]]\naddress = \"LISTEN\"\ntrusted_proxies = [\"127.0.0.1\"]\n";
    let ringway = Ringway::start(&format!("{routes}{upstream}{listener}"));
    let mut client = ringway.client();
    let mut status_for = |ip: &str| {
        let headers = [("X-Forwarded-For", ip), ("Accept", "application/json")];
        let response = client.request("GET", "/", &headers, None).unwrap();
        assert_eq!(response.status == 403, response.text().contains("\"error\":\"denied\""), "{}", response.text());
        response.status
    };
    assert_eq!(status_for("10.1.2.3"), 200);
    assert_eq!(status_for("10.6.2.3"), 403);
    assert_eq!(status_for("192.0.2.1"), 403);
    assert_eq!(status_for("2001:db8::1"), 403);
    assert_eq!(status_for("::ffff:10.1.2.3"), 200, "an IPv4 address, however written");
    assert_eq!(origin.requests().len(), 2, "who is denied reaches nobody");
    assert_eq!(ringway.metrics().sum_of("ringway_requests_total", &[("route", "in"), ("code", "403")]), 3.0);
    let denied = explained(&ringway, &["/", "--client-ip", "10.6.0.1"]);
    assert_eq!(denied["answer"], "403 denied: 10.6.0.1 may not use this route");
    assert_eq!(explained(&ringway, &["/", "--client-ip", "10.7.0.1"])["owner"], serde_json::Value::Null);
}

#[test]
fn the_path_is_changed_for_the_endpoint_and_not_for_the_key() {
    let (origin, upstream) = one();
    let routes = "[[route]]\npath_prefix = \"/api\"\nupstream = \"u\"\nkey = [\"path\"]\nstrip_prefix = true\n\
        [[route]]\npath_prefix = \"/old\"\nupstream = \"u\"\nrewrite = { regex = \"^/old/(?<id>[^/]+)\", to = \"/new/{id}\" }\n\
        [[route]]\npath_prefix = \"/v1\"\nupstream = \"u\"\nstrip_prefix = \"/v1/x\"\n";
    let ringway = Ringway::start(&format!("{routes}{upstream}"));
    let mut client = ringway.client();
    let mut check = |target: &str, expected: &str| {
        assert_eq!(client.get(target).unwrap().status, 200, "{target}");
        assert_eq!(origin.requests().last().unwrap().path(), expected, "{target}");
        let told = explained(&ringway, &[target]);
        assert_eq!(told["target"].as_str().unwrap_or(target), expected);
    };
    check("/api", "/");
    check("/api?x=/api", "/?x=/api");
    check("/api/a%2Fb//c?d=%20", "/a%2Fb//c?d=%20");
    check("/old/7/rest?q", "/new/7/rest?q");
    check("/v1/y", "/v1/y");
    check("/v1/x/y", "/y");
    assert_eq!(explained(&ringway, &["/api/v"])["key"], "/api/v");
    let logged = || ringway.stdout().contains("\"/api/a%2Fb//c?d=%20\"").then_some(());
    wait_for("the target as it came, in the log", logged);
    let mut refused = |target: &str| {
        let (before, status) = (origin.requests().len(), client.get(target).unwrap().status);
        assert_eq!((status, origin.requests().len()), (400, before), "{target}");
    };
    refused("/api/../old");
    refused("/old/a%2e%2e/../../x");
}

#[test]
fn a_change_of_the_path_that_cannot_be_is_told() {
    let check = |keys: &str, expected: &str| {
        let found = problems(&format!("[[route]]\nupstream = \"u\"\n{keys}\n{}", one().1));
        assert!(found.contains(expected), "{found}");
    };
    check("strip_prefix = true", "f.toml:5:16: the route has no \"path_prefix\" that could be cut off");
    check("strip_prefix = \"api\"", "f.toml:5:16: \"api\" is not a path");
    check("strip_prefix = 1", "\"strip_prefix\" takes true, false or a text in quotes, not integer");
    check("rewrite = { regex = \"^/a\" }", "[route.rewrite] has no \"to\"");
    check("rewrite = { regex = \"(\", to = \"/\" }", "f.toml:5:11: the regex is not one");
    check("rewrite = { regex = \"^/a\", to = \"/{1}\" }", "the regex has no group {1}");
}

#[test]
fn a_route_sets_adds_and_removes_fields() {
    let (origin, upstream) = one();
    origin.script(Script {
        headers: vec![("Server", "secret/1.0".into()), ("Vary", "accept".into()), ("X-Two", "1".into())],
        ..Script::default()
    });
    let routes = "[[route]]\nupstream = \"u\"\n\
        request_headers = { set = { x-client = \"{client_ip} {request_id}\", x-forwarded-proto = \"https\" }, \
        add = { x-more = \"{host}{path_and_query}\" }, remove = [\"Cookie\", \"via\", \"X-Forwarded-Host\"] }\n\
        response_headers = { set = { x-two = \"2\", x-id = \"{request_id}\" }, add = { vary = \"origin\" }, remove = [\"server\"] }\n\
        [[route]]\npath = \"/own\"\nrespond = { status = 204, headers = { x-two = \"own\" } }\n\
        response_headers = { set = { x-two = \"{method}\" } }\n";
    let ringway = Ringway::start(&format!("{routes}{upstream}"));
    let mut client = ringway.client();
    let fields =
        [("Cookie", "a=b"), ("X-Client", "spoofed"), ("X-More", "0"), ("X-Request-Id", "id-1"), ("Host", "A.b")];
    let response = client.request("GET", "/p?q", &fields, None).unwrap();
    let seen = origin.requests().pop().unwrap();
    let all = |name: &str| -> Vec<&str> {
        seen.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str()).collect()
    };
    assert_eq!(all("x-client"), ["127.0.0.1 id-1"]);
    assert_eq!(all("x-forwarded-proto"), ["https"]);
    assert_eq!(all("x-more"), ["0", "a.b/p?q"]);
    assert_eq!((all("cookie").len(), all("via").len(), all("x-forwarded-host").len()), (0, 0, 0));
    assert_eq!((all("x-forwarded-for"), all("host")), (vec!["127.0.0.1"], vec!["A.b"]));
    let got = |name: &str| -> Vec<&str> {
        response.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str()).collect()
    };
    assert_eq!((got("server").len(), got("x-two"), got("vary")), (0, vec!["2"], vec!["accept", "origin"]));
    assert_eq!(got("x-id"), ["id-1"]);
    let own = client.get("/own").unwrap();
    assert_eq!((own.status, own.header("x-two")), (204, Some("GET")));
}

#[test]
fn fields_that_frame_or_identify_a_message_cannot_be_touched() {
    let check = |keys: &str, expected: &str| {
        let found = problems(&format!("[[route]]\nupstream = \"u\"\n{keys}\n{}", one().1));
        assert!(found.contains(expected), "{found}");
    };
    for name in ["Host", "content-length", "Transfer-Encoding", "connection", "te", "upgrade", "ringway-x", "proxy"] {
        check(&format!("request_headers = {{ set = {{ {name} = \"x\" }} }}"), "only Ringway sets it");
        check(&format!("response_headers = {{ remove = [\"{name}\"] }}"), "only Ringway sets it");
    }
    check("request_headers = { add = { x-a = \"a\\nb\" } }", "control characters");
    check("request_headers = { add = { x-a = \"{nope}\" } }", "f.toml:5:29: {nope} stands for nothing");
    check("request_headers = { sett = {} }", "unknown key \"sett\" in [route.request_headers]; did you mean \"set\"?");
}

#[test]
fn a_key_that_asks_too_often_is_told_when_to_come_back() {
    let (origin, upstream) = one();
    let limited = |requests: u32| {
        format!(
            "[[route]]\nname = \"r\"\nupstream = \"u\"\n\
             rate_limit = {{ requests = {requests}, per = \"1h\", burst = 5, key = [\"header:x-user\"] }}\n{upstream}"
        )
    };
    let ringway = Ringway::start(&limited(60));
    let ask = |user: &[(&str, &str)]| ringway.client().request("GET", "/", user, None).unwrap();
    let ann = [("X-User", "ann"), ("Accept", "application/json")];
    // Each request on a connection of its own: all workers count together.
    assert!((0..5).all(|_| ask(&ann).status == 200));
    let refused = ask(&ann);
    assert_eq!(refused.status, 429);
    assert!(refused.text().contains("\"error\":\"rate_limited\""), "{}", refused.text());
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(ask(&[("X-User", "bob")]).status, 200, "others are not held up");
    assert!((0..5).all(|_| ask(&[]).status == 200), "without a key the address counts");
    assert_eq!(ask(&[]).status, 429);
    assert_eq!(origin.requests().len(), 11);
    assert_eq!(ringway.metrics().get("ringway_rate_limited_total{route=\"r\"}"), 2.0);
    // What was counted outlives a reload that changes something else, and only that.
    ringway.rewrite_config(&format!("{}\n[server]\nworkers = 2\ndrain_timeout = \"1m\"\n", limited(60)));
    assert_eq!(ask(&ann).status, 429);
    ringway.rewrite_config(&limited(61));
    assert_eq!(ask(&ann).status, 200);
}

#[test]
fn a_limit_that_cannot_be_is_told() {
    let check = |inner: &str, expected: &str| {
        let found = problems(&format!("[[route]]\nrespond = {{}}\nrate_limit = {{ {inner} }}\n"));
        assert!(found.contains(expected), "{found}");
    };
    check("per = \"1s\"", "[route.rate_limit] has no \"requests\"");
    check("requests = 0", "\"requests\" is 0, but 1 to 1000000 is allowed");
    check("requests = 1, per = \"25h\"", "a limit is over a day at most");
    check("requests = 1, key = [\"user\"]", "\"user\" is not a part of a key");
    check("requests = 1, per = 1", "\"per\" takes a duration");
}

#[test]
fn forwarded_names_the_client_behind_a_trusted_proxy() {
    let (origin, upstream) = one();
    let route = "[[route]]\nupstream = \"u\"\nrequest_headers = { set = { x-client = \"{client_ip}\" } }\n";
    let trusting = "[[listener]]\naddress = \"LISTEN\"\ntrusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]\n";
    let check = |listener: &str, forwarded: &str, client: &str, passed: bool| {
        let ringway = Ringway::start(&format!("{route}{upstream}{listener}"));
        assert_eq!(ringway.client().request("GET", "/", &[("Forwarded", forwarded)], None).unwrap().status, 200);
        let seen = origin.requests().pop().unwrap();
        assert_eq!(seen.header("x-client"), Some(client), "{forwarded}");
        assert_eq!(seen.header("forwarded").is_some(), passed);
    };
    check(trusting, "for=198.51.100.1, for=\"[2001:db8::7]:47\";proto=https, for=10.1.2.3", "2001:db8::7", true);
    check(trusting, "for=\"evil, for=198.51.100.9", "198.51.100.9", true);
    check("", "for=198.51.100.1", "127.0.0.1", false);
}

#[test]
fn a_thinned_log_keeps_every_failure() {
    let routes = "[log]\nsample = \"0%\"\n[[route]]\npath = \"/ok\"\nrespond = {}\n[[route]]\npath = \"/bad\"\nrespond = { status = 500 }\n";
    let ringway = Ringway::start(routes);
    let mut client = ringway.client();
    for _ in 0..20 {
        assert_eq!(client.get("/ok").unwrap().status, 200);
        assert_eq!(client.get("/bad").unwrap().status, 500);
        assert_eq!(client.get("/none").unwrap().status, 404);
    }
    let lines = wait_for("40 lines", || Some(ringway.stdout()).filter(|log| log.lines().count() >= 40));
    assert!(lines.lines().count() == 40 && !lines.contains("/ok"), "{lines}");
}
