//! A cache that fetches through Ringway what it has only just come to own: whoever owned it before is asked first, the origin after.
//! Where that leaves the caches' own loops: a request that carries our mark was asked by us, and goes on to the origin.
use crate::base::clock;
use crate::head::Head;
use crate::head::Method;
use crate::head::edits::Edits;
use crate::head::tokens;
use crate::http1::framing::BodyLength;
use crate::proxy::Proxy;
use crate::proxy::admission;
use crate::proxy::attempt;
use crate::proxy::attempt::Answer;
use crate::proxy::body::Downstream;
use crate::proxy::body::RequestBody;
use crate::proxy::context::RequestContext;
use crate::proxy::exchange;
use crate::proxy::forward::Allowed;
use crate::proxy::headers;
use crate::route::action::Fill;
use crate::route::action::Forward;
use crate::snapshot::UpstreamIndex;
use crate::snapshot::endpoint::Endpoint;
use crate::snapshot::upstream::Upstream;
use crate::telemetry::labels::FillResult;
use crate::wire::body::Step;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

/// The field that marks what we ask of a previous owner.
const MARK: &[u8] = b"Ringway-Fill";
/// Longest time to its answer unless its upstream says how long one may take: it has it at hand, or it has not.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest body of a refusal that is read so that its connection can be used again.
const MAX_REFUSAL: usize = 16 << 10;

/// What came of asking: an answer, or the request's body for the origin.
pub type Asked<D> = Result<Answer<D>, Box<RequestBody<D>>>;

/// Asks the previous owner of the request's key for what it has stored, if there is one.
pub async fn ask<D: Downstream>(
    proxy: &Proxy,
    ctx: &mut RequestContext,
    forward: &Forward,
    fill: &Fill,
    body: Box<RequestBody<D>>,
) -> Asked<D> {
    let (view, worker) = (ctx.view.clone(), proxy.worker.index);
    let Some(place) = view.upstreams.iter().position(|upstream| upstream.name == fill.upstream) else {
        return Err(body);
    };
    let caches = &view.upstreams[place];
    let count = |result: FillResult| caches.stats.of(worker).fills[result as usize].add(1);
    if ctx.head().fields().iter().any(|field| ctx.head().name_of(field).eq_ignore_ascii_case(MARK)) {
        count(FillResult::Returned);
        return Err(body);
    }
    let Some(lender) = previous(proxy, ctx, fill, caches, body.length()) else { return Err(body) };
    if !admission::enter(proxy, caches, lender, || Duration::ZERO).await {
        count(FillResult::Failed);
        return Err(body);
    }
    // Theirs is the request as it came: what the route changes is for the origin.
    let marked = marked(ctx, forward);
    let edits = std::mem::replace(&mut ctx.request.edits, marked);
    ctx.has_waited = true;
    ctx.enter_instead(worker, UpstreamIndex(place as u32), lender.clone());
    let (result, body) = match exchange(proxy, ctx, caches, lender, body).await {
        Ok(answer) if is_stored(answer.0.head.status()) => {
            count(FillResult::Hit);
            ctx.attempts = 1;
            return Ok(attempt::commit(answer));
        }
        Ok(answer) => (FillResult::Miss, refused(proxy, caches, lender, answer).await),
        Err(body) => (FillResult::Failed, body),
    };
    count(result);
    ctx.leave_instead(worker);
    ctx.request.edits = edits;
    Err(body)
}

/// Who owned the key before, when it may have what the request is for.
fn previous<'a>(
    proxy: &Proxy,
    ctx: &RequestContext,
    fill: &Fill,
    caches: &'a Upstream,
    length: BodyLength,
) -> Option<&'a Arc<Endpoint>> {
    let is_plain = matches!(ctx.head().method(), Method::Get | Method::Head) && length == BodyLength::Empty;
    if caches.past.is_none() || !is_plain || ctx.request.upgrade.is_some() || wants_fresh(ctx.head()) {
        return None;
    }
    let key = fill.key.as_ref()?.extract(ctx.head(), &ctx.client, &mut proxy.worker.scratch.borrow_mut())?;
    caches.previous_owner(key.key.0, ctx.started)
}

/// Whether whoever asks wants no stored answer.
fn wants_fresh(head: &Head) -> bool {
    let is_so = |token: &[u8]| {
        [&b"no-cache"[..], b"no-store", b"max-age=0"].iter().any(|wish| token.eq_ignore_ascii_case(wish))
    };
    head.fields()
        .iter()
        .filter(|field| is_cache_control(head.name_of(field)))
        .any(|field| tokens(head.value_of(field)).any(is_so))
}

fn is_cache_control(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"Cache-Control")
}

/// The request as a previous owner gets it.
fn marked(ctx: &RequestContext, forward: &Forward) -> Edits {
    let (head, mut edits) = (ctx.head(), Edits::default());
    headers::to_endpoint(head, &mut edits, &ctx.conn, &ctx.client, &ctx.id, forward.via);
    edits.remove_named(head, b"Cache-Control");
    edits.add(b"Cache-Control", b"only-if-cached");
    edits.add(MARK, b"1");
    edits
}

/// Whether a status is that of an answer that was stored. A cache that has none says 504; whatever else is wrong, the origin knows better.
fn is_stored(status: u16) -> bool {
    matches!(status, 200..=399 | 404 | 410)
}

async fn exchange<D: Downstream>(
    proxy: &Proxy,
    ctx: &mut RequestContext,
    upstream: &Upstream,
    endpoint: &Endpoint,
    body: Box<RequestBody<D>>,
) -> Asked<D> {
    let patience = upstream.settings.response_timeout.unwrap_or(PATIENCE);
    let (asked, deadline) = (clock::now(), proxy.worker.wheel.deadline());
    deadline.tag(endpoint.uid);
    let connection = match proxy.pool.checkout(endpoint, &upstream.settings) {
        Some(connection) => connection,
        None => {
            let connecting = proxy.pool.connect(endpoint, &upstream.settings, &deadline, patience, false);
            match Box::pin(connecting).await {
                Ok(connection) => connection,
                Err(error) => return Err(attempt::unconnected(proxy, upstream, endpoint, error, body).into_body()),
            }
        }
    };
    let allowed = Allowed { head: patience, body: upstream.settings.body_timeout };
    let received = &mut ctx.bytes_in;
    let exchanged =
        exchange::exchange(&proxy.worker, connection, deadline, &allowed, &ctx.request, body, received).await;
    match exchanged {
        Ok(answer) => {
            if is_stored(answer.0.head.status()) {
                ctx.upstream_time = Some(asked.elapsed());
                upstream.stats.of(proxy.worker.index).duration.observe(asked.elapsed());
                proxy.credit(upstream, endpoint, answer.0.head.status());
            }
            Ok(answer)
        }
        Err(failed) => {
            let (error, sent, body) = *failed;
            Err(attempt::classify(proxy, upstream, endpoint, error, sent, body).into_body())
        }
    }
}

/// Reads a refusal to its end, so that its connection serves the next request, and gives the request's body back.
async fn refused<D: Downstream>(
    proxy: &Proxy,
    upstream: &Upstream,
    endpoint: &Endpoint,
    (draft, mut exchange): Answer<D>,
) -> Box<RequestBody<D>> {
    let mut buffer = proxy.worker.buffers.take();
    let is_whole = poll_fn(|cx| {
        loop {
            match ready!(exchange.poll_data(cx, &mut buffer)) {
                Ok(Step::Data(_)) if buffer.len() < MAX_REFUSAL => {}
                step => return Poll::Ready(matches!(step, Ok(Step::End))),
            }
        }
    });
    let is_whole = is_whole.await;
    proxy.worker.buffers.give(buffer);
    proxy.worker.buffers.give_draft(draft);
    if let Some(connection) = exchange.finish().filter(|_| is_whole) {
        proxy.pool.put_back(endpoint, &upstream.settings, connection);
    }
    let mut body = exchange.into_request();
    body.rewind();
    body
}
