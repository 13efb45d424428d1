//! One fetch for many askers: who asks for what is on its way already waits for that answer, and gets it as it
//! comes. Whatever goes wrong for one, the others go on; whoever waits too long asks for itself.
//!
//! What is asked for is `identity`'s, which answers are for all `judge`'s, the exchange `pilot`'s, what came of it `flight`'s, and
//! which proxy of a fleet is the one to ask `turn`'s.
mod answered;
pub mod flight;
mod identity;
mod judge;
mod memo;
mod pilot;
pub mod table;
mod turn;

use crate::base::clock;
use crate::head::Head;
use crate::head::Method;
use crate::http1::framing::BodyLength;
use crate::proxy::Answer;
use crate::proxy::Proxy;
use crate::proxy::body::Downstream;
use crate::proxy::body::RequestBody;
use crate::proxy::context::RequestContext;
use crate::proxy::error::Kind;
use crate::proxy::error::ProxyError;
use crate::route::action::Forward;
use crate::route::coalesce::Coalesce;
use crate::route::coalesce::OnLoss;
use crate::snapshot::upstream::Upstream;
use crate::telemetry::labels::Coalesced;
use crate::wire::body::BodyError;
use crate::wire::body::Step;
use answered::Answered;
use bytes::BytesMut;
use flight::Flight;
use flight::News;
use flight::Seat;
use identity::Identity;
use judge::Verdict;
use pilot::Order;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;
use table::Counter;
use table::Flights;
use table::Joined;

/// Flights that one asker waits for, one after the other, before it asks for itself.
const MAX_ROUNDS: u32 = 4;
/// Failures of others' exchanges before it does.
const MAX_FAILURES: u32 = 2;

/// Whether a request has to do with others that ask for the same: its route coalesces, or it may change what others wait for.
pub fn concerns(ctx: &RequestContext, forward: &Forward) -> bool {
    forward.coalesce.is_some() || (ctx.view.routes.coalesces() && may_change(ctx.head().method()))
}

/// Gets a request its answer: another's, or one of its own.
pub(super) async fn answer<D: Downstream>(
    proxy: &Rc<Proxy>,
    ctx: &mut RequestContext,
    forward: &Forward,
    upstream: &Upstream,
    body: Box<RequestBody<D>>,
) -> Result<Answer<D>, ProxyError> {
    let change = may_change(ctx.head().method()).then(|| Change::new(&proxy.flights, ctx.head()));
    if let Some(coalesce) = &forward.coalesce
        && let Some(share) = share(proxy, ctx, forward, coalesce, identity::has_body(body.length())).await?
    {
        return Ok(Answer::Shared(share));
    }
    let answered = proxy.ask(ctx, forward, upstream, body).await;
    if let (Some(change), Ok((answer, _))) = (change, &answered) {
        change.settle(answer.head.status());
    }
    answered.map(Answer::OfEndpoint)
}

/// A place in the answer of a flight; `None` when the request has to be answered for itself.
async fn share(
    proxy: &Rc<Proxy>,
    ctx: &mut RequestContext,
    forward: &Forward,
    coalesce: &Coalesce,
    has_body: bool,
) -> Result<Option<Box<Share>>, ProxyError> {
    let request = &ctx.request;
    // Who has a turn of its own is told apart by it.
    let is_apart = request.upgrade.is_some() || ctx.held.is_some();
    if is_apart || coalesce.hindrance(&request.head, &request.edits, has_body).is_some() {
        if matches!(request.head.method(), Method::Get | Method::Head) {
            note(proxy, ctx, Coalesced::Bypass);
        }
        return Ok(None);
    }
    let view = ctx.view.clone();
    let mut identity = Identity::new(ctx, coalesce);
    let (flights, counter) = (&proxy.flights, proxy.flights.counter(ctx.head()));
    let memo = flights.hash(identity.base());
    let deadline = proxy.worker.wheel.deadline();
    let give_up = clock::now() + forward.timeout / 2;
    let mut failures = 0;
    for round in 0..MAX_ROUNDS {
        let (is_missed, names) = flights.memos.look(memo, clock::now());
        if is_missed {
            note(proxy, ctx, Coalesced::HitForMiss);
            return Ok(None);
        }
        if is_refused(ctx, coalesce) {
            return Err(refused(proxy, ctx));
        }
        identity.vary_by(names.as_ref(), &ctx.request);
        let mut seat = match flights.join(identity.bytes(), counter, coalesce.max_body) {
            Joined::Later(seat) => seat,
            Joined::First(seat) => {
                let asked = flights.hash(identity.bytes());
                let is_cached = is_cached(proxy, ctx, asked, seat.flight().generation);
                let order =
                    Order { flight: seat.flight().clone(), identity: identity.bytes().into(), memo, asked, is_cached };
                pilot::launch(proxy, ctx, coalesce, order);
                return lead(proxy, ctx, seat).await.map(Some);
            }
            Joined::Full => {
                note(proxy, ctx, Coalesced::Full);
                return Ok(None);
            }
        };
        ctx.has_waited = true;
        if round == 0 {
            // Whoever waited in vain still has time to ask.
            deadline.set(coalesce.wait.min(forward.timeout / 2));
        }
        let waiting = view.route_stats_of(ctx.route).of(proxy.worker.index).waiting.count();
        let heard = poll_fn(|cx| {
            loop {
                match seat.poll_news(cx) {
                    Poll::Ready(news) => return Poll::Ready(Some(news)),
                    Poll::Pending if !deadline.poll_expired(cx) => return Poll::Pending,
                    Poll::Pending => {}
                }
                // Where proxies wait for each other, the time is that of the endpoint which is asked after that.
                let left = coalesce.stored.as_ref().map_or(Duration::ZERO, |_| seat.flight().patience(coalesce.wait));
                let left = left.min(give_up.saturating_duration_since(clock::now()));
                if left.is_zero() {
                    return Poll::Ready(None);
                }
                deadline.set(left);
            }
        });
        let heard = heard.await;
        drop(waiting);
        match heard {
            None => {
                note(proxy, ctx, Coalesced::Timeout);
                return Ok(None);
            }
            Some(News::Answered(answered)) if !seat.is_broken() => match &answered.verdict {
                Verdict::Shared(names) if is_for(ctx, names, &answered.values) => {
                    note(proxy, ctx, Coalesced::Local);
                    remember(ctx, &answered, false);
                    return Ok(Some(Share::new(seat, answered)));
                }
                // By now it is known what the answer depends on: others may ask for the same as this one.
                Verdict::Shared(_) => continue,
                Verdict::Own => break,
                Verdict::Failed => failures += 1,
            },
            Some(News::Refused) => return Err(refused(proxy, ctx)),
            Some(News::Answered(_) | News::Failed(_)) => failures += 1,
        }
        if failures >= MAX_FAILURES {
            note(proxy, ctx, Coalesced::Failed);
            return Ok(None);
        }
    }
    note(proxy, ctx, Coalesced::Unshared);
    Ok(None)
}

/// The answer for whoever asked first, good for others or not.
async fn lead(proxy: &Proxy, ctx: &mut RequestContext, mut seat: Seat) -> Result<Box<Share>, ProxyError> {
    let leading = Leading { proxy, ctx, flight: seat.flight().clone() };
    match poll_fn(|cx| seat.poll_news(cx)).await {
        News::Answered(answered) => {
            remember(leading.ctx, &answered, true);
            Ok(Share::new(seat, answered))
        }
        News::Failed(error) => Err(error.unwrap_or_else(|| ProxyError::new(Kind::Internal))),
        News::Refused => Err(ProxyError::new(Kind::LockStoreLost)),
    }
}

/// The one who asked first: what it is counted as is known when it has an answer, or leaves.
struct Leading<'a> {
    proxy: &'a Proxy,
    ctx: &'a mut RequestContext,
    flight: Arc<Flight>,
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        note(self.proxy, self.ctx, self.flight.role());
    }
}

/// Whether a cache has the answer, as it said when it gave it last, and the request takes what a cache has.
fn is_cached(proxy: &Proxy, ctx: &RequestContext, asked: u64, generation: u64) -> bool {
    let takes_any = |name: &[u8]| ctx.head().all_named(name).next().is_none();
    let takes_any = takes_any(b"cache-control") && takes_any(b"pragma");
    takes_any && proxy.flights.memos.is_cached(asked, generation, clock::now())
}

/// Whether nobody is asked: the store that elects who asks is lost, and the route would rather refuse.
fn is_refused(ctx: &RequestContext, coalesce: &Coalesce) -> bool {
    let refuses = coalesce.stored.as_ref().is_some_and(|stored| stored.on_loss == OnLoss::Refuse);
    refuses && ctx.route.and_then(|route| ctx.view.shared_of(route)).is_some_and(|serial| serial.service.is_lost())
}

fn refused(proxy: &Proxy, ctx: &mut RequestContext) -> ProxyError {
    note(proxy, ctx, Coalesced::Refused);
    ProxyError::new(Kind::LockStoreLost)
}

/// Whether an answer that depends on these fields is good for a request: it has the values of the one it was asked for.
fn is_for(ctx: &RequestContext, names: &identity::Names, values: &[u8]) -> bool {
    let mut own = Vec::new();
    names.iter().for_each(|name| identity::write_values(name, &ctx.request, &mut own));
    own == values
}

fn note(proxy: &Proxy, ctx: &mut RequestContext, role: Coalesced) {
    ctx.coalesced = Some(role);
    ctx.view.route_stats_of(ctx.route).of(proxy.worker.index).coalesced[role as usize].add(1);
}

/// Takes over who gave the answer, and what it took if the request was the one it was asked for.
fn remember(ctx: &mut RequestContext, answered: &Answered, is_first: bool) {
    let by = &answered.by;
    let is_same =
        |upstream: &Arc<Upstream>| upstream.endpoints.get(by.slot.0 as usize).is_some_and(|it| it.uid == by.uid);
    // Another view may have another endpoint in that place.
    if is_same(ctx.upstream()) {
        (ctx.slot, ctx.position) = (Some(by.slot), by.position);
    }
    if is_first {
        (ctx.attempts, ctx.upstream_time) = (by.attempts, by.upstream_time);
    }
}

/// Whether a method may change what others ask for (RFC 9110 section 9.2.1), or asks for it to be forgotten, as PURGE does.
fn may_change(method: Method) -> bool {
    !matches!(method, Method::Get | Method::Head | Method::Options | Method::Trace)
}

/// Notes that what others ask for may have changed; also when nobody learns what came of it.
struct Change<'a> {
    flights: &'a Flights,
    counter: Counter,
    is_purge: bool,
    has_failed: bool,
}

impl<'a> Change<'a> {
    fn new(flights: &'a Flights, head: &Head) -> Self {
        let is_purge = head.method_text() == b"PURGE";
        Self { flights, counter: flights.counter(head), is_purge, has_failed: false }
    }

    /// An endpoint that refused has changed nothing; a cache that had nothing to forget says so by an error, too.
    fn settle(mut self, status: u16) {
        self.has_failed = status >= 400 && !self.is_purge;
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        if !self.has_failed {
            self.flights.change(self.counter);
        }
    }
}

/// One asker's part of an answer that others get, too.
#[derive(Debug)]
pub struct Share {
    seat: Seat,
    answered: Arc<Answered>,
    has_trailers: bool,
}

impl Share {
    fn new(seat: Seat, answered: Arc<Answered>) -> Box<Self> {
        Box::new(Self { seat, answered, has_trailers: true })
    }

    /// The answer's head, as it came from the endpoint.
    pub fn head(&self) -> &Head {
        &self.answered.head
    }

    /// How its body is framed.
    pub fn length(&self) -> BodyLength {
        self.answered.length
    }

    /// Appends the next piece of the body to `out`.
    pub fn poll_data(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<Result<Step, BodyError>> {
        let piece = ready!(self.seat.poll_piece(cx))?;
        Poll::Ready(Ok(piece.map_or(Step::End, |piece| {
            out.extend_from_slice(&piece);
            Step::Data(piece.len())
        })))
    }

    /// Whether nothing more comes, no trailers either.
    pub fn is_over(&self) -> bool {
        self.seat.is_over(|trailers| trailers.is_none() || !self.has_trailers).unwrap_or(false)
    }

    /// The trailers, once the body is over.
    pub fn take_trailers(&mut self) -> Option<Box<Head>> {
        let had_trailers = std::mem::replace(&mut self.has_trailers, false);
        self.seat.is_over(|trailers| trailers.filter(|_| had_trailers).map(|trailers| Box::new(trailers.clone())))?
    }

    /// Whether the answer went on without this asker, which took it too slowly.
    pub fn is_cut(&self) -> bool {
        self.seat.is_cut()
    }
}
