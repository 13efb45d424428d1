//! `[upstream.NAME.discovery]`.
use super::listener;
use super::table::Reader;
use super::table::Section;
use crate::base::address::HostPort;
use crate::discovery::dns::Question;
use crate::discovery::dns::Records;
use crate::discovery::settings::Allowed;
use crate::discovery::settings::Settings;
use crate::discovery::settings::Source;
use crate::snapshot::settings::Upstream;
use std::net::IpAddr;
use std::net::SocketAddr;

/// Reads the table of an upstream whose other settings are known; `None` when it names no source.
pub fn read(reader: &mut Reader<'_>, section: &Section<'_>, upstream: &Upstream) -> Option<Settings> {
    section.check_names(reader);
    let source = match section.choice(reader, "provider") {
        "dns" => dns(reader, section),
        _ => file(reader, section),
    };
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
        vnodes: upstream.ring.vnodes,
    })
}

fn file(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Source> {
    refuse(reader, section, &["name", "port", "records", "resolvers"], "a file has");
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

fn dns(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Source> {
    refuse(reader, section, &["path"], "DNS has");
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
    Some(Source::Dns(Question { name: name?, records, resolvers }))
}

/// Keys of another source than the one that is named would do nothing.
fn refuse(reader: &mut Reader<'_>, section: &Section<'_>, names: &[&str], who: &str) {
    for name in names.iter().filter(|name| section.has(name)) {
        reader.problem(&section.place(name), format!("{who} no \"{name}\"; leave it out, or name another provider"));
    }
}
