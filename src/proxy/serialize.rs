//! One request per key at a time: waits for its turn, tells the endpoint its fencing token, and lets go when the response has ended.
//! Where locks are kept is not known here.
use crate::base::clock;
use crate::lock::Limits;
use crate::lock::LockError;
use crate::lock::key::LockKey;
use crate::lock::lease::Lease;
use crate::lock::term::Term;
use crate::proxy::Proxy;
use crate::proxy::attempt;
use crate::proxy::body::Downstream;
use crate::proxy::body::RequestBody;
use crate::proxy::context::RequestContext;
use crate::proxy::error::Kind;
use crate::proxy::error::ProxyError;
use crate::route::action::Forward;
use crate::route::action::OnMissingKey;
use crate::route::serialize::OnLoss;
use crate::route::serialize::Serialize;
use crate::snapshot::Serial;
use crate::snapshot::upstream::Upstream;
use crate::telemetry::labels::LockResult;
use crate::telemetry::labels::LockUse;
use std::sync::Arc;
use std::task::Context;
use std::time::Instant;

/// A lock that a request has until it is over, however it ends.
#[derive(Debug)]
pub struct Held {
    lease: Lease,
    /// Whether the request ends with it.
    aborts: bool,
    since: Instant,
    worker: usize,
    serial: Serial,
}

impl Held {
    /// A lock of a request that does not end with it.
    pub fn new(lease: Lease, worker: usize, serial: Serial) -> Self {
        Self { lease, aborts: false, since: clock::now(), worker, serial }
    }

    /// Until when it is ours, where the request ends with it.
    pub fn term(&self) -> Option<Arc<Term>> {
        self.lease.term().filter(|_| self.aborts).cloned()
    }

    /// Whether it is ours no more: no endpoint is asked then.
    pub fn is_over(&self) -> bool {
        self.lease.ended().is_some()
    }

    /// Whether the request has to end because the lock was lost; if not, the task is woken when it has to.
    pub fn poll_lost(&mut self, cx: &mut Context<'_>) -> bool {
        self.aborts && self.lease.poll_over(cx).is_ready()
    }

    /// Counts the answers by which endpoints refuse outdated tokens.
    pub fn note(&self, status: u16) {
        if matches!(status, 409 | 412) && self.lease.token().is_some() {
            self.serial.stats.of(self.worker).fenced.add(1);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let loss = self.lease.loss(self.serial.service.is_lost());
        self.serial.stats.of(self.worker).over(self.since.elapsed(), loss);
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
    let stats = serial.stats.clone();
    let cell = stats.of(proxy.worker.index);
    let (began, waiting) = (clock::now(), cell.waiting.count());
    let (asked, result) = ask(&serial, serialize, key, &name).await;
    drop(waiting);
    let now = clock::now();
    cell.acquire[result as usize].observe(now - began);
    ctx.has_waited = true;
    let Some(lease) = asked.map_err(|error| ProxyError::with(kind_of(error), error))? else { return Ok(()) };
    if let Some(token) = lease.token() {
        let edits = &mut ctx.request.edits;
        edits.add(b"Fencing-Token", token.to_string().as_bytes());
        edits.add(b"Fencing-Key", name.as_bytes());
    }
    let aborts = serialize.stored.as_ref().is_some_and(|stored| stored.aborts);
    ctx.held = Some(Box::new(Held { lease, aborts, since: now, worker: proxy.worker.index, serial }));
    Ok(())
}

/// Asks for the lock; without its store as the route wants it. No lease and no error: it goes without.
async fn ask(
    serial: &Serial,
    serialize: &Serialize,
    key: LockKey,
    name: &str,
) -> (Result<Option<Lease>, LockError>, LockResult) {
    let began = clock::now();
    let limits = Limits { wait: serialize.wait, queue: serialize.max_queue };
    let asked = match serial.service.acquire(key, name, limits).await {
        Ok(lease) => return (Ok(Some(lease)), LockResult::Granted),
        Err(LockError::StoreLost) => match serialize.stored.as_ref().map(|stored| stored.on_loss) {
            Some(OnLoss::Bypass) => return (Ok(None), LockResult::Bypass),
            Some(OnLoss::Local) => {
                let limits = Limits { wait: limits.wait.saturating_sub(began.elapsed()), ..limits };
                serial.service.acquire_here(key, limits).await
            }
            Some(OnLoss::Refuse) | None => Err(LockError::StoreLost),
        },
        Err(error) => Err(error),
    };
    match asked {
        Ok(lease) => (Ok(Some(lease)), LockResult::Local),
        Err(error) => (Err(error), error.into()),
    }
}

/// Asks endpoints as [`attempt::run`] does, for as long as the lock is ours.
pub async fn run<D: Downstream>(
    term: &Term,
    proxy: &Proxy,
    ctx: &mut RequestContext,
    forward: &Forward,
    upstream: &Upstream,
    body: Box<RequestBody<D>>,
) -> Result<attempt::Answer<D>, ProxyError> {
    tokio::select! {
        // What is lost is looked at first: a process that slept may wake up after its time.
        biased;
        _ = term.over() => Err(ProxyError::new(Kind::LeaseLost)),
        answer = attempt::run(proxy, ctx, forward, upstream, body) => answer,
    }
}

/// What a request locks, and how that is told. All routes to an upstream lock the same things.
fn subject(proxy: &Proxy, ctx: &RequestContext, serialize: &Serialize, forward: &Forward) -> (LockKey, String) {
    let scratch = &mut *proxy.worker.scratch.borrow_mut();
    let by_client = forward.on_missing_key == OnMissingKey::ClientIp;
    let name = serialize.subject(forward.key.as_ref(), by_client, ctx.head(), &ctx.client, scratch);
    (LockKey::new(LockUse::Serialize, &[forward.upstream.as_str().as_bytes(), scratch]), name)
}

fn kind_of(error: LockError) -> Kind {
    match error {
        LockError::QueueFull => Kind::LockQueueFull,
        LockError::Timeout => Kind::LockTimeout,
        LockError::StoreLost => Kind::LockStoreLost,
    }
}
