//! Connections to endpoints, one worker's own: newest first, no lock. Routes, ring, retries and health are not known here.
pub mod connect;
pub mod http1;

use crate::health::Availability;
use crate::ring::Slot;
use crate::snapshot::endpoint::Endpoint;
use crate::snapshot::settings;
use crate::worker::Worker;
use crate::worker::wheel::Deadline;
use connect::ConnectError;
use http1::Connection;
use std::cell::Cell;
use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Context;
use std::task::Waker;
use std::time::Duration;

/// How often idle connections are looked through.
pub const SWEEP: Duration = Duration::from_secs(1);

/// What is offered to endpoints by ALPN.
const ALPN: &[&[u8]] = &[b"http/1.1"];

/// One worker's idle connections.
#[derive(Debug)]
pub struct Pool {
    worker: Rc<Worker>,
    idle: RefCell<HashMap<u64, Idle, ByUid>>,
    sweeps: Cell<u64>,
    known_at: Cell<u64>,
    /// Endpoints that are draining: what comes back from them is not kept.
    draining: RefCell<HashSet<u64, ByUid>>,
}

#[derive(Debug, Default)]
struct Idle {
    /// Oldest first, each with the sweep it came back before.
    connections: VecDeque<(u64, Connection)>,
    max_sweeps: u64,
}

impl Pool {
    /// An empty pool.
    pub fn new(worker: Rc<Worker>) -> Self {
        Self {
            worker,
            idle: RefCell::default(),
            sweeps: Cell::new(0),
            known_at: Cell::new(0),
            draining: RefCell::default(),
        }
    }

    /// A connection to `endpoint`: the one that came back last and is undisturbed, else a new one. `deadline` is set to the
    /// time allowed for connecting; the caller sets it anew for what follows.
    pub async fn checkout(
        &self,
        endpoint: &Endpoint,
        settings: &settings::Upstream,
        deadline: &Deadline,
        allowed: Duration,
    ) -> Result<Connection, ConnectError> {
        if let Some(connection) = self.take_idle(endpoint.uid, security(settings)) {
            return Ok(connection);
        }
        self.connect(endpoint, settings, deadline, allowed).await
    }

    /// A new connection to `endpoint`, whatever is idle.
    pub async fn connect(
        &self,
        endpoint: &Endpoint,
        settings: &settings::Upstream,
        deadline: &Deadline,
        allowed: Duration,
    ) -> Result<Connection, ConnectError> {
        let allowed = settings.connect_timeout.min(allowed);
        let tls = settings.tls.as_deref().map(|tls| (tls, ALPN));
        let stream = connect::connect(endpoint, tls, self.worker.index, deadline, allowed).await?;
        Ok(Connection::new(stream, security(settings)))
    }

    /// Keeps a connection on which nothing is under way for the next request to `endpoint`.
    pub fn put_back(&self, endpoint: &Endpoint, settings: &settings::Upstream, mut connection: Connection) {
        if settings.max_idle == 0 || self.draining.borrow().contains(&endpoint.uid) {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let list = idle.entry(endpoint.uid).or_default();
        list.max_sweeps = (settings.idle_timeout.as_secs_f64() / SWEEP.as_secs_f64()).ceil() as u64;
        if list.connections.len() >= settings.max_idle {
            list.connections.pop_front();
        }
        connection.rest(&self.worker.buffers);
        list.connections.push_back((self.sweeps.get(), connection));
    }

    /// Closes connections that were idle too long, and all to endpoints that are draining or no longer there. Called each [`SWEEP`].
    pub fn sweep(&self) {
        let now = self.sweeps.get() + 1;
        self.sweeps.set(now);
        let gone = self.gone();
        let mut cx = Context::from_waker(Waker::noop());
        self.idle.borrow_mut().retain(|uid, list| {
            let max_sweeps = list.max_sweeps;
            list.connections
                .retain_mut(|(since, connection)| now - *since <= max_sweeps && !connection.is_disturbed(&mut cx));
            !gone.contains(uid) && !list.connections.is_empty()
        });
    }

    /// Endpoints that have idle connections but are draining or not in the newest snapshot; sought only after a change.
    fn gone(&self) -> HashSet<u64> {
        let view = self.worker.view();
        if self.known_at.replace(view.serial) == view.serial {
            return HashSet::new();
        }
        let mut known: HashSet<u64, ByUid> = HashSet::default();
        let draining = &mut *self.draining.borrow_mut();
        draining.clear();
        for upstream in &view.upstreams {
            for (slot, endpoint) in upstream.endpoints.iter().enumerate() {
                let is_draining = upstream.mask.availability(Slot(slot as u32)) == Availability::Draining;
                if is_draining { &mut *draining } else { &mut known }.insert(endpoint.uid);
            }
        }
        self.idle.borrow().keys().filter(|uid| !known.contains(uid)).copied().collect()
    }

    /// Connections made under other TLS settings are closed on the way.
    fn take_idle(&self, uid: u64, security: u64) -> Option<Connection> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut idle = self.idle.borrow_mut();
        let list = idle.get_mut(&uid)?;
        while let Some((_, mut connection)) = list.connections.pop_back() {
            if connection.security() == security && !connection.is_disturbed(&mut cx) {
                return Some(connection);
            }
        }
        None
    }
}

/// What secures new connections of an upstream: 0 is in clear.
fn security(settings: &settings::Upstream) -> u64 {
    settings.tls.as_ref().map_or(0, |tls| tls.id())
}

/// Uids are small numbers in order: they need no hashing.
#[derive(Debug, Default, Clone)]
pub struct ByUid;

impl std::hash::BuildHasher for ByUid {
    type Hasher = UidHasher;
    fn build_hasher(&self) -> UidHasher {
        UidHasher(0)
    }
}

/// Spreads a uid over a hash table.
#[derive(Debug)]
pub struct UidHasher(u64);

impl std::hash::Hasher for UidHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }
    fn write_u64(&mut self, uid: u64) {
        self.0 = (self.0 ^ uid).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
    fn finish(&self) -> u64 {
        self.0
    }
}
