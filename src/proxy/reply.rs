//! The one table from what went wrong to what the client is told: status, stable word, sentence. No other file picks a status.
use crate::head::Head;
use crate::head::Version;
use crate::head::names::Name;
use crate::http1::refusal::RefusalKind;
use crate::proxy::error::Kind;

/// What a client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// The status; 499 is for logs and metrics only.
    pub status: u16,
    /// The stable word.
    pub word: &'static str,
    /// One sentence, nothing internal.
    pub message: &'static str,
    /// Seconds after which asking again makes sense, if it ever does.
    pub retry_after: Option<u32>,
}

/// The table.
pub fn of(kind: Kind) -> Reply {
    let (status, word, message) = match kind {
        Kind::Request(RefusalKind::BadRequest) => (400, "bad_request", "The request is malformed or ambiguous."),
        Kind::Request(RefusalKind::UriTooLong) => (414, "uri_too_long", "The request target is too long."),
        Kind::Request(RefusalKind::HeadersTooLarge) => (431, "headers_too_large", "The request's header is too large."),
        Kind::Request(RefusalKind::UnsupportedVersion) => {
            (505, "unsupported_version", "This version of HTTP is not supported.")
        }
        Kind::KeyMissing => (400, "key_missing", "The request has none of the values that this route is keyed by."),
        Kind::Denied => (403, "denied", "This client may not use this route."),
        Kind::RateLimited(_) => (429, "rate_limited", "Too many requests; slow down."),
        Kind::Misdirected => (421, "misdirected", "This connection was made for another host; make a new one."),
        Kind::NoRoute => (404, "no_route", "No route matches this request."),
        Kind::MethodNotAllowed => (405, "method_not_allowed", "This method is not allowed here."),
        Kind::ClientTimeout => (408, "timeout_client", "The request did not arrive in time."),
        Kind::TooLarge => (413, "too_large", "The request's body is too large."),
        Kind::ClientClosed => (499, "client_closed", "The client closed the connection."),
        Kind::Internal => (500, "internal", "The proxy failed to handle this request."),
        Kind::UpstreamConnect => (502, "upstream_connect", "No connection could be made to an upstream server."),
        Kind::UpstreamTls => (502, "upstream_tls", "No secure connection could be made to an upstream server."),
        Kind::UpstreamReset => (502, "upstream_reset", "The upstream server closed the connection before it answered."),
        Kind::BadUpstreamResponse => (502, "bad_upstream_response", "The upstream server's response is malformed."),
        Kind::Overloaded => (503, "overloaded", "The upstream server has as many requests as it may take."),
        Kind::LockQueueFull => (503, "lock_queue_full", "Too many requests wait for their turn at this."),
        Kind::LockTimeout => (503, "lock_timeout", "Others were at this for too long."),
        Kind::LeaseLost => (503, "lease_lost", "The turn at this was lost before there was an answer."),
        Kind::LockStoreLost => (503, "store_lost", "Whose turn it is is not known at the moment."),
        Kind::StoreLost => (503, "store_lost", "Who serves this is not known at the moment."),
        Kind::NoEndpoint => (503, "no_endpoint", "No upstream server is available."),
        Kind::UpstreamTimeout => (504, "upstream_timeout", "The upstream server did not answer in time."),
    };
    let retry_after = match (kind, status) {
        (Kind::RateLimited(seconds), _) => Some(seconds),
        (_, 503) => Some(1),
        _ => None,
    };
    Reply { status, word, message, retry_after }
}

/// Fills `head` and returns the body: JSON when the request accepts it explicitly, text otherwise; what a gRPC client
/// understands when one asks.
pub fn render(reply: Reply, request: &Head, request_id: &str, head: &mut Head) -> String {
    if request.version() == Version::Http2 && is_grpc(request) {
        render_grpc(reply, request_id, head);
        return String::new();
    }
    let wants_json = request.all(Name::Accept).any(|accept| contains(accept, b"json"));
    let (kind, body): (&[u8], _) = if wants_json {
        let (word, status, message) = (reply.word, reply.status, reply.message);
        let body = format!(
            "{{\"error\":\"{word}\",\"status\":{status},\"message\":\"{message}\",\"request_id\":\"{request_id}\"}}\n"
        );
        (b"application/json", body)
    } else {
        let body = format!("{}: {}\nrequest id: {request_id}\n", reply.word, reply.message);
        (b"text/plain; charset=utf-8", body)
    };
    head.set_response(reply.status, Default::default());
    head.push(b"Content-Type", kind);
    head.push(b"Cache-Control", b"no-store");
    head.push(b"X-Request-Id", request_id.as_bytes());
    if let Some(seconds) = reply.retry_after {
        head.push(b"Retry-After", itoa::Buffer::new().format(seconds).as_bytes());
    }
    body
}

fn is_grpc(request: &Head) -> bool {
    request.get(Name::ContentType).is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

/// A response of trailers alone, as gRPC has it: the status of HTTP says nothing, the call's status everything.
fn render_grpc(reply: Reply, request_id: &str, head: &mut Head) {
    // The codes that gRPC's own table gives to these statuses of HTTP, and where it has none the nearest.
    let status: &[u8] = match reply.status {
        400 => b"13",
        403 => b"7",
        404 | 405 => b"12",
        413 | 414 | 431 => b"8",
        408 | 499 => b"1",
        429 | 502 | 503 | 504 => b"14",
        _ => b"2",
    };
    head.set_response(200, Default::default());
    head.push(b"Content-Type", b"application/grpc");
    head.push(b"Grpc-Status", status);
    head.push(b"Grpc-Message", format!("{}: {}", reply.word, reply.message).as_bytes());
    head.push(b"X-Request-Id", request_id.as_bytes());
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Method;

    #[test]
    fn a_client_is_told_in_the_form_it_accepts() {
        let mut request = Head::default();
        request.set_request(Method::Get, b"GET", b"/");
        let mut head = Head::default();
        let text = render(of(Kind::NoRoute), &request, "abc", &mut head);
        assert_eq!(text, "no_route: No route matches this request.\nrequest id: abc\n");
        assert_eq!(head.status(), 404);
        request.push(b"Accept", b"text/html, application/json;q=0.9");
        head.clear();
        let json = render(of(Kind::NoEndpoint), &request, "abc", &mut head);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&value["error"], &value["request_id"]), (&"no_endpoint".into(), &"abc".into()));
        assert_eq!(head.get(Name::RetryAfter), Some(&b"1"[..]));
        request.push(b"Content-Type", b"application/grpc+proto");
        request.set_version(Version::Http2);
        head.clear();
        assert_eq!(render(of(Kind::NoEndpoint), &request, "abc", &mut head), "");
        assert_eq!((head.status(), head.all_named(b"grpc-status").next()), (200, Some(&b"14"[..])));
    }
}
