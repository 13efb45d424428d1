//! Which candidate next, under the retry policy, the budget and one overall deadline. Bytes are `forward`'s.
use crate::base::clock;
use crate::http1::refusal::RefusalKind;
use crate::key::HashKey;
use crate::net::certs;
use crate::pool::connect::ConnectError;
use crate::proxy::Proxy;
use crate::proxy::admission;
use crate::proxy::body::Downstream;
use crate::proxy::body::RequestBody;
use crate::proxy::context::RequestContext;
use crate::proxy::error::Kind;
use crate::proxy::error::ProxyError;
use crate::proxy::exchange;
use crate::proxy::exchange::Exchange;
use crate::proxy::forward::Allowed;
use crate::proxy::forward::ExchangeError;
use crate::proxy::spread;
use crate::retry::Failure;
use crate::retry::Verdict;
use crate::ring::Slot;
use crate::ring::bounded::Bounded;
use crate::route::action::Forward;
use crate::snapshot::endpoint::Endpoint;
use crate::snapshot::upstream::Upstream;
use crate::telemetry::labels::ErrorReason;
use crate::telemetry::labels::Position;
use crate::telemetry::labels::RetryReason;
use crate::telemetry::logging::Throttle;
use crate::worker::buffers::Draft;
use std::io;
use std::time::Duration;

/// A response's head, and the exchange its body comes from.
pub type Answer<D> = (Box<Draft>, Exchange<D>);

/// One attempt whose outcome may call for another.
pub(super) struct Failed<D> {
    failure: Failure,
    error: ProxyError,
    /// Bytes of the request that were written.
    sent: u64,
    rest: Rest<D>,
}

/// What is left of a failed attempt.
enum Rest<D> {
    /// The request's body, for another attempt.
    Body(Box<RequestBody<D>>),
    /// An answer with a status that may be tried again; it is passed on when no attempt follows.
    Answer(Answer<D>),
}

/// Asks one candidate after the other until one answers, nobody is left, or the policy says stop.
pub async fn run<D: Downstream>(
    proxy: &Proxy,
    ctx: &mut RequestContext,
    forward: &Forward,
    upstream: &Upstream,
    mut body: Box<RequestBody<D>>,
) -> Result<Answer<D>, ProxyError> {
    let stats = upstream.stats.of(proxy.worker.index);
    stats.requests.add(1);
    if let Some(extracted) = &ctx.key {
        stats.sample.note(extracted.key.0, upstream.key_kind, ctx.started);
    }
    if upstream.is_lost {
        return Err(ProxyError::new(Kind::StoreLost));
    }
    let reach = upstream.settings.failover.map_or(usize::MAX, |further| further.saturating_add(1));
    let walk = upstream.candidates(start(proxy, ctx, upstream).0, ctx.started).take(reach).enumerate();
    let walk = walk.filter(|(_, slot)| upstream.mask.is_open(*slot));
    let hot = spread::of(proxy, ctx, upstream, reach);
    let lead = hot.and_then(|hot| hot.lead);
    let walk = lead.into_iter().chain(walk.filter(|candidate| Some(*candidate) != lead));
    let mut walk = Bounded::new(walk, |(_, slot)| upstream.is_over(slot, hot.is_some()));
    let (mut rank, mut slot) = walk.next().ok_or_else(|| ProxyError::new(Kind::NoEndpoint))?;
    let (mut is_fresh, mut retries) = (false, 0);
    loop {
        // Asking the same endpoint once more on a fresh connection is no further attempt.
        if !is_fresh {
            let position = match (ctx.attempts, rank) {
                (0, _) if lead.is_some_and(|(_, lead)| lead == slot) => Position::HotReplica,
                (0, 0) => Position::Owner,
                (0, _) if walk.has_passed() => Position::Overflow,
                (0, _) => Position::Successor,
                _ => Position::Retry,
            };
            enter(proxy, ctx, forward, upstream, slot, position).await?;
        }
        let failed = match once(proxy, ctx, forward, upstream, slot, is_fresh, body).await {
            Ok(answer) if !forward.retry.on.includes_status(answer.0.head.status()) => return Ok(commit(answer)),
            Ok(answer) => Failed::by_status(answer),
            Err(failed) => failed,
        };
        let method = ctx.head().method();
        let verdict = forward.retry.verdict(method, failed.sent, failed.failure, failed.can_replay(), retries);
        let pauses = verdict == Verdict::Next { spends_budget: true } && !forward.retry.backoff.is_zero();
        match verdict {
            Verdict::GiveUp => return failed.give_up(),
            Verdict::SameEndpoint => is_fresh = true,
            Verdict::Next { spends_budget } => {
                let Some(next) = walk.next() else { return failed.give_up() };
                if spends_budget && !may_retry(proxy, forward, upstream) {
                    return failed.give_up();
                }
                count_retry(proxy, upstream, failed.failure);
                retries += u32::from(spends_budget);
                (rank, slot) = next;
                is_fresh = false;
            }
        }
        tracing::debug!(upstream = %upstream.name, error = %failed.error, "An attempt failed and another follows.");
        body = failed.into_body();
        body.rewind();
        if pauses {
            ctx.leave(proxy.worker.index);
            // A client that leaves meanwhile drops all of this.
            tokio::time::sleep(forward.retry.pause(retries, proxy.worker.random())).await;
        }
    }
}

/// Begins an attempt at the endpoint of `slot` once it has a place for it.
async fn enter(
    proxy: &Proxy,
    ctx: &mut RequestContext,
    forward: &Forward,
    upstream: &Upstream,
    slot: Slot,
    position: Position,
) -> Result<(), ProxyError> {
    // What the attempt before had is given back first: two requests that each hold one place and want another would wait.
    ctx.leave(proxy.worker.index);
    ctx.slot = Some(slot);
    let left = || forward.timeout.saturating_sub(ctx.started.elapsed());
    if !admission::enter(proxy, upstream, upstream.endpoint(slot), left).await {
        return Err(ProxyError::new(Kind::Overloaded));
    }
    ctx.enter(proxy.worker.index, slot, position);
    Ok(())
}

impl<D: Downstream> Failed<D> {
    fn by_status(answer: Answer<D>) -> Box<Self> {
        let failure = Failure::Status(answer.0.head.status());
        // The error is never shown: without another attempt the answer itself is passed on.
        let error = ProxyError::new(Kind::UpstreamReset);
        Box::new(Self { failure, error, sent: u64::MAX, rest: Rest::Answer(answer) })
    }

    fn can_replay(&self) -> bool {
        match &self.rest {
            Rest::Body(body) => body.can_replay(),
            Rest::Answer(answer) => answer.1.can_replay(),
        }
    }

    fn give_up(self) -> Result<Answer<D>, ProxyError> {
        match self.rest {
            Rest::Body(_) => Err(self.error),
            Rest::Answer(answer) => Ok(commit(answer)),
        }
    }

    pub(super) fn into_body(self) -> Box<RequestBody<D>> {
        match self.rest {
            Rest::Body(body) => body,
            Rest::Answer(answer) => answer.1.into_request(),
        }
    }
}

/// No attempt follows: what was kept of the request's body is forgotten.
pub(super) fn commit<D: Downstream>(mut answer: Answer<D>) -> Answer<D> {
    answer.1.commit();
    answer
}

fn may_retry(proxy: &Proxy, forward: &Forward, upstream: &Upstream) -> bool {
    let requests = upstream.stats.sum(|cell| cell.requests.get());
    let is_allowed = upstream.budget.try_spend(forward.retry.budget, requests, clock::now());
    if !is_allowed {
        upstream.stats.of(proxy.worker.index).budget_exhausted.add(1);
    }
    is_allowed
}

fn count_retry(proxy: &Proxy, upstream: &Upstream, failure: Failure) {
    let reason = match failure {
        Failure::Connect => RetryReason::Connect,
        Failure::Timeout => RetryReason::Timeout,
        Failure::Status(502) => RetryReason::Status502,
        Failure::Status(503) => RetryReason::Status503,
        Failure::Status(_) => RetryReason::Status504,
        Failure::Reset | Failure::StaleConnection | Failure::BadResponse | Failure::Client | Failure::Full => {
            RetryReason::Reset
        }
    };
    upstream.stats.of(proxy.worker.index).retries[reason as usize].add(1);
}

/// The hash the walk starts from: the key's, or for a request without one the better of two at random.
fn start(proxy: &Proxy, ctx: &RequestContext, upstream: &Upstream) -> HashKey {
    if let Some(extracted) = &ctx.key {
        return extracted.key;
    }
    let choices = [HashKey(proxy.worker.random()), HashKey(proxy.worker.random())];
    let load = |key: &HashKey| {
        let first = upstream.candidates(key.0, ctx.started).find(|slot| upstream.mask.is_open(*slot));
        first.map_or(u64::MAX, |slot| upstream.endpoint(slot).in_flight())
    };
    choices.into_iter().min_by_key(load).expect("two choices are not none")
}

async fn once<D: Downstream>(
    proxy: &Proxy,
    ctx: &mut RequestContext,
    forward: &Forward,
    upstream: &Upstream,
    slot: Slot,
    is_fresh: bool,
    body: Box<RequestBody<D>>,
) -> Result<Answer<D>, Box<Failed<D>>> {
    let endpoint = upstream.endpoint(slot);
    // Nothing was waited for before a first attempt, unless for a place or a turn: the clock need not be read again.
    let has_waited = ctx.has_waited || ctx.attempts > 1 || is_fresh || upstream.settings.max_requests.is_some();
    let mut asked = if has_waited { clock::now() } else { ctx.started };
    let remaining = if has_waited { forward.timeout.saturating_sub(asked - ctx.started) } else { forward.timeout };
    if remaining.is_zero() {
        return Err(failed(Failure::Timeout, ProxyError::new(Kind::UpstreamTimeout), 0, body));
    }
    let deadline = proxy.worker.wheel.deadline();
    deadline.tag(endpoint.uid);
    let idle = if is_fresh { None } else { proxy.pool.checkout(endpoint, &upstream.settings) };
    let connection = match idle {
        Some(connection) => connection,
        None => {
            // In a box: requests that find a connection should not carry the room it takes to make one.
            let connecting = proxy.pool.connect(endpoint, &upstream.settings, &deadline, remaining, is_fresh);
            let connected = Box::pin(connecting).await;
            asked = clock::now();
            match connected {
                Ok(connection) => connection,
                Err(error) => return Err(unconnected(proxy, upstream, endpoint, error, body)),
            }
        }
    };
    if ctx.held.as_ref().is_some_and(|held| held.is_over()) {
        return Err(failed(Failure::Client, ProxyError::new(Kind::LeaseLost), 0, body));
    }
    let allowed = Allowed {
        head: upstream.settings.response_timeout.unwrap_or(Duration::MAX).min(remaining),
        body: upstream.settings.body_timeout,
    };
    let received = &mut ctx.bytes_in;
    let exchanged =
        exchange::exchange(&proxy.worker, connection, deadline, &allowed, &ctx.request, body, received).await;
    let took = asked.elapsed();
    ctx.upstream_time = Some(took);
    match exchanged {
        Ok((response, exchange)) => {
            upstream.stats.of(proxy.worker.index).duration.observe(took);
            proxy.credit(upstream, endpoint, response.head.status());
            Ok((response, exchange))
        }
        Err(failed) => {
            let (error, sent, body) = *failed;
            Err(classify(proxy, upstream, endpoint, error, sent, body))
        }
    }
}

/// What it means that there is no connection.
pub(super) fn unconnected<D>(
    proxy: &Proxy,
    upstream: &Upstream,
    endpoint: &Endpoint,
    error: ConnectError,
    body: Box<RequestBody<D>>,
) -> Box<Failed<D>> {
    let (reason, kind) = match &error {
        ConnectError::Full(_) => {
            // The endpoint did nothing wrong: this counts, and is not held against it.
            endpoint.stats.of(proxy.worker.index).errors[ErrorReason::Overloaded as usize].add(1);
            return failed(Failure::Full, ProxyError::with(Kind::Overloaded, error), 0, body);
        }
        ConnectError::Io { .. } | ConnectError::Unresolved(_) => (ErrorReason::Connect, Kind::UpstreamConnect),
        ConnectError::Protocol(_) => (ErrorReason::Protocol, Kind::UpstreamConnect),
        ConnectError::Timeout { .. } => (ErrorReason::ConnectTimeout, Kind::UpstreamConnect),
        ConnectError::Tls { source, .. } => {
            report_tls(upstream, endpoint, source);
            (ErrorReason::Tls, Kind::UpstreamTls)
        }
    };
    proxy.blame(upstream, endpoint, Some(reason));
    failed(Failure::Connect, ProxyError::with(kind, error), 0, body)
}

/// What a failed exchange means: for the endpoint's record, for the retry policy and for the client.
pub(super) fn classify<D>(
    proxy: &Proxy,
    upstream: &Upstream,
    endpoint: &Endpoint,
    error: ExchangeError,
    sent: u64,
    body: Box<RequestBody<D>>,
) -> Box<Failed<D>> {
    let (failure, kind, reason) = match &error {
        ExchangeError::Client(cause) => (Failure::Client, Kind::of_client(cause), None),
        ExchangeError::Unsendable => (Failure::Client, Kind::Request(RefusalKind::BadRequest), None),
        // A connection that idled too long says nothing about its endpoint.
        ExchangeError::Reset { was_reused: true, had_response: false, .. } => {
            (Failure::StaleConnection, Kind::UpstreamReset, None)
        }
        // In TLS 1.3 an endpoint that does not take our certificate says so only now.
        ExchangeError::Reset { source, .. } if certs::is_tls_failure(source) => {
            report_tls(upstream, endpoint, source);
            (Failure::Reset, Kind::UpstreamTls, Some(ErrorReason::Tls))
        }
        ExchangeError::Reset { .. } => (Failure::Reset, Kind::UpstreamReset, Some(ErrorReason::Reset)),
        ExchangeError::Timeout => (Failure::Timeout, Kind::UpstreamTimeout, Some(ErrorReason::Timeout)),
        ExchangeError::BadResponse(_) => {
            (Failure::BadResponse, Kind::BadUpstreamResponse, Some(ErrorReason::BadResponse))
        }
    };
    if reason.is_some() {
        proxy.blame(upstream, endpoint, reason);
    }
    failed(failure, ProxyError::with(kind, error), sent, body)
}

/// Says why TLS fails: most often somebody has to renew a certificate or correct a setting.
fn report_tls(upstream: &Upstream, endpoint: &Endpoint, error: &io::Error) {
    static FAILURES: Throttle = Throttle::new();
    if let Some(held_back) = FAILURES.pass() {
        let (upstream, endpoint) = (&upstream.name, &endpoint.id);
        tracing::warn!(%upstream, %endpoint, %error, held_back, "TLS with an endpoint failed.");
    }
}

fn failed<D>(failure: Failure, error: ProxyError, sent: u64, body: Box<RequestBody<D>>) -> Box<Failed<D>> {
    Box::new(Failed { failure, error, sent, rest: Rest::Body(body) })
}
