//! Text to checked settings: the only part that knows TOML. A file is taken whole or not at all, and all that is wrong with it is
//! told at once.
pub mod action;
pub mod coalesce;
pub mod diagnostic;
pub mod discovery;
pub mod files;
pub mod fill;
pub mod fleet;
pub mod health_check;
pub mod keys;
pub mod listener;
pub mod mask;
pub mod reference;
pub mod route;
pub mod schema;
pub mod sending;
pub mod serialize;
pub mod server;
pub mod store;
pub mod table;
pub mod tls;
pub mod upstream;
pub mod watch;

#[cfg(test)]
mod tests;

use crate::admin;
use crate::base::ids::UpstreamName;
use crate::control::state::Desired;
use crate::discovery::settings::Settings as Discovery;
use crate::fleet::settings::Settings as Fleet;
use crate::lifecycle;
use crate::listener::settings::Settings as Listener;
use crate::route::Route;
use crate::snapshot::settings::Upstream;
use crate::store::settings::Settings as Store;
use crate::telemetry;
use diagnostic::Diagnostic;
use diagnostic::Diagnostics;
use files::Sources;
use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use store::Stores;
use table::Place;
use table::Reader;
use table::Section;
use toml::de::DeTable;

/// A configuration that may be taken up.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[server]`
    pub server: lifecycle::settings::Settings,
    /// `[admin]`
    pub admin: admin::settings::Settings,
    /// `[log]`
    pub log: telemetry::settings::Settings,
    /// `[[listener]]`
    pub listeners: Vec<Listener>,
    /// `[[route]]`
    pub routes: Vec<Route>,
    /// `[upstream.NAME]`
    pub upstreams: Vec<Upstream>,
    /// Where the members of upstreams come from that have none of their own.
    pub discoveries: BTreeMap<UpstreamName, Arc<Discovery>>,
    /// `[store.NAME]`
    pub stores: BTreeMap<String, Arc<Store>>,
    /// `[fleet]`
    pub fleet: Option<Fleet>,
    /// The files it was read from.
    pub sources: Sources,
    /// What works but is hardly wanted.
    pub warnings: Vec<Diagnostic>,
}

impl Config {
    /// What `control` needs of it.
    pub fn desired(&self) -> Desired {
        Desired {
            listeners: self.listeners.iter().map(|listener| listener.name.clone()).collect(),
            routes: self.routes.clone(),
            upstreams: self.upstreams.clone(),
            discoveries: self.discoveries.clone(),
            stores: self.stores.clone(),
            drain_timeout: self.server.drain_timeout,
            debug_token: self.admin.debug_token.clone(),
            guard_config: self.server.guard_config,
        }
    }

    /// Fills in members that files name, or that were kept on disk, for questions about the file alone. Gives what is missing,
    /// in words.
    pub fn fill_members(&mut self) -> Vec<String> {
        let mut problems = Vec::new();
        for upstream in &mut self.upstreams {
            let Some(discovery) = self.discoveries.get(&upstream.name) else { continue };
            match discovery.offline() {
                Ok(members) => upstream.endpoints = members,
                Err(why) => problems.push(format!("upstream \"{}\" has no members so far: {why}", upstream.name)),
            }
        }
        problems
    }

    /// The files that TLS is made of, here and towards upstreams.
    pub fn tls_files(&self) -> Vec<PathBuf> {
        let servers = self.listeners.iter().filter_map(|listener| listener.tls.as_ref()).chain(&self.admin.tls);
        let clients = self.upstreams.iter().filter_map(|upstream| upstream.tls.as_ref());
        let files =
            servers.flat_map(|tls| tls.settings().files()).chain(clients.flat_map(|tls| tls.settings().files()));
        files.cloned().collect()
    }
}

/// Reads a configuration with the files it includes and the environment of the process.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(path: &Path) -> Result<Config, Diagnostics> {
    from_sources(files::read(path)?, &|name| std::env::var(name).ok(), false)
}

/// Reads a configuration from a text without includes.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(name: &str, text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<Config, Diagnostics> {
    from_sources(Sources::of_text(name, text), environment, false)
}

/// Reads a configuration that somebody sent, to tell what it would do: opens no file and knows no environment. Certificates,
/// tokens and secrets are not in it, so it must never be run.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse_sent(text: &str) -> Result<Config, Diagnostics> {
    from_sources(Sources::of_text("body", text), &|_| None, true)
}

fn from_sources(
    sources: Sources,
    environment: &dyn Fn(&str) -> Option<String>,
    is_sent: bool,
) -> Result<Config, Diagnostics> {
    let mut reader = Reader::new(&sources.files, environment);
    reader.is_closed = is_sent;
    let mut tables = Vec::new();
    for (file, source) in sources.files.iter().enumerate() {
        let (table, errors) = DeTable::parse_recoverable(&source.text);
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            reader.problem(&Place { file, span }, error.message().replace('\n', ", "));
        }
        tables.push(table);
    }
    // Broken syntax hides what was meant: what follows from it would only confuse.
    if !reader.problems.is_empty() {
        return Err(sorted(reader.problems));
    }
    let top = |(file, table)| Section::new("", toml::Spanned::get_ref(table), Place { file, span: 0..0 });
    let tops: Vec<Section<'_>> = tables.iter().enumerate().map(top).collect();
    let parts = read(&mut reader, &tops);
    let Reader { problems, warnings, .. } = reader;
    if !problems.is_empty() {
        return Err(sorted(problems));
    }
    let Parts { server, admin, log, listeners, routes, upstreams, discoveries, stores, fleet } = parts;
    Ok(Config { server, admin, log, listeners, routes, upstreams, discoveries, stores, fleet, sources, warnings })
}

struct Parts {
    server: lifecycle::settings::Settings,
    admin: admin::settings::Settings,
    log: telemetry::settings::Settings,
    listeners: Vec<Listener>,
    routes: Vec<Route>,
    upstreams: Vec<Upstream>,
    discoveries: BTreeMap<UpstreamName, Arc<Discovery>>,
    stores: BTreeMap<String, Arc<Store>>,
    fleet: Option<Fleet>,
}

fn read(reader: &mut Reader<'_>, tops: &[Section<'_>]) -> Parts {
    for (file, top) in tops.iter().enumerate() {
        top.check_names(reader);
        if file > 0 && top.has("include") {
            reader.problem(&top.place("include"), "an included file includes no others");
        }
    }
    if reader.is_closed && tops[0].has("include") {
        reader
            .problem(&tops[0].place("include"), "a configuration that is sent includes no files; send it in one piece");
    }
    let [server, admin, log] = ["server", "admin", "log"].map(|name| single(reader, tops, name));
    let server = server::server(reader, &server);
    let admin = server::admin(reader, &admin);
    let log = server::log(reader, &log);
    let mut listeners = Vec::new();
    for top in tops {
        for section in top.tables(reader, "listener", "listener") {
            listeners.extend(listener::read(reader, &section));
        }
    }
    listener::check_unique(reader, &listeners);
    let stores = stores(reader, tops);
    let fleet = single(reader, tops, "fleet");
    let fleet = if fleet.is_there() { fleet::read(reader, &fleet, &stores) } else { None };
    let (upstreams, discoveries) = upstreams(reader, tops, &stores);
    let known =
        route::Known { listeners: &listeners, upstreams: &upstreams, discoveries: &discoveries, stores: &stores };
    let mut routes = Vec::new();
    for top in tops {
        for section in top.tables(reader, "route", "route") {
            routes.extend(route::read(reader, &section, &known));
        }
    }
    route::tell_apart(&mut routes);
    route::check_unique(reader, &routes);
    fill::find_keys(reader, &mut routes);
    let start = &tops[0].place;
    if tops.iter().all(|top| !top.has("listener")) {
        reader.problem(
            start,
            "there is no [[listener]]: nobody could connect; write [[listener]] and address = \"0.0.0.0:8080\"",
        );
    }
    if tops.iter().all(|top| !top.has("route")) {
        reader.problem(
            start,
            "there is no [[route]]: every request would be refused; write [[route]] and upstream = \"NAME\"",
        );
    }
    warn_of_own_admin(reader, start, &admin, &upstreams);
    for upstream in &upstreams {
        let leads_there = |route: &table::Found<Route>| {
            route.value.action.forward().is_some_and(|forward| forward.upstream == upstream.name)
        };
        if !routes.iter().any(leads_there) {
            reader.warn(start, format!("no route leads to upstream \"{}\"", upstream.name));
        }
    }
    Parts {
        server,
        admin,
        log,
        listeners: listeners.into_iter().map(|found| found.value).collect(),
        routes: routes.into_iter().map(|found| found.value).collect(),
        upstreams,
        discoveries,
        stores: stores.into_iter().filter_map(|(name, store)| Some((name, store?))).collect(),
        fleet,
    }
}

/// Requests of clients would reach the operators' door: it refuses them, and they fail.
fn warn_of_own_admin(
    reader: &mut Reader<'_>,
    place: &Place,
    admin: &admin::settings::Settings,
    upstreams: &[Upstream],
) {
    for upstream in upstreams {
        for endpoint in upstream.endpoints.iter().filter(|endpoint| endpoint.address == admin.address.into()) {
            let (name, id) = (&upstream.name, &endpoint.id);
            reader.warn(place, format!("endpoint {id} of upstream \"{name}\" is this proxy's own admin address"));
        }
    }
}

/// A table that may stand in one of the files only.
fn single<'a>(reader: &mut Reader<'_>, tops: &[Section<'a>], name: &'static str) -> Section<'a> {
    let mut with = tops.iter().filter(|top| top.has(name));
    let Some(first) = with.next() else { return Section::absent(name, tops[0].place.clone()) };
    for other in with {
        let at = reader.describe(&first.place(name));
        reader.problem(&other.place(name), format!("[{name}] stands in another file already, at {at}"));
    }
    first.table(reader, name, name)
}

type Discoveries = BTreeMap<UpstreamName, Arc<Discovery>>;

fn stores(reader: &mut Reader<'_>, tops: &[Section<'_>]) -> Stores {
    let mut stores = Stores::new();
    for top in tops {
        for (name, section) in top.named_tables(reader, "store", "store.*") {
            if stores.contains_key(&name) {
                reader.problem(&section.place, format!("store \"{name}\" stands in another file already"));
                continue;
            }
            let settings = store::read(reader, &name, &section).map(Arc::new);
            stores.insert(name, settings);
        }
    }
    stores
}

fn upstreams(reader: &mut Reader<'_>, tops: &[Section<'_>], stores: &Stores) -> (Vec<Upstream>, Discoveries) {
    let (mut upstreams, mut discoveries): (Vec<Upstream>, _) = (Vec::new(), BTreeMap::new());
    let mut places: Vec<Place> = Vec::new();
    for top in tops {
        for (name, section) in top.named_tables(reader, "upstream", "upstream.*") {
            if let Some(first) = upstreams.iter().position(|upstream| upstream.name.as_str() == name) {
                let at = reader.describe(&places[first]);
                reader.problem(&section.place, format!("upstream \"{name}\" stands in another file already, at {at}"));
                continue;
            }
            let (upstream, discovery) = upstream::read(reader, &name, &section, stores);
            discoveries.extend(discovery.map(|discovery| (upstream.name.clone(), Arc::new(discovery))));
            upstreams.push(upstream);
            places.push(section.place.clone());
        }
    }
    (upstreams, discoveries)
}

fn sorted(mut problems: Vec<Diagnostic>) -> Diagnostics {
    problems.sort_unstable();
    problems.dedup();
    Diagnostics(problems)
}
