//! Builds each part, hands each what it needs, starts the tasks. The one file that sees every part; no TOML, no requests.
mod desk;
mod ending;
mod error;
mod fleet;
mod plan;
mod reload;
mod upgrade;

pub use error::StartError;

use crate::admin;
use crate::admin::Admin;
use crate::admin::ports::HeldChange;
use crate::admin::ports::Reloads;
use crate::admin::ports::Renewals;
use crate::base::address::Address;
use crate::base::clock;
use crate::base::ids::ListenerName;
use crate::config::Config;
use crate::config::mask;
use crate::config::watch::ConfigWatch;
use crate::control::Control;
use crate::control::ControlHandle;
use crate::fleet::peers::Peers;
use crate::lifecycle::descriptors;
use crate::lifecycle::inheritance::Inheritance;
use crate::lifecycle::settings::ReloadOn;
use crate::lifecycle::shutdown::Ended;
use crate::lifecycle::signals::Signals;
use crate::lifecycle::systemd;
use crate::listener;
use crate::listener::Front;
use crate::listener::Load;
use crate::net::certs::Certificate;
use crate::net::certs::TlsError;
use crate::pool;
use crate::pool::Pool;
use crate::proxy::Proxy;
use crate::proxy::coalesce::table::Flights;
use crate::snapshot::handle::SnapshotHandle;
use crate::telemetry::access_log::AccessLogControl;
use crate::telemetry::access_log::AccessLogWriter;
use crate::telemetry::cells::PerWorker;
use crate::telemetry::logging;
use crate::telemetry::logging::LevelHandle;
use crate::telemetry::panics;
use crate::telemetry::settings::AccessFormat;
use crate::worker::Remote;
use crate::worker::Worker;
use crate::worker::Workers;
use desk::Desk;
use fleet::Place;
use reload::Left;
use reload::Order;
use reload::Reloader;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::mpsc;
use tokio::sync::watch;
use upgrade::Upgrades;

/// What stands for the admin interface where certificates are told by listener.
const ADMIN: &str = "[admin]";
/// How old a line of the access log gets before it is sent to its writer.
const FLUSH: Duration = Duration::from_millis(100);
/// How often a program that is to take over looks whether it is ready.
const READY_POLL: Duration = Duration::from_millis(20);
/// Orders of operators that may wait; whoever has one more waits too.
const MAX_ORDERS: usize = 16;

/// Runs the proxy until a signal ends it, or another program has taken over. `path` is the file to read again on changes;
/// `inheritance` are sockets that listen already; `on_ready` is told the addresses.
///
/// # Errors
/// When it cannot start; nothing is left behind then.
pub async fn run(
    config: Config,
    path: Option<PathBuf>,
    mut inheritance: Inheritance,
    on_ready: impl FnOnce(&Addresses),
) -> Result<Ended, StartError> {
    let level = logging::start(config.log.level);
    panics::install();
    let descriptors = descriptors::take_all();
    descriptors::make_room(descriptors);
    let mut signals = Signals::new()?;
    let count = config.server.workers.unwrap_or_else(cores);
    let (control, control_handle) = Control::new(config.desired(), count).await?;
    let snapshots = control.snapshots();
    let access_log = open_access_log(&config)?;
    let admin_listener = upgrade::bind_admin(config.admin.address, &mut inheritance).await?;
    let prepared = config.listeners.iter().map(|settings| upgrade::prepare(settings, count, &mut inheritance));
    let mut prepared = prepared.collect::<Result<Vec<_>, _>>()?;
    let mut upgrades = Upgrades::new(&config, &admin_listener, &mut prepared, &mut inheritance)?;
    for address in inheritance.close_rest() {
        tracing::warn!(address, "A socket was handed over that the configuration does not name; it is not used.");
    }

    // From here on nothing can fail any more but the word of a program that runs already.
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let workers = Workers::start(count, &snapshots, &control.attention())?;
    let remote = workers.remote();
    let loads: Arc<PerWorker<Load>> = Arc::new(PerWorker::new(count));
    let flights: Arc<Flights> = Arc::default();
    for worker in 0..count {
        let log = access_log.as_ref().map(|writer| writer.handle(config.log.access, config.log.sample));
        let (loads, to_others, flights) = (loads.clone(), remote.clone(), flights.clone());
        remote.run_on(worker, Box::new(move |worker| furnish(worker, log, to_others, loads, flights))).await;
    }
    let addresses = Addresses {
        admin: admin_listener.local_addr().unwrap_or(config.admin.address),
        listeners: prepared.iter().filter_map(listener::Prepared::address).collect(),
    };
    let (history, locks, starts) = (control.history(), control.locks(), control.starts());
    tokio::spawn(control.run(remote.clone()));
    let (orders, asked) = mpsc::channel(MAX_ORDERS);
    let shared = Arc::new(Shared {
        started: clock::now(),
        workers: count,
        access_log: access_log.as_ref().map(AccessLogWriter::control),
        control: control_handle.clone(),
        snapshots: snapshots.clone(),
        level: level.clone(),
        orders,
        state: Mutex::new(SharedState::new(&config)),
    });
    let admin = Arc::new(Admin { snapshots: snapshots.clone(), history, operator: Arc::new(Desk(shared.clone())) });
    let is_late = async || tokio::time::timeout(config.server.upgrade_timeout, until_ready(&admin)).await.is_err();
    if inheritance.should_be_ready() && is_late().await {
        tracing::error!(why = admin.not_ready(), "This program was not ready in time.");
    }
    inheritance.claim().await.map_err(StartError::TakeOver)?;
    upgrades.begin();
    for prepared in prepared {
        start_listener(&remote, &snapshots, prepared).await;
    }
    let (leave_admin, has_left) = watch::channel(false);
    tokio::spawn(admin::serve(admin, admin_listener, has_left));
    let watch = path.as_ref().map(|path| ConfigWatch::start(path.clone(), config.sources.clone()));
    let is_watching = config.server.reload == ReloadOn::Watch;
    let mut reloader = Reloader {
        config,
        path,
        control: control_handle,
        snapshots: snapshots.clone(),
        remote: remote.clone(),
        shared,
        upgrades,
        held: None,
        place: Place::new(snapshots, starts),
    };
    reloader.take_place().await;
    log_start(&addresses, count, descriptors);
    systemd::ready();
    on_ready(&addresses);

    let left = reloader.serve(&mut signals, asked, watch.filter(|_| is_watching)).await;

    let open = || loads.sum(Load::unfinished);
    let Reloader { config, shared, upgrades, place, .. } = reloader;
    let leaving = tokio::spawn(place.leave());
    let ended = match left {
        Left::Told => {
            systemd::stopping();
            shared.set_not_ready("shutting down");
            ending::told(&config, upgrades, &remote, &mut signals, open).await
        }
        Left::HandedOver => {
            // Nobody listens any more when its task is at its end.
            leave_admin.send(true).unwrap_or_default();
            ending::handed_over(&config, &remote, &mut signals, open).await
        }
    };
    workers.stop().await;
    locks.settle().await;
    // It has a deadline of its own.
    if let Err(error) = leaving.await {
        tracing::warn!(%error, "The fleet could not be left.");
    }
    if let Some(access_log) = access_log {
        access_log.close();
    }
    match ended {
        Ended::Clean => tracing::info!("Ringway has ended; nothing was cut off."),
        Ended::TimedOut(open) => tracing::warn!(open, "Ringway has ended; time was up for some connections."),
        Ended::Forced => tracing::warn!("Ringway has ended at once, as asked."),
    }
    Ok(ended)
}

/// Where a running proxy is reached.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// The admin interface.
    pub admin: SocketAddr,
    /// The listeners, in the file's order.
    pub listeners: Vec<Address>,
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn open_access_log(config: &Config) -> Result<Option<AccessLogWriter>, StartError> {
    if config.log.access == AccessFormat::Off {
        return Ok(None);
    }
    let path = config.log.access_path.as_deref();
    let name = || path.map_or_else(|| "standard output".into(), |path| path.display().to_string());
    AccessLogWriter::start(path).map(Some).map_err(|source| StartError::AccessLog { path: name(), source })
}

/// Waits until requests would be answered.
async fn until_ready(admin: &Admin) {
    while admin.not_ready().is_some() {
        tokio::time::sleep(READY_POLL).await;
    }
}

/// Puts a worker's rooms up: its proxy, its doors, its housekeeping.
fn furnish(
    worker: &Rc<Worker>,
    access_log: Option<crate::telemetry::access_log::AccessLog>,
    remote: Remote,
    loads: Arc<PerWorker<Load>>,
    flights: Arc<Flights>,
) {
    let proxy = Rc::new(Proxy { worker: worker.clone(), pool: Pool::new(worker.clone()), access_log, flights });
    Front::install(worker.clone(), proxy.clone(), remote, loads);
    let housekeeping = proxy;
    drop(tokio::task::spawn_local(async move {
        let per_sweep = (pool::SWEEP.as_millis() / FLUSH.as_millis()) as u64;
        let mut beat = 0u64;
        loop {
            tokio::time::sleep(FLUSH).await;
            beat += 1;
            if let Some(log) = &housekeeping.access_log {
                log.flush();
            }
            housekeeping.pool.make_room();
            if beat.is_multiple_of(per_sweep) {
                housekeeping.pool.sweep();
            }
        }
    }));
}

async fn start_listener(remote: &Remote, snapshots: &SnapshotHandle, prepared: listener::Prepared) {
    let snapshot = snapshots.load();
    let known = snapshot.listeners.iter().find(|listener| listener.name == *prepared.name());
    match known {
        Some(known) => listener::start(remote, prepared, known.stats.clone()).await,
        None => tracing::error!(listener = %prepared.name(), "A listener is missing from the snapshot."),
    }
}

fn log_start(addresses: &Addresses, workers: usize, descriptors: Option<u64>) {
    let listeners: Vec<String> = addresses.listeners.iter().map(ToString::to_string).collect();
    let version = env!("CARGO_PKG_VERSION");
    let listeners = listeners.join(" ");
    tracing::info!(version, listeners, admin = %addresses.admin, workers, descriptors, "Ringway is ready.");
}

/// What the admin interface may see and ask for.
struct Shared {
    started: Instant,
    workers: usize,
    access_log: Option<AccessLogControl>,
    control: ControlHandle,
    snapshots: Arc<SnapshotHandle>,
    level: LevelHandle,
    orders: mpsc::Sender<Order>,
    state: Mutex<SharedState>,
}

struct SharedState {
    not_ready: Option<&'static str>,
    reloads: Reloads,
    renewals: Renewals,
    certificates: Vec<(ListenerName, Certificate)>,
    held: Option<HeldChange>,
    peers: Option<Arc<Peers>>,
    config: Vec<(String, String)>,
    admin: Arc<admin::settings::Settings>,
}

impl SharedState {
    fn new(config: &Config) -> Self {
        let reloads =
            Reloads { successes: 1, failures: 0, held: 0, last_succeeded: true, last_success: clock::since_epoch() };
        Self {
            not_ready: None,
            reloads,
            renewals: Renewals::default(),
            certificates: certificates(config),
            held: None,
            peers: None,
            config: texts(config),
            admin: Arc::new(config.admin.clone()),
        }
    }
}

fn texts(config: &Config) -> Vec<(String, String)> {
    config.sources.files.iter().map(|file| (file.name.clone(), mask::masked(&file.text))).collect()
}

/// The certificates that are shown to clients.
fn certificates(config: &Config) -> Vec<(ListenerName, Certificate)> {
    let shown = config.listeners.iter().filter_map(|listener| listener.tls.as_ref().map(|tls| (&listener.name, tls)));
    let admin_name = ListenerName::new(ADMIN);
    let shown = shown.chain(config.admin.tls.as_ref().map(|tls| (&admin_name, tls)));
    let each =
        shown.flat_map(|(name, tls)| tls.certificates().iter().map(|certificate| (name.clone(), certificate.clone())));
    each.collect()
}

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut SharedState) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts and tells what came of reading files of TLS again.
    fn note_renewal<T>(&self, user: &str, name: &str, renewed: Result<Option<T>, TlsError>) -> Option<T> {
        match renewed {
            Ok(None) => None,
            Ok(Some(new)) => {
                self.with(|state| state.renewals.successes += 1);
                tracing::info!(user, name, "TLS files have changed and are taken up.");
                Some(new)
            }
            Err(error) => {
                self.with(|state| state.renewals.failures += 1);
                tracing::error!(
                    user,
                    name,
                    "TLS files have changed and are refused, the old ones stay: failed to {error}"
                );
                None
            }
        }
    }

    fn set_not_ready(&self, why: &'static str) {
        self.with(|state| state.not_ready = Some(why));
    }
}
