//! `[upstream.NAME]`, its endpoints, `ring`, `load` and `outlier`.
use super::discovery;
use super::health_check;
use super::store::Stores;
use super::table::Found;
use super::table::Place;
use super::table::Reader;
use super::table::Section;
use super::tls;
use crate::base::address::Address;
use crate::base::address::Location;
use crate::base::files;
use crate::base::hash::PlacementHash;
use crate::base::ids::EndpointId;
use crate::base::ids::UpstreamName;
use crate::base::units;
use crate::base::units::Ratio;
use crate::discovery::settings::Settings as Discovery;
use crate::health::outlier;
use crate::hotkeys;
use crate::ring;
use crate::ring::build::MAX_POINTS;
use crate::snapshot::settings::Endpoint;
use crate::snapshot::settings::Guard;
use crate::snapshot::settings::Protocol;
use crate::snapshot::settings::Upstream;
use std::collections::HashMap;
use std::time::Duration;

/// The load bound of `profile = "cache"`.
const CACHE_LOAD_BOUND: Ratio = Ratio(1.25);
/// The ramp of `profile = "cache"`.
const CACHE_RAMP: Duration = Duration::from_secs(30);
/// Stands for the secret in a file that was not opened.
pub const UNKNOWN_SECRET: [u8; 16] = [0; 16];

/// Reads one `[upstream.NAME]`, and where its members come from when they are not in the file.
pub fn read(
    reader: &mut Reader<'_>,
    name: &str,
    section: &Section<'_>,
    stores: &Stores,
) -> (Upstream, Option<Discovery>) {
    section.check_names(reader);
    let mut upstream = Upstream::new(UpstreamName::new(name), endpoints(reader, section));
    let defaults = upstream.clone();
    upstream.tls = tls::client(reader, section);
    upstream.protocol = match section.choice(reader, "protocol") {
        "http1" => Protocol::Http1,
        "h2" => Protocol::H2,
        _ => Protocol::Auto,
    };
    upstream.connect_timeout = section.duration(reader, "connect_timeout").unwrap_or(defaults.connect_timeout);
    upstream.response_timeout = section.duration(reader, "response_timeout");
    upstream.body_timeout = section.duration(reader, "body_timeout").unwrap_or(defaults.body_timeout);
    upstream.idle_timeout = section.duration(reader, "idle_timeout").unwrap_or(defaults.idle_timeout);
    upstream.max_idle = section.integer(reader, "max_idle").map_or(defaults.max_idle, |max| max as usize);
    upstream.max_connections = section.integer(reader, "max_connections");
    upstream.max_requests = section.integer(reader, "max_requests");
    upstream.max_pending = section.integer(reader, "max_pending").map_or(defaults.max_pending, |max| max as usize);
    if section.has("max_pending") && upstream.max_pending > 0 && !upstream.has_limit() {
        let place = section.place("max_pending");
        reader.problem(
            &place,
            "nobody waits at an endpoint that takes any number of requests; write max_requests or max_connections as well",
        );
    }
    upstream.resolve = section.duration(reader, "resolve").unwrap_or(defaults.resolve);
    upstream.panic_below = section.share(reader, "panic_below").unwrap_or(defaults.panic_below);
    let ring = section.table(reader, "ring", "upstream.*.ring");
    upstream.failover = ring.integer(reader, "failover").map(|failover| failover as usize);
    upstream.ring = self::ring(reader, &ring);
    let is_cache = section.choice(reader, "profile") == "cache";
    let load = section.table(reader, "load", "upstream.*.load");
    load.check_names(reader);
    upstream.load_bound = load_bound(reader, &load, is_cache.then_some(CACHE_LOAD_BOUND));
    upstream.hot_keys = hot_keys(reader, &load, is_cache);
    let transition = section.table(reader, "transition", "upstream.*.transition");
    transition.check_names(reader);
    let ramp = if is_cache { CACHE_RAMP } else { defaults.ramp };
    upstream.ramp = transition.duration(reader, "ramp").unwrap_or(ramp);
    upstream.guard = guard(reader, &transition);
    upstream.fill_window = transition.duration(reader, "fill_window").unwrap_or(defaults.fill_window);
    let outlier = section.table(reader, "outlier", "upstream.*.outlier");
    upstream.outlier = self::outlier(reader, &outlier);
    if section.has("health_check") {
        let check = section.table(reader, "health_check", "upstream.*.health_check");
        upstream.health_check = health_check::read(reader, &check, stores);
        let has_socket =
            upstream.endpoints.iter().any(|endpoint| matches!(endpoint.address, Location::At(Address::Unix(_))));
        if check.has("port") && has_socket {
            reader
                .problem(&check.place("port"), "a unix socket has no ports: this upstream cannot be asked at another");
        }
    }
    check_size(reader, &section.place("endpoints"), &upstream);
    check_name(reader, &section.place("tls"), &upstream);
    let discovery = discovery(reader, section, &upstream, stores);
    (upstream, discovery)
}

fn discovery(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    upstream: &Upstream,
    stores: &Stores,
) -> Option<Discovery> {
    match (section.has("endpoints"), section.has("discovery")) {
        (true, true) => {
            let message = "an upstream has \"endpoints\" or \"discovery\", not both";
            reader.problem(&section.place("discovery"), message);
        }
        (false, false) => reader.problem(
            &section.place,
            "[upstream.NAME] has no \"endpoints\" and no \"discovery\"; write endpoints = [{ id = \"c1\", address = \"10.0.0.1:8080\" }]",
        ),
        (true, false) => return None,
        (false, true) => {}
    }
    if !section.has("discovery") {
        return None;
    }
    let table = section.table(reader, "discovery", "upstream.*.discovery");
    discovery::read(reader, &table, upstream, stores)
}

fn endpoints(reader: &mut Reader<'_>, section: &Section<'_>) -> Vec<Endpoint> {
    let tables = section.tables(reader, "endpoints", "upstream.*.endpoints");
    let place = section.place("endpoints");
    if section.has("endpoints") && tables.is_empty() {
        reader.problem(&place, "the list of endpoints is empty: every request would fail; give it at least one");
    }
    let mut endpoints: Vec<Endpoint> = Vec::new();
    let mut places: HashMap<EndpointId, Place> = HashMap::new();
    for table in &tables {
        let Some(endpoint) = endpoint(reader, table) else { continue };
        let place = table.place("id");
        match places.get(&endpoint.id) {
            Some(first) => {
                let at = reader.describe(first);
                reader.problem(&place, format!("two endpoints have the id \"{}\", the other at {at}", endpoint.id));
            }
            None => {
                places.insert(endpoint.id.clone(), place);
                endpoints.push(endpoint);
            }
        }
    }
    if !endpoints.is_empty() && endpoints.iter().all(|endpoint| endpoint.weight == 0) {
        reader.problem(&place, "all weights are 0: nobody would own a key; give one endpoint a weight of 1 or more");
    }
    endpoints
}

fn endpoint(reader: &mut Reader<'_>, table: &Section<'_>) -> Option<Endpoint> {
    table.check_names(reader);
    let weight = table.integer(reader, "weight");
    let id = table.text(reader, "id").filter(|id| {
        let is_valid = EndpointId::is_valid(&id.value);
        if !is_valid {
            let message = format!("\"{}\" is not an id: 1 to 128 characters of A-Za-z0-9._:/[]-", id.value);
            reader.problem(&id.place, message);
        }
        is_valid
    });
    let address = table.text(reader, "address").and_then(|text| address(reader, &text));
    Some(Endpoint { id: EndpointId::new(&id?.value), address: address?, weight: weight? as u32 })
}

fn address(reader: &mut Reader<'_>, text: &Found<String>) -> Option<Location> {
    let parsed = text.value.parse::<Location>();
    if let Err(error) = &parsed {
        reader.problem(&text.place, format!("\"{}\" is not an address: {error}", text.value));
    }
    parsed.ok()
}

fn ring(reader: &mut Reader<'_>, section: &Section<'_>) -> ring::settings::Settings {
    section.check_names(reader);
    if section.choice(reader, "algorithm") == ring::settings::Algorithm::Ketama.as_str() {
        return ketama(reader, section);
    }
    let default = ring::settings::Settings::default();
    let seed = section.integer(reader, "seed").unwrap_or(0);
    let hash = match section.text(reader, "secret_file") {
        Some(path) => {
            if section.has("seed") {
                reader.problem(&section.place("seed"), "a ring has a \"seed\" or a \"secret_file\", not both");
            }
            secret(reader, &path).map_or(default.hash, PlacementHash::Keyed)
        }
        None => PlacementHash::Seeded(seed),
    };
    ring::settings::Settings {
        algorithm: default.algorithm,
        vnodes: section.integer(reader, "vnodes").map_or(default.vnodes, |vnodes| vnodes as u32),
        probes: section.integer(reader, "probes").map_or(default.probes, |probes| probes as u32),
        hash,
    }
}

/// nginx's placement leaves nothing to choose.
fn ketama(reader: &mut Reader<'_>, section: &Section<'_>) -> ring::settings::Settings {
    for name in ["vnodes", "probes", "seed", "secret_file"].into_iter().filter(|name| section.has(name)) {
        let message = format!(
            "\"{name}\" cannot be chosen with algorithm = \"ketama\", which places as nginx does; leave it out, or use \"ringway\""
        );
        reader.problem(&section.place(name), message);
    }
    ring::settings::Settings::ketama()
}

fn secret(reader: &mut Reader<'_>, path: &Found<String>) -> Option<[u8; 16]> {
    if reader.is_closed {
        return Some(UNKNOWN_SECRET);
    }
    let text = match files::read_text(path.value.as_ref(), files::MAX_WORD) {
        Ok(text) => text,
        Err(error) => {
            reader.problem(&path.place, format!("{} cannot be read: {error}", path.value));
            return None;
        }
    };
    let secret = u128::from_str_radix(text.trim(), 16).ok().filter(|_| text.trim().len() == 32);
    if secret.is_none() {
        let message = format!("{} does not hold 32 hexadecimal digits; make it by: openssl rand -hex 16", path.value);
        reader.problem(&path.place, message);
    }
    secret.map(u128::to_be_bytes)
}

fn load_bound(reader: &mut Reader<'_>, section: &Section<'_>, default: Option<Ratio>) -> Option<Ratio> {
    let Some(text) = section.text(reader, "bound") else { return default };
    match units::parse_share(&text.value) {
        _ if text.value == "off" => None,
        Ok(bound) if (1.0..=100.0).contains(&bound.0) => Some(bound),
        _ => {
            let message = format!("\"bound\" is \"off\" or \"100%\" to \"10000%\", not \"{}\"", text.value);
            reader.problem(&text.place, message);
            None
        }
    }
}

fn guard(reader: &mut Reader<'_>, transition: &Section<'_>) -> Guard {
    let section = transition.table(reader, "guard", "upstream.*.transition.guard");
    section.check_names(reader);
    let max_removed = section.share(reader, "max_removed").unwrap_or(Guard::default().max_removed);
    Guard { max_removed, max_moved: section.share(reader, "max_moved") }
}

fn hot_keys(reader: &mut Reader<'_>, section: &Section<'_>, is_cache: bool) -> Option<hotkeys::Settings> {
    let is_there = section.has("hot_keys");
    let table = section.table(reader, "hot_keys", "upstream.*.load.hot_keys");
    table.check_names(reader);
    let default = hotkeys::Settings::default();
    let settings = hotkeys::Settings {
        share: table.share(reader, "share").unwrap_or(default.share),
        replicas: table.integer(reader, "replicas").map_or(default.replicas, |replicas| replicas as usize),
    };
    let is_on = (is_there || is_cache) && settings.share.0 > 0.0;
    if is_on && !is_cache {
        reader.warn(
            &section.place("hot_keys"),
            "hot keys are shared by several endpoints: a session that one of them keeps would be lost; write profile = \"cache\" if that is fine",
        );
    }
    is_on.then_some(settings)
}

fn outlier(reader: &mut Reader<'_>, section: &Section<'_>) -> outlier::Settings {
    section.check_names(reader);
    let default = outlier::Settings::default();
    let failures = section.integer(reader, "consecutive_failures");
    outlier::Settings {
        consecutive_failures: failures.map_or(default.consecutive_failures, |failures| failures as u32),
        failure_share: section.share(reader, "failure_share"),
        window: section.duration(reader, "window").unwrap_or(default.window),
        eject_for: section.duration(reader, "eject_for").unwrap_or(default.eject_for),
        max_ejected: section.share(reader, "max_ejected").unwrap_or(default.max_ejected),
    }
}

/// A certificate is for a name or an address; a unix socket has neither.
fn check_name(reader: &mut Reader<'_>, place: &Place, upstream: &Upstream) {
    let is_named = upstream.tls.as_ref().is_none_or(|tls| tls.settings().server_name.is_some());
    let is_unix = |endpoint: &Endpoint| matches!(endpoint.address, Location::At(Address::Unix(_)));
    if !is_named && upstream.endpoints.iter().any(is_unix) {
        let message = "a unix socket has no name that its certificate could have; write server_name = \"NAME\"";
        reader.problem(place, message);
    }
}

fn check_size(reader: &mut Reader<'_>, place: &Place, upstream: &Upstream) {
    let weights: u64 = upstream.endpoints.iter().map(|endpoint| u64::from(endpoint.weight)).sum();
    let points = weights * u64::from(upstream.ring.vnodes);
    if points > MAX_POINTS as u64 {
        reader.problem(
            place,
            format!("the ring would have {points} points, more than {MAX_POINTS}; use smaller weights or fewer vnodes"),
        );
    }
}
