//! `[upstream.NAME.discovery]`.
use super::listener;
use super::table::Reader;
use super::table::Section;
use crate::discovery::settings::Allowed;
use crate::discovery::settings::Settings;
use crate::discovery::settings::Source;
use crate::snapshot::settings::Upstream;

/// Reads the table of an upstream whose other settings are known; `None` when it names no source.
pub fn read(reader: &mut Reader<'_>, section: &Section<'_>, upstream: &Upstream) -> Option<Settings> {
    section.check_names(reader);
    section.choice(reader, "provider");
    let source = file(reader, section);
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
