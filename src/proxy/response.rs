//! What goes back to the client: a head with its edits, and a body that comes piece by piece.
use crate::head::Head;
use crate::head::Method;
use crate::http1::framing::BodyLength;
use crate::net::pipe::Pipe;
use crate::proxy::attempt::Answer;
use crate::proxy::body::Downstream;
use crate::proxy::coalesce::Share;
use crate::proxy::error::Kind;
use crate::proxy::error::ProxyError;
use crate::proxy::exchange::Exchange;
use crate::proxy::explained;
use crate::proxy::finish::Finish;
use crate::proxy::headers;
use crate::proxy::own::Own;
use crate::proxy::reply;
use crate::proxy::tunnel::End;
use crate::proxy::tunnel::Tunnel;
use crate::proxy::upgrade;
use crate::wire::body::BodyError;
use crate::wire::body::Step;
use crate::worker::buffers::Draft;
use bytes::Bytes;
use bytes::BytesMut;
use std::io;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

/// A response on its way to the client. Dropping it before its end is how a client that left is told of.
#[derive(Debug)]
pub struct Response<D> {
    draft: Box<Draft>,
    body: Body<D>,
    finish: Finish,
}

#[derive(Debug)]
enum Body<D> {
    /// Our own: the whole of it, and what of that was not taken yet.
    Own(usize, Bytes),
    Exchange(Exchange<D>),
    /// One that others get, too.
    Shared(Box<Share>),
}

impl<D: Downstream> Response<D> {
    /// An endpoint's answer.
    pub fn forwarded(mut finish: Finish, (mut draft, exchange): Answer<D>) -> Self {
        let draft_ref = &mut *draft;
        if !headers::to_client(&draft_ref.head, &mut draft_ref.edits) {
            date(&finish, &mut draft_ref.head);
        }
        finish.edit_response(draft_ref);
        explained::tell(&finish, draft_ref);
        upgrade::grant(&mut draft);
        finish.status = draft.head.status();
        if let Some(held) = &finish.held {
            held.note(finish.status);
        }
        Self { draft, body: Body::Exchange(exchange), finish }
    }

    /// An endpoint's answer that others get, too.
    pub fn shared(mut finish: Finish, share: Box<Share>) -> Self {
        let mut draft = finish.proxy().worker.buffers.take_draft();
        draft.head = share.head().clone();
        let Draft { head, edits, .. } = &mut *draft;
        if !headers::to_client(head, edits) {
            date(&finish, head);
        }
        finish.edit_response(&mut draft);
        explained::tell(&finish, &mut draft);
        finish.status = draft.head.status();
        Self { draft, body: Body::Shared(share), finish }
    }

    /// An answer that no endpoint gives.
    pub fn own(mut finish: Finish, (mut draft, body): Own) -> Self {
        date(&finish, &mut draft.head);
        finish.edit_response(&mut draft);
        explained::tell(&finish, &mut draft);
        finish.status = draft.head.status();
        Self { draft, body: Body::Own(body.len(), body), finish }
    }

    /// What the client is told when there is no answer.
    pub fn of_error(mut finish: Finish, error: &ProxyError) -> Self {
        let reply = reply::of(error.kind);
        // Nobody is at it any more: the next one need not wait for this client to read.
        finish.held = None;
        finish.status = reply.status;
        finish.error = Some(reply.word);
        tracing::debug!(%error, status = reply.status, "A request failed.");
        let mut draft = finish.proxy().worker.buffers.take_draft();
        let id = String::from_utf8_lossy(&finish.id).into_owned();
        let text = reply::render(reply, finish.head(), &id, &mut draft.head);
        date(&finish, &mut draft.head);
        explained::tell(&finish, &mut draft);
        Self { draft, body: Body::Own(text.len(), text.into()), finish }
    }

    /// The head and the changes to it.
    pub fn head(&self) -> (&Head, &crate::head::edits::Edits) {
        (&self.draft.head, &self.draft.edits)
    }

    /// How long the body is.
    pub fn length(&self) -> BodyLength {
        match &self.body {
            Body::Own(..) if matches!(self.draft.head.status(), 204 | 304) => BodyLength::Empty,
            Body::Own(whole, _) => BodyLength::Length(*whole as u64),
            Body::Exchange(exchange) => exchange.response_length(),
            Body::Shared(share) => share.length(),
        }
    }

    /// Whether there is nobody to tell it to: the client has left.
    pub fn is_unspoken(&self) -> bool {
        self.finish.error == Some(reply::of(Kind::ClientClosed).word) && matches!(self.body, Body::Own(..))
    }

    /// Whether somebody takes what the client still has to send.
    pub fn takes_rest(&self) -> bool {
        match &self.body {
            Body::Own(..) | Body::Shared(_) => false,
            Body::Exchange(exchange) => exchange.takes_rest(),
        }
    }

    /// Whether the connection leaves HTTP once the head is written.
    pub fn is_tunnel(&self) -> bool {
        self.draft.upgrade.is_some()
    }

    /// The tunnel that follows the head of a switch, to what `end` makes of the client's side. Nobody waits for its end to have
    /// their turn.
    pub fn into_tunnel<E: End>(mut self, end: impl FnOnce(D) -> E) -> Option<Tunnel<E>> {
        let Body::Exchange(exchange) = self.body else { return None };
        self.finish.held = None;
        self.finish.proxy().worker.buffers.give_draft(self.draft);
        let (connection, deadline, client) = exchange.into_tunnel()?;
        Some(Tunnel::new(end(client), *connection, deadline, self.finish))
    }

    /// Whether the request was for the head alone.
    pub fn is_for_head(&self) -> bool {
        self.finish.head().method() == Method::Head
    }

    /// Appends the next piece of the body to `out`, and moves request data meanwhile.
    pub fn poll_data(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<Result<Step, BodyError>> {
        let step = match &mut self.body {
            Body::Own(_, rest) => {
                let rest = std::mem::take(rest);
                if rest.is_empty() || self.finish.head().method() == Method::Head {
                    Ok(Step::End)
                } else {
                    out.extend_from_slice(&rest);
                    Ok(Step::Data(rest.len()))
                }
            }
            Body::Exchange(_) => return self.poll_exchange(cx, |exchange, cx| exchange.poll_data(cx, out)),
            Body::Shared(share) => ready!(share.poll_data(cx, out)),
        };
        Poll::Ready(self.note_step(step))
    }

    /// Whether what is still to come of the body may go from socket to socket, and is worth it.
    pub fn is_spliceable(&self) -> bool {
        matches!(&self.body, Body::Exchange(Exchange::Http1(exchange)) if exchange.is_spliceable())
    }

    /// [`Self::poll_data`] into a pipe that is empty, of a body that is [spliceable](Self::is_spliceable) or was so before.
    pub fn poll_splice(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<Result<Step, BodyError>> {
        self.poll_exchange(cx, |exchange, cx| match exchange {
            Exchange::Http1(exchange) => exchange.poll_splice(cx, pipe),
            Exchange::Http2(_) => Poll::Ready(Err(BodyError::Truncated)),
        })
    }

    /// The next piece of an endpoint's answer, as long as the request holds its turn.
    fn poll_exchange(
        &mut self,
        cx: &mut Context<'_>,
        read: impl FnOnce(&mut Exchange<D>, &mut Context<'_>) -> Poll<Result<Step, BodyError>>,
    ) -> Poll<Result<Step, BodyError>> {
        let Body::Exchange(exchange) = &mut self.body else { return Poll::Ready(Ok(Step::End)) };
        if self.finish.held.as_mut().is_some_and(|held| held.poll_lost(cx)) {
            self.finish.error = Some(reply::of(Kind::LeaseLost).word);
            return Poll::Ready(Err(BodyError::Io(io::ErrorKind::ConnectionAborted.into())));
        }
        let step = read(exchange, cx);
        self.finish.bytes_in = exchange.received();
        let step = ready!(step);
        Poll::Ready(self.note_step(step))
    }

    fn note_step(&mut self, step: Result<Step, BodyError>) -> Result<Step, BodyError> {
        match &step {
            Ok(Step::Data(count)) => self.finish.bytes_out += *count as u64,
            Ok(Step::End) => {}
            Err(error) => self.note_broken(error),
        }
        step
    }

    /// Whether nothing more comes, no trailers either.
    pub fn is_over(&self) -> bool {
        match &self.body {
            Body::Own(_, rest) => rest.is_empty() || self.finish.head().method() == Method::Head,
            Body::Exchange(exchange) => exchange.is_over(),
            Body::Shared(share) => share.is_over(),
        }
    }

    /// The trailers, once the body is over.
    pub fn take_trailers(&mut self) -> Option<Box<Head>> {
        match &mut self.body {
            Body::Own(..) => None,
            Body::Exchange(exchange) => exchange.take_trailers(),
            Body::Shared(share) => share.take_trailers(),
        }
    }

    /// After the body's end: moves what is left of the request. Ready with whether the request went out whole, so that the
    /// client's connection may carry another.
    pub fn poll_rest_of_request(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        match &mut self.body {
            Body::Own(..) | Body::Shared(_) => Poll::Ready(true),
            Body::Exchange(_) if self.finish.held.as_mut().is_some_and(|held| held.poll_lost(cx)) => Poll::Ready(false),
            Body::Exchange(exchange) => {
                let rest = exchange.poll_rest_of_request(cx);
                self.finish.bytes_in = exchange.received();
                rest
            }
        }
    }

    /// Ends the exchange well: its connection goes back to the pool.
    pub fn finish(self) {
        let Self { draft, body, finish } = self;
        if let Body::Exchange(mut exchange) = body
            && let Some(connection) = exchange.finish()
        {
            let endpoint = finish.endpoint().expect("an answer came from an endpoint");
            finish.proxy().pool.put_back(endpoint, &finish.upstream().settings, connection);
        }
        finish.proxy().worker.buffers.give_draft(draft);
    }

    /// Ends it because the client does not take the rest, of which so many bytes were written for nobody.
    pub fn give_up(&mut self, kind: Kind, undelivered: usize) {
        self.finish.error = Some(reply::of(kind).word);
        self.finish.bytes_out = self.finish.bytes_out.saturating_sub(undelivered as u64);
    }

    fn note_broken(&mut self, error: &BodyError) {
        tracing::debug!(%error, "A response ended early.");
        if let Body::Exchange(exchange) = &self.body
            && let Some(fault) = exchange.client_fault()
        {
            self.finish.error = Some(reply::of(Kind::of_client(fault)).word);
            return;
        }
        if matches!(&self.body, Body::Shared(share) if share.is_cut()) {
            self.finish.error = Some(reply::of(Kind::ClientTimeout).word);
            return;
        }
        self.finish.error = Some(match error {
            BodyError::Timeout => "upstream_timeout",
            BodyError::Refused(_) => "bad_upstream_response",
            _ => "upstream_reset",
        });
        // The endpoint of a shared answer is blamed once, not by everybody who gets it.
        if let Body::Exchange(_) = &self.body {
            let (proxy, ctx) = self.finish.parts();
            proxy.note_broken_body(ctx);
        }
    }
}

/// Says when a response came about that does not say so itself (RFC 9110 section 6.6.1).
fn date(finish: &Finish, head: &mut Head) {
    head.push(b"Date", &finish.proxy().worker.date.now());
}
