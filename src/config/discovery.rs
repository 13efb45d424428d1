//! `[upstream.NAME.discovery]`.
use super::diagnostic::did_you_mean;
use super::listener;
use super::store::Stores;
use super::table::Reader;
use super::table::Section;
use crate::base::address::HostPort;
use crate::base::ids::EndpointId;
use crate::discovery::dns;
use crate::discovery::dns::Records;
use crate::discovery::settings::Allowed;
use crate::discovery::settings::OnLoss;
use crate::discovery::settings::Settings;
use crate::discovery::settings::Source;
use crate::discovery::store::Layout;
use crate::discovery::store::Question;
use crate::snapshot::settings::Upstream;
use crate::store::settings::Engine;
use std::net::IpAddr;
use std::net::SocketAddr;

/// Reads the table of an upstream whose other settings are known; `None` when it names no source.
pub fn read(reader: &mut Reader<'_>, section: &Section<'_>, upstream: &Upstream, stores: &Stores) -> Option<Settings> {
    section.check_names(reader);
    let source = match section.choice(reader, "provider") {
        "dns" => by_dns(reader, section),
        "store" => by_store(reader, section, upstream, stores),
        _ => by_file(reader, section),
    };
    let on_loss = on_loss(reader, section);
    let snapshot = section.text(reader, "snapshot");
    if let (Some(kept), Some(Source::File(path))) = (&snapshot, &source)
        && path.as_os_str() == kept.value.as_str()
    {
        reader.problem(&kept.place, "\"snapshot\" is written over by the program; name another file than \"path\"");
    }
    let settle = section.duration(reader, "settle");
    let max_drop = section.share(reader, "max_drop");
    let min_members = section.integer(reader, "min_members");
    let max_members = section.integer(reader, "max_members");
    if let (Some(min), Some(max)) = (min_members, max_members)
        && min > max
    {
        let place = section.place(if section.has("min_members") { "min_members" } else { "max_members" });
        reader.problem(&place, format!("no list could be taken up: min_members is {min}, max_members {max}"));
    }
    let allow = Allowed(listener::networks(reader, section, "allow"));
    Some(Settings {
        source: source?,
        snapshot: snapshot.map(|path| path.value.into()),
        settle: settle?,
        max_drop: max_drop?,
        min_members: min_members? as usize,
        max_members: max_members? as usize,
        allow,
        on_loss,
        vnodes: upstream.ring.vnodes,
    })
}

fn by_file(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Source> {
    refuse(
        reader,
        section,
        &["name", "port", "records", "resolvers", "store", "layout", "on_store_loss", "max_stale"],
        "a file has",
    );
    let Some(path) = section.text(reader, "path") else {
        if !section.has("path") {
            let message = "a list in a file needs its \"path\"; write path = \"/etc/ringway/members.toml\"";
            reader.problem(&section.place, message);
        }
        return None;
    };
    if !path.value.ends_with(".toml") && !path.value.ends_with(".json") {
        let message = format!("\"{}\" is neither .toml nor .json: the file's name says which it is", path.value);
        reader.problem(&path.place, message);
    }
    Some(Source::File(path.value.into()))
}

fn by_dns(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Source> {
    refuse(reader, section, &["path", "store", "layout", "on_store_loss", "max_stale"], "DNS has");
    let name = section.text(reader, "name");
    if name.is_none() && !section.has("name") {
        reader.problem(&section.place, "there is no \"name\" to look up; write name = \"app.example.com\"");
    }
    let name = name.and_then(|name| {
        let is_host = HostPort::is_host(&name.value);
        if !is_host {
            reader.problem(&name.place, format!("\"{}\" cannot be the name of a host or a service", name.value));
        }
        is_host.then(|| name.value.trim_end_matches('.').to_ascii_lowercase())
    });
    let port = section.integer(reader, "port");
    let is_service = section.choice(reader, "records") == "srv";
    if is_service && port.is_some() {
        reader.problem(&section.place("port"), "records of a service name their own ports; leave \"port\" out");
    }
    if !is_service && port.is_none() && !section.has("port") {
        reader.problem(&section.place, "addresses have no port of their own; write port = 8080");
    }
    let mut resolvers = Vec::new();
    for text in section.texts(reader, "resolvers") {
        let with_port = text.value.parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
        match with_port.or_else(|| Some(SocketAddr::new(text.value.parse::<IpAddr>().ok()?, 53))) {
            Some(address) => resolvers.push(address),
            None => {
                let message = format!("\"{}\" is not the address of a name server; write \"10.0.0.53\"", text.value);
                reader.problem(&text.place, message);
            }
        }
    }
    let records = if is_service { Records::Service } else { Records::Addresses(port? as u16) };
    Some(Source::Dns(dns::Question { name: name?, records, resolvers }))
}

fn by_store(reader: &mut Reader<'_>, section: &Section<'_>, upstream: &Upstream, stores: &Stores) -> Option<Source> {
    refuse(reader, section, &["path", "port", "records", "resolvers"], "a store has");
    let name = section.text(reader, "name").map_or_else(|| upstream.name.to_string(), |name| name.value);
    if !EndpointId::is_valid(&name) || name.contains('/') {
        let message = format!("\"{name}\" cannot be a part of keys: 1 to 128 characters of A-Za-z0-9._:[]-");
        reader.problem(&section.place("name"), message);
    }
    let Some(wanted) = section.text(reader, "store") else {
        if !section.has("store") {
            reader.problem(&section.place, "there is no \"store\" to ask; write store = \"NAME\" and a [store.NAME]");
        }
        return None;
    };
    match stores.get(&wanted.value) {
        Some(Some(store)) => {
            let layout = layout(reader, section, store.engine);
            Some(Source::Store(Question { store: store.clone(), name, layout }))
        }
        // What is wrong with it was told.
        Some(None) => None,
        None => {
            let near = did_you_mean(&wanted.value, stores.keys().map(String::as_str));
            reader.problem(&wanted.place, format!("there is no [store.{}]{near}", wanted.value));
            None
        }
    }
}

/// An engine has layouts of its own.
fn layout(reader: &mut Reader<'_>, section: &Section<'_>, engine: Engine) -> Layout {
    let wanted = section.choice(reader, "layout");
    let known: &[&str] = match engine {
        Engine::Consul(_) => &["service"],
        Engine::Zookeeper => &["ringway", "curator"],
        _ => &["ringway"],
    };
    if section.has("layout") && !known.contains(&wanted) {
        let message = format!("{} has no layout \"{wanted}\"; write \"{}\"", engine.name(), known.join("\" or \""));
        reader.problem(&section.place("layout"), message);
    }
    if wanted == "curator" { Layout::Curator } else { Layout::Own }
}

fn on_loss(reader: &mut Reader<'_>, section: &Section<'_>) -> OnLoss {
    let max_stale = section.duration(reader, "max_stale").unwrap_or_default();
    if section.choice(reader, "on_store_loss") == "refuse" {
        return OnLoss::Refuse(max_stale);
    }
    if !max_stale.is_zero() {
        let message = "with on_store_loss = \"serve-last\" the last members serve for ever; leave \"max_stale\" out, or write \"refuse\"";
        reader.problem(&section.place("max_stale"), message);
    }
    OnLoss::ServeLast
}

/// Keys of another source than the one that is named would do nothing.
fn refuse(reader: &mut Reader<'_>, section: &Section<'_>, names: &[&str], who: &str) {
    for name in names.iter().filter(|name| section.has(name)) {
        reader.problem(&section.place(name), format!("{who} no \"{name}\"; leave it out, or name another provider"));
    }
}
