//! The dashboard: one page that reads the same API as everybody else, and the page that asks for the token. No build step, no
//! other host; whatever the API says is shown as text.
use super::reply::Reply;
use super::reply::reply;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::HeaderValue;
use http::StatusCode;
use http::header;
use ring::digest;
use std::sync::LazyLock;

const STYLE: &str = include_str!("dashboard.css");
const SCRIPT: &str = include_str!("dashboard.js");
const FRAME: &str = include_str!("frame.html");
const DASHBOARD: &str = include_str!("dashboard.html");
const LOGIN: &str = include_str!("login.html");

/// Nothing but our own style and script runs, whatever a hostile name of an endpoint could smuggle in.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| BASE64_STANDARD.encode(digest::digest(&digest::SHA256, text.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
});

/// The dashboard; `has_login` says that there is a way out of it.
pub fn dashboard(has_login: bool) -> Reply {
    let body = DASHBOARD.replacen("SCRIPT", SCRIPT, 1);
    let body = if has_login { body.replacen("data-login=\"no\"", "data-login=\"yes\"", 1) } else { body };
    page(StatusCode::OK, &body)
}

/// Asks for the token; `is_refused` says that the one before was wrong.
pub fn login(is_refused: bool) -> Reply {
    let message = if is_refused { "That is not the token." } else { "The interface of this proxy's operators." };
    page(StatusCode::UNAUTHORIZED, &LOGIN.replacen("MESSAGE", message, 1))
}

fn page(status: StatusCode, body: &str) -> Reply {
    let html = FRAME.replacen("STYLE", STYLE, 1).replacen("BODY", body, 1);
    let mut reply = reply(status, "text/html; charset=utf-8", html.into_bytes());
    let fields = reply.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&POLICY) {
        fields.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    fields.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    reply
}
