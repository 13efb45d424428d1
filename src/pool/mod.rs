//! Connections to endpoints, one worker's own: newest first, no lock. Routes, ring, retries and health are not known here.
pub mod connect;
pub mod http1;
pub mod http2;
mod room;

use crate::health::Availability;
use crate::net::stream::Stream;
use crate::ring::Slot;
use crate::snapshot::endpoint::Endpoint;
use crate::snapshot::settings;
use crate::snapshot::settings::Protocol;
use crate::worker::Worker;
use crate::worker::wheel::Deadline;
use connect::ConnectError;
use room::Room;
use std::cell::Cell;
use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Context;
use std::task::Waker;
use std::time::Duration;
use tokio::sync::Notify;

/// How often idle connections are looked through.
pub const SWEEP: Duration = Duration::from_secs(1);
/// The serial of no view.
const NEVER: u64 = 0;

/// A way to an endpoint, for one request.
#[derive(Debug)]
pub enum Connection {
    /// A connection of its own, in a box for as long as it is open.
    Http1(Box<http1::Connection>),
    /// A share of one.
    Http2(Box<http2::Lease>),
}

/// One worker's connections that may serve another request.
#[derive(Debug)]
pub struct Pool {
    worker: Rc<Worker>,
    idle: RefCell<HashMap<u64, Idle, ByUid>>,
    shared: RefCell<HashMap<u64, Hub, ByUid>>,
    sweeps: Cell<u64>,
    /// The serial of the view that was last searched for endpoints that are gone.
    known_at: Cell<u64>,
    /// Endpoints that are draining: what comes back from them is not kept.
    draining: RefCell<HashSet<u64, ByUid>>,
}

#[derive(Debug, Default)]
struct Idle {
    /// Oldest first, each with the sweep it came back before.
    connections: VecDeque<(u64, Box<http1::Connection>)>,
    max_sweeps: u64,
}

/// Shared connections to one endpoint.
#[derive(Debug, Default)]
struct Hub {
    connections: Vec<http2::Shared>,
    max_sweeps: u64,
    /// Somebody is connecting: others wait for what they get, unless the endpoint speaks HTTP/1.1, as far as is known.
    is_dialing: bool,
    is_http1: bool,
    /// Told when there may be room: a stream ended, or a connection was made or failed.
    freed: Rc<Notify>,
}

impl Pool {
    /// An empty pool.
    pub fn new(worker: Rc<Worker>) -> Self {
        Self {
            worker,
            idle: RefCell::default(),
            shared: RefCell::default(),
            sweeps: Cell::new(0),
            known_at: Cell::new(NEVER),
            draining: RefCell::default(),
        }
    }

    /// The connection to `endpoint` that came back last and is undisturbed, if there is one: had without waiting.
    pub fn checkout(&self, endpoint: &Endpoint, settings: &settings::Upstream) -> Option<Connection> {
        let is_shared = settings.protocol == Protocol::H2;
        let idle = if is_shared { None } else { self.take_idle(endpoint.uid, security(settings)) };
        idle.map(Connection::Http1)
    }

    /// A connection to `endpoint`, whatever is idle: a share of one, or a new one; with `is_fresh` one that never served a request.
    /// `deadline` is set to the time allowed for connecting; the caller sets it anew for what follows.
    pub async fn connect(
        &self,
        endpoint: &Endpoint,
        settings: &settings::Upstream,
        deadline: &Deadline,
        allowed: Duration,
        is_fresh: bool,
    ) -> Result<Connection, ConnectError> {
        let allowed = settings.connect_timeout.min(allowed);
        if settings.protocol == Protocol::H2 || (settings.protocol == Protocol::Auto && settings.tls.is_some()) {
            // In a box: requests over HTTP/1.1 should not carry its room.
            return Box::pin(self.share(endpoint, settings, deadline, allowed, is_fresh)).await;
        }
        let mut left = allowed;
        let place = match self.room(endpoint, settings, deadline, &mut left, is_fresh, None).await? {
            Room::Place(place) => place,
            Room::Idle(connection) => return Ok(Connection::Http1(connection)),
            Room::Freed => return Err(ConnectError::Full(endpoint.address.clone())),
        };
        let stream = self.dial(endpoint, settings, deadline, left).await?;
        Ok(Connection::Http1(http1::Connection::new(stream, security(settings), place)))
    }

    async fn dial(
        &self,
        endpoint: &Endpoint,
        settings: &settings::Upstream,
        deadline: &Deadline,
        allowed: Duration,
    ) -> Result<Stream, ConnectError> {
        let alpn: &[&[u8]] = match settings.protocol {
            Protocol::Auto => &[b"h2", b"http/1.1"],
            Protocol::Http1 => &[b"http/1.1"],
            Protocol::H2 => &[b"h2"],
        };
        let tls = settings.tls.as_deref().map(|tls| (tls, alpn));
        connect::connect(endpoint, tls, self.worker.index, deadline, allowed).await
    }

    /// A share of a connection to `endpoint`, or one of its own if they agree on HTTP/1.1. One request makes a connection at a
    /// time; the others wait for what it gets.
    async fn share(
        &self,
        endpoint: &Endpoint,
        settings: &settings::Upstream,
        deadline: &Deadline,
        allowed: Duration,
        is_fresh: bool,
    ) -> Result<Connection, ConnectError> {
        deadline.set(allowed);
        let (security, mut allowed) = (security(settings), allowed);
        let (dialing, place) = loop {
            let (dialing, freed) = {
                let mut shared = self.shared.borrow_mut();
                let hub = shared.entry(endpoint.uid).or_insert_with(|| self.note_newcomer());
                if let Some(lease) = hub.lease(security, is_fresh, self.sweeps.get()) {
                    return Ok(Connection::Http2(Box::new(lease)));
                }
                let is_ours = !hub.is_dialing || hub.is_http1;
                if is_ours {
                    hub.is_dialing = true;
                    hub.max_sweeps = max_sweeps(settings);
                }
                let dialing = is_ours.then(|| Dialing { pool: self, uid: endpoint.uid, freed: hub.freed.clone() });
                (dialing, hub.freed.clone())
            };
            let Some(dialing) = dialing else {
                if !http2::told(&freed, deadline).await {
                    let is_full = endpoint.places.waiting() > 0;
                    let why = if is_full { ConnectError::Full } else { ConnectError::Protocol };
                    return Err(why(endpoint.address.clone()));
                }
                continue;
            };
            match self.room(endpoint, settings, deadline, &mut allowed, is_fresh, Some(&freed)).await? {
                Room::Place(place) => break (dialing, place),
                Room::Idle(connection) => return Ok(Connection::Http1(connection)),
                Room::Freed => {}
            }
        };
        let stream = self.dial(endpoint, settings, deadline, allowed).await?;
        // In clear it is known before; on TLS both sides have to say so.
        let is_h2 = settings.tls.is_none() || stream.alpn() == Some(b"h2");
        self.shared.borrow_mut().entry(endpoint.uid).or_default().is_http1 = !is_h2;
        match (is_h2, settings.protocol) {
            (true, _) => {}
            (false, Protocol::H2) => return Err(ConnectError::Protocol(endpoint.address.clone())),
            (false, _) => return Ok(Connection::Http1(http1::Connection::new(stream, security, place))),
        }
        deadline.set(allowed);
        let started = http2::Shared::start(&self.worker, stream, security, &dialing.freed, deadline, place).await;
        let leased = started.and_then(|made| made.lease(self.sweeps.get(), false).map(|lease| (made, lease)));
        let (made, lease) = leased.ok_or_else(|| ConnectError::Protocol(endpoint.address.clone()))?;
        self.shared.borrow_mut().entry(endpoint.uid).or_default().connections.push(made);
        Ok(Connection::Http2(Box::new(lease)))
    }

    /// Keeps a connection on which nothing is under way for the next request to `endpoint`.
    pub fn put_back(&self, endpoint: &Endpoint, settings: &settings::Upstream, mut connection: Box<http1::Connection>) {
        let next = connection.next();
        let is_wanted_elsewhere = next.is_some_and(|worker| worker != self.worker.index);
        if settings.max_idle == 0 || is_wanted_elsewhere || self.draining.borrow().contains(&endpoint.uid) {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let list = idle.entry(endpoint.uid).or_insert_with(|| self.note_newcomer());
        list.max_sweeps = max_sweeps(settings);
        if list.connections.len() >= settings.max_idle {
            list.connections.pop_front();
        }
        connection.rest(&self.worker.buffers);
        list.connections.push_back((self.sweeps.get(), connection));
        if let (Some(_), Some((_, connection))) = (next, list.connections.back()) {
            connection.offer();
        }
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
        self.shared.borrow_mut().retain(|uid, hub| {
            let max_sweeps = hub.max_sweeps;
            hub.connections.retain(|connection| connection.is_open() && !connection.is_idle(now, max_sweeps));
            hub.is_dialing || !gone.contains(uid)
        });
    }

    /// Closes idle connections whose places others wait for, the oldest first. Called often.
    pub fn make_room(&self) {
        for list in self.idle.borrow_mut().values_mut() {
            let Some((_, oldest)) = list.connections.front() else { continue };
            // A request of this worker's takes what is here itself.
            if oldest.next().is_some_and(|worker| worker != self.worker.index) {
                let wanted = oldest.wanted().min(list.connections.len());
                list.connections.drain(..wanted);
            }
        }
    }

    /// A first connection may be to an endpoint that was removed since its request began: the next sweep has to look.
    fn note_newcomer<T: Default>(&self) -> T {
        self.known_at.set(NEVER);
        T::default()
    }

    /// Endpoints that have connections but are draining or not in the newest snapshot; sought only after a change, or when one has
    /// its first connection.
    fn gone(&self) -> HashSet<u64> {
        let view = self.worker.view();
        if self.known_at.replace(view.serial) == view.serial {
            return HashSet::new();
        }
        let mut known: HashSet<u64, ByUid> = HashSet::default();
        let draining = &mut *self.draining.borrow_mut();
        draining.clear();
        for upstream in &view.upstreams {
            // Nobody drains these any more, and fills still ask them.
            known.extend(upstream.past.iter().flat_map(|past| past.departed.values()).map(|departed| departed.uid));
            for (slot, endpoint) in upstream.endpoints.iter().enumerate() {
                let is_draining = upstream.mask.availability(Slot(slot as u32)) == Availability::Draining;
                if is_draining { &mut *draining } else { &mut known }.insert(endpoint.uid);
            }
        }
        let (idle, shared) = (self.idle.borrow(), self.shared.borrow());
        idle.keys().chain(shared.keys()).filter(|uid| !known.contains(uid)).copied().collect()
    }

    /// Connections made under other TLS settings are closed on the way.
    fn take_idle(&self, uid: u64, security: u64) -> Option<Box<http1::Connection>> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut idle = self.idle.borrow_mut();
        let list = idle.get_mut(&uid)?;
        while let Some((_, mut connection)) = list.connections.pop_back() {
            connection.resume();
            if connection.security() == security && !connection.is_disturbed(&mut cx) {
                return Some(connection);
            }
        }
        None
    }
}

impl Hub {
    /// A share of the first connection that has room and is secured as it should be.
    fn lease(&self, security: u64, is_fresh: bool, sweep: u64) -> Option<http2::Lease> {
        let mut fit = self.connections.iter().filter(|made| made.security == security);
        fit.find_map(|made| made.lease(sweep, is_fresh))
    }
}

/// Somebody connects to an endpoint; however that ends, those who wait are told.
struct Dialing<'a> {
    pool: &'a Pool,
    uid: u64,
    freed: Rc<Notify>,
}

impl Drop for Dialing<'_> {
    fn drop(&mut self) {
        if let Some(hub) = self.pool.shared.borrow_mut().get_mut(&self.uid) {
            hub.is_dialing = false;
        }
        self.freed.notify_waiters();
    }
}

fn max_sweeps(settings: &settings::Upstream) -> u64 {
    (settings.idle_timeout.as_secs_f64() / SWEEP.as_secs_f64()).ceil() as u64
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
