//! What a browser shows in place of the token: a cookie that says until when, signed with the token. Nothing is kept here, and another
//! token ends all sessions.
use super::settings::Settings;
use crate::base::token::Token;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::HeaderValue;
use http::header;
use ring::hmac;
use std::time::Duration;

/// How long a login lasts.
const LASTS: Duration = Duration::from_secs(12 * 3600);
const NAME: &str = "ringway_session";

/// The cookie of a session that begins `now`, in time since the epoch.
pub fn cookie(settings: &Settings, token: &Token, now: Duration) -> Option<HeaderValue> {
    let until = (now + LASTS).as_secs();
    let signature = hmac::sign(&signing_key(token), signed(until).as_bytes());
    set(settings, &format!("{until}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)), LASTS)
}

/// The cookie that ends a session.
pub fn ended(settings: &Settings) -> Option<HeaderValue> {
    set(settings, "", Duration::ZERO)
}

/// Whether a request shows a session of `token` that has not ended.
pub fn is_shown(headers: &HeaderMap, token: &Token, now: Duration) -> bool {
    let fields = headers.get_all(header::COOKIE).iter().filter_map(|field| field.to_str().ok());
    let mut pairs = fields.flat_map(|field| field.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.any(|(name, value)| name == NAME && is_valid(value, token, now))
}

fn is_valid(value: &str, token: &Token, now: Duration) -> bool {
    let Some((until, given)) = value.split_once('.') else { return false };
    let (Ok(until), Ok(given)) = (until.parse::<u64>(), BASE64_URL_SAFE_NO_PAD.decode(given)) else { return false };
    until > now.as_secs() && hmac::verify(&signing_key(token), signed(until).as_bytes(), &given).is_ok()
}

fn signing_key(token: &Token) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes())
}

/// What the signature is of.
fn signed(until: u64) -> String {
    format!("ringway admin session {until}")
}

fn set(settings: &Settings, value: &str, lasts: Duration) -> Option<HeaderValue> {
    let secure = if settings.tls.is_some() { "; Secure" } else { "" };
    let lasts = lasts.as_secs();
    HeaderValue::from_str(&format!("{NAME}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={lasts}{secure}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_with_its_time_and_with_its_token() {
        let (settings, token) = (Settings::default(), Token::new("s3cret"));
        let begun = Duration::from_secs(1_000_000);
        let cookie = cookie(&settings, &token, begun).unwrap();
        let shown = cookie.to_str().unwrap().split(';').next().unwrap().to_string();
        let is_shown = |cookie: &str, token: &Token, now: Duration| {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, HeaderValue::from_str(&format!("a=b; {cookie}")).unwrap());
            super::is_shown(&headers, token, now)
        };
        assert!(is_shown(&shown, &token, begun));
        assert!(!is_shown(&shown, &token, begun + LASTS));
        assert!(!is_shown(&shown, &Token::new("another"), begun));
        let longer = shown.replace("=1043200.", "=9043200.");
        assert!(longer != shown && !is_shown(&longer, &token, begun));
        for forged in ["ringway_session=", "ringway_session=9999999999.", "ringway_session=9999999999.00", "other=1"] {
            assert!(!is_shown(forged, &token, begun), "{forged}");
        }
    }
}
