//! `[[listener]]` and its `tls`.
use super::diagnostic::did_you_mean;
use super::table::Found;
use super::table::Place;
use super::table::Reader;
use super::table::Section;
use super::tls;
use crate::base::address::Address;
use crate::base::address::AddressError;
use crate::base::ids::ListenerName;
use crate::listener::settings::Protocols;
use crate::listener::settings::Settings;
use ipnet::IpNet;
use std::net::IpAddr;
use std::net::SocketAddr;

/// Reads one `[[listener]]`; `None` when it has no usable address.
pub fn read(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Found<Settings>> {
    section.check_names(reader);
    let address = section.text(reader, "address").and_then(|text| address(reader, &text));
    let protocols = protocols(reader, section);
    let tls = tls::listener(reader, section, protocols);
    let trusted_proxies = networks(reader, section, "trusted_proxies");
    let max_body = section.size(reader, "max_body");
    let is_usable = address.is_some();
    let mut settings = Settings::new(address.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)).into()));
    settings.mode = mode(reader, section, &settings);
    if let Some(name) = section.text(reader, "name") {
        settings.name = ListenerName::new(&name.value);
    }
    let defaults = settings.clone();
    let number = |value: Option<u64>, default: usize| value.map_or(default, |value| value as usize);
    settings.max_connections = number(section.integer(reader, "max_connections"), defaults.max_connections);
    settings.max_connections_per_ip =
        section.integer(reader, "max_connections_per_ip").map(|connections| connections as usize);
    settings.proxy_protocol = proxy_protocol(reader, section);
    settings.min_body_rate = section.size(reader, "min_body_rate");
    settings.header_timeout = section.duration(reader, "header_timeout").unwrap_or(defaults.header_timeout);
    settings.body_timeout = section.duration(reader, "body_timeout").unwrap_or(defaults.body_timeout);
    settings.idle_timeout = section.duration(reader, "idle_timeout").unwrap_or(defaults.idle_timeout);
    settings.limits.max_head_bytes = number(section.size(reader, "max_header_bytes"), defaults.limits.max_head_bytes);
    settings.limits.max_fields = number(section.integer(reader, "max_headers"), defaults.limits.max_fields);
    (settings.protocols, settings.tls, settings.trusted_proxies, settings.max_body) =
        (protocols, tls, trusted_proxies, max_body);
    is_usable.then(|| Found { value: settings, place: section.place("address") })
}

fn address(reader: &mut Reader<'_>, text: &Found<String>) -> Option<Address> {
    match text.value.parse() {
        Ok(address) => return Some(address),
        Err(AddressError::Form) => {
            let wanted = "write \"0.0.0.0:8080\", \"[::]:8080\" or \"unix:/run/ringway.sock\"";
            reader.problem(&text.place, format!("\"{}\" is not an address; {wanted}", text.value));
        }
        Err(error) => reader.problem(&text.place, format!("\"{}\": {error}", text.value)),
    }
    None
}

/// Permissions of a unix socket's file: octal digits, as for chmod.
fn mode(reader: &mut Reader<'_>, section: &Section<'_>, settings: &Settings) -> u32 {
    let Some(text) = section.text(reader, "mode") else { return settings.mode };
    if !matches!(settings.address, Address::Unix(_)) {
        reader.problem(&text.place, "\"mode\" is for a unix socket's file; this listener's address is none");
    }
    let is_octal = (3..=4).contains(&text.value.len());
    match u32::from_str_radix(&text.value, 8) {
        Ok(mode) if is_octal && mode <= 0o777 => mode,
        _ => {
            reader.problem(&text.place, format!("\"{}\" is not a mode; write \"0660\"", text.value));
            settings.mode
        }
    }
}

fn protocols(reader: &mut Reader<'_>, section: &Section<'_>) -> Protocols {
    let mut protocols = Protocols { http1: false, h2: false };
    for text in section.texts(reader, "protocols") {
        match text.value.as_str() {
            "http1" => protocols.http1 = true,
            "h2" => protocols.h2 = true,
            other => {
                let near = did_you_mean(other, ["http1", "h2"]);
                reader.problem(&text.place, format!("\"{other}\" is not a protocol: \"http1\" or \"h2\"{near}"));
            }
        }
    }
    if !protocols.http1 && !protocols.h2 {
        reader.problem(&section.place("protocols"), "a listener needs a protocol; write protocols = [\"http1\"]");
    }
    protocols
}

fn proxy_protocol(reader: &mut Reader<'_>, listener: &Section<'_>) -> Option<Vec<IpNet>> {
    if !listener.has("proxy_protocol") {
        return None;
    }
    let section = listener.table(reader, "proxy_protocol", "listener.proxy_protocol");
    section.check_names(reader);
    let trusted = networks(reader, &section, "trusted");
    if section.has("trusted") && section.texts(reader, "trusted").is_empty() {
        reader.problem(&section.place("trusted"), "nobody could connect; write trusted = [\"10.0.0.0/8\"]");
    }
    Some(trusted)
}

/// A list of networks; an address is a network of one.
pub fn networks(reader: &mut Reader<'_>, section: &Section<'_>, name: &str) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for text in section.texts(reader, name) {
        let single = || text.value.parse::<IpAddr>().map(IpNet::from);
        match text.value.parse::<IpNet>().or_else(|_| single()) {
            Ok(network) => networks.push(network),
            Err(_) => {
                let message = format!("\"{}\" is not a network; write \"10.0.0.0/8\" or \"10.1.2.3\"", text.value);
                reader.problem(&text.place, message);
            }
        }
    }
    networks
}

/// Notes names and addresses that stand twice.
pub fn check_unique(reader: &mut Reader<'_>, listeners: &[Found<Settings>]) {
    for (index, listener) in listeners.iter().enumerate() {
        let (name, address) = (&listener.value.name, &listener.value.address);
        let earlier: Vec<&Place> = listeners[..index]
            .iter()
            .filter(|other| other.value.name == *name || other.value.address.collides_with(address))
            .map(|other| &other.place)
            .collect();
        if let Some(first) = earlier.first() {
            let at = reader.describe(first);
            reader.problem(&listener.place, format!("another listener has this name or address already, at {at}"));
        }
    }
}
