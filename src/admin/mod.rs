//! Operators' door: a JSON API on a separate address.
pub mod auth;
pub mod checks;
pub mod fleet;
pub mod hotkeys;
pub mod metrics;
pub mod page;
pub mod ports;
pub mod query;
pub mod reply;
pub mod session;
pub mod settings;
pub mod turns;
pub mod view;

#[cfg(test)]
mod tests;

use crate::analysis::explain;
use crate::analysis::explain::Explanation;
use crate::base::clock;
use crate::base::ids::EndpointId;
use crate::base::ids::UpstreamName;
use crate::base::moment;
use crate::control::ControlError;
use crate::control::Drain;
use crate::control::archive;
use crate::control::archive::Past;
use crate::control::archive::PastError;
use crate::control::history::History;
use crate::head::Client;
use crate::snapshot::Snapshot;
use crate::snapshot::handle::SnapshotHandle;
use crate::telemetry::logging::Throttle;
use crate::telemetry::settings::Level;
use bytes::Bytes;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::StatusCode;
use http::header;
use http_body_util::BodyExt;
use http_body_util::Limited;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use ports::Operator;
use ports::Which;
use query::Asked;
use query::pairs;
use reply::Reply;
use reply::json;
use reply::problem;
use reply::reply;
use reply::text;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::sync::watch;

/// Connections at one time; more wait for their turn.
const MAX_CONNECTIONS: usize = 64;
/// Longest time for a request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time for its body, and the body's size.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_BODY: usize = 4 << 10;
/// Pause before a wrong token is told.
const WRONG_PAUSE: Duration = Duration::from_millis(500);
/// The size of a configuration that is sent: one with 10,000 endpoints is a tenth of it.
const MAX_CONFIG: usize = 8 << 20;
/// Pause when no connection can be accepted.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// What the handlers share.
pub struct Admin {
    /// Where snapshots appear.
    pub snapshots: Arc<SnapshotHandle>,
    /// The last changes.
    pub history: History,
    /// The rest of the program.
    pub operator: Arc<dyn Operator>,
}

/// Serves until the task is dropped, or `leave` says that another program answers from now on.
pub async fn serve(admin: Arc<Admin>, listener: TcpListener, mut leave: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = told(&mut leave) => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "The admin interface could not accept a connection.");
                tokio::time::sleep(SHORTAGE_PAUSE).await;
                continue;
            }
        };
        let (admin, mut leave) = (admin.clone(), leave.clone());
        tokio::spawn(async move {
            match admin.operator.settings().tls.as_ref().map(|tls| tls.acceptor()) {
                None => converse(&admin, stream, &mut leave).await,
                Some(acceptor) => match tokio::time::timeout(HEADER_TIMEOUT, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => converse(&admin, stream, &mut leave).await,
                    Ok(Err(error)) => tracing::debug!(%error, "TLS with a caller of the admin interface failed."),
                    Err(_) => tracing::debug!("A caller of the admin interface was too slow for TLS."),
                },
            }
            drop(slot);
        });
    }
}

/// Answers the requests of one connection, until its end or until it is time to leave.
async fn converse(admin: &Arc<Admin>, stream: impl AsyncRead + AsyncWrite + Unpin, leave: &mut watch::Receiver<bool>) {
    let service = service_fn(|request| {
        let admin = admin.clone();
        async move { Ok::<_, Infallible>(admin.answer(request).await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = told(leave) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "A connection to the admin interface failed.");
    }
}

/// A body, if it comes whole, in time and not too large.
async fn whole(body: Incoming, max: usize) -> Option<Bytes> {
    let read = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, max).collect());
    Some(read.await.ok()?.ok()?.to_bytes())
}

/// Waits until it is time to leave; for ever when that is never said.
async fn told(leave: &mut watch::Receiver<bool>) {
    if leave.wait_for(|is_said| *is_said).await.is_err() {
        std::future::pending().await
    }
}

/// A session for whoever sends the token in a form.
async fn login(settings: &settings::Settings, body: Incoming) -> Reply {
    let Some(token) = &settings.token else { return to_the_page(None) };
    let form = whole(body, MAX_BODY).await.unwrap_or_default();
    let form = String::from_utf8_lossy(&form);
    let given = pairs(&form).find(|(name, _)| name == "token").map(|(_, token)| token).unwrap_or_default();
    if token.is(given.trim().as_bytes()) {
        return to_the_page(session::cookie(settings, token, clock::since_epoch()));
    }
    static WRONG: Throttle = Throttle::new();
    if let Some(held_back) = WRONG.pass() {
        tracing::warn!(held_back, "Somebody sent a wrong token to the admin interface's login.");
    }
    // Guessing takes its time; there are only so many connections.
    tokio::time::sleep(WRONG_PAUSE).await;
    page::login(true)
}

fn to_the_page(cookie: Option<HeaderValue>) -> Reply {
    let mut reply = text(StatusCode::SEE_OTHER, "");
    reply.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/"));
    if let Some(cookie) = cookie {
        reply.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    reply
}

impl Admin {
    /// Why the proxy is not ready for requests; `None` when it is.
    pub fn not_ready(&self) -> Option<String> {
        view::not_ready(&self.snapshots.load(), &self.operator.process())
    }

    async fn answer(&self, request: Request<Incoming>) -> Reply {
        let settings = self.operator.settings();
        if let Err(refusal) = auth::check(&request, &settings) {
            let asks_for_page = request.method() == Method::GET && request.uri().path() == "/";
            let is_unknown = refusal.status == StatusCode::UNAUTHORIZED;
            return if is_unknown && asks_for_page { page::login(false) } else { reply::refusal(refusal) };
        }
        let (head, body) = request.into_parts();
        let segments = query::segments(head.uri.path());
        let path: Vec<&str> = segments.iter().map(String::as_str).collect();
        let query = head.uri.query().unwrap_or_default();
        match (&head.method, path.as_slice()) {
            (&Method::GET | &Method::HEAD, ["healthz"]) => text(StatusCode::OK, "alive\n"),
            (&Method::GET | &Method::HEAD, ["readyz"]) => self.ready(),
            (&Method::GET | &Method::HEAD, [""]) => page::dashboard(settings.token.is_some()),
            (&Method::POST, ["login"]) => login(&settings, body).await,
            (&Method::POST, ["logout"]) => to_the_page(session::ended(&settings)),
            (&Method::GET, ["metrics"]) => self.metrics(),
            (&Method::GET, ["api", "v1", "status"]) => {
                json(StatusCode::OK, &view::status(&self.snapshots.load(), &self.operator.process()))
            }
            (&Method::GET, ["api", "v1", "upstreams"]) => {
                json(StatusCode::OK, &view::upstreams(&self.snapshots.load()))
            }
            (&Method::GET, ["api", "v1", "config"]) => self.config(),
            (&Method::GET, ["api", "v1", "history"]) => json(StatusCode::OK, &view::history(&self.history.changes())),
            (&Method::GET, ["api", "v1", "fleet"]) => match self.operator.process().fleet {
                Some(peers) => json(StatusCode::OK, &fleet::fleet(&peers)),
                None => problem(StatusCode::NOT_FOUND, "there is no [fleet] in the configuration"),
            },
            (&Method::GET, ["api", "v1", "loglevel"]) => self.log_level(),
            (&Method::POST, ["api", "v1", "loglevel"]) => self.set_log_level(body).await,
            (&Method::GET, ["api", "v1", "upstreams", name, "ring"]) => self.ring(name),
            (&Method::GET, ["api", "v1", "upstreams", name, "hotkeys"]) => self.hotkeys(name),
            (&Method::GET, ["api", "v1", "explain"]) => self.explain(query),
            (&Method::GET, ["api", "v1", "upstreams", name, "explain"]) => self.explain_in(name, query),
            (&Method::POST, ["api", "v1", "reload"]) => self.reload(query).await,
            (&Method::POST, ["api", "v1", "approve"]) => self.approve(query).await,
            (&Method::POST, ["api", "v1", "plan"]) => self.plan(body).await,
            (&Method::POST, ["api", "v1", "upstreams", upstream, "endpoints", id, "drain"]) => {
                self.drain(upstream, id, true).await
            }
            (&Method::POST, ["api", "v1", "upstreams", upstream, "endpoints", id, "undrain"]) => {
                self.drain(upstream, id, false).await
            }
            (
                _,
                ["api", "v1", "reload" | "approve" | "plan"]
                | ["api", "v1", "upstreams", _, "endpoints", _, "drain" | "undrain"],
            ) => problem(StatusCode::METHOD_NOT_ALLOWED, "this takes POST"),
            _ => problem(
                StatusCode::NOT_FOUND,
                "there is / (the dashboard), /metrics, /healthz, /readyz, and below /api/v1: status, config, history, fleet, loglevel, upstreams, upstreams/U/ring, upstreams/U/hotkeys, explain?url=, upstreams/U/explain?key=, POST reload, POST approve, POST plan, POST loglevel, POST upstreams/U/endpoints/ID/drain, POST upstreams/U/endpoints/ID/undrain",
            ),
        }
    }

    fn ready(&self) -> Reply {
        match self.not_ready() {
            None => text(StatusCode::OK, "ready\n"),
            Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("not ready: {why}\n")),
        }
    }

    fn metrics(&self) -> Reply {
        match metrics::render(&self.snapshots.load(), &self.operator.process()) {
            Ok(body) => reply(StatusCode::OK, prometheus::TEXT_FORMAT, body),
            Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }

    /// As written, one file after the other.
    fn config(&self) -> Reply {
        let parts = self.operator.config();
        let text: Vec<String> = parts.into_iter().map(|(name, text)| format!("# {name}\n{text}")).collect();
        reply(StatusCode::OK, "text/plain; charset=utf-8", text.join("\n").into_bytes())
    }

    fn ring(&self, name: &str) -> Reply {
        match self.snapshots.load().upstream_named(&UpstreamName::new(name)) {
            Some(upstream) => json(StatusCode::OK, &view::ring(upstream)),
            None => problem(StatusCode::NOT_FOUND, "there is no such upstream"),
        }
    }

    fn hotkeys(&self, name: &str) -> Reply {
        match self.snapshots.load().upstream_named(&UpstreamName::new(name)) {
            Some(upstream) => json(StatusCode::OK, &hotkeys::hotkeys(upstream)),
            None => problem(StatusCode::NOT_FOUND, "there is no such upstream"),
        }
    }

    fn log_level(&self) -> Reply {
        json(StatusCode::OK, &view::LogLevel { level: self.operator.log_level().as_str().to_string() })
    }

    async fn set_log_level(&self, body: Incoming) -> Reply {
        let wanted: Option<view::LogLevel> =
            whole(body, MAX_BODY).await.and_then(|body| serde_json::from_slice(&body).ok());
        match wanted.and_then(|wanted| Level::of(&wanted.level)) {
            Some(level) => {
                self.operator.set_log_level(level);
                self.log_level()
            }
            None => problem(
                StatusCode::BAD_REQUEST,
                "this takes {\"level\": \"info\"}, or one of error, warn, debug, trace",
            ),
        }
    }

    fn explain(&self, query: &str) -> Reply {
        let Some(asked) = Asked::parse(query) else {
            return problem(
                StatusCode::BAD_REQUEST,
                "explain takes url=, and may take method=, header=NAME: VALUE, client_ip=, listener=, at=",
            );
        };
        let (head, secure) = match explain::request(&asked.url, &asked.method, &asked.headers) {
            Ok(request) => request,
            Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
        };
        let client = Client { ip: asked.client_ip, secure };
        let snapshot = self.snapshots.load();
        match explain::explain(&snapshot, asked.listener.as_deref(), &head, &client) {
            Ok(explanation) => self.explained(&snapshot, explanation, asked.at.as_deref()),
            Err(error) => problem(StatusCode::NOT_FOUND, &error.to_string()),
        }
    }

    /// With `key=` the key itself; with `url=` the request, if it leads to this upstream.
    fn explain_in(&self, name: &str, query: &str) -> Reply {
        let Some(key) = pairs(query).find(|(name, _)| name == "key") else { return self.explain(query) };
        let at = pairs(query).find(|(name, _)| name == "at").map(|(_, at)| at);
        let snapshot = self.snapshots.load();
        match explain::explain_key(&snapshot, &UpstreamName::new(name), key.1.as_bytes()) {
            Some(explanation) => self.explained(&snapshot, explanation, at.as_deref()),
            None => problem(StatusCode::NOT_FOUND, "there is no such upstream"),
        }
    }

    /// An explanation of now, or made one of the moment that is asked about.
    fn explained(&self, snapshot: &Snapshot, explanation: Explanation, at: Option<&str>) -> Reply {
        let Some(at) = at else { return json(StatusCode::OK, &explanation) };
        let at = match moment::parse(at, clock::since_epoch()) {
            Ok(at) => at,
            Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
        };
        let upstream = explanation.upstream.as_deref().map(UpstreamName::new);
        let Some(upstream) = upstream.and_then(|name| snapshot.upstream_named(&name)) else {
            return problem(StatusCode::NOT_FOUND, "this request leads to no upstream, so nobody owned its key");
        };
        match archive::ring_at(&self.history.changes(), &upstream.name, &upstream.ring, at) {
            Ok(Past { ring, since, cause, generation }) => {
                let then = Explanation {
                    at: Some(clock::rfc3339(at)),
                    since: Some((clock::rfc3339(since), cause.as_str())),
                    generation,
                    ..explanation.in_ring(upstream, &ring)
                };
                json(StatusCode::OK, &then)
            }
            Err(error @ PastError::Changing(_)) => problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
            Err(error) => problem(StatusCode::NOT_FOUND, &error.to_string()),
        }
    }

    async fn reload(&self, query: &str) -> Reply {
        let is_forced = match query {
            "" | "force=false" => false,
            "force=true" => true,
            _ => return problem(StatusCode::BAD_REQUEST, "reload may take force=true"),
        };
        match self.operator.reload(is_forced).await {
            Ok(done) => json(StatusCode::OK, &serde_json::json!({ "result": done })),
            Err(problems) => problem(StatusCode::UNPROCESSABLE_ENTITY, &problems),
        }
    }

    async fn approve(&self, query: &str) -> Reply {
        let mut given = pairs(query);
        let which = match (given.next(), given.next()) {
            (None, _) => Which::All,
            (Some((name, value)), None) if name == "configuration" && value == "true" => Which::Configuration,
            (Some((name, upstream)), None) if name == "upstream" => {
                let upstream = UpstreamName::new(&upstream);
                if self.snapshots.load().upstream_named(&upstream).is_none() {
                    return problem(StatusCode::NOT_FOUND, "there is no such upstream");
                }
                Which::Members(Some(upstream))
            }
            _ => {
                let message = "approve takes nothing, for all that is held, or upstream=NAME, or configuration=true";
                return problem(StatusCode::BAD_REQUEST, message);
            }
        };
        match self.operator.approve(which).await {
            Ok(approved) => json(StatusCode::OK, &view::Approved { approved }),
            Err(problems) => problem(StatusCode::UNPROCESSABLE_ENTITY, &problems),
        }
    }

    /// What the configuration in the body would do; it changes nothing.
    async fn plan(&self, body: Incoming) -> Reply {
        let Some(body) = whole(body, MAX_CONFIG).await else {
            return problem(
                StatusCode::PAYLOAD_TOO_LARGE,
                "this takes a configuration of at most 8 MiB, sent within 10 seconds",
            );
        };
        let Ok(text) = String::from_utf8(body.to_vec()) else {
            return problem(StatusCode::UNPROCESSABLE_ENTITY, "a configuration is UTF-8");
        };
        match self.operator.plan(text).await {
            Ok(plan) => json(StatusCode::OK, &plan),
            Err(problems) => problem(StatusCode::UNPROCESSABLE_ENTITY, &problems),
        }
    }

    async fn drain(&self, upstream: &str, id: &str, is_on: bool) -> Reply {
        let drain = Drain { upstream: UpstreamName::new(upstream), endpoint: EndpointId::new(id), is_on };
        match self.operator.drain(drain.clone()).await {
            Ok(drained) => json(StatusCode::OK, &view::drained(&self.snapshots.load(), &drain, drained)),
            Err(error @ ControlError::NoEndpoint(..)) => problem(StatusCode::NOT_FOUND, &error.to_string()),
            Err(error) => problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
        }
    }
}
