//! `[store.NAME]`.
use super::table::Found;
use super::table::Place;
use super::table::Reader;
use super::table::Section;
use super::tls;
use crate::base::address::Address;
use crate::base::address::Location;
use crate::net::settings::ClientTls;
use crate::net::tls_client::TlsClient;
use crate::store::settings::Consistency;
use crate::store::settings::Consul;
use crate::store::settings::Engine;
use crate::store::settings::Redis;
use crate::store::settings::Settings;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// All stores by name; nothing where what is wrong with one was told.
pub type Stores = BTreeMap<String, Option<Arc<Settings>>>;

/// Keys of each engine beside `engine` and `tls`.
const OWN: &[(&str, &[&str])] = &[
    ("etcd", &["endpoints", "username", "password_file", "root", "lease_ttl"]),
    ("redis", &["url", "username", "password_file", "prefix", "lease_ttl", "max_lease", "durability"]),
    ("zookeeper", &["servers", "auth", "root", "session_timeout"]),
    ("consul", &["address", "token_file", "consistency", "session_ttl", "lock_delay"]),
];
/// How long what is put there stays, unless it is chosen.
const LEASE_TTL: Duration = Duration::from_secs(5);
const SESSION_TTL: Duration = Duration::from_secs(10);
const SESSION_TIMEOUT: Duration = Duration::from_secs(6);
/// How long a lock of Consul's is nobody's after its holder was lost, unless it is chosen.
const LOCK_DELAY: Duration = Duration::from_secs(2);
/// The longest lease of a lock in Redis, unless it is chosen.
const MAX_LEASE: Duration = Duration::from_secs(30);
/// Before all keys, unless it is chosen.
const PREFIX: &str = "ringway";
/// The port of Redis where none is written.
const REDIS_PORT: u16 = 6379;
/// Most databases a server may have been given.
const MAX_DATABASE: u16 = 9999;

/// What kind it is, where it is, and what secures the way there.
struct Reached {
    engine: Engine,
    servers: Vec<Location>,
    tls: Option<Arc<TlsClient>>,
}

/// Reads one `[store.NAME]`; `None` when it is wrong.
pub fn read(reader: &mut Reader<'_>, name: &str, section: &Section<'_>) -> Option<Settings> {
    section.check_names(reader);
    let before = reader.problems.len();
    let engine = section.choice(reader, "engine");
    if reader.problems.len() > before || !section.has("engine") {
        // Which keys it should have nobody knows.
        return None;
    }
    let own = OWN.iter().find(|(of, _)| *of == engine).map_or(&[][..], |(_, own)| own);
    for other in OWN.iter().flat_map(|(_, names)| *names).filter(|name| !own.contains(name) && section.has(name)) {
        reader.problem(&section.place(other), format!("{engine} has no \"{other}\"; leave it out"));
    }
    let found = match engine {
        "redis" => redis(reader, section),
        "consul" => consul(reader, section),
        "zookeeper" => zookeeper(reader, section),
        _ => etcd(reader, section),
    };
    let root = match engine {
        "redis" => prefix(reader, section),
        // Services have names of their own; the rest begins as keys of Consul do, without a slash.
        "consul" => Some(PREFIX.into()),
        _ => root(reader, section, engine == "zookeeper"),
    };
    let login = match engine {
        "zookeeper" => auth(reader, section),
        _ => login(reader, section),
    };
    let lease_ttl = match engine {
        "consul" => time(reader, section, "session_ttl", SESSION_TTL),
        "zookeeper" => time(reader, section, "session_timeout", SESSION_TIMEOUT),
        _ => time(reader, section, "lease_ttl", LEASE_TTL),
    };
    if reader.problems.len() > before {
        return None;
    }
    let Reached { engine, servers, tls } = found?;
    Some(Settings { name: name.to_string(), engine, servers, tls, login, root: root?, lease_ttl: lease_ttl? })
}

fn time(reader: &mut Reader<'_>, section: &Section<'_>, name: &str, absent: Duration) -> Option<Duration> {
    if section.has(name) { section.duration(reader, name) } else { Some(absent) }
}

/// Where it is a path of nodes, each of its parts must be the name of one.
fn root(reader: &mut Reader<'_>, section: &Section<'_>, is_path: bool) -> Option<String> {
    let root = section.text(reader, "root")?;
    let is_fine = |text: &str| text.starts_with('/') && text.len() > 1 && text.bytes().all(|b| b.is_ascii_graphic());
    let is_name = |part: &str| !matches!(part, "" | "." | "..");
    let are_names = || root.value.trim_end_matches('/').split('/').skip(1).all(is_name);
    if !is_fine(&root.value) || is_path && !are_names() {
        let message = format!("\"{}\" is not a beginning of keys; write root = \"/ringway\"", root.value);
        reader.problem(&root.place, message);
    }
    Some(root.value.trim_end_matches('/').to_string())
}

fn prefix(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<String> {
    let Some(prefix) = section.text(reader, "prefix") else { return Some(PREFIX.into()) };
    let is_fine = |b: u8| b.is_ascii_graphic() && !b"{}".contains(&b);
    if prefix.value.is_empty() || !prefix.value.bytes().all(is_fine) {
        let message = format!("\"{}\" is not a beginning of keys; write prefix = \"{PREFIX}\"", prefix.value);
        reader.problem(&prefix.place, message);
    }
    Some(prefix.value)
}

/// Redis knows a password of nobody, too.
fn login(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<(String, PathBuf)> {
    let (user, file) = (section.text(reader, "username"), section.text(reader, "password_file"));
    let is_redis = section.has("url");
    if user.is_some() && file.is_none() || user.is_none() && file.is_some() && !is_redis {
        let place = section.place(if user.is_some() { "username" } else { "password_file" });
        reader.problem(&place, "\"username\" and \"password_file\" belong together; name both or none");
    }
    if let Some(token) = section.text(reader, "token_file") {
        return Some((String::new(), tls::readable(reader, &token)));
    }
    let file = tls::readable(reader, &file?);
    Some((user.map(|user| user.value).unwrap_or_default(), file))
}

fn etcd(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Reached> {
    let tls = tls::client_of(reader, section, "store.*.tls");
    let texts = section.texts(reader, "endpoints");
    if !section.has("endpoints") {
        reader.problem(&section.place, "etcd needs its \"endpoints\"; write endpoints = [\"http://10.0.0.1:2379\"]");
    } else if texts.is_empty() {
        reader.problem(&section.place("endpoints"), "the list of endpoints is empty; write [\"http://10.0.0.1:2379\"]");
    }
    let is_secure = section.has("tls");
    let servers = texts.iter().filter_map(|text| http(reader, text, is_secure, "http://10.0.0.1:2379")).collect();
    Some(Reached { engine: Engine::Etcd, servers, tls })
}

fn consul(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Reached> {
    let tls = tls::client_of(reader, section, "store.*.tls");
    let consistency = match section.choice(reader, "consistency") {
        "stale" => Consistency::Stale,
        "consistent" => Consistency::Consistent,
        _ => Consistency::Default,
    };
    let lock_delay = time(reader, section, "lock_delay", LOCK_DELAY)?;
    let Some(text) = section.text(reader, "address") else {
        if !section.has("address") {
            let message = "consul needs the \"address\" of its agent; write address = \"http://127.0.0.1:8500\"";
            reader.problem(&section.place, message);
        }
        return None;
    };
    let server = http(reader, &text, section.has("tls"), "http://127.0.0.1:8500")?;
    Some(Reached { engine: Engine::Consul(Consul { consistency, lock_delay }), servers: vec![server], tls })
}

fn zookeeper(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Reached> {
    let tls = tls::client_of(reader, section, "store.*.tls");
    let texts = section.texts(reader, "servers");
    if !section.has("servers") {
        reader.problem(&section.place, "zookeeper needs its \"servers\"; write servers = [\"10.0.0.1:2181\"]");
    } else if texts.is_empty() {
        reader.problem(&section.place("servers"), "the list of servers is empty; write [\"10.0.0.1:2181\"]");
    }
    let mut servers = Vec::new();
    for text in texts {
        match location(&text.value) {
            Some(server) => servers.push(server),
            None => {
                let message = format!("\"{}\" is not a server; write \"10.0.0.1:2181\"", text.value);
                reader.problem(&text.place, message);
            }
        }
    }
    Some(Reached { engine: Engine::Zookeeper, servers, tls })
}

/// The scheme, and the file with who we are.
fn auth(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<(String, PathBuf)> {
    if !section.has("auth") {
        return None;
    }
    let auth = section.table(reader, "auth", "store.*.auth");
    auth.check_names(reader);
    let scheme = auth.choice(reader, "scheme").to_string();
    let file = auth.text(reader, "credentials_file")?;
    Some((scheme, tls::readable(reader, &file)))
}

/// `http://host:port`, or `https://` with `tls`.
fn http(reader: &mut Reader<'_>, text: &Found<String>, is_secure: bool, example: &str) -> Option<Location> {
    let (scheme, rest) = text.value.split_once("://").unwrap_or_default();
    let location = location(rest.trim_end_matches('/'));
    let Some(location) = location.filter(|_| matches!(scheme, "http" | "https")) else {
        reader.problem(&text.place, format!("\"{}\" is not a server; write \"{example}\"", text.value));
        return None;
    };
    match (scheme, is_secure) {
        ("https", false) => {
            reader
                .problem(&text.place, "\"https\" needs a table \"tls\"; write tls = { ca = \"/etc/ringway/ca.pem\" }");
        }
        ("http", true) => reader.problem(&text.place, "with \"tls\" every server is \"https://...\""),
        _ => return Some(location),
    }
    None
}

fn location(text: &str) -> Option<Location> {
    text.parse().ok().filter(|location| !matches!(location, Location::At(Address::Unix(_))))
}

/// `redis://host:port/database`, or `rediss://` for TLS.
fn redis(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Reached> {
    let tls = tls::client_of(reader, section, "store.*.tls");
    let Some(url) = section.text(reader, "url") else {
        if !section.has("url") {
            reader.problem(&section.place, "redis needs its \"url\"; write url = \"redis://10.0.0.1:6379/0\"");
        }
        return None;
    };
    if !cfg!(feature = "store-redis") {
        let message = "this program was built without Redis; build it with the feature \"store-redis\"";
        reader.problem(&section.place("engine"), message);
    }
    let (scheme, rest) = url.value.split_once("://").unwrap_or_default();
    if rest.contains('@') {
        let message = "a password does not belong into \"url\"; write username = \"...\" and password_file = \"...\"";
        reader.problem(&url.place, message);
        return None;
    }
    let (host, database) = rest.split_once('/').unwrap_or((rest, ""));
    let server = location(host).or_else(|| location(&format!("{host}:{REDIS_PORT}")));
    let database = if database.is_empty() { Some(0) } else { database.parse().ok().filter(|n| *n <= MAX_DATABASE) };
    let (Some(server), Some(database), "redis" | "rediss") = (server, database, scheme) else {
        let message = format!("\"{}\" is not a Redis; write \"redis://10.0.0.1:6379/0\"", url.value);
        reader.problem(&url.place, message);
        return None;
    };
    let tls = match (scheme, section.has("tls")) {
        ("redis", true) => {
            reader.problem(&url.place, "with \"tls\" the server is \"rediss://...\"");
            None
        }
        ("rediss", false) => system_tls(reader, &url.place),
        _ => tls,
    };
    let max_lease = time(reader, section, "max_lease", MAX_LEASE)?;
    let is_durable = section.choice(reader, "durability") == "always";
    let engine = Engine::Redis(Redis { database, max_lease, is_durable });
    Some(Reached { engine, servers: vec![server], tls })
}

/// TLS as `tls = {}` has it.
fn system_tls(reader: &mut Reader<'_>, place: &Place) -> Option<Arc<TlsClient>> {
    match TlsClient::load(&ClientTls { server_name: None, ca: None, certificate: None, verify: true }) {
        Ok(client) => Some(Arc::new(client)),
        Err(error) => {
            reader.problem(place, format!("failed to {error}"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    /// A configuration with these lines in `[store.s]`, as text of its problems, or what was read of it.
    fn found(lines: &str) -> String {
        found_with("", lines)
    }

    /// As [`found`], with more lines of the discovery that uses it.
    fn found_with(discovery: &str, lines: &str) -> String {
        let text = format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\n[[route]]\nupstream = \"u\"\nkey = [\"path\"]\n\
             [upstream.u.discovery]\nprovider = \"store\"\nstore = \"s\"\n{discovery}[store.s]\n{lines}\n"
        );
        match parse("f.toml", &text, &|_| None) {
            Err(problems) => problems.to_string(),
            Ok(config) => {
                let store = &config.stores["s"];
                format!("{} {} {} {:?}", store.engine.name(), store.servers[0], store.root, store.lease_ttl)
            }
        }
    }

    fn check(lines: &str, expected: &str) {
        let found = found(lines);
        assert!(found.contains(expected), "{lines}:\n{found}\nhas no {expected}");
    }

    #[test]
    fn each_engine_has_keys_of_its_own() {
        check("engine = \"etcd\"\nendpoints = [\"http://10.0.0.1:2379\"]", "etcd 10.0.0.1:2379 /ringway 5s");
        check("engine = \"redis\"\nurl = \"redis://10.0.0.1/3\"", "redis 10.0.0.1:6379 ringway 5s");
        check("engine = \"redis\"\nurl = \"redis://r:1\"\nprefix = \"x\"\nlease_ttl = \"1s\"", "redis r:1 x 1s");
        check("engine = \"consul\"\naddress = \"http://10.0.0.1:8500\"", "consul 10.0.0.1:8500 ringway 10s");
        check("engine = \"zookeeper\"\nservers = [\"z1:2181\", \"z2:2181\"]", "zookeeper z1:2181 /ringway 6s");
        let own = "engine = \"zookeeper\"\nservers = [\"[::1]:1\"]\nroot = \"/a/b/\"\nsession_timeout = \"2s\"";
        check(own, "zookeeper [::1]:1 /a/b 2s");
    }

    #[test]
    fn an_engine_has_layouts_of_its_own() {
        let zookeeper = "engine = \"zookeeper\"\nservers = [\"z:1\"]";
        let etcd = "engine = \"etcd\"\nendpoints = [\"http://10.0.0.1:2379\"]";
        let consul = "engine = \"consul\"\naddress = \"http://10.0.0.1:8500\"";
        for (layout, lines, expected) in [
            ("ringway", zookeeper, "zookeeper z:1"),
            ("curator", zookeeper, "zookeeper z:1"),
            ("ringway", etcd, "etcd 10.0.0.1"),
            ("service", consul, "consul 10.0.0.1"),
            ("curator", etcd, "etcd has no layout \"curator\"; write \"ringway\""),
            ("ringway", consul, "consul has no layout \"ringway\"; write \"service\""),
            ("service", zookeeper, "zookeeper has no layout \"service\"; write \"ringway\" or \"curator\""),
        ] {
            let found = found_with(&format!("layout = \"{layout}\"\n"), lines);
            assert!(found.contains(expected), "{layout}: {found}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_store_is_told_with_its_place() {
        check("engine = \"redsi\"", "f.toml:10:10: \"engine\" is \"redsi\"");
        let found = found("engine = \"etdc\"\nendpoints = []");
        assert!(found.contains("\"etcd\"?") && found.lines().count() == 1, "{found}");
        check("engine = \"etcd\"", "etcd needs its \"endpoints\"");
        check("engine = \"redis\"", "redis needs its \"url\"");
        check("engine = \"zookeeper\"", "zookeeper needs its \"servers\"");
        check("engine = \"zookeeper\"\nservers = []", "f.toml:11:11: the list of servers is empty");
        check("engine = \"zookeeper\"\nservers = [\"z1\"]", "f.toml:11:12: \"z1\" is not a server");
        check("engine = \"zookeeper\"\nservers = [\"z:1\"]\nlease_ttl = \"2s\"", "zookeeper has no \"lease_ttl\"");
        check("engine = \"zookeeper\"\nservers = [\"z:1\"]\nroot = \"/a/../b\"", "is not a beginning of keys");
        let with_auth = |auth| format!("engine = \"zookeeper\"\nservers = [\"z:1\"]\nauth = {auth}");
        check(&with_auth("{ scheme = \"sasl\" }"), "f.toml:12:19: \"scheme\" is \"sasl\"");
        check(&with_auth("{}"), "credentials_file");
        check(&with_auth("{ credentials_file = \"/nowhere\" }"), "f.toml:12:29: ");
        check("engine = \"consul\"", "consul needs the \"address\"");
        check("engine = \"redis\"\nurl = \"redis://a:1\"\nroot = \"/x\"", "f.toml:12:8: redis has no \"root\"");
        check("engine = \"consul\"\naddress = \"a:8500\"", "f.toml:11:11: \"a:8500\" is not a server");
        check("engine = \"consul\"\naddress = \"https://a:8500\"", "\"https\" needs a table \"tls\"");
        check("engine = \"consul\"\naddress = \"http://a:1\"\nconsistency = \"x\"", "\"consistency\" is \"x\"");
        for url in ["http://a:1", "redis://", "redis://a:1/x", "redis://a:1/10000", "redis://a b"] {
            check(&format!("engine = \"redis\"\nurl = \"{url}\""), "f.toml:11:7: ");
        }
        check("engine = \"redis\"\nurl = \"redis://u:p@a:1\"", "a password does not belong into \"url\"");
        check("engine = \"redis\"\nurl = \"redis://a:1\"\ntls = {}", "with \"tls\" the server is \"rediss://...\"");
        check("engine = \"redis\"\nurl = \"redis://a:1\"\nprefix = \"a{b\"", "is not a beginning of keys");
        check("engine = \"redis\"\nurl = \"redis://a:1\"\nusername = \"u\"", "belong together");
    }
}
