//! Answers that no endpoint gives: redirects and fixed replies. Which requests get them is the route's business.
use crate::http1::refusal::RefusalKind;
use crate::proxy::context::RequestContext;
use crate::proxy::error::Kind;
use crate::proxy::error::ProxyError;
use crate::route::action::Redirect;
use crate::route::action::Respond;
use crate::worker::Worker;
use crate::worker::buffers::Draft;
use bytes::Bytes;

/// A head and the whole of its body.
pub type Own = (Box<Draft>, Bytes);

/// Sends the client elsewhere.
pub fn redirect(worker: &Worker, ctx: &RequestContext, redirect: &Redirect) -> Result<Own, ProxyError> {
    let location = redirect.location(ctx.facts()).ok_or(ProxyError::new(Kind::Request(RefusalKind::BadRequest)))?;
    let mut draft = worker.buffers.take_draft();
    draft.head.set_response(redirect.status, Default::default());
    draft.head.push(b"Location", &location);
    Ok((draft, Bytes::new()))
}

/// Says what the route says to everybody.
pub fn respond(worker: &Worker, respond: &Respond) -> Own {
    let mut draft = worker.buffers.take_draft();
    draft.head.set_response(respond.status, Default::default());
    for (name, value) in &respond.fields {
        draft.head.push(name.as_bytes(), value.as_bytes());
    }
    (draft, respond.body.clone())
}
