//! `fill_for`: whose caches fetch by a route, and what their requests are keyed by.
use super::diagnostic::did_you_mean;
use super::route::Known;
use super::table::Found;
use super::table::Place;
use super::table::Reader;
use super::table::Section;
use crate::base::ids::UpstreamName;
use crate::key::KeySpec;
use crate::route::Route;
use crate::route::action::Fill;
use crate::route::action::Forward;

/// Reads `fill_for` of a route to `origin` with these texts of its own key, which are told to be wrong elsewhere.
pub fn read(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    key: &[Found<String>],
    origin: &UpstreamName,
    known: &Known<'_>,
) -> Option<Fill> {
    let wanted = section.text(reader, "fill_for")?;
    let Some(caches) = known.upstreams.iter().find(|upstream| upstream.name.as_str() == wanted.value) else {
        let near = did_you_mean(&wanted.value, known.upstreams.iter().map(|upstream| upstream.name.as_str()));
        reader.problem(&wanted.place, format!("there is no [upstream.{}]{near}", wanted.value));
        return None;
    };
    if caches.name == *origin {
        let message = "a cache that fetches from caches may wait for itself; \"upstream\" is their origin, \"fill_for\" are the caches";
        reader.problem(&wanted.place, message);
        return None;
    }
    let texts: Vec<&str> = key.iter().map(|text| text.value.as_str()).collect();
    let key = if texts.is_empty() { None } else { KeySpec::parse(&texts, caches.ring.hash).ok() };
    Some(Fill { upstream: caches.name.clone(), key })
}

/// Gives routes that fill without a key of their own the one by which clients' requests go to the same caches.
pub fn find_keys(reader: &mut Reader<'_>, routes: &mut [Found<Route>]) {
    let wanted: Vec<(usize, UpstreamName)> = routes
        .iter()
        .enumerate()
        .filter_map(|(index, route)| {
            let fill = route.value.action.forward()?.fill.as_ref()?;
            fill.key.is_none().then(|| (index, fill.upstream.clone()))
        })
        .collect();
    for (index, caches) in wanted {
        let place = routes[index].place.clone();
        let Some(key) = key_of(reader, &place, routes, &caches) else { continue };
        if let Some(fill) = routes[index].value.action.forward_mut().and_then(|forward| forward.fill.as_mut()) {
            fill.key = Some(key);
        }
    }
}

/// The one key by which requests go to these caches; a problem when there is none, or not one that a cache's own request has, too.
fn key_of(reader: &mut Reader<'_>, place: &Place, routes: &[Found<Route>], caches: &UpstreamName) -> Option<KeySpec> {
    let to_them: Vec<&Forward> = routes
        .iter()
        .filter_map(|route| route.value.action.forward())
        .filter(|forward| forward.upstream == *caches)
        .collect();
    let texts = |key: &KeySpec| key.texts().map(str::to_string).collect::<Vec<_>>();
    let keys: Vec<&KeySpec> = to_them.iter().filter_map(|forward| forward.key.as_ref()).collect();
    let why = match keys.first() {
        None => format!("no route to upstream \"{caches}\" has a key that could be taken"),
        Some(first) if keys.iter().any(|key| texts(key) != texts(first)) => {
            format!("routes to upstream \"{caches}\" have different keys")
        }
        Some(_) if to_them.iter().any(|forward| forward.path.strip.is_some() || forward.path.rewrite.is_some()) => {
            format!(
                "a route to upstream \"{caches}\" changes the path, so that the caches ask for another one than the key's"
            )
        }
        Some(first) if (0..texts(first).len()).any(|alternative| first.needs(alternative).client) => {
            format!("requests to upstream \"{caches}\" are keyed by the client's address, which is not the cache's")
        }
        Some(first) => return Some((*first).clone()),
    };
    reader.problem(place, format!("{why}; write key = [...] as the caches' requests have it"));
    None
}
