//! Every mistake is told with its place and its remedy.
use super::*;

const GOOD: &str = r#"
[[listener]]
address = "127.0.0.1:0"

[[route]]
upstream = "cache"
key = ["path"]

[upstream.cache]
endpoints = [
  { id = "c1", address = "10.0.0.1:8080" },
  { id = "c2", address = "10.0.0.2:8080", weight = 2 },
]
"#;

fn problems(text: &str) -> Vec<String> {
    match parse("f.toml", text, &|name| (name == "PORT").then(|| "8080".to_string())) {
        Ok(_) => Vec::new(),
        Err(diagnostics) => diagnostics.0.iter().map(ToString::to_string).collect(),
    }
}

/// Replaces a piece of the good file and expects these beginnings of problems.
fn check(from: &str, to: &str, expected: &[&str]) {
    assert!(GOOD.contains(from), "{from}");
    let found = problems(&GOOD.replacen(from, to, 1));
    assert_eq!(found.len(), expected.len(), "{to}: {found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found} does not begin with {expected}");
    }
}

#[test]
fn a_good_file_has_no_problems_and_the_defaults_of_the_code() {
    let config = parse("f.toml", GOOD, &|_| None).unwrap();
    assert_eq!(config.server, lifecycle::settings::Settings::default());
    assert_eq!(config.admin, admin::settings::Settings::default());
    assert_eq!(config.log, telemetry::settings::Settings::default());
    assert_eq!(config.listeners[0], Listener::new("127.0.0.1:0".parse().unwrap()));
    let forward = config.routes[0].action.forward().unwrap();
    assert_eq!(forward.retry, crate::retry::policy::Settings::default());
    assert_eq!((forward.via, forward.timeout), (true, std::time::Duration::from_secs(60)));
    assert_eq!(forward.tunnel_timeout, std::time::Duration::from_secs(3600));
    assert_eq!(forward.upgrade, [std::sync::Arc::from("websocket")]);
    let upstream = &config.upstreams[0];
    assert_eq!(*upstream, Upstream::new(upstream.name.clone(), upstream.endpoints.clone()));
    assert_eq!(upstream.endpoints[1].weight, 2);
}

#[test]
fn each_mistake_is_told_with_its_place_and_remedy() {
    check(
        "[[route]]",
        "[server]\nworker = 2\n[[route]]",
        &["f.toml:6:1: unknown key \"worker\" in [server]; did you mean \"workers\"?"],
    );
    check(
        "address = \"127.0.0.1:0\"",
        "addres = \"127.0.0.1:0\"",
        &["f.toml:2:1: [[listener]] has no \"address\"; write", "f.toml:3:1: unknown key \"addres\""],
    );
    check(
        "\"127.0.0.1:0\"",
        "\"localhost\"",
        &["f.toml:3:11: \"localhost\" is not an address; write \"0.0.0.0:8080\""],
    );
    check("\"127.0.0.1:0\"", "\"unix:run/a\"", &["f.toml:3:11: \"unix:run/a\": the path of a unix socket begins"]);
    check("\"127.0.0.1:0\"", "\"unix:/run/a\"\nmode = \"rw\"", &["f.toml:4:8: \"rw\" is not a mode; write"]);
    check("\"127.0.0.1:0\"", "\"127.0.0.1:0\"\nmode = \"0660\"", &["f.toml:4:8: \"mode\" is for a unix socket's"]);
    check(
        "\"127.0.0.1:0\"",
        "\"127.0.0.1:0\"\nidle_timeout = \"5 s\"",
        &["f.toml:4:16: \"5 s\" is not a value of \"idle_timeout\": a duration is"],
    );
    check(
        "\"127.0.0.1:0\"",
        "\"127.0.0.1:0\"\nidle_timeout = 5",
        &["f.toml:4:16: \"idle_timeout\" takes a duration like \"250ms\" or \"5m\", not integer"],
    );
    check(
        "\"127.0.0.1:0\"",
        "\"127.0.0.1:0\"\nmax_header_bytes = \"1B\"",
        &["f.toml:4:20: \"max_header_bytes\" is 1B, but \"1KiB\" to \"1MiB\" is allowed"],
    );
    check(
        "\"127.0.0.1:0\"",
        "\"127.0.0.1:0\"\nprotocols = [\"http2\"]",
        &["f.toml:4:", "f.toml:4:14: \"http2\" is not a protocol"],
    );
    check(
        "\"127.0.0.1:0\"",
        "\"127.0.0.1:0\"\ntrusted_proxies = [\"10.0.0.0/40\"]",
        &["f.toml:4:20: \"10.0.0.0/40\" is not a network"],
    );
    check(
        "\"127.0.0.1:0\"",
        "\"127.0.0.1:0\"\ntls = { certificates = [{ cert = \"/no\", key = \"/no\" }] }",
        &["f.toml:4:34: /no cannot be read", "f.toml:4:47: /no cannot be read"],
    );
    check(
        "\"127.0.0.1:0\"",
        "\"127.0.0.1:0\"\ntls = { certificates = [], client_auth = \"optional\", min_version = \"1.1\" }",
        &[
            "f.toml:4:24: TLS needs at least one certificate",
            "f.toml:4:42: nobody's certificate would be good without a \"client_ca\"",
            "f.toml:4:68: \"min_version\" is \"1.1\", but one of \"1.2\", \"1.3\" is needed",
        ],
    );
    check(
        "[upstream.cache]",
        "[upstream.cache]\ntls = { server_name = \"a b\", ca = \"/no\", cert = \"/no\", verfy = true }",
        &[
            "f.toml:10:23: \"a b\" is not a server name",
            "f.toml:10:35: /no cannot be read",
            "f.toml:10:49: /no cannot be read",
            "f.toml:10:49: a \"cert\" without a \"key\"",
            "f.toml:10:56: unknown key \"verfy\" in [upstream.NAME.tls]; did you mean \"verify\"?",
        ],
    );
    check(
        "[upstream.cache]",
        "[upstream.cache]\ntls = { ca = \"/dev/null\" }",
        &["f.toml:10:14: failed to find a certificate in /dev/null"],
    );
    check(
        "upstream = \"cache\"",
        "upstream = \"cash\"",
        &["f.toml:6:12: there is no [upstream.cash]; did you mean \"cache\"?"],
    );
    check(
        "upstream = \"cache\"",
        "",
        &["f.toml:5:1: [[route]] has no \"upstream\", \"redirect\" or \"respond\"; write upstream = \"NAME\""],
    );
    check("key = [\"path\"]", "", &["f.toml:5:1: upstream \"cache\" has several endpoints, so the route needs a key"]);
    check(
        "[\"path\"]",
        "[\"cookie:sid\", \"pth\"]",
        &["f.toml:7:22: \"pth\" is not a part of a key; did you mean \"path\"?"],
    );
    check(
        "key =",
        "on_missing_key = \"rand\"\nkey =",
        &[
            "f.toml:7:18: \"on_missing_key\" is \"rand\", but one of \"random\", \"reject\", \"client_ip\" is needed; did you mean \"random\"?",
        ],
    );
    check("key =", "upgrade = [\"web socket\"]\nkey =", &["f.toml:7:12: \"web socket\" is not a protocol; write"]);
    check("key =", "upgrade = [\"websocket\", \"H2C\"]\nkey =", &["f.toml:7:25: \"H2C\" may not be upgraded to"]);
    check("key =", "path = \"x\"\nkey =", &["f.toml:7:8: \"x\" is not a path"]);
    check("key =", "path = \"/x\"\npath_prefix = \"/y\"\nkey =", &["f.toml:8:15: a route has one of"]);
    check("key =", "path_regex = \"(\"\nkey =", &["f.toml:7:14: the regex is not one"]);
    check("key =", "hosts = [\"a:80\"]\nkey =", &["f.toml:7:10: \"a:80\" is not a host"]);
    check("key =", "listeners = [\"publik\"]\nkey =", &["f.toml:7:14: there is no listener \"publik\""]);
    check(
        "key =",
        "retry = { on = [\"resett\"] }\nkey =",
        &[
            "f.toml:7:17: \"resett\" cannot be tried again: one of \"connect\", \"reset\", \"502\", \"503\", \"504\", \"timeout\"; did you mean \"reset\"?",
        ],
    );
    check(
        "[upstream.cache]",
        "[[route]]\nupstream = \"cache\"\nkey = [\"host\"]\n\n[upstream.cache]",
        &["f.toml:9:1: this route matches the same requests as the one at f.toml:5:1"],
    );
    check(
        "[[route]]",
        "[[listener]]\naddress = \"127.0.0.2:80\"\nname = \"127.0.0.1:0\"\n[[route]]",
        &["f.toml:6:11: another listener has this name or address already, at f.toml:3:11"],
    );
    check("\"c2\"", "\"c1\"", &["f.toml:12:10: two endpoints have the id \"c1\", the other at f.toml:11:10"]);
    check("\"c2\"", "\"c 2\"", &["f.toml:12:10: \"c 2\" is not an id"]);
    check("weight = 2", "weight = 1001", &["f.toml:12:52: \"weight\" is 1001, but 0 to 1000 is allowed"]);
    check("weight = 2", "weight = -1", &["f.toml:12:52: \"weight\" is -1, but 0 to 1000 is allowed"]);
    check("endpoints = [", "max_pending = 5\nendpoints = [", &["f.toml:10:15: nobody waits at an endpoint"]);
    check("10.0.0.1:8080", "cache.internal:8080", &[]);
    check("10.0.0.1:8080", "cache internal:8080", &["f.toml:11:26: \"cache internal:8080\" is not an address: write"]);
    check("10.0.0.1:8080", "10.0.0.300:8080", &["f.toml:11:26: \"10.0.0.300:8080\" is not an address: write"]);
    check("10.0.0.1:8080", "10.0.0.1:0", &["f.toml:11:26: \"10.0.0.1:0\" is not an address: port 0"]);
    check("10.0.0.1:8080", "10.0.0.1:${PORT}", &[]);
    check("10.0.0.1:8080", "10.0.0.1:${NONE:-80}", &[]);
    check("10.0.0.1:8080", "10.0.0.1:${NONE}80", &["f.toml:11:26: the environment has no NONE"]);
    check("\"c1\", address", "\"c1\", weight = 0, address", &[]);
    check(
        "[upstream.cache]",
        "[upstream.cache]\nring = { vnodes = 10000, seed = 1, secret_file = \"/no\" }",
        &["f.toml:10:33: a ring has a \"seed\" or", "f.toml:10:50: /no cannot be read"],
    );
    check(
        "[upstream.cache]",
        "[upstream.cache]\nring = { algorithm = \"ketama\", vnodes = 100, seed = 1 }",
        &[
            "f.toml:10:41: \"vnodes\" cannot be chosen with algorithm = \"ketama\"",
            "f.toml:10:53: \"seed\" cannot be chosen with",
        ],
    );
    check("[upstream.cache]", "[upstream.cache]\nring = { algorithm = \"ketama\", failover = 1 }", &[]);
    for bound in ["90%", "1.25", "on"] {
        check(
            "[upstream.cache]",
            &format!("[upstream.cache]\nload = {{ bound = \"{bound}\" }}"),
            &["f.toml:10:18: \"bound\" is \"off\" or \"100%\" to \"10000%\", not"],
        );
    }
    check(
        "[upstream.cache]",
        "[admin]\naddress = \"0.0.0.0:9900\"\n[upstream.cache]",
        &["f.toml:10:11: \"0.0.0.0:9900\" is not a loopback address"],
    );
}

#[test]
fn mistakes_in_health_checks_are_told() {
    let check = |table: &str, expected: &[&str]| {
        check("[upstream.cache]", &format!("[upstream.cache.health_check]\n{table}\n[upstream.cache]"), expected);
    };
    check("kind = \"tcp\"\nport = 1", &[]);
    check("kind = \"grpc\"\nservice = \"a.B\"\nheaders = { x-a = \"b\" }", &[]);
    check("expect_status = \"200, 204,301-302\"\nexpect_body = \"ok\"\nhost = \"a:1\"", &[]);
    check("kind = \"htp\"", &["f.toml:10:8: \"kind\" is \"htp\", but one of"]);
    check("kind = \"tcp\"\npath = \"/\"", &["f.toml:11:8: a \"tcp\" check has no \"path\""]);
    check("kind = \"grpc\"\nexpect_body = \"x\"", &["f.toml:11:15: a \"grpc\" check has no \"expect_body\""]);
    check("path = \"healthz\"", &["f.toml:10:8: \"healthz\" is not a path"]);
    check("method = \"GE T\"", &["f.toml:10:10: \"GE T\" is not a method"]);
    for wrong in ["", "ok", "200-", "399-200", "99", "200,,201", "600"] {
        check(&format!("expect_status = \"{wrong}\""), &["f.toml:10:17: "]);
    }
    check("headers = { host = \"a\" }", &["f.toml:10:13: a check sets \"host\" itself; there is the key"]);
    check("headers = { x = \"a\\nb\" }", &["f.toml:10:13: \"x: a"]);
    check("host = \"a b\"", &["f.toml:10:8: \"a b\" is not a host"]);
    check("rise = 0", &["f.toml:10:8: \"rise\" is 0, but 1 to 1000"]);
    check("port = 65536", &["f.toml:10:8: \"port\" is 65536"]);
    check("elect = \"s\"", &["f.toml:10:9: there is no [store.s]"]);
    check("on_store_loss = \"freeze\"", &["f.toml:10:17: \"on_store_loss\" is for checks by one proxy of a fleet"]);
}

#[test]
fn a_profile_picks_defaults_only() {
    let check = |lines: &str, expected: Option<f64>| {
        let text = GOOD.replace("[upstream.cache]", &format!("[upstream.cache]\n{lines}"));
        let config = parse("f.toml", &text, &|_| None).unwrap();
        assert_eq!(config.upstreams[0].load_bound, expected.map(crate::base::units::Ratio), "{lines}");
    };
    check("", None);
    check("profile = \"service\"", None);
    check("profile = \"cache\"", Some(1.25));
    check("profile = \"cache\"\nload = { bound = \"off\" }", None);
    check("profile = \"cache\"\nload.bound = \"200%\"", Some(2.0));
    check("load.bound = \"150%\"", Some(1.5));
}

#[test]
fn hot_keys_are_for_caches_and_for_whoever_asks() {
    let check = |lines: &str, expected: Option<(f64, usize)>, warns: bool| {
        let text = GOOD.replace("[upstream.cache]", &format!("[upstream.cache]\n{lines}"));
        let config = parse("f.toml", &text, &|_| None).unwrap();
        let found = config.upstreams[0].hot_keys.map(|settings| (settings.share.0, settings.replicas));
        assert_eq!((found, !config.warnings.is_empty()), (expected, warns), "{lines}");
    };
    check("", None, false);
    check("profile = \"service\"", None, false);
    check("profile = \"cache\"", Some((0.25, 8)), false);
    check("profile = \"cache\"\nload = { hot_keys = { share = \"0%\" } }", None, false);
    check("profile = \"cache\"\nload.hot_keys.replicas = 3", Some((0.25, 3)), false);
    check("load.hot_keys = {}", Some((0.25, 8)), true);
    check("load.hot_keys = { share = \"50%\", replicas = 4 }", Some((0.5, 4)), true);
    let text = GOOD.replace("[upstream.cache]", "[upstream.cache]\nload.hot_keys = { replicas = 1, part = \"5%\" }");
    let told = problems(&text);
    assert!(told.iter().any(|it| it.contains("\"replicas\" is 1, but 2 to 64")), "{told:?}");
    assert!(told.iter().any(|it| it.contains("unknown key \"part\" in [upstream.NAME.load.hot_keys]")), "{told:?}");
}

#[test]
fn a_route_that_fills_has_the_keys_of_the_caches() {
    let text = |front: &str, fill: &str| {
        format!(
            "[[listener]]\nname = \"a\"\naddress = \"127.0.0.1:0\"\n[[listener]]\nname = \"b\"\naddress = \"127.0.0.1:1\"\n\
             [[route]]\nupstream = \"c\"\n{front}\n[[route]]\nlisteners = [\"b\"]\n{fill}\n\
             [upstream.c]\nendpoints = [{{ id = \"1\", address = \"127.0.0.1:2\" }}, {{ id = \"2\", address = \"127.0.0.1:3\" }}]\n\
             [upstream.o]\nendpoints = [{{ id = \"1\", address = \"127.0.0.1:4\" }}]\n"
        )
    };
    let by = |front: &str, fill: &str| -> Vec<String> {
        let config = parse("f.toml", &text(front, fill), &|_| None).unwrap();
        let fill = config.routes[1].action.forward().unwrap().fill.clone().unwrap();
        assert!(config.routes[1].name.as_str() == "/@b", "both match the same paths");
        fill.key.unwrap().texts().map(str::to_string).collect()
    };
    let to_origin = "upstream = \"o\"\nfill_for = \"c\"";
    assert_eq!(by("key = [\"path\"]", to_origin), ["path"]);
    assert_eq!(by("key = [\"path\"]\nstrip_prefix = \"/x\"", &format!("{to_origin}\nkey = [\"host\"]")), ["host"]);
    let check = |front: &str, fill: &str, expected: &str| {
        let told = problems(&text(front, fill));
        assert!(told.len() == 1 && told[0].contains(expected), "{told:?}");
    };
    check("key = [\"path\"]\nstrip_prefix = \"/x\"", to_origin, "changes the path");
    check("key = [\"client_ip\"]", to_origin, "keyed by the client's address");
    check("key = [\"path\"]", "upstream = \"o\"\nfill_for = \"d\"", "there is no [upstream.d]");
    check("key = [\"path\"]", "upstream = \"c\"\nkey = [\"path\"]\nfill_for = \"c\"", "may wait for itself");
    let other = "key = [\"path\"]\n[[route]]\nupstream = \"c\"\npath_prefix = \"/p\"\nkey = [\"host\"]";
    check(other, to_origin, "have different keys");
}

#[test]
fn what_is_not_there_at_all_is_told() {
    let empty = problems("");
    assert_eq!(empty.len(), 2, "{empty:?}");
    assert!(empty[0].starts_with("f.toml:1:1: there is no [[listener]]"));
    let text = "[[listener]]\naddress = \"127.0.0.1:0\"\n[[route]]\nupstream = \"u\"\n[upstream.u]\n";
    let check = |endpoints: &str, expected: &str| {
        let found = problems(&format!("{text}{endpoints}"));
        assert!(found.len() == 1 && found[0].contains(expected), "{found:?}");
    };
    check("", "has no \"endpoints\" and no \"discovery\"");
    check("endpoints = []", "the list of endpoints is empty");
    check("endpoints = [{ id = \"a\", address = \"10.0.0.1:1\", weight = 0 }]", "all weights are 0");
    check(
        "endpoints = [{ id = \"a\", address = \"10.0.0.1:1\", weight = 1000 }]\nring = { vnodes = 10000 }\n[upstream.v]\nring = { vnodes = 10000 }\nendpoints = [{ id = \"a\", address = \"10.0.0.1:1\", weight = 1000 }, { id = \"b\", address = \"10.0.0.1:1\", weight = 1000 }]",
        "more than 16777216",
    );
}

#[test]
fn broken_toml_is_told_with_its_place() {
    let found = problems("[[listener]\naddress = \"x\n");
    assert!(found[0].starts_with("f.toml:1:"), "{found:?}");
    let found = problems(&GOOD.replace("upstream = \"cache\"", "upstream = \"cache\"\nupstream = \"cache\""));
    assert!(found[0].starts_with("f.toml:7:1: duplicate key"), "{found:?}");
}

#[test]
fn all_mistakes_are_told_at_once() {
    let found = problems("[server]\nworkers = 0\nx = 1\n[log]\nlevel = \"loud\"\n");
    assert_eq!(found.len(), 5, "{found:#?}");
}

#[test]
fn includes_are_read_and_blamed_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("main.toml");
    std::fs::create_dir(folder.path().join("conf.d")).unwrap();
    let (top, rest) = GOOD.split_once("[upstream.cache]").unwrap();
    std::fs::write(&main, format!("include = [\"conf.d/*.toml\"]\n{top}")).unwrap();
    let part = folder.path().join("conf.d/a.toml");
    std::fs::write(&part, format!("[upstream.cache]{rest}")).unwrap();
    assert_eq!(load(&main).unwrap().upstreams.len(), 1);
    std::fs::write(folder.path().join("conf.d/b.toml"), format!("[upstream.cache]{rest}")).unwrap();
    let error = load(&main).unwrap_err().to_string();
    assert!(
        error.contains("b.toml:1:") && error.contains("stands in another file already") && error.contains("a.toml:1:"),
        "{error}"
    );
    std::fs::write(&main, format!("include = [\"none.toml\"]\n{GOOD}")).unwrap();
    assert!(load(&main).unwrap_err().to_string().contains("main.toml:1:12: there is no file \"none.toml\""));
}

#[test]
fn the_reference_and_full_toml_come_from_the_table() {
    for (name, text) in [("REFERENCE.md", reference::markdown()), ("full.toml", reference::full())] {
        let path = format!("{}/config/{name}", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("RINGWAY_BLESS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "{name} is not what the table says");
    }
}

#[test]
fn the_files_we_ship_have_no_problems() {
    for name in
        ["minimal.toml", "full.toml", "cache-fleet.toml", "cache-fleet-fill.toml", "sticky.toml", "from-nginx.toml"]
    {
        let path = format!("{}/config/{name}", env!("CARGO_MANIFEST_DIR"));
        let config = load(Path::new(&path)).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(config.warnings, []);
    }
}

#[test]
fn every_key_of_the_table_is_read() {
    // A key that parses but that nobody reads would be a door to nowhere: each must change something or be checked.
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/config")).unwrap();
    let paths = folder.map(|entry| entry.unwrap().path());
    let tells = ["keys.rs", "tests.rs", "reference.rs"];
    let readers = paths.filter(|path| !tells.iter().any(|name| path.ends_with(name)));
    let readers: Vec<String> = readers.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    for key in keys::KEYS.iter().filter(|key| !matches!(key.kind, keys::Kind::Table | keys::Kind::Tables)) {
        let quoted = format!("\"{}\"", key.name);
        let is_read = readers.iter().any(|text| text.contains(&quoted));
        assert!(is_read, "{}.{} is read nowhere", key.section, key.name);
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(cut in 0usize..3000, junk in "[\\[\\]{}=\"'#.\n a-z0-9]{0,12}") {
        let full = reference::full();
        let at = full.floor_char_boundary(cut % full.len());
        let text = format!("{}{junk}{}", &full[..at], &full[at..]);
        drop(parse("f", &text, &|_| None));
    }
}

#[test]
fn turns_need_a_key_and_an_upstream() {
    let serialized = |text: &str| format!("key = [\"path\"]\n[route.serialize]\n{text}");
    check("key = [\"path\"]", &serialized(""), &[]);
    check("key = [\"path\"]", &serialized("key = [\"header:x\"]\nmethods = [\"POST\"]\nmax_queue = 0"), &[]);
    check("key = [\"path\"]", &serialized("methods = []"), &["f.toml:9:11: no request would take turns; write"]);
    check("key = [\"path\"]", &serialized("methods = [\"post\"]"), &["f.toml:9:12: \"post\" is not a method; write"]);
    check("key = [\"path\"]", &serialized("key = [\"pth\"]"), &["f.toml:9:8: \"pth\" is not a part of a key"]);
    check("key = [\"path\"]", &serialized("wait = \"0s\""), &["f.toml:9:8: \"wait\" is 0s, but at least \"1ms\""]);
    check("key = [\"path\"]", &serialized("store = \"etcd\""), &["f.toml:9:9: there is no [store.etcd]"]);
    check(
        "key = [\"path\"]",
        &serialized("lease = \"2s\""),
        &["f.toml:9:9: \"lease\" is for turns that a store keeps"],
    );
    let store = "[store.e]\nengine = \"etcd\"\nendpoints = [\"http://10.0.0.1:2379\"]";
    let stored = |text: &str| serialized(&format!("store = \"e\"\n{text}\n{store}\n"));
    check("key = [\"path\"]", &stored("lease = \"2s\"\non_store_loss = \"local\"\non_lease_lost = \"finish\""), &[]);
    check("key = [\"path\"]", &stored("lease = \"500ms\""), &["f.toml:10:9: \"lease\" is 500ms, but at least \"1s\""]);
    check("key = [\"path\"]", &stored("on_store_loss = \"pass\""), &["f.toml:10:17: \"on_store_loss\" is \"pass\""]);
    let redis = |lease: &str, most: &str| {
        let store = format!("[store.r]\nengine = \"redis\"\nurl = \"redis://a:1\"\nmax_lease = \"{most}\"");
        serialized(&format!("store = \"r\"\n{lease}\n{store}\n"))
    };
    check("key = [\"path\"]", &redis("lease = \"10s\"", "10s"), &[]);
    check("key = [\"path\"]", &redis("", "10s"), &[]);
    let longer = "f.toml:10:9: a lease of 10s is longer than \"max_lease\" of store \"r\", 9s";
    check("key = [\"path\"]", &redis("lease = \"10s\"", "9s"), &[longer]);
    let one = "[upstream.cache]\nendpoints = [{ id = \"c1\", address = \"10.0.0.1:8080\" }]\n";
    let keyless =
        format!("[[listener]]\naddress = \"127.0.0.1:0\"\n[[route]]\nupstream = \"cache\"\n[route.serialize]\n{one}");
    let found = problems(&keyless);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("neither the route nor \"serialize\" has a key"), "{found:?}");
}

#[test]
fn a_fleet_coalesces_by_a_store() {
    let store = "[store.e]\nengine = \"etcd\"\nendpoints = [\"http://10.0.0.1:2379\"]";
    let shared = |text: &str| format!("key = [\"path\"]\n[route.coalesce]\n{text}\n{store}\n");
    check("key = [\"path\"]", &shared(""), &[]);
    check("key = [\"path\"]", &shared("store = \"e\"\nlease = \"2s\"\non_store_loss = \"refuse\""), &[]);
    check("key = [\"path\"]", &shared("store = \"f\""), &["f.toml:9:9: there is no [store.f]"]);
    check("key = [\"path\"]", &shared("lease = \"2s\""), &["f.toml:9:9: \"lease\" is for a fleet that a store"]);
    let bypass = shared("store = \"e\"\non_store_loss = \"bypass\"");
    check("key = [\"path\"]", &bypass, &["f.toml:10:17: \"on_store_loss\" is \"bypass\""]);
}
