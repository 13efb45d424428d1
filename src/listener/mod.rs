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
use crate::net::stream::Loose;
use crate::net::stream::Socket;
use crate::proxy::Proxy;
use crate::snapshot::stats;
use crate::telemetry::cells::Gauge;
use crate::telemetry::cells::PerWorker;
use crate::worker::Remote;
use crate::worker::Worker;
use door::Door;
use door::Plan;
use settings::Settings;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use thiserror::Error;

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

/// One worker's doors.
#[derive(Debug)]
pub struct Front {
    worker: Rc<Worker>,
    proxy: Rc<Proxy>,
    remote: Remote,
    loads: Arc<PerWorker<Gauge>>,
    doors: RefCell<HashMap<ListenerName, Rc<Door>>>,
}

thread_local! {
    static HERE: RefCell<Option<Rc<Front>>> = const { RefCell::new(None) };
}

impl Front {
    /// Sets this worker's front up; called once on its thread.
    pub fn install(worker: Rc<Worker>, proxy: Rc<Proxy>, remote: Remote, loads: Arc<PerWorker<Gauge>>) {
        let front = Front { worker, proxy, remote, loads, doors: RefCell::default() };
        HERE.with_borrow_mut(|here| *here = Some(Rc::new(front)));
    }

    fn here(act: impl FnOnce(&Rc<Front>)) {
        if let Some(front) = HERE.with_borrow(Clone::clone) {
            act(&front);
        }
    }

    fn open(self: &Rc<Self>, plan: Plan, socket: Bound) {
        let door = Rc::new(Door::new(self.worker.clone(), self.proxy.clone(), plan));
        match Acceptor::adopt(socket) {
            Ok(acceptor) => {
                self.doors.borrow_mut().insert(door.name.clone(), door.clone());
                drop(tokio::task::spawn_local(accept::run(self.clone(), door, acceptor)));
            }
            Err(error) => tracing::error!(%error, listener = %door.name, "A listener could not be started."),
        }
    }

    fn close(&self, name: &ListenerName) {
        if let Some(door) = self.doors.borrow_mut().remove(name) {
            door.drain();
        }
    }

    fn adopt(self: &Rc<Self>, name: &ListenerName, stream: Loose, peer: SocketAddr) {
        let door = self.doors.borrow().get(name).cloned();
        // Without a door the listener was just closed: the client sees a reset, as if it had come a moment later.
        if let (Some(door), Ok(stream)) = (door, Socket::adopt(stream)) {
            connection::start(self, &door, stream, peer);
        }
    }

    fn emptier_worker(&self) -> Option<usize> {
        let loads: smallvec::SmallVec<[u64; 16]> = self.loads.iter().map(Gauge::get).collect();
        accept::emptiest(&loads, self.worker.index)
    }
}

/// A listener whose address is ours if it is a new one. Nobody is served by it yet.
pub struct Prepared {
    settings: Arc<Settings>,
    sockets: Vec<Bound>,
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

    fn plan(&self, stats: Arc<stats::Listener>) -> Plan {
        let tls = self.settings.tls.as_ref().map(|tls| tls.acceptor());
        Plan { settings: self.settings.clone(), tls, stats, addresses: Arc::default() }
    }
}

/// Gets ready what new settings need. With `workers` the address is taken for so many of them; without, the listener is there
/// already. Changes nothing for anybody yet.
pub fn prepare(settings: &Settings, workers: Option<usize>) -> Result<Prepared, OpenError> {
    let address = || settings.address.clone();
    let sockets = match workers {
        None => Vec::new(),
        Some(workers) => socket::listen(&settings.address, settings.mode, workers)
            .map_err(|source| OpenError::Bind { address: address(), source })?,
    };
    Ok(Prepared { settings: Arc::new(settings.clone()), sockets })
}

/// Starts accepting on all workers.
pub async fn start(remote: &Remote, prepared: Prepared, stats: Arc<stats::Listener>) {
    let plan = prepared.plan(stats);
    for (worker, socket) in prepared.sockets.into_iter().enumerate() {
        let plan = plan.clone();
        remote.run_on(worker, Box::new(move |_| Front::here(|front| front.open(plan, socket)))).await;
    }
}

/// Gives a listener that goes on its new settings.
pub async fn replace(remote: &Remote, prepared: &Prepared, stats: Arc<stats::Listener>) {
    for worker in 0..remote.count() {
        let plan = prepared.plan(stats.clone());
        let job = move |front: &Rc<Front>| {
            let door = front.doors.borrow().get(&plan.settings.name).cloned();
            if let Some(door) = door {
                door.replace(plan);
            }
        };
        remote.run_on(worker, Box::new(move |_| Front::here(job))).await;
    }
}

/// Stops accepting on all workers; connections end with their request.
pub async fn stop(remote: &Remote, name: &ListenerName) {
    for worker in 0..remote.count() {
        let name = name.clone();
        remote.run_on(worker, Box::new(move |_| Front::here(|front| front.close(&name)))).await;
    }
}
