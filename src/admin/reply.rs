//! Replies: JSON, text, and what is wrong with a call.
use super::auth::Refusal;
use bytes::Bytes;
use http::Response;
use http::StatusCode;
use http_body_util::Full;
use serde::Serialize;

/// A reply to a call.
pub type Reply = Response<Full<Bytes>>;

#[derive(Serialize)]
struct Problem<'a> {
    error: &'a str,
}

/// A reply of any kind; never kept by a cache.
pub fn reply(status: StatusCode, kind: &str, body: Vec<u8>) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(body)));
    *reply.status_mut() = status;
    if let Ok(kind) = http::HeaderValue::from_str(kind) {
        reply.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    }
    reply.headers_mut().insert(http::header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    reply
}

/// A text.
pub fn text(status: StatusCode, body: &str) -> Reply {
    reply(status, "text/plain; charset=utf-8", body.as_bytes().to_vec())
}

/// A value as JSON.
pub fn json(status: StatusCode, body: &impl Serialize) -> Reply {
    match serde_json::to_vec_pretty(body) {
        Ok(mut body) => {
            body.push(b'\n');
            reply(status, "application/json", body)
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
    }
}

/// Why a call is not answered, `{"error": ...}`.
pub fn problem(status: StatusCode, message: &str) -> Reply {
    json(status, &Problem { error: message })
}

/// Why a call is refused, and to whom it is open.
pub fn refusal(refusal: Refusal) -> Reply {
    let mut reply = problem(refusal.status, refusal.message);
    if refusal.status == StatusCode::UNAUTHORIZED {
        reply.headers_mut().insert(http::header::WWW_AUTHENTICATE, http::HeaderValue::from_static("Bearer"));
    }
    reply
}
