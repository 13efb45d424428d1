//! One request per key at a time: waits for its turn, tells the endpoint its fencing token, and lets go when the response has ended.
//! Where locks are kept is not known here.
use crate::base::clock;
use crate::lock::Limits;
use crate::lock::LockError;
use crate::lock::key::LockKey;
use crate::lock::lease::Lease;
use crate::proxy::Proxy;
use crate::proxy::context::RequestContext;
use crate::proxy::error::Kind;
use crate::proxy::error::ProxyError;
use crate::route::action::Forward;
use crate::route::action::OnMissingKey;
use crate::route::serialize::Serialize;
use crate::snapshot::stats;
use crate::snapshot::stats::LockCell;
use crate::telemetry::labels::LockResult;
use crate::telemetry::labels::LockUse;
use std::sync::Arc;
use std::time::Instant;

/// A lock that a request has until it is over, however it ends.
#[derive(Debug)]
pub struct Held {
    _lease: Lease,
    since: Instant,
    worker: usize,
    stats: Arc<stats::Serial>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.stats.of(self.worker).held.observe(self.since.elapsed());
    }
}

/// Waits for the turn of a request. Whoever stops waiting has left the line.
pub async fn enter(
    proxy: &Proxy,
    ctx: &mut RequestContext,
    serialize: &Serialize,
    forward: &Forward,
) -> Result<(), ProxyError> {
    let route = ctx.route.expect("a step after the route was found");
    let serial =
        ctx.view.serial_of(route).expect("whoever builds a snapshot has one for each route that takes turns").clone();
    let (key, name) = subject(proxy, ctx, serialize, forward);
    let cell = serial.stats.of(proxy.worker.index);
    let (began, waiting) = (clock::now(), Waiting::new(cell));
    let asked = serial.service.acquire(key, &name, Limits { wait: serialize.wait, queue: serialize.max_queue }).await;
    drop(waiting);
    let now = clock::now();
    cell.acquire[result_of(&asked) as usize].observe(now - began);
    let lease = asked.map_err(|error| ProxyError::with(kind_of(error), error))?;
    if let Some(token) = lease.token() {
        let edits = &mut ctx.request.edits;
        edits.add(b"Fencing-Token", token.to_string().as_bytes());
        edits.add(b"Fencing-Key", name.as_bytes());
    }
    ctx.has_waited = true;
    let (worker, stats) = (proxy.worker.index, serial.stats.clone());
    ctx.held = Some(Box::new(Held { _lease: lease, since: now, worker, stats }));
    Ok(())
}

/// What a request locks, and how that is told. All routes to an upstream lock the same things.
fn subject(proxy: &Proxy, ctx: &RequestContext, serialize: &Serialize, forward: &Forward) -> (LockKey, String) {
    let scratch = &mut *proxy.worker.scratch.borrow_mut();
    let by_client = forward.on_missing_key == OnMissingKey::ClientIp;
    let name = serialize.subject(forward.key.as_ref(), by_client, ctx.head(), &ctx.client, scratch);
    (LockKey::new(LockUse::Serialize, &[forward.upstream.as_str().as_bytes(), scratch]), name)
}

/// One who waits, as long as this lasts.
struct Waiting<'a>(&'a LockCell);

impl<'a> Waiting<'a> {
    fn new(cell: &'a LockCell) -> Self {
        cell.waiting.inc();
        Self(cell)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.dec();
    }
}

fn result_of(asked: &Result<Lease, LockError>) -> LockResult {
    match asked {
        Ok(_) => LockResult::Granted,
        Err(LockError::QueueFull) => LockResult::QueueFull,
        Err(LockError::Timeout) => LockResult::Timeout,
        Err(LockError::StoreLost) => LockResult::StoreLost,
    }
}

fn kind_of(error: LockError) -> Kind {
    match error {
        LockError::QueueFull => Kind::LockQueueFull,
        LockError::Timeout => Kind::LockTimeout,
        LockError::StoreLost => Kind::LockStoreLost,
    }
}
