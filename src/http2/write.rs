//! Heads that go out over HTTP/2: lower-case names, nothing that belongs to one connection, edits applied.
use crate::head::Head;
use crate::head::Span;
use crate::head::edits::Edits;
use crate::head::names::Name;
use crate::http1::framing::BodyLength;
use bytes::Bytes;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Request;
use http::Response;
use http::StatusCode;
use http::Uri;
use http::header;
use http::uri;

/// A response with a body of this length. With `Empty` the head's own Content-Length stays: it tells how long the body of
/// another response would be. `None`: the head has what HTTP/2 cannot carry.
pub fn response(head: &Head, edits: &Edits, length: BodyLength) -> Option<Response<()>> {
    let keeps_length = length == BodyLength::Empty && !matches!(head.status(), 100..200 | 204);
    let mut map = fields(head, edits, |name| name == Name::ContentLength && !keeps_length)?;
    announce(&mut map, length);
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(head.status()).ok()?;
    *response.headers_mut() = map;
    Some(response)
}

/// A request with a body of this length. `None`: the head has what HTTP/2 cannot carry.
pub fn request(head: &Head, edits: &Edits, length: BodyLength, is_secure: bool) -> Option<Request<()>> {
    let had_length = head.get(Name::ContentLength).is_some();
    let mut map = fields(head, edits, |name| matches!(name, Name::Host | Name::ContentLength))?;
    match length {
        // `Content-Length: 0` of a POST is not the same as none to many servers.
        BodyLength::Empty if had_length => announce(&mut map, BodyLength::Length(0)),
        length => announce(&mut map, length),
    }
    let mut parts = uri::Parts::default();
    parts.scheme = Some(if is_secure { uri::Scheme::HTTPS } else { uri::Scheme::HTTP });
    parts.authority = Some(uri::Authority::try_from(head.authority()?).ok()?);
    parts.path_and_query = Some(uri::PathAndQuery::try_from(edits.target(head)).ok()?);
    let mut request = Request::new(());
    *request.method_mut() = http::Method::from_bytes(head.method_text()).ok()?;
    *request.uri_mut() = Uri::from_parts(parts).ok()?;
    *request.headers_mut() = map;
    Some(request)
}

/// Trailers. `None`: they have what HTTP/2 cannot carry.
pub fn trailers(head: &Head) -> Option<HeaderMap> {
    fields(head, &Edits::default(), |_| false)
}

fn announce(map: &mut HeaderMap, length: BodyLength) {
    if let BodyLength::Length(bytes) = length {
        map.insert(header::CONTENT_LENGTH, bytes.into());
    }
}

fn fields(head: &Head, edits: &Edits, skips: impl Fn(Name) -> bool) -> Option<HeaderMap> {
    let mut map = HeaderMap::with_capacity(head.fields().len() + edits.added_spans().len());
    // One copy that all values are slices of.
    let kept = Bytes::copy_from_slice(head.bytes());
    for (index, field) in head.fields().iter().enumerate() {
        if !is_hop_by_hop(field.known) && !skips(field.known) && !edits.is_dropped(index) {
            append(&mut map, &kept, field.name, field.value, field.known)?;
        }
    }
    if !edits.added_spans().is_empty() {
        let lines = Bytes::copy_from_slice(edits.lines());
        for (name, value) in edits.added_spans() {
            let known = Name::of(name.of(&lines));
            // An upgrade that was asked for over HTTP/1.1 ends here.
            if !is_hop_by_hop(known) {
                append(&mut map, &lines, *name, *value, known)?;
            }
        }
    }
    Some(map)
}

/// What belongs to one connection (RFC 9113 section 8.2.2).
fn is_hop_by_hop(known: Name) -> bool {
    matches!(known, Name::Connection | Name::KeepAlive | Name::ProxyConnection | Name::TransferEncoding | Name::Upgrade)
}

fn append(map: &mut HeaderMap, bytes: &Bytes, name: Span, value: Span, known: Name) -> Option<()> {
    let name = HeaderName::from_bytes(name.of(bytes)).ok()?;
    let (start, end) = (value.start as usize, (value.start + value.len) as usize);
    let mut value = HeaderValue::from_maybe_shared(bytes.slice(start..end)).ok()?;
    // What is new each time would only push better values out of HPACK's table.
    let is_volatile = matches!(known, Name::Date | Name::Expires | Name::LastModified | Name::XRequestId);
    value.set_sensitive(is_volatile);
    map.append(name, value);
    Some(())
}
