//! Serves HTTP/2 on one connection with the `h2` crate: each stream is a request through the same `Proxy::handle`.
use crate::head::Head;
use crate::head::Method;
use crate::head::Version;
use crate::head::edits::Edits;
use crate::head::names::Name;
use crate::http1::framing::BodyLength;
use crate::listener::door::Door;
use crate::net::stream::Stream;
use crate::proxy::body::Downstream;
use crate::proxy::body::RequestBody;
use crate::proxy::context::ConnInfo;
use crate::proxy::response::Response;
use crate::wire::body::BodyError;
use crate::wire::body::Step;
use bytes::Bytes;
use bytes::BytesMut;
use h2::RecvStream;
use h2::SendStream;
use h2::server::SendResponse;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

/// Serves streams until the client leaves or is asked to go.
pub async fn serve(door: Rc<Door>, stream: Stream, conn: Rc<ConnInfo>) {
    let settings = door.settings();
    let mut builder = h2::server::Builder::new();
    builder.max_header_list_size(settings.limits.max_head_bytes as u32).max_concurrent_streams(256);
    let deadline = door.worker.wheel.deadline();
    deadline.set(settings.header_timeout);
    let mut shaking = Box::pin(builder.handshake::<_, Bytes>(stream));
    let shaken = poll_fn(|cx| match shaking.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(result.ok()),
        Poll::Pending if deadline.poll_expired(cx) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    });
    let Some(mut connection) = shaken.await else {
        return door.refused(crate::telemetry::labels::RefusedReason::BadRequest);
    };
    deadline.clear();
    let mut is_leaving = false;
    loop {
        let accepted = poll_fn(|cx| {
            if door.is_draining() && !std::mem::replace(&mut is_leaving, true) {
                connection.graceful_shutdown();
            }
            // Registers for the wake-up that a drain brings.
            deadline.poll_expired(cx);
            connection.poll_accept(cx)
        });
        match accepted.await {
            Some(Ok((request, respond))) => {
                let (door, conn) = (door.clone(), conn.clone());
                drop(tokio::task::spawn_local(async move { exchange(&door, request, respond, &conn).await }));
            }
            Some(Err(error)) => return tracing::debug!(%error, "An HTTP/2 connection failed."),
            None => return,
        }
    }
}

async fn exchange(
    door: &Rc<Door>,
    request: http::Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    conn: &Rc<ConnInfo>,
) {
    let (parts, receive) = request.into_parts();
    let mut draft = door.worker.buffers.take_draft();
    let length = read_head(&parts, receive.is_end_stream(), &mut draft.head);
    let body = RequestBody::new(H2Downstream { receive }, length, door.settings().max_body);
    let mut handling = Box::pin(door.proxy.handle(draft, body, conn));
    let response = poll_fn(|cx| {
        if let Poll::Ready(response) = handling.as_mut().poll(cx) {
            return Poll::Ready(Some(response));
        }
        respond.poll_reset(cx).map(|_| None)
    });
    // A reset stream is a client that left: dropping what handles it cancels the upstream exchange.
    let Some(mut response) = response.await else { return };
    drop(handling);
    let Some(head) = write_head(&response) else {
        return respond.send_reset(h2::Reason::INTERNAL_ERROR);
    };
    let has_no_body = response.is_for_head() || response.length() == BodyLength::Empty;
    let Ok(mut send) = respond.send_response(head, has_no_body) else { return };
    let sent = if has_no_body { drain(&mut response).await } else { send_body(door, &mut response, &mut send).await };
    match sent {
        Some(()) => {
            poll_fn(|cx| response.poll_rest_of_request(cx)).await;
            response.finish();
        }
        None => send.send_reset(h2::Reason::INTERNAL_ERROR),
    }
}

/// Runs a response without a body to its end.
async fn drain(response: &mut Response<H2Downstream>) -> Option<()> {
    let mut nothing = BytesMut::new();
    loop {
        match poll_fn(|cx| response.poll_data(cx, &mut nothing)).await {
            Ok(Step::Data(_)) => nothing.clear(),
            Ok(Step::End) => return Some(()),
            Err(_) => return None,
        }
    }
}

/// Sends the body as the client's window allows; `None` when it broke off.
async fn send_body(door: &Rc<Door>, response: &mut Response<H2Downstream>, send: &mut SendStream<Bytes>) -> Option<()> {
    loop {
        let mut piece = door.worker.buffers.take();
        match poll_fn(|cx| response.poll_data(cx, &mut piece)).await.ok()? {
            Step::Data(_) => send_piece(send, piece.freeze()).await?,
            Step::End => {
                door.worker.buffers.give(piece);
                break;
            }
        }
    }
    match response.take_trailers() {
        Some(trailers) => send.send_trailers(fields(&trailers, &Edits::default())).ok(),
        None => send.send_data(Bytes::new(), true).ok(),
    }
}

async fn send_piece(send: &mut SendStream<Bytes>, mut piece: Bytes) -> Option<()> {
    while !piece.is_empty() {
        send.reserve_capacity(piece.len());
        let room = poll_fn(|cx| send.poll_capacity(cx)).await?.ok()?;
        send.send_data(piece.split_to(room.min(piece.len())), false).ok()?;
    }
    Some(())
}

/// Writes an HTTP/2 head into the one head type.
fn read_head(parts: &http::request::Parts, has_no_body: bool, head: &mut Head) -> BodyLength {
    let method = parts.method.as_str().as_bytes();
    let target = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    head.set_version(Version::Http2);
    head.set_request(Method::of(method), method, target.as_bytes());
    let host = parts.headers.get(http::header::HOST).map(http::HeaderValue::as_bytes);
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes()).or(host);
    if let Some(authority) = authority {
        let authority = head.append(authority);
        head.set_authority(authority);
    }
    let mut cookie = BytesMut::new();
    for (name, value) in &parts.headers {
        match Name::of(name.as_str().as_bytes()) {
            Name::Host => {}
            // Cookies may come in crumbs (RFC 9113 section 8.2.3); HTTP/1.1 and keys want them whole.
            Name::Cookie => {
                if !cookie.is_empty() {
                    cookie.extend_from_slice(b"; ");
                }
                cookie.extend_from_slice(value.as_bytes());
            }
            _ => head.push(name.as_str().as_bytes(), value.as_bytes()),
        }
    }
    if !cookie.is_empty() {
        head.push(b"cookie", &cookie);
    }
    let announced = head.get(Name::ContentLength).and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
    match (has_no_body, announced) {
        (true, _) => BodyLength::Empty,
        (false, Some(length)) => BodyLength::Length(length),
        (false, None) => BodyLength::Chunked,
    }
}

fn write_head(response: &Response<H2Downstream>) -> Option<http::Response<()>> {
    let (head, edits) = response.head();
    let mut built = http::Response::new(());
    *built.status_mut() = http::StatusCode::from_u16(head.status()).ok()?;
    *built.headers_mut() = fields(head, edits);
    if let BodyLength::Length(length) = response.length() {
        built.headers_mut().insert(http::header::CONTENT_LENGTH, length.into());
    }
    Some(built)
}

/// Fields as HTTP/2 may carry them: lower-case names, nothing that belongs to one connection.
fn fields(head: &Head, edits: &Edits) -> http::HeaderMap {
    let mut map = http::HeaderMap::new();
    let mut add = |name: &[u8], value: &[u8]| {
        if let (Ok(name), Ok(value)) = (http::HeaderName::from_bytes(name), http::HeaderValue::from_bytes(value)) {
            map.append(name, value);
        }
    };
    for (index, field) in head.fields().iter().enumerate() {
        if field.known != Name::TransferEncoding && !edits.is_dropped(index) {
            add(head.name_of(field), head.value_of(field));
        }
    }
    for (name, value) in edits.added() {
        add(name, value);
    }
    map
}

/// The client's side of one stream.
#[derive(Debug)]
struct H2Downstream {
    receive: RecvStream,
}

impl Downstream for H2Downstream {
    fn poll_data(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<Result<Step, BodyError>> {
        let failed = |error: h2::Error| BodyError::Io(std::io::Error::other(error));
        loop {
            let Some(data) = ready!(self.receive.poll_data(cx)) else { return Poll::Ready(Ok(Step::End)) };
            let data = data.map_err(failed)?;
            self.receive.flow_control().release_capacity(data.len()).map_err(failed)?;
            if !data.is_empty() {
                out.extend_from_slice(&data);
                return Poll::Ready(Ok(Step::Data(data.len())));
            }
        }
    }

    // The spike passes no request trailers and no interim responses: `h2` would give them, the seam is here.
    fn take_trailers(&mut self) -> Option<Box<Head>> {
        None
    }

    fn send_interim(&mut self, _: &Head, _: &Edits) {}
}
