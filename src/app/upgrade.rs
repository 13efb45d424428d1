//! What the running program keeps for the next one, and the hand-over as the rest of the program sees it.
use super::StartError;
use crate::base::address::Address;
use crate::base::ids::ListenerName;
use crate::config::Config;
use crate::lifecycle::handoff::Doorway;
use crate::lifecycle::handoff::Goods;
use crate::lifecycle::handoff::Role;
use crate::lifecycle::inheritance::Inheritance;
use crate::lifecycle::program;
use crate::lifecycle::systemd;
use crate::lifecycle::upgrade::Upgrade;
use crate::lifecycle::upgrade::UpgradeError;
use crate::listener;
use crate::listener::Prepared;
use crate::net::socket;
use crate::net::socket::Acceptor;
use crate::net::socket::Bound;
use crate::net::socket::Kept;
use crate::net::stream::Socket;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Permissions of the socket at which sockets are handed over.
const MODE: u32 = 0o600;
/// Pause when nobody can be accepted there.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// Opens a listener with the sockets that were inherited for it, or anew.
pub(super) fn prepare(
    settings: &listener::settings::Settings,
    workers: usize,
    inheritance: &mut Inheritance,
) -> Result<Prepared, listener::OpenError> {
    match inheritance.take(Role::Listener, settings.name.as_str(), &settings.address.to_string()) {
        Some(sockets) => listener::adopt(settings, sockets, workers),
        None => listener::prepare(settings, Some(workers)),
    }
}

/// Opens the admin address with the socket that was inherited for it, or anew.
pub(super) async fn bind_admin(
    address: SocketAddr,
    inheritance: &mut Inheritance,
) -> Result<tokio::net::TcpListener, StartError> {
    let failed = |source| StartError::Admin { address, source };
    let Some(sockets) = inheritance.take(Role::Admin, "admin", &address.to_string()) else {
        return tokio::net::TcpListener::bind(address).await.map_err(failed);
    };
    let listening = socket::adopt(&Address::Ip(address), sockets, 1).map_err(failed)?;
    match listening.bound.into_iter().next() {
        Some(Bound::Tcp(listener)) => tokio::net::TcpListener::from_std(listener).map_err(failed),
        _ => Err(failed(io::ErrorKind::InvalidInput.into())),
    }
}

/// A program that asks for everything.
pub(super) struct Asker {
    stream: UnixStream,
    pid: u32,
}

/// What comes up.
pub(super) enum Event {
    /// A program wants to take over.
    Asked(Asker),
    /// The new program is ready, or will never be.
    Done(Result<(), UpgradeError>),
}

/// Descriptors of everything that listens, and the hand-over under way.
pub(super) struct Upgrades {
    program: Option<PathBuf>,
    within: Duration,
    kept: Vec<Place>,
    socket: Option<Vec<Bound>>,
    asking: Option<JoinHandle<()>>,
    asked: (mpsc::Sender<Asker>, mpsc::Receiver<Asker>),
    under_way: Option<Upgrade>,
}

struct Place {
    role: Role,
    name: String,
    address: String,
    kept: Kept,
}

impl Upgrades {
    /// Keeps what listens now, and opens the socket at which the next program may ask. Nobody is answered there yet.
    pub(super) fn new(
        config: &Config,
        admin: &tokio::net::TcpListener,
        prepared: &mut [Prepared],
        inheritance: &mut Inheritance,
    ) -> Result<Self, StartError> {
        let program = program::path();
        let program = program.inspect_err(|error| tracing::warn!(%error, "This program does not know where it lies."));
        let mut upgrades = Self {
            program: program.ok(),
            within: config.server.upgrade_timeout,
            kept: Vec::new(),
            socket: None,
            asking: None,
            asked: mpsc::channel(1),
            under_way: None,
        };
        upgrades.add(Role::Admin, "admin", &config.admin.address.to_string(), Kept::of(admin)?);
        for (settings, prepared) in config.listeners.iter().zip(prepared) {
            upgrades.keep(settings, prepared);
        }
        if let Some(path) = &config.server.upgrade_socket {
            let failed = |source| StartError::UpgradeSocket { path: path.to_path_buf(), source };
            let address = Address::Unix(path.clone());
            let listening = match inheritance.take(Role::Upgrade, "upgrade", &address.to_string()) {
                Some(sockets) => socket::adopt(&address, sockets, 1),
                None => socket::listen(&address, MODE, 1),
            };
            let listening = listening.map_err(failed)?;
            upgrades.add(Role::Upgrade, "upgrade", &address.to_string(), listening.kept);
            upgrades.socket = Some(listening.bound);
        }
        Ok(upgrades)
    }

    fn add(&mut self, role: Role, name: &str, address: &str, kept: Kept) {
        self.kept.push(Place { role, name: name.into(), address: address.into(), kept });
    }

    /// Keeps a new listener's sockets.
    pub(super) fn keep(&mut self, settings: &listener::settings::Settings, prepared: &mut Prepared) {
        if let Some(kept) = prepared.take_kept() {
            self.add(Role::Listener, settings.name.as_str(), &settings.address.to_string(), kept);
        }
    }

    /// Lets go of a listener's sockets, before it is stopped.
    pub(super) fn forget(&mut self, name: &ListenerName) {
        self.kept.retain(|place| place.role != Role::Listener || place.name != name.as_str());
    }

    /// Takes the settings of a new configuration up.
    pub(super) fn set_timeout(&mut self, within: Duration) {
        self.within = within;
    }

    /// From now on everything is this program's, files of sockets included, and the next one may ask.
    pub(super) fn begin(&mut self) {
        self.set_ours(true);
        for socket in self.socket.take().into_iter().flatten() {
            self.asking = Some(tokio::spawn(serve(socket, self.asked.0.clone())));
        }
    }

    fn set_ours(&self, is_ours: bool) {
        self.kept.iter().for_each(|place| place.kept.set_ours(is_ours));
    }

    fn goods(&self, is_ready: bool) -> Result<Goods, UpgradeError> {
        let doorway = |place: &Place| {
            let sockets = place.kept.descriptors().map_err(UpgradeError::Send)?;
            Ok(Doorway { role: place.role, name: place.name.clone(), address: place.address.clone(), sockets })
        };
        Ok(Goods { is_ready, doorways: self.kept.iter().map(doorway).collect::<Result<_, _>>()? })
    }

    /// Starts the program anew, which is to take over. `is_ready`: whether this one serves, so that the new one had better, too.
    pub(super) fn start(&mut self, config: Option<&Path>, is_ready: bool) {
        let (Some(program), Some(config)) = (self.program.clone(), config) else {
            return tracing::error!("This program cannot be replaced while it runs: it was not started on a file.");
        };
        if std::process::id() == 1 {
            return tracing::error!(
                "This program is process 1, with which its container would end; start a new container."
            );
        }
        self.try_to("start", |goods, within| Upgrade::start(&program, config, goods, within), is_ready);
    }

    /// Gives everything to a program that asked.
    pub(super) fn give(&mut self, asker: Asker, is_ready: bool) {
        self.try_to("ask", |goods, within| Upgrade::give(asker.stream, asker.pid, goods, within), is_ready);
    }

    fn try_to(
        &mut self,
        how: &str,
        begin: impl FnOnce(Goods, Duration) -> Result<Upgrade, UpgradeError>,
        is_ready: bool,
    ) {
        if let Some(under_way) = &self.under_way {
            return tracing::error!(pid = under_way.pid, "An upgrade is under way already; another one was not begun.");
        }
        systemd::reloading();
        match self.goods(is_ready).and_then(|goods| begin(goods, self.within)) {
            Ok(upgrade) => {
                tracing::info!(pid = upgrade.pid, how, "A new program is about to take over.");
                self.under_way = Some(upgrade);
            }
            Err(error) => failed(&error),
        }
    }

    /// The next thing that comes up.
    pub(super) async fn next(&mut self) -> Event {
        let under_way = &mut self.under_way;
        let done = async {
            match under_way {
                Some(upgrade) => upgrade.outcome().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            outcome = done => Event::Done(outcome),
            // Never nothing: a sender is kept here.
            Some(asker) = self.asked.1.recv() => Event::Asked(asker),
        }
    }

    /// Whether everything is the new program's now.
    pub(super) fn is_over(&mut self, outcome: Result<(), UpgradeError>) -> bool {
        let Some(upgrade) = self.under_way.take() else { return false };
        // Before the new one calls them its own.
        self.set_ours(false);
        match outcome.and_then(|()| upgrade.confirm().map_err(|_| UpgradeError::GaveUp)) {
            Ok(()) => {
                systemd::handed_over(upgrade.pid);
                self.asking.iter().for_each(JoinHandle::abort);
                tracing::info!(pid = upgrade.pid, "The new program has taken over; this one finishes what it has.");
                true
            }
            Err(error) => {
                self.set_ours(true);
                failed(&error);
                false
            }
        }
    }
}

fn failed(error: &UpgradeError) {
    tracing::error!("The upgrade has failed, this program goes on: failed to {error}.");
    systemd::ready();
}

/// Answers at the upgrade socket: who may ask is passed on.
async fn serve(socket: Bound, to: mpsc::Sender<Asker>) {
    let acceptor = match Acceptor::adopt(socket) {
        Ok(acceptor) => acceptor,
        Err(error) => return tracing::error!(%error, "The upgrade socket cannot be served."),
    };
    loop {
        let asker = match poll_fn(|cx| acceptor.poll_accept(cx)).await {
            Ok((Socket::Unix(stream), _)) => admit(stream),
            Ok((Socket::Tcp(_), _)) => continue,
            Err(error) => {
                tracing::warn!(%error, "Nobody could be accepted at the upgrade socket.");
                tokio::time::sleep(SHORTAGE_PAUSE).await;
                continue;
            }
        };
        match asker {
            Ok(asker) => match to.send(asker).await {
                Ok(()) => {}
                Err(_) => return,
            },
            Err(error) => tracing::warn!(%error, "Somebody was refused at the upgrade socket."),
        }
    }
}

/// Only this program's own user, and root, may have what it has.
fn admit(stream: tokio::net::UnixStream) -> io::Result<Asker> {
    let peer = stream.peer_cred()?;
    if peer.uid() != 0 && peer.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("it is user {}", peer.uid())));
    }
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    Ok(Asker { stream, pid: peer.pid().unwrap_or_default().unsigned_abs() })
}
