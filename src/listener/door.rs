//! One listener on one worker: its settings, its count, whether it still takes connections.
use crate::base::ids::ListenerName;
use crate::listener::handshakes::Handshakes;
use crate::listener::limits::Addresses;
use crate::listener::settings::Settings;
use crate::net::stream::Socket;
use crate::proxy::Proxy;
use crate::snapshot::stats;
use crate::telemetry::labels::RefusedReason;
use crate::worker::Worker;
use ipnet::IpNet;
use std::cell::Cell;
use std::cell::Ref;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

/// What all workers' doors of one listener share.
#[derive(Clone)]
pub struct Plan {
    /// The settings, as written.
    pub settings: Arc<Settings>,
    /// The TLS side, if it speaks TLS.
    pub tls: Option<TlsAcceptor>,
    /// Its counters.
    pub stats: Arc<stats::Listener>,
    /// Its clients, where each may have so many connections only.
    pub addresses: Arc<Addresses>,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plan({})", self.settings.name)
    }
}

/// How a door's connections end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// Not yet.
    No,
    /// With their next response: whoever is told so sends nothing into a closed connection.
    WithNextResponse,
    /// With their request, and at once when they have none.
    Now,
}

/// One listener on one worker.
pub struct Door {
    /// The worker it belongs to.
    pub worker: Rc<Worker>,
    /// What handles its requests.
    pub proxy: Rc<Proxy>,
    /// Its name, which never changes.
    pub name: ListenerName,
    /// Its counters.
    pub stats: Arc<stats::Listener>,
    /// TLS handshakes under way.
    pub handshakes: Handshakes,
    plan: RefCell<Rc<Plan>>,
    trusted: RefCell<Arc<[IpNet]>>,
    leaving: Cell<Leaving>,
    /// Told when it takes no more connections.
    pub stopped: Notify,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Door({})", self.name)
    }
}

impl Door {
    /// A door that is open.
    pub fn new(worker: Rc<Worker>, proxy: Rc<Proxy>, plan: Plan) -> Self {
        let trusted = Arc::from(plan.settings.trusted_proxies.as_slice());
        Self {
            worker,
            proxy,
            name: plan.settings.name.clone(),
            stats: plan.stats.clone(),
            handshakes: Handshakes::default(),
            plan: RefCell::new(Rc::new(plan)),
            trusted: RefCell::new(trusted),
            leaving: Cell::new(Leaving::No),
            stopped: Notify::new(),
        }
    }

    /// Settings for what begins now.
    pub fn plan(&self) -> Rc<Plan> {
        self.plan.borrow().clone()
    }

    /// The settings, as written.
    pub fn settings(&self) -> Ref<'_, Settings> {
        Ref::map(self.plan.borrow(), |plan| &*plan.settings)
    }

    /// Peers whose `X-Forwarded-For` is believed.
    pub fn trusted_proxies(&self) -> Arc<[IpNet]> {
        self.trusted.borrow().clone()
    }

    /// New settings, for connections that come and requests that begin.
    pub fn replace(&self, plan: Plan) {
        // Connections that are there go on to count.
        let plan = Plan { addresses: self.plan.borrow().addresses.clone(), ..plan };
        *self.trusted.borrow_mut() = Arc::from(plan.settings.trusted_proxies.as_slice());
        *self.plan.borrow_mut() = Rc::new(plan);
    }

    /// Takes no more connections, and lets those it has end as `how` says.
    pub fn drain(&self, how: Leaving) {
        self.leaving.set(how);
        self.stopped.notify_one();
        self.worker.wheel.wake_all();
    }

    /// Whether connections should end with their request.
    pub fn is_draining(&self) -> bool {
        self.leaving.get() != Leaving::No
    }

    /// Whether connections that wait for a request should end.
    pub fn closes_idle(&self) -> bool {
        self.leaving.get() == Leaving::Now
    }

    /// Whether a connection on which nothing has come yet should end; what lies there unread would be reset with it.
    pub fn lets_go(&self, socket: &Socket) -> bool {
        self.closes_idle() && !socket.has_waiting()
    }

    /// Counts something turned away.
    pub fn refused(&self, reason: RefusedReason) {
        self.stats.of(self.worker.index).refused[reason as usize].add(1);
    }
}
