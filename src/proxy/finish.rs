//! The end of every request, however it ends: counted once, logged once. Where the log goes is not known here.
use crate::base::clock;
use crate::proxy::Proxy;
use crate::proxy::context::RequestContext;
use crate::telemetry::record::RequestRecord;
use std::ops::Deref;
use std::ops::DerefMut;
use std::rc::Rc;

/// Holds a request's context and records it when dropped: when the body has ended or the client has left.
#[derive(Debug)]
pub struct Finish {
    proxy: Rc<Proxy>,
    /// In a box: it goes from hand to hand as long as the request lasts.
    ctx: Box<RequestContext>,
}

impl Finish {
    /// Watches over a request that has begun.
    pub fn new(proxy: Rc<Proxy>, ctx: RequestContext) -> Self {
        Self { proxy, ctx: Box::new(ctx) }
    }

    /// The proxy and the context at once.
    pub fn parts(&mut self) -> (&Proxy, &mut RequestContext) {
        (&self.proxy, &mut self.ctx)
    }

    /// The proxy.
    pub fn proxy(&self) -> &Rc<Proxy> {
        &self.proxy
    }
}

impl Deref for Finish {
    type Target = RequestContext;
    fn deref(&self) -> &RequestContext {
        &self.ctx
    }
}

impl DerefMut for Finish {
    fn deref_mut(&mut self) -> &mut RequestContext {
        &mut self.ctx
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        let worker = &self.proxy.worker;
        self.ctx.leave(worker.index);
        if self.ctx.status == 0 {
            // Dropped before a status was told: nobody was there to hear it.
            self.ctx.status = 499;
            self.ctx.error = Some("client_closed");
        }
        let ctx = &self.ctx;
        let duration = ctx.started.elapsed();
        if let Some(requests) = ctx.view.requests_of(&ctx.conn.listener, ctx.route) {
            requests.of(worker.index).count(ctx.status);
        }
        ctx.view.route_stats_of(ctx.route).of(worker.index).duration.observe(ctx.answered.unwrap_or(duration));
        let has_failed = ctx.error.is_some() || ctx.status >= 500;
        if let Some(log) = &self.proxy.access_log
            && log.wants(has_failed, || worker.random())
        {
            log.write(&record(ctx, duration));
        }
        worker.buffers.take_back(&mut self.ctx.request);
    }
}

fn record(ctx: &RequestContext, duration: std::time::Duration) -> RequestRecord<'_> {
    let head = ctx.head();
    let route = ctx.route.map(|route| ctx.view.routes.get(route));
    let upstream = ctx.upstream_index().map(|index| ctx.view.upstream(index));
    let key_source = route.and_then(|route| {
        let key = route.action.forward()?.key.as_ref()?;
        ctx.key.as_ref().map(|extracted| key.source_text(extracted.source))
    });
    RequestRecord {
        time: clock::since_epoch(),
        listener: ctx.conn.listener.as_str(),
        route: route.map(|route| route.name.as_str()),
        upstream: upstream.map(|upstream| upstream.name.as_str()),
        endpoint: ctx.endpoint().map(|endpoint| endpoint.id.as_str()),
        position: ctx.position,
        coalesced: ctx.coalesced,
        method: head.method_text(),
        host: head.authority(),
        path: head.target(),
        status: ctx.status,
        bytes_in: ctx.bytes_in,
        bytes_out: ctx.bytes_out,
        duration,
        upstream_duration: ctx.upstream_time,
        attempts: ctx.attempts,
        key_hash: ctx.key.as_ref().map(|extracted| extracted.key.0),
        key_source,
        client_ip: ctx.client.ip,
        protocol: head.version().as_str(),
        request_id: &ctx.id,
        error: ctx.error,
    }
}
