//! Heads that came over HTTP/2: checked, and written into the one head type.
use crate::head::Head;
use crate::head::Method;
use crate::head::Version;
use crate::head::names::Name;
use crate::http1::chunked;
use crate::http1::framing;
use crate::http1::framing::BodyLength;
use crate::http1::limits::Limits;
use crate::http1::refusal::Refusal;
use crate::http1::syntax;
use http::HeaderMap;
use http::header;
use http::request;
use http::response;

/// Bytes that a field line needs beside name and value where a head is text: `: ` and CRLF.
const LINE: usize = 4;

/// Reads a request's head into `head`, which is empty, and says which body follows. `is_whole`: nothing follows the head. A
/// refused request leaves in `head` what is known of it, for the log.
pub fn request(
    parts: &request::Parts,
    is_whole: bool,
    limits: &Limits,
    head: &mut Head,
) -> Result<BodyLength, Refusal> {
    let is_switch = protocol(parts).is_some();
    // What switches is the same request over either version: routes and keys see a GET.
    let method_text = if is_switch { b"GET" } else { parts.method.as_str().as_bytes() };
    let method = Method::of(method_text);
    let named = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let target = match (method, parts.uri.path_and_query()) {
        (Method::Connect, _) => named.unwrap_or_default(),
        // `http` shows a path that was not sent as `/`.
        (_, Some(target)) if !parts.uri.path().is_empty() => target.as_str().as_bytes(),
        _ => b"",
    };
    head.set_version(Version::Http2);
    head.set_request(method, method_text, target);
    let size = method_text.len() + target.len() + named.map_or(0, <[u8]>::len);
    let host = fields(&parts.headers, size, limits, head)?;
    let authority = agreed(named, host)?;
    let authority = head.append(authority);
    head.set_authority(authority);
    check_target(method, target, limits)?;
    check_scheme(method, &parts.uri)?;
    match (is_whole, framing::of_request(head)?) {
        // What follows is not HTTP.
        (_, BodyLength::Empty) if is_switch => Ok(BodyLength::Empty),
        _ if is_switch => Err(Refusal::ContentLength),
        (true, BodyLength::Length(0)) => Ok(BodyLength::Length(0)),
        (true, BodyLength::Empty) => Ok(BodyLength::Empty),
        (true, _) => Err(Refusal::ContentLength),
        (false, BodyLength::Empty) => Ok(BodyLength::Chunked),
        (false, length) => Ok(length),
    }
}

/// The protocol that an extended CONNECT (RFC 8441) asks to switch its stream to.
pub fn protocol(parts: &request::Parts) -> Option<&str> {
    parts.extensions.get::<h2::ext::Protocol>().map(h2::ext::Protocol::as_str)
}

/// Reads a response's head into `head`, which is empty, and says which body follows a request of `method`.
pub fn response(
    parts: &response::Parts,
    is_whole: bool,
    method: Method,
    limits: &Limits,
    head: &mut Head,
) -> Result<BodyLength, Refusal> {
    head.set_version(Version::Http2);
    head.set_response(parts.status.as_u16(), Default::default());
    fields(&parts.headers, 0, limits, head)?;
    let length = framing::of_response(head, method)?;
    Ok(match length {
        BodyLength::Length(_) | BodyLength::UntilClose if is_whole => BodyLength::Length(0),
        // What ends with its stream is known to be whole: it may be passed on in chunks.
        BodyLength::UntilClose => BodyLength::Chunked,
        length => length,
    })
}

/// The trailers that may be passed on, if there are any.
pub fn trailers(map: &HeaderMap, limits: &Limits) -> Result<Option<Box<Head>>, Refusal> {
    let mut head = Head::default();
    for (name, value) in map {
        let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
        check_value(value)?;
        if head.fields().len() == limits.max_fields {
            return Err(Refusal::TooManyFields);
        }
        if chunked::may_trail(Name::of(name), name) {
            head.push(name, value);
        }
    }
    Ok((!head.fields().is_empty()).then(|| Box::new(head)))
}

/// Copies all fields but `host`, whose value is given back. `size` is what the head has already.
fn fields<'a>(
    map: &'a HeaderMap,
    mut size: usize,
    limits: &Limits,
    head: &mut Head,
) -> Result<Option<&'a [u8]>, Refusal> {
    let mut host = None;
    for (field, value) in map {
        let (name, value) = (field.as_str().as_bytes(), value.as_bytes());
        check_value(value)?;
        size += name.len() + value.len() + LINE;
        if size > limits.max_head_bytes {
            return Err(Refusal::HeadTooLarge);
        }
        match Name::of(name) {
            Name::Host if host.replace(value).is_some() => return Err(Refusal::Host),
            Name::Host => continue,
            Name::Connection | Name::KeepAlive | Name::ProxyConnection | Name::TransferEncoding | Name::Upgrade => {
                return Err(Refusal::ConnectionField);
            }
            Name::Te if value != b"trailers" => return Err(Refusal::ConnectionField),
            Name::Cookie => {
                let is_first = head.get(Name::Cookie).is_none();
                if is_first {
                    push_cookie(map, head);
                }
            }
            known => {
                let (name, value) = (head.append(name), head.append(value));
                head.push_span(name, value, known);
            }
        }
        if head.fields().len() > limits.max_fields {
            return Err(Refusal::TooManyFields);
        }
    }
    Ok(host)
}

/// Cookies may come in crumbs (RFC 9113 section 8.2.3); HTTP/1.1 and keys want them whole.
fn push_cookie(map: &HeaderMap, head: &mut Head) {
    let name = head.append(b"cookie");
    let mut joined = head.append(b"");
    for (index, crumb) in map.get_all(header::COOKIE).iter().enumerate() {
        if index > 0 {
            joined.len += head.append(b"; ").len;
        }
        joined.len += head.append(crumb.as_bytes()).len;
    }
    head.push_span(name, joined, Name::Cookie);
}

/// RFC 9113 section 8.2.1: nothing that would end a line, no white space around.
fn check_value(value: &[u8]) -> Result<(), Refusal> {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if is_space(value.first()) || is_space(value.last()) {
        return Err(Refusal::FieldSpace);
    }
    if syntax::is_field_value(value) { Ok(()) } else { Err(Refusal::FieldValue) }
}

/// The one authority: `:authority` and `host` say the same, or one of them is there.
fn agreed<'a>(named: Option<&'a [u8]>, host: Option<&'a [u8]>) -> Result<&'a [u8], Refusal> {
    let authority = match (named, host) {
        (Some(named), Some(host)) if !named.eq_ignore_ascii_case(host) => return Err(Refusal::Host),
        (Some(one), _) | (None, Some(one)) => one,
        (None, None) => return Err(Refusal::Host),
    };
    if syntax::is_authority(authority) { Ok(authority) } else { Err(Refusal::Host) }
}

fn check_target(method: Method, target: &[u8], limits: &Limits) -> Result<(), Refusal> {
    if target.len() > limits.max_head_bytes {
        return Err(Refusal::TargetTooLong);
    }
    let is_form = match (method, target.first()) {
        // An authority, which was checked.
        (Method::Connect, Some(_)) => true,
        (Method::Options, Some(b'*')) => target.len() == 1,
        (_, first) => first == Some(&b'/'),
    };
    if is_form && syntax::is_target(target) { Ok(()) } else { Err(Refusal::Target) }
}

/// A scheme that is shown is one of HTTP's, as in an absolute target.
fn check_scheme(method: Method, uri: &http::Uri) -> Result<(), Refusal> {
    match uri.scheme_str() {
        Some("http" | "https") | None => Ok(()),
        Some(_) if method == Method::Connect => Ok(()),
        Some(_) => Err(Refusal::Target),
    }
}
