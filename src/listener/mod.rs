//! Front doors: accept, handshake, protocol. Knows no routes and no upstreams.
pub mod accept;
pub mod connection;
pub mod door;
pub mod h2;
pub mod handshakes;
pub mod http1;
pub mod limits;
pub mod proxy_header;
pub mod settings;

use crate::base::address::Address;
use crate::base::ids::ListenerName;
use crate::net::socket;
use crate::net::socket::Acceptor;
use crate::net::socket::Bound;
use crate::net::socket::Kept;
use crate::net::socket::Listening;
use crate::net::stream::Loose;
use crate::net::stream::Socket;
use crate::proxy::Proxy;
use crate::snapshot::stats;
use crate::telemetry::cells::Gauge;
use crate::telemetry::cells::PerWorker;
use crate::worker::Remote;
use crate::worker::Worker;
use door::Door;
use door::Leaving;
use door::Plan;
use settings::Settings;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use thiserror::Error;
use tokio::sync::oneshot;

/// Why a listener cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The address cannot be had.
    #[error("listen on {address}: {source}")]
    Bind {
        /// The address.
        address: Address,
        /// Why not.
        source: io::Error,
    },
}

/// How many connections one worker has.
#[derive(Debug, Default)]
pub struct Load {
    /// Those it serves; it alone counts them.
    open: Gauge,
    /// Those on their way to it from other workers.
    coming: AtomicU64,
    /// Loops that accept more of them.
    accepting: Gauge,
}

impl Load {
    /// All of them. Who has arrived is counted as open before it is no longer on its way, so none is missed in this order.
    pub fn get(&self) -> u64 {
        let coming = self.coming.load(Ordering::Acquire);
        coming + self.open.get()
    }

    /// The same, and who may yet find one in a queue: at the end nothing is over before this is 0.
    pub fn unfinished(&self) -> u64 {
        self.get() + self.accepting.get()
    }
}

/// A loop that accepts, from before it runs until it has emptied its queues.
struct Accepting(Rc<Front>);

impl Accepting {
    fn new(front: &Rc<Front>) -> Self {
        front.loads.of(front.worker.index).accepting.inc();
        Self(front.clone())
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.loads.of(self.0.worker.index).accepting.dec();
    }
}

/// One worker's doors.
#[derive(Debug)]
pub struct Front {
    worker: Rc<Worker>,
    proxy: Rc<Proxy>,
    remote: Remote,
    loads: Arc<PerWorker<Load>>,
    doors: RefCell<HashMap<ListenerName, Rc<Door>>>,
}

thread_local! {
    static HERE: RefCell<Option<Rc<Front>>> = const { RefCell::new(None) };
}

impl Front {
    /// Sets this worker's front up; called once on its thread.
    pub fn install(worker: Rc<Worker>, proxy: Rc<Proxy>, remote: Remote, loads: Arc<PerWorker<Load>>) {
        let front = Front { worker, proxy, remote, loads, doors: RefCell::default() };
        HERE.with_borrow_mut(|here| *here = Some(Rc::new(front)));
    }

    fn here(act: impl FnOnce(&Rc<Front>)) {
        if let Some(front) = HERE.with_borrow(Clone::clone) {
            act(&front);
        }
    }

    /// Hangs a door of this plan: others may hand connections over to it.
    fn hang(&self, plan: Plan) {
        let door = Rc::new(Door::new(self.worker.clone(), self.proxy.clone(), plan));
        self.doors.borrow_mut().insert(door.name.clone(), door);
    }

    /// Accepts by the door of this name.
    fn open(self: &Rc<Self>, name: &ListenerName, sockets: Vec<Bound>) {
        let Some(door) = self.door(name) else { return };
        match sockets.into_iter().map(Acceptor::adopt).collect() {
            Ok(queues) => {
                let (front, accepting) = (self.clone(), Accepting::new(self));
                drop(tokio::task::spawn_local(async move {
                    accept::run(front, door, queues).await;
                    drop(accepting);
                }));
            }
            Err(error) => tracing::error!(%error, listener = %door.name, "A listener could not be started."),
        }
    }

    fn door(&self, name: &ListenerName) -> Option<Rc<Door>> {
        self.doors.borrow().get(name).cloned()
    }

    fn adopt(self: &Rc<Self>, name: &ListenerName, stream: Loose, peer: SocketAddr) {
        if let (Some(door), Ok(stream)) = (self.door(name), Socket::adopt(stream)) {
            connection::start(self, &door, stream, peer);
        }
        self.loads.of(self.worker.index).coming.fetch_sub(1, Ordering::Release);
    }

    fn emptier_worker(&self) -> Option<usize> {
        let loads: smallvec::SmallVec<[u64; 16]> = self.loads.iter().map(Load::get).collect();
        accept::emptiest(&loads, self.worker.index)
    }
}

/// A listener whose address is ours if it is a new one. Nobody is served by it yet.
pub struct Prepared {
    settings: Arc<Settings>,
    sockets: Vec<Bound>,
    kept: Option<Kept>,
}

impl Prepared {
    /// Where it listens, if it is a new one; the port is the real one also when the settings said 0.
    pub fn address(&self) -> Option<Address> {
        self.sockets.first()?.address().ok()
    }

    /// Its name.
    pub fn name(&self) -> &ListenerName {
        &self.settings.name
    }

    /// Descriptors for a hand-over, if it is a new one. Whoever takes them lets go of them before the listener is stopped.
    pub fn take_kept(&mut self) -> Option<Kept> {
        self.kept.take()
    }

    fn plan(&self, stats: Arc<stats::Listener>) -> Plan {
        let tls = self.settings.tls.as_ref().map(|tls| tls.acceptor());
        Plan { settings: self.settings.clone(), tls, stats, addresses: Arc::default() }
    }
}

/// Gets ready what new settings need. With `workers` the address is taken for so many of them; without, the listener is there
/// already. Changes nothing for anybody yet.
pub fn prepare(settings: &Settings, workers: Option<usize>) -> Result<Prepared, OpenError> {
    let listening = workers.map(|workers| socket::listen(&settings.address, settings.mode, workers));
    prepared(settings, listening)
}

/// As [`prepare`], with sockets that are there already: another program's, or a service manager's.
pub fn adopt(settings: &Settings, sockets: Vec<OwnedFd>, workers: usize) -> Result<Prepared, OpenError> {
    prepared(settings, Some(socket::adopt(&settings.address, sockets, workers)))
}

fn prepared(settings: &Settings, listening: Option<io::Result<Listening>>) -> Result<Prepared, OpenError> {
    let failed = |source| OpenError::Bind { address: settings.address.clone(), source };
    let (sockets, kept) = match listening.transpose().map_err(failed)? {
        None => (Vec::new(), None),
        Some(listening) => (listening.bound, Some(listening.kept)),
    };
    Ok(Prepared { settings: Arc::new(settings.clone()), sockets, kept })
}

/// Starts accepting on all workers.
pub async fn start(remote: &Remote, prepared: Prepared, stats: Arc<stats::Listener>) {
    let plan = prepared.plan(stats);
    let mut shares: Vec<Vec<Bound>> = (0..remote.count()).map(|_| Vec::new()).collect();
    for (index, socket) in prepared.sockets.into_iter().enumerate() {
        shares[index % remote.count()].push(socket);
    }
    // All doors before any accepts: what one worker accepts it may hand to another at once.
    for worker in 0..remote.count() {
        let plan = plan.clone();
        remote.run_on(worker, Box::new(move |_| Front::here(|front| front.hang(plan)))).await;
    }
    for (worker, sockets) in shares.into_iter().enumerate() {
        let name = plan.settings.name.clone();
        remote.run_on(worker, Box::new(move |_| Front::here(|front| front.open(&name, sockets)))).await;
    }
}

/// Gives a listener that goes on its new settings.
pub async fn replace(remote: &Remote, prepared: &Prepared, stats: Arc<stats::Listener>) {
    for worker in 0..remote.count() {
        let plan = prepared.plan(stats.clone());
        let job = move |front: &Rc<Front>| {
            if let Some(door) = front.door(&plan.settings.name) {
                door.replace(plan);
            }
        };
        remote.run_on(worker, Box::new(move |_| Front::here(job))).await;
    }
}

/// Stops accepting on all workers; connections end with their request.
pub async fn stop(remote: &Remote, name: &ListenerName) {
    leave(remote, name, Leaving::Now).await;
    // What workers gave to each other before they knew is served by now, or waits in front of this.
    for worker in 0..remote.count() {
        let name = name.clone();
        let job = move |front: &Rc<Front>| drop(front.doors.borrow_mut().remove(&name));
        remote.run_on(worker, Box::new(move |_| Front::here(job))).await;
    }
}

/// Stops accepting on all workers, or lets go of those who wait for nothing, as `how` says; returns when all know.
pub async fn leave(remote: &Remote, name: &ListenerName, how: Leaving) {
    for worker in 0..remote.count() {
        let name = name.clone();
        let (tell, told) = oneshot::channel();
        let job = move |front: &Rc<Front>| {
            front.door(&name).iter().for_each(|door| door.drain(how));
            // Nobody waits when the program is at its end.
            tell.send(()).unwrap_or_default();
        };
        remote.run_on(worker, Box::new(move |_| Front::here(job))).await;
        told.await.unwrap_or_default();
    }
}
