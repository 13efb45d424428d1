//! The exchange of a flight: begun by whoever asked first, on its worker, and owned by nobody who asks. It ends with its answer,
//! or when the last of those who wait has left.
use crate::base::clock;
use crate::head::Head;
use crate::head::edits::Edits;
use crate::http1::framing::BodyLength;
use crate::lock::key::LockKey;
use crate::proxy::Proxy;
use crate::proxy::attempt;
use crate::proxy::body::Downstream;
use crate::proxy::body::RequestBody;
use crate::proxy::coalesce::answered::Answered;
use crate::proxy::coalesce::answered::By;
use crate::proxy::coalesce::answered::End;
use crate::proxy::coalesce::answered::Fault;
use crate::proxy::coalesce::flight::Flight;
use crate::proxy::coalesce::flight::Leave;
use crate::proxy::coalesce::identity;
use crate::proxy::coalesce::judge;
use crate::proxy::coalesce::judge::Verdict;
use crate::proxy::coalesce::turn;
use crate::proxy::coalesce::turn::Wish;
use crate::proxy::context::RequestContext;
use crate::proxy::exchange::Exchange;
use crate::proxy::serialize::Held;
use crate::ring::Slot;
use crate::route::coalesce::Coalesce;
use crate::telemetry::labels::Coalesced;
use crate::telemetry::labels::LockUse;
use crate::wire::body::BodyError;
use crate::wire::body::Step;
use crate::worker::buffers::Draft;
use crate::worker::wheel::Deadline;
use bytes::Bytes;
use bytes::BytesMut;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;
use std::time::Instant;

/// Small pieces share blocks of this size.
const BLOCK: usize = 16 << 10;
/// One part in so many of the time that an answer takes may be lost to those who read it slowest.
const MAX_HELD: u32 = 4;

/// The client's side of an exchange that is nobody's own: no body, and nobody for interim responses.
#[derive(Debug)]
pub struct Nobody;

impl Downstream for Nobody {
    const ENDS_BY_LENGTH: bool = true;

    fn poll_data(&mut self, _: &mut Context<'_>, _: &mut BytesMut) -> Poll<Result<Step, BodyError>> {
        Poll::Ready(Ok(Step::End))
    }

    fn take_trailers(&mut self) -> Option<Box<Head>> {
        None
    }

    fn send_interim(&mut self, _: &Head, _: &Edits) {}
}

/// What an exchange is made for.
#[derive(Debug)]
pub struct Order {
    /// Those who wait.
    pub flight: Arc<Flight>,
    /// What they ask for.
    pub identity: Box<[u8]>,
    /// By what earlier answers to it are kept in mind, whatever they depend on.
    pub memo: u64,
    /// The same with the values of the fields that they depend on.
    pub asked: u64,
    /// Whether a cache has the answer: then no other proxy has to be waited for.
    pub is_cached: bool,
}

/// One exchange and who it is for.
struct Pilot {
    proxy: Rc<Proxy>,
    ctx: RequestContext,
    order: Order,
    coalesce: Coalesce,
    /// What keeps other proxies from asking for the same meanwhile.
    turn: Option<Held>,
    /// How much longer a cache has the answer, once all of it is there.
    cached_for: Option<Duration>,
}

/// Begins the exchange, as the request of `ctx` asks for it.
pub fn launch(proxy: &Rc<Proxy>, ctx: &RequestContext, coalesce: &Coalesce, order: Order) {
    let mut request = proxy.worker.buffers.take_draft();
    let Draft { head, edits, upgrade } = &mut *request;
    (*head, *edits, *upgrade) = (ctx.request.head.clone(), ctx.request.edits.clone(), None);
    let mut own =
        RequestContext::new(ctx.view.clone(), ctx.conn.clone(), request, ctx.client, ctx.id.clone(), ctx.started);
    (own.route, own.key, own.has_waited) = (ctx.route, ctx.key, ctx.has_waited);
    let pilot =
        Pilot { proxy: proxy.clone(), ctx: own, order, coalesce: coalesce.clone(), turn: None, cached_for: None };
    drop(tokio::task::spawn_local(pilot.fly()));
}

impl Pilot {
    async fn fly(mut self) {
        if !self.take_turn().await {
            return;
        }
        let Some((mut answer, mut exchange)) = self.ask().await else { return };
        let is_over = self.tell(&mut answer, &mut exchange);
        self.proxy.worker.buffers.give_draft(answer);
        if !is_over && !self.pass_on(&mut exchange).await {
            return;
        }
        if let Some(left) = self.cached_for {
            let (now, generation) = (clock::now(), self.order.flight.generation);
            self.proxy.flights.memos.cache(self.order.asked, now + left, generation, now);
        }
        // The next proxy may ask.
        self.turn = None;
        poll_fn(|cx| exchange.poll_rest_of_request(cx)).await;
        if let Some(connection) = exchange.finish() {
            let upstream = self.ctx.upstream();
            self.proxy.pool.put_back(upstream.endpoint(self.slot()), &upstream.settings, connection);
        }
    }

    /// Waits until it is this proxy that asks. `false` when nobody is to ask, or nobody is left to hear of it.
    async fn take_turn(&mut self) -> bool {
        let flight = &self.order.flight;
        let Some(stored) = self.coalesce.stored.as_ref().filter(|_| !self.order.is_cached) else {
            flight.begin(Coalesced::Filler);
            return true;
        };
        let view = self.ctx.view.clone();
        let index = self.ctx.route.expect("a flight begins on a route");
        let route = view.routes.get(index);
        let forward = route.action.forward().expect("only routes to an upstream coalesce");
        let serial = view.shared_of(index).expect("whoever builds a snapshot has one for each route with a store");
        let parts = [forward.upstream.as_str().as_bytes(), identity::common(&self.order.identity)];
        let wish = Wish {
            key: LockKey::new(LockUse::Coalesce, &parts),
            told: route.name.as_str(),
            // The endpoint, and those who wait here, need time as well.
            wait: self.coalesce.wait.min(forward.timeout / 4),
            on_loss: stored.on_loss,
        };
        let mut taking = Box::pin(turn::take(serial, self.proxy.worker.index, wish));
        let taken = poll_fn(|cx| match flight.leave(cx) {
            Leave::Deserted => Poll::Ready(None),
            _ => taking.as_mut().poll(cx).map(Some),
        });
        match taken.await {
            None => false,
            Some(Err(_)) => {
                flight.refuse();
                false
            }
            Some(Ok(turn)) => {
                flight.begin(turn.role);
                (self.turn, self.ctx.has_waited) = (turn.held, true);
                true
            }
        }
    }

    /// Waits for the answer's head; `None` when there is none, or nobody to hear of it.
    async fn ask(&mut self) -> Option<attempt::Answer<Nobody>> {
        let view = self.ctx.view.clone();
        let route = self.ctx.route.expect("a flight begins on a route");
        let forward = view.routes.get(route).action.forward().expect("only routes to an upstream coalesce");
        let upstream = self.ctx.upstream().clone();
        let body = RequestBody::new(Nobody, BodyLength::Empty, None);
        let flight = self.order.flight.clone();
        let mut asking = Box::pin(attempt::run(&self.proxy, &mut self.ctx, forward, &upstream, body));
        let asked = poll_fn(|cx| match flight.leave(cx) {
            Leave::Deserted => Poll::Ready(None),
            _ => asking.as_mut().poll(cx).map(Some),
        });
        match asked.await? {
            Ok(answer) => Some(answer),
            Err(error) => {
                flight.fail(Some(error));
                None
            }
        }
    }

    /// Tells of the answer, and keeps in mind what it says. Gives whether that was all of it.
    fn tell(&mut self, answer: &mut Draft, exchange: &mut Exchange<Nobody>) -> bool {
        let length = exchange.response_length();
        let verdict = judge::verdict(&answer.head, length, &self.coalesce);
        let (flights, now) = (&self.proxy.flights, clock::now());
        let mut values = Vec::new();
        match &verdict {
            Verdict::Shared(names) => {
                flights.memos.vary(self.order.memo, names, now);
                names.iter().for_each(|name| identity::write_values(name, &self.ctx.request, &mut values));
            }
            Verdict::Own => {
                flights.memos.miss(self.order.memo, now);
                self.order.flight.close(true);
            }
            Verdict::Failed => self.order.flight.close(true),
        }
        match &verdict {
            Verdict::Shared(_) if self.coalesce.stored.is_some() => self.cached_for = judge::cached_for(&answer.head),
            Verdict::Shared(_) => {}
            // Nor is it of any use to other proxies.
            Verdict::Own | Verdict::Failed => self.turn = None,
        }
        let slot = self.slot();
        let by = By {
            uid: self.ctx.upstream().endpoint(slot).uid,
            slot,
            position: self.ctx.position,
            attempts: self.ctx.attempts,
            upstream_time: self.ctx.upstream_time,
        };
        let head = std::mem::take(&mut answer.head);
        let is_over = exchange.is_over();
        self.order.flight.answer(Answered { head, length, verdict, values, by }, is_over.then_some(End::Whole(None)));
        is_over
    }

    fn slot(&self) -> Slot {
        self.ctx.slot.expect("an answer came from an endpoint")
    }

    /// Passes the body on as it comes. `false` when it broke off, or nobody is left to take it.
    async fn pass_on(&mut self, exchange: &mut Exchange<Nobody>) -> bool {
        let mut passing = Passing {
            piece: self.proxy.worker.buffers.take(),
            block: BytesMut::new(),
            deadline: self.proxy.worker.wheel.deadline(),
            began: clock::now(),
            held_since: None,
        };
        let is_whole = poll_fn(|cx| self.poll_pass_on(cx, exchange, &mut passing)).await;
        self.proxy.worker.buffers.give(passing.piece);
        is_whole
    }

    fn poll_pass_on(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange<Nobody>,
        passing: &mut Passing,
    ) -> Poll<bool> {
        loop {
            if !ready!(self.poll_leave(cx, passing)) {
                return Poll::Ready(false);
            }
            passing.piece.clear();
            let end = match ready!(exchange.poll_data(cx, &mut passing.piece)) {
                Ok(Step::Data(_)) if exchange.is_over() => Some(End::Whole(None)),
                Ok(Step::Data(_)) => None,
                Ok(Step::End) => Some(End::Whole(exchange.take_trailers())),
                Err(error) => {
                    self.proxy.note_broken_body(&self.ctx);
                    Some(End::Broken(Fault::from(&error)))
                }
            };
            let is_whole = end.as_ref().map(|end| matches!(end, End::Whole(_)));
            if !self.order.flight.push(passing.take_piece(), end) {
                // Too large to be shared, which was not known before: whoever is here stays, nobody else waits.
                self.proxy.flights.memos.miss(self.order.memo, clock::now());
                self.proxy.flights.remove(&self.order.identity, &self.order.flight);
                // From here on it is as slow as they are.
                self.turn = None;
            }
            if let Some(is_whole) = is_whole {
                return Poll::Ready(is_whole);
            }
        }
    }

    /// Waits until more may be asked for; ready with `false` when nobody is left. Those who are behind hold up the others for a
    /// while and a share of the time; then they are given up.
    fn poll_leave(&mut self, cx: &mut Context<'_>, passing: &mut Passing) -> Poll<bool> {
        let flight = &self.order.flight;
        loop {
            match flight.leave(cx) {
                Leave::Deserted => return Poll::Ready(false),
                Leave::GoOn => {
                    passing.end_holding(flight);
                    return Poll::Ready(true);
                }
                Leave::Full { holds_others: false } => {
                    passing.end_holding(flight);
                    return Poll::Pending;
                }
                Leave::Full { holds_others: true } => {
                    let now = clock::now();
                    let since = *passing.held_since.get_or_insert_with(|| {
                        flight.blame();
                        now
                    });
                    let allowed = self.coalesce.wait + (now - passing.began) / MAX_HELD;
                    match flight.cut(now - since, allowed) {
                        None => passing.end_holding(flight),
                        Some(left) => {
                            passing.deadline.set(left);
                            if !passing.deadline.poll_expired(cx) {
                                return Poll::Pending;
                            }
                        }
                    }
                }
            }
        }
    }
}

impl Drop for Pilot {
    fn drop(&mut self) {
        let Order { flight, identity, .. } = &self.order;
        self.proxy.flights.remove(identity, flight);
        if !flight.is_over() {
            // Nobody is left; or this is the end of a panic, and then of the exchange as well.
            flight.fail(None);
            flight.push(Bytes::new(), Some(End::Broken(Fault::Truncated)));
        }
        self.ctx.leave(self.proxy.worker.index);
        self.proxy.worker.buffers.take_back(&mut self.ctx.request);
    }
}

/// What is known while a body is passed on.
struct Passing {
    /// What came last.
    piece: BytesMut,
    /// Where small pieces are kept.
    block: BytesMut,
    deadline: Deadline,
    began: Instant,
    /// Since when others are held up by those who are behind.
    held_since: Option<Instant>,
}

impl Passing {
    /// The piece, as it is kept: small ones beside each other, so that crumbs do not each cost a buffer.
    fn take_piece(&mut self) -> Bytes {
        if self.piece.len() >= BLOCK / 2 {
            return Bytes::copy_from_slice(&self.piece);
        }
        if self.block.capacity() < self.piece.len() {
            self.block = BytesMut::with_capacity(BLOCK);
        }
        self.block.extend_from_slice(&self.piece);
        self.block.split().freeze()
    }

    fn end_holding(&mut self, flight: &Flight) {
        if let Some(since) = self.held_since.take() {
            self.deadline.clear();
            flight.excuse(since.elapsed());
        }
    }
}
