//! `[route.coalesce]`.
use super::serialize;
use super::store::Stores;
use super::table::Reader;
use super::table::Section;
use crate::head;
use crate::route::coalesce::Coalesce;
use crate::route::coalesce::OnLoss;
use crate::route::coalesce::Stored;
use std::time::Duration;

/// Length of a lease, unless it is chosen.
const LEASE: Duration = Duration::from_secs(10);

/// Reads `coalesce` of a route to an upstream; `None` when there is none.
pub fn read(reader: &mut Reader<'_>, route: &Section<'_>, stores: &Stores) -> Option<Coalesce> {
    if !route.has("coalesce") {
        return None;
    }
    let section = route.table(reader, "coalesce", "route.coalesce");
    section.check_names(reader);
    let default = Coalesce::default();
    let mut share_headers = Vec::new();
    for name in section.texts(reader, "share_headers") {
        if !head::is_token(name.value.as_bytes()) {
            reader.problem(&name.place, format!("\"{}\" is not a field name; write \"cookie\"", name.value));
        }
        share_headers.push(name.value.to_ascii_lowercase());
    }
    Some(Coalesce {
        wait: section.duration(reader, "wait").unwrap_or(default.wait),
        max_body: section.size(reader, "max_body").unwrap_or(default.max_body),
        share_headers,
        stored: stored(reader, &section, stores),
    })
}

fn stored(reader: &mut Reader<'_>, section: &Section<'_>, stores: &Stores) -> Option<Stored> {
    let wanted = section.choice(reader, "on_store_loss");
    let on_loss = OnLoss::ALL.into_iter().find(|on_loss| on_loss.as_str() == wanted)?;
    let Some(store) = section.text(reader, "store") else {
        for name in ["lease", "on_store_loss"].into_iter().filter(|name| section.has(name) && !section.has("store")) {
            let message =
                format!("\"{name}\" is for a fleet that a store coalesces; leave it out, or write store = \"NAME\"");
            reader.problem(&section.place(name), message);
        }
        return None;
    };
    let lease = serialize::lease(reader, section, &store, stores, LEASE);
    if on_loss == OnLoss::Refuse {
        let message =
            format!("while store \"{}\" is lost, requests that could share an answer are refused", store.value);
        reader.warn(&section.place("on_store_loss"), message);
    }
    Some(Stored { store: store.value, lease, on_loss })
}
