//! How it stands with routes whose requests take turns, or share answers, as a part of `/api/v1/status`.
use super::view;
use super::view::Store;
use crate::route::Route;
use crate::snapshot::Serial;
use crate::snapshot::Snapshot;
use serde::Deserialize;
use serde::Serialize;

/// A route whose requests wait for each other.
#[derive(Debug, Serialize, Deserialize)]
pub struct Turns {
    /// Its name.
    pub route: String,
    /// Requests that wait for their turn, or for another's answer.
    pub waiting: u64,
    /// Whose locks; absent: within this proxy.
    pub store: Option<Store>,
    /// What happens because the store is lost: `refuse`, `local`, `bypass`; absent while it is not.
    pub degraded: Option<String>,
}

/// All that take turns, in the file's order.
pub fn all(snapshot: &Snapshot) -> Vec<Turns> {
    let routes = snapshot.routes.routes().iter().zip(&snapshot.serials);
    routes.filter_map(|(route, serial)| of(route, serial.as_ref()?)).collect()
}

/// All that share answers, in the file's order.
pub fn sharing(snapshot: &Snapshot) -> Vec<Turns> {
    let routes = snapshot.routes.routes().iter().zip(&snapshot.shared).zip(&snapshot.route_stats);
    let sharing = routes.filter_map(|((route, serial), stats)| {
        let settings = route.action.forward()?.coalesce.as_ref()?;
        let is_lost = serial.as_ref().is_some_and(|serial| serial.service.is_lost());
        Some(Turns {
            route: route.name.to_string(),
            waiting: stats.sum(|cell| cell.waiting.get()),
            store: serial.as_ref().and_then(store_of),
            degraded: settings.stored.as_ref().filter(|_| is_lost).map(|stored| stored.on_loss.as_str().to_string()),
        })
    });
    sharing.collect()
}

fn store_of(serial: &Serial) -> Option<Store> {
    serial.service.standing().map(|standing| view::store(&standing.health))
}

fn of(route: &Route, serial: &Serial) -> Option<Turns> {
    let settings = route.action.forward()?.serialize.as_ref()?;
    let stored = settings.stored.as_ref().filter(|_| serial.service.is_lost());
    Some(Turns {
        route: route.name.to_string(),
        waiting: serial.stats.sum(|cell| cell.waiting.get()),
        store: store_of(serial),
        degraded: stored.map(|stored| stored.on_loss.as_str().to_string()),
    })
}
