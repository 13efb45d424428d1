//! `[store.NAME]`.
use super::table::Found;
use super::table::Reader;
use super::table::Section;
use super::tls;
use crate::base::address::Address;
use crate::base::address::Location;
use crate::store::settings::Settings;
use std::collections::BTreeMap;
use std::sync::Arc;

/// All stores by name; nothing where what is wrong with one was told.
pub type Stores = BTreeMap<String, Option<Arc<Settings>>>;

/// Before all keys, unless it is chosen.
const ROOT: &str = "/ringway";

/// Reads one `[store.NAME]`; `None` when it is wrong.
pub fn read(reader: &mut Reader<'_>, name: &str, section: &Section<'_>) -> Option<Settings> {
    section.check_names(reader);
    section.choice(reader, "engine");
    let tls = tls::client_of(reader, section, "store.*.tls");
    let texts = section.texts(reader, "endpoints");
    let before = reader.problems.len();
    if section.has("endpoints") && texts.is_empty() {
        reader.problem(&section.place("endpoints"), "the list of endpoints is empty; write [\"http://10.0.0.1:2379\"]");
    }
    let is_secure = section.has("tls");
    let servers: Vec<Location> = texts.iter().filter_map(|text| server(reader, text, is_secure)).collect();
    let root = section.text(reader, "root");
    if let Some(root) = root.as_ref().filter(|root| !is_root(&root.value)) {
        let message = format!("\"{}\" is not a beginning of keys; write root = \"{ROOT}\"", root.value);
        reader.problem(&root.place, message);
    }
    let (user, file) = (section.text(reader, "username"), section.text(reader, "password_file"));
    if user.is_some() != file.is_some() {
        let place = section.place(if user.is_some() { "username" } else { "password_file" });
        reader.problem(&place, "\"username\" and \"password_file\" belong together; name both or none");
    }
    let file = file.map(|file| tls::readable(reader, &file));
    let lease_ttl = section.duration(reader, "lease_ttl")?;
    if reader.problems.len() > before || servers.is_empty() {
        return None;
    }
    Some(Settings {
        name: name.to_string(),
        servers,
        tls,
        login: user.zip(file).map(|(user, file)| (user.value, file)),
        root: root?.value.trim_end_matches('/').to_string(),
        lease_ttl,
    })
}

fn is_root(text: &str) -> bool {
    text.starts_with('/') && text.len() > 1 && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// `http://host:port`, or `https://` with `tls`.
fn server(reader: &mut Reader<'_>, text: &Found<String>, is_secure: bool) -> Option<Location> {
    let (scheme, rest) = text.value.split_once("://").unwrap_or_default();
    let location = rest.trim_end_matches('/').parse::<Location>().ok();
    let location = location.filter(|location| !matches!(location, Location::At(Address::Unix(_))));
    let Some(location) = location.filter(|_| matches!(scheme, "http" | "https")) else {
        let message = format!("\"{}\" is not a server; write \"http://10.0.0.1:2379\"", text.value);
        reader.problem(&text.place, message);
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
