//! `[route.serialize]`.
use super::diagnostic::did_you_mean;
use super::route;
use super::store::Stores;
use super::table::Found;
use super::table::Reader;
use super::table::Section;
use crate::base::units;
use crate::route::serialize::OnLoss;
use crate::route::serialize::Serialize;
use crate::route::serialize::Stored;
use crate::snapshot::settings::Upstream;
use crate::store::settings::Engine;
use std::sync::Arc;
use std::time::Duration;

/// Length of a lease, unless it is chosen.
const LEASE: Duration = Duration::from_secs(30);

/// Reads `serialize` of a route to an upstream; `None` when there is none. `has_key` says that the route has a key of its own.
pub fn read(
    reader: &mut Reader<'_>,
    route: &Section<'_>,
    upstream: &Upstream,
    has_key: bool,
    stores: &Stores,
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
    let stored = stored(reader, &section, stores);
    Some(Arc::new(Serialize { methods, key, wait: wait?, max_queue: max_queue? as usize, stored }))
}

fn stored(reader: &mut Reader<'_>, section: &Section<'_>, stores: &Stores) -> Option<Stored> {
    let aborts = section.choice(reader, "on_lease_lost") == "abort";
    let wanted = section.choice(reader, "on_store_loss");
    let on_loss = OnLoss::ALL.into_iter().find(|on_loss| on_loss.as_str() == wanted)?;
    let Some(store) = section.text(reader, "store") else {
        let names = ["lease", "on_lease_lost", "on_store_loss"];
        for name in names.into_iter().filter(|name| section.has(name) && !section.has("store")) {
            let message =
                format!("\"{name}\" is for turns that a store keeps; leave it out, or write store = \"NAME\"");
            reader.problem(&section.place(name), message);
        }
        return None;
    };
    let lease = lease(reader, section, &store, stores, LEASE);
    if on_loss != OnLoss::Refuse {
        let place = section.place("on_store_loss");
        let what = if on_loss == OnLoss::Local { "only within this proxy" } else { "not at all" };
        reader.warn(
            &place,
            format!("while store \"{}\" is lost, requests take turns {what}, without tokens", store.value),
        );
    }
    Some(Stored { store: store.value, lease, aborts, on_loss })
}

/// The length of a lease, `absent` unless it is chosen, and never more than its store gives. Notes a store that there is not, or that
/// keeps no locks.
pub fn lease(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    store: &Found<String>,
    stores: &Stores,
    absent: Duration,
) -> Duration {
    let lease = section.duration(reader, "lease").unwrap_or(absent);
    match stores.get(&store.value).map(|known| known.as_ref().map(|known| known.engine)) {
        Some(Some(Engine::Redis(redis))) => {
            if lease > redis.max_lease && section.has("lease") {
                let [lease, most] = [lease, redis.max_lease].map(units::format_duration);
                let message = format!(
                    "a lease of {lease} is longer than \"max_lease\" of store \"{}\", {most}; write no more here, or \
                     more there, and on the whole fleet",
                    store.value
                );
                reader.problem(&section.place("lease"), message);
            }
            return lease.min(redis.max_lease);
        }
        Some(_) => {}
        None => no_store(reader, store, stores),
    }
    lease
}

/// Notes a store that there is not.
pub fn no_store(reader: &mut Reader<'_>, store: &Found<String>, stores: &Stores) {
    let near = did_you_mean(&store.value, stores.keys().map(String::as_str));
    reader.problem(&store.place, format!("there is no [store.{}]{near}", store.value));
}
