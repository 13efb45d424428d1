//! Who may call: loopback only, not through a proxy, not from a page of somebody else's. Paths are not known here.
use http::HeaderMap;
use http::Method;
use http::Request;
use http::header;
use std::net::IpAddr;

/// Whether a request may be answered; if not, why.
pub fn check<B>(request: &Request<B>) -> Result<(), &'static str> {
    let headers = request.headers();
    // A scrape or a probe harms nobody, wherever it comes from.
    if matches!(request.uri().path(), "/healthz" | "/readyz" | "/metrics") {
        return Ok(());
    }
    if ["via", "forwarded", "x-forwarded-for"].iter().any(|name| headers.contains_key(*name)) {
        return Err("this request came through a proxy; call the admin address directly");
    }
    if !is_own_host(headers) {
        return Err("the Host of this request is not this machine's loopback");
    }
    if headers.get(header::ORIGIN).is_some_and(|origin| !is_own_origin(origin.as_bytes(), headers)) {
        return Err("this request was made by a page from elsewhere");
    }
    let kind = headers.get(header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    if request.method() == Method::POST && kind != Some(b"application/json") {
        return Err("POST needs Content-Type: application/json");
    }
    Ok(())
}

/// A name that somebody else's DNS points at loopback would let their pages in.
fn is_own_host(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_own_origin(origin: &[u8], headers: &HeaderMap) -> bool {
    let own = headers.get(header::HOST).map(http::HeaderValue::as_bytes);
    origin.strip_prefix(b"http://").is_some_and(|origin| Some(origin) == own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(method: &str, fields: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().method(method).uri("/api/v1/status");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        check(&request.body(()).unwrap()).is_ok()
    }

    #[test]
    fn only_direct_calls_from_this_machine_are_answered() {
        let host = ("host", "127.0.0.1:9900");
        assert!(
            allowed("GET", &[host])
                && allowed("GET", &[("host", "localhost:9900")])
                && allowed("GET", &[("host", "[::1]:9900")])
        );
        assert!(!allowed("GET", &[]) && !allowed("GET", &[("host", "evil.example:9900")]));
        for name in ["via", "forwarded", "x-forwarded-for"] {
            assert!(!allowed("GET", &[host, (name, "x")]), "{name}");
        }
        assert!(allowed("GET", &[host, ("origin", "http://127.0.0.1:9900")]));
        assert!(!allowed("GET", &[host, ("origin", "http://evil.example")]));
        assert!(!allowed("POST", &[host]) && !allowed("POST", &[host, ("content-type", "text/plain")]));
        assert!(allowed("POST", &[host, ("content-type", "application/json")]));
    }
}
