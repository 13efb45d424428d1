//! `[fleet]`.
use super::diagnostic::did_you_mean;
use super::store::Stores;
use super::table::Reader;
use super::table::Section;
use crate::base::ids::EndpointId;
use crate::fleet::settings;
use crate::fleet::settings::Settings;

/// Reads the table; `None` when it is wrong.
pub fn read(reader: &mut Reader<'_>, section: &Section<'_>, stores: &Stores) -> Option<Settings> {
    section.check_names(reader);
    let peers_ttl = section.duration(reader, "peers_ttl");
    let name = section.text(reader, "name");
    if let Some(name) = name.as_ref().filter(|name| !EndpointId::is_valid(&name.value)) {
        let message = format!("\"{}\" is not a name: 1 to 128 characters of A-Za-z0-9._:/[]-", name.value);
        reader.problem(&name.place, message);
    }
    let wanted = section.text(reader, "store")?;
    match stores.get(&wanted.value) {
        Some(store) => Some(Settings {
            // What is wrong with it was told.
            store: store.clone()?,
            name: name.map_or_else(settings::host, |name| name.value),
            peers_ttl: peers_ttl?,
        }),
        None => {
            let near = did_you_mean(&wanted.value, stores.keys().map(String::as_str));
            reader.problem(&wanted.place, format!("there is no [store.{}]{near}", wanted.value));
            None
        }
    }
}
