//! `[route.serialize]`.
use super::route;
use super::table::Reader;
use super::table::Section;
use crate::route::serialize::Serialize;
use crate::snapshot::settings::Upstream;
use std::sync::Arc;

/// Reads `serialize` of a route to an upstream; `None` when there is none. `has_key` says that the route has a key of its own.
pub fn read(
    reader: &mut Reader<'_>,
    route: &Section<'_>,
    upstream: &Upstream,
    has_key: bool,
) -> Option<Arc<Serialize>> {
    if !route.has("serialize") {
        return None;
    }
    let section = route.table(reader, "serialize", "route.serialize");
    section.check_names(reader);
    let methods = route::methods(reader, &section);
    if section.has("methods") && methods.is_empty() {
        reader.problem(&section.place("methods"), "no request would take turns; write methods = [\"POST\"]");
    }
    let key = section.texts(reader, "key");
    if key.is_empty() && !has_key && !route.has("key") {
        let message = "neither the route nor \"serialize\" has a key to take turns by; write key = [\"path\"]";
        reader.problem(&section.place("key"), message);
    }
    let wait = section.duration(reader, "wait");
    let max_queue = section.integer(reader, "max_queue");
    let key = route::parse_key(reader, &key, upstream);
    Some(Arc::new(Serialize { methods, key, wait: wait?, max_queue: max_queue? as usize }))
}
