//! Who may call: with the token if there is one, not through a proxy, not from a page of somebody else's.
use super::session;
use super::settings::Settings;
use crate::base::clock;
use http::HeaderMap;
use http::Method;
use http::Request;
use http::StatusCode;
use http::header;
use std::net::IpAddr;

/// Where the token is turned into a session.
pub const LOGIN: &str = "/login";

/// Why a call is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// 401 without a valid token, else 403.
    pub status: StatusCode,
    /// In words.
    pub message: &'static str,
}

const fn forbidden(message: &'static str) -> Refusal {
    Refusal { status: StatusCode::FORBIDDEN, message }
}

/// Whether a request may be answered.
///
/// # Errors
/// Why not.
pub fn check<B>(request: &Request<B>, settings: &Settings) -> Result<(), Refusal> {
    let headers = request.headers();
    // A probe learns a yes or a no, wherever it comes from.
    if matches!(request.uri().path(), "/healthz" | "/readyz") {
        return Ok(());
    }
    if ["via", "forwarded", "x-forwarded-for"].iter().any(|name| headers.contains_key(*name)) {
        return Err(forbidden("this request came through a proxy; call the admin address directly"));
    }
    // Beyond loopback scrapers call by whatever name they know; on loopback only a page that DNS leads here would.
    if request.uri().path() == "/metrics" && !settings.address.ip().is_loopback() {
        return Ok(());
    }
    if !is_own_host(headers, settings) {
        return Err(forbidden(
            "the Host of this request is not this admin interface's; call it by its address, or list the name in admin.hosts",
        ));
    }
    if headers.get(header::ORIGIN).is_some_and(|origin| !is_own_origin(origin.as_bytes(), headers, settings)) {
        return Err(forbidden("this request was made by a page from elsewhere"));
    }
    match &settings.token {
        _ if request.uri().path() == "/metrics" => Ok(()),
        Some(token) if bearer(headers).is_some_and(|given| token.is(given)) => Ok(()),
        // Whoever asks to be let in shows the token in the request's body.
        Some(_) if request.uri().path() == LOGIN && request.method() == Method::POST => of_own_page(headers),
        Some(token) if session::is_shown(headers, token, clock::since_epoch()) => {
            if request.method() == Method::POST {
                of_own_page(headers)
            } else {
                Ok(())
            }
        }
        Some(_) => Err(Refusal {
            status: StatusCode::UNAUTHORIZED,
            message: "this needs the admin token: Authorization: Bearer TOKEN",
        }),
        // No form of a page can send these types without asking first.
        None if request.method() == Method::POST && !is_own_type(headers) => {
            Err(forbidden("POST needs Content-Type: application/json, or application/toml"))
        }
        None => Ok(()),
    }
}

/// A browser shows its cookie on its own account: who made it call has to be one of our pages. Whose `Origin` was there is known to be.
fn of_own_page(headers: &HeaderMap) -> Result<(), Refusal> {
    let is_from_page = headers.contains_key(header::ORIGIN);
    if is_from_page {
        Ok(())
    } else {
        Err(forbidden("a POST of a session needs its Origin; a program shows the token itself"))
    }
}

fn is_own_type(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    ["application/json", "application/toml"].iter().any(|own| kind.eq_ignore_ascii_case(own))
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// A name that somebody else's DNS points at this address would let their pages in; numbers cannot be pointed elsewhere.
fn is_own_host(headers: &HeaderMap, settings: &Settings) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next().and_then(|host| host.to_str().ok()), hosts.next()) else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let number = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_own_number = number.is_ok_and(|number| number.is_loopback() || !settings.address.ip().is_loopback());
    let mut names = settings.hosts.iter().map(String::as_str).chain(["localhost"]);
    is_own_number || names.any(|own| own.eq_ignore_ascii_case(name))
}

fn is_own_origin(origin: &[u8], headers: &HeaderMap, settings: &Settings) -> bool {
    let own = headers.get(header::HOST).map(http::HeaderValue::as_bytes);
    let scheme: &[u8] = if settings.tls.is_some() { b"https://" } else { b"http://" };
    origin.strip_prefix(scheme).is_some_and(|origin| Some(origin) == own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::token::Token;

    const HOST: (&str, &str) = ("host", "127.0.0.1:9900");
    const JSON: (&str, &str) = ("content-type", "application/json");

    /// The status of a refusal, or 200.
    fn answer(settings: &Settings, method: &str, path: &str, fields: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        check(&request.body(()).unwrap(), settings).map_or_else(|refusal| refusal.status.as_u16(), |()| 200)
    }

    fn with_token(address: &str) -> Settings {
        let token = Some(Token::new("s3cret"));
        Settings {
            address: address.parse().unwrap(),
            token,
            hosts: vec!["ringway.internal".into()],
            tls: None,
            debug_token: None,
        }
    }

    #[test]
    fn only_direct_calls_from_this_machine_are_answered() {
        let get = |fields: &[(&str, &str)]| answer(&Settings::default(), "GET", "/api/v1/status", fields);
        for host in ["127.0.0.1:9900", "localhost:9900", "LOCALHOST", "[::1]:9900"] {
            assert_eq!(get(&[("host", host)]), 200, "{host}");
        }
        for host in ["evil.example:9900", "10.0.0.1:9900", "127.0.0.1.evil.example", ""] {
            assert_eq!(get(&[("host", host)]), 403, "{host}");
        }
        assert_eq!(get(&[]), 403);
        assert_eq!(get(&[HOST, ("host", "evil.example")]), 403, "two of them");
        for name in ["via", "forwarded", "x-forwarded-for"] {
            assert_eq!(get(&[HOST, (name, "x")]), 403, "{name}");
        }
        assert_eq!(get(&[HOST, ("origin", "http://127.0.0.1:9900")]), 200);
        for origin in ["http://evil.example", "null", "https://127.0.0.1:9900", "http://127.0.0.1:9901"] {
            assert_eq!(get(&[HOST, ("origin", origin)]), 403, "{origin}");
        }
    }

    #[test]
    fn without_a_token_a_post_needs_a_type_that_no_form_has() {
        let post = |fields: &[(&str, &str)]| answer(&Settings::default(), "POST", "/api/v1/reload", fields);
        assert_eq!((post(&[HOST]), post(&[HOST, ("content-type", "text/plain")])), (403, 403));
        assert_eq!(
            (post(&[HOST, JSON]), post(&[HOST, ("content-type", "application/json; charset=utf-8")])),
            (200, 200)
        );
    }

    #[test]
    fn a_token_opens_all_and_is_needed_for_all_but_probes_and_scrapes() {
        let settings = with_token("127.0.0.1:9900");
        for path in ["/healthz", "/readyz", "/metrics"] {
            assert_eq!(answer(&settings, "GET", path, &[HOST]), 200, "{path}");
        }
        for (fields, expected) in [
            (&[HOST][..], 401),
            (&[HOST, ("authorization", "Bearer s3cret")], 200),
            (&[HOST, ("authorization", "bearer  s3cret ")], 200),
            (&[HOST, ("authorization", "Bearer s3cre")], 401),
            (&[HOST, ("authorization", "Bearer s3cretx")], 401),
            (&[HOST, ("authorization", "Bearer ")], 401),
            (&[HOST, ("authorization", "Basic s3cret")], 401),
            (&[HOST, ("authorization", "Bearer s3cret"), ("via", "1.1 x")], 403),
            (&[HOST, ("authorization", "Bearer s3cret"), ("origin", "http://evil.example")], 403),
            (&[("host", "evil.example"), ("authorization", "Bearer s3cret")], 403),
        ] {
            assert_eq!(answer(&settings, "GET", "/api/v1/status", fields), expected, "{fields:?}");
            assert_eq!(answer(&settings, "POST", "/api/v1/reload", fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn beyond_loopback_numbers_and_listed_names_are_its_own() {
        let settings = with_token("0.0.0.0:9900");
        let get =
            |host| answer(&settings, "GET", "/api/v1/status", &[("host", host), ("authorization", "Bearer s3cret")]);
        for host in ["10.0.0.1:9900", "[2001:db8::1]:9900", "ringway.internal:9900", "localhost"] {
            assert_eq!(get(host), 200, "{host}");
        }
        assert_eq!(get("evil.example"), 403);
    }

    #[test]
    fn a_page_whose_name_leads_to_loopback_reads_no_metrics() {
        let scrape = |settings: &Settings, host| answer(settings, "GET", "/metrics", &[("host", host)]);
        assert_eq!(scrape(&Settings::default(), "evil.example:9900"), 403);
        assert_eq!(scrape(&Settings::default(), "localhost:9900"), 200);
        assert_eq!(scrape(&with_token("0.0.0.0:9900"), "ringway:9900"), 200);
    }

    #[test]
    fn a_scrape_through_a_proxy_is_refused_and_a_probe_is_not() {
        let through = [("x-forwarded-for", "1.1.1.1")];
        assert_eq!(answer(&Settings::default(), "GET", "/metrics", &through), 403);
        assert_eq!(answer(&Settings::default(), "GET", "/readyz", &through), 200);
    }
}
