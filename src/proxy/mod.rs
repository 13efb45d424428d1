//! One request, from its head to its end. TOML, discovery, admin and accepting are not known here.
pub mod admission;
pub mod attempt;
pub mod body;
pub mod coalesce;
pub mod context;
pub mod error;
pub mod exchange;
pub mod explained;
pub mod fill;
pub mod finish;
pub mod forward;
pub mod forward_h2;
pub mod forwarded;
pub mod headers;
pub mod own;
pub mod reply;
pub mod response;
pub mod serialize;
pub mod spread;
pub mod tunnel;
pub mod upgrade;

use crate::base::clock;
use crate::head::Client;
use crate::head::Method;
use crate::http1::framing::BodyLength;
use crate::http1::refusal::RefusalKind;
use crate::key::Extracted;
use crate::pool::Pool;
use crate::route::Miss;
use crate::route::Route;
use crate::route::RouteIndex;
use crate::route::action::Action;
use crate::route::action::Forward;
use crate::route::action::OnMissingKey;
use crate::route::template::Facts;
use crate::snapshot::endpoint::Endpoint;
use crate::snapshot::upstream::Upstream;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::labels::ErrorReason;
use crate::worker::Worker;
use crate::worker::buffers::Draft;
use body::Downstream;
use body::RequestBody;
use coalesce::Share;
use coalesce::table::Flights;
use context::ConnInfo;
use context::RequestContext;
use error::Kind;
use error::ProxyError;
use finish::Finish;
use response::Response;
use std::rc::Rc;
use std::sync::Arc;

/// A request that says something else than it means.
const BAD_REQUEST: Kind = Kind::Request(RefusalKind::BadRequest);

/// What handles one worker's requests.
#[derive(Debug)]
pub struct Proxy {
    /// The worker it belongs to.
    pub worker: Rc<Worker>,
    /// The worker's connections to endpoints.
    pub pool: Pool,
    /// Where finished requests are written down, if they are.
    pub access_log: Option<AccessLog>,
    /// What is on its way for several askers, on all workers.
    pub flights: Arc<Flights>,
}

/// What a request gets.
enum Answer<D> {
    /// An endpoint's answer.
    OfEndpoint(attempt::Answer<D>),
    /// An endpoint's answer that others may get, too.
    Shared(Box<Share>),
    /// Ours, by the route.
    Own(own::Own),
}

impl Proxy {
    /// Handles one request: the ten steps of its path. (1 accept and 2 parse came before, in `listener`.)
    pub async fn handle<D: Downstream>(
        self: &Rc<Self>,
        request: Box<Draft>,
        body: Box<RequestBody<D>>,
        conn: &Rc<ConnInfo>,
    ) -> Response<D> {
        // 3 view: one for the whole request. A reload in between must not route one attempt by the old ring and the
        // next by the new. 10 observe: whatever happens from here on is recorded once, when `finish` is dropped.
        let mut finish = self.begin(request, conn);
        match self.answer(&mut finish, body).await {
            // 9 reply
            Ok(Answer::OfEndpoint(answer)) => Response::forwarded(finish, answer),
            Ok(Answer::Shared(share)) => Response::shared(finish, share),
            Ok(Answer::Own(own)) => Response::own(finish, own),
            Err(error) => Response::of_error(finish, &error),
        }
    }

    async fn answer<D: Downstream>(
        self: &Rc<Self>,
        ctx: &mut RequestContext,
        body: Box<RequestBody<D>>,
    ) -> Result<Answer<D>, ProxyError> {
        self.admit(ctx, &body)?;
        // 4 route
        let view = ctx.view.clone();
        let index = view.routes.find(&ctx.conn.listener, ctx.head()).map_err(not_routed)?;
        ctx.route = Some(index);
        let route = view.routes.get(index);
        self.permit(ctx, index, route)?;
        let forward = match &route.action {
            Action::Forward(forward) => forward,
            Action::Redirect(redirect) => return own::redirect(&self.worker, ctx, redirect).map(Answer::Own),
            Action::Respond(respond) => return Ok(Answer::Own(own::respond(&self.worker, respond))),
        };
        // 5 key
        ctx.key = self.key(ctx, forward)?;
        self.prepare(ctx, forward, body.length())?;
        let upstream = view.upstream_of(index).expect("whoever builds a snapshot finds the upstream of each forward");
        if let Some(serialize) = forward.serialize.as_deref().filter(|serialize| serialize.is_for(ctx.head())) {
            // In a box: requests that take no turns should not carry the room of waiting for one.
            Box::pin(serialize::enter(self, ctx, serialize, forward)).await?;
        }
        // A cache that fetches what it has only just come to own: whoever owned it before is asked first.
        let body = match &forward.fill {
            None => body,
            Some(fill) => match Box::pin(fill::ask(self, ctx, forward, fill, body)).await {
                Ok(answer) => return Ok(Answer::OfEndpoint(answer)),
                Err(body) => body,
            },
        };
        let upstream = view.upstream(upstream);
        if coalesce::concerns(ctx, forward) {
            // In a box: requests that have nothing to do with others should not carry the room.
            return Box::pin(coalesce::answer(self, ctx, forward, upstream, body)).await;
        }
        self.ask(ctx, forward, upstream, body).await.map(Answer::OfEndpoint)
    }

    /// 6 ring, 7 pool, 8 forward: for one candidate after the other, as long as the request has its turn if it takes one.
    async fn ask<D: Downstream>(
        &self,
        ctx: &mut RequestContext,
        forward: &Forward,
        upstream: &Upstream,
        body: Box<RequestBody<D>>,
    ) -> Result<attempt::Answer<D>, ProxyError> {
        match ctx.held.as_ref().and_then(|held| held.term()) {
            None => attempt::run(self, ctx, forward, upstream, body).await,
            Some(term) => Box::pin(serialize::run(&term, self, ctx, forward, upstream, body)).await,
        }
    }

    /// Answers a request whose head could not be accepted, so that it is counted and logged like every other.
    pub fn refuse<D: Downstream>(self: &Rc<Self>, request: Box<Draft>, kind: Kind, conn: &Rc<ConnInfo>) -> Response<D> {
        Response::of_error(self.begin(request, conn), &ProxyError::new(kind))
    }

    fn begin(self: &Rc<Self>, request: Box<Draft>, conn: &Rc<ConnInfo>) -> Finish {
        let ip = headers::client_ip(&request.head, conn.peer.ip(), &conn.trusted_proxies);
        let id = headers::request_id(&request.head, [self.worker.random(), self.worker.random()]);
        let client = Client { ip: ip.to_canonical(), secure: conn.secure };
        let ctx = RequestContext::new(self.worker.view(), conn.clone(), request, client, id, clock::now());
        Finish::new(self.clone(), ctx)
    }

    /// What is refused whatever the route: tunnels and echoes, what is for another host, bodies announced too large.
    fn admit<D: Downstream>(&self, ctx: &RequestContext, body: &RequestBody<D>) -> Result<(), ProxyError> {
        match ctx.head().method() {
            Method::Connect | Method::Trace => Err(ProxyError::new(Kind::MethodNotAllowed)),
            _ if ctx.conn.is_misdirected(ctx.head()) => Err(ProxyError::new(Kind::Misdirected)),
            _ if body.is_over_limit() => Err(ProxyError::new(Kind::TooLarge)),
            _ => Ok(()),
        }
    }

    /// What is refused by the route, before anything is done for it.
    fn permit(&self, ctx: &RequestContext, index: RouteIndex, route: &Route) -> Result<(), ProxyError> {
        if !route.access.permits(ctx.client.ip) {
            return Err(ProxyError::new(Kind::Denied));
        }
        let (Some(limit), Some(limiter)) = (&route.rate_limit, ctx.view.limiter_of(index)) else { return Ok(()) };
        let scratch = &mut *self.worker.scratch.borrow_mut();
        limit.admit(limiter, ctx.head(), &ctx.client, scratch, ctx.started).map_err(|wait| {
            ctx.view.route_stats_of(ctx.route).of(self.worker.index).rate_limited.add(1);
            // Rounded up: who waits so long is not too early again.
            ProxyError::new(Kind::RateLimited(wait.as_secs_f64().ceil() as u32))
        })
    }

    fn key(&self, ctx: &RequestContext, forward: &Forward) -> Result<Option<Extracted>, ProxyError> {
        let Some(spec) = &forward.key else { return Ok(None) };
        let scratch = &mut *self.worker.scratch.borrow_mut();
        if let Some(extracted) = spec.extract(ctx.head(), &ctx.client, scratch) {
            return Ok(Some(extracted));
        }
        ctx.view.route_stats_of(ctx.route).of(self.worker.index).key_missing.add(1);
        match forward.on_missing_key {
            OnMissingKey::Random => Ok(None),
            OnMissingKey::ClientIp => Ok(Some(spec.of_client(&ctx.client, scratch))),
            OnMissingKey::Reject => Err(ProxyError::new(Kind::KeyMissing)),
        }
    }

    /// Notes what is different for the endpoint: its target and its fields.
    fn prepare(&self, ctx: &mut RequestContext, forward: &Forward, length: BodyLength) -> Result<(), ProxyError> {
        let Draft { head, edits, .. } = &mut *ctx.request;
        if let Some(target) = forward.path.target(head).map_err(|error| ProxyError::with(BAD_REQUEST, error))? {
            edits.set_target(&target);
        }
        let asks = headers::to_endpoint(head, edits, &ctx.conn, &ctx.client, &ctx.id, forward.via);
        if !forward.request_headers.is_empty() {
            forward.request_headers.apply(head, edits, Facts { head, client: &ctx.client, id: &ctx.id });
        }
        if asks || ctx.request.upgrade.is_some() {
            let random = [self.worker.random(), self.worker.random()];
            upgrade::ask(&mut ctx.request, length, &forward.upgrade, random)?;
        }
        Ok(())
    }

    /// Records an answer: gateway errors count against the endpoint, everything else for it.
    fn credit(&self, upstream: &Upstream, endpoint: &Endpoint, status: u16) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        endpoint.stats.of(self.worker.index).classes[class].add(1);
        match status {
            502..=504 => self.blame(upstream, endpoint, None),
            _ => endpoint.live.of(self.worker.index).succeed(),
        }
    }

    /// Records a failure, and wakes `control` when this worker alone has seen enough of them.
    fn blame(&self, upstream: &Upstream, endpoint: &Endpoint, reason: Option<ErrorReason>) {
        if let Some(reason) = reason {
            endpoint.stats.of(self.worker.index).errors[reason as usize].add(1);
        }
        let streak = endpoint.live.of(self.worker.index).fail();
        if streak >= upstream.settings.outlier.consecutive_failures {
            self.worker.attention.notify_one();
        }
    }

    /// Records a response that broke off within its body, or a tunnel that did.
    fn note_broken_body(&self, ctx: &RequestContext) {
        let endpoint = ctx.endpoint().expect("a response came from an endpoint");
        self.blame(ctx.upstream(), endpoint, Some(ErrorReason::Body));
    }
}

fn not_routed(miss: Miss) -> ProxyError {
    ProxyError::new(match miss {
        Miss::NoRoute => Kind::NoRoute,
        Miss::MethodNotAllowed => Kind::MethodNotAllowed,
        Miss::AmbiguousPath => BAD_REQUEST,
    })
}
