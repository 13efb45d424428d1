//! Operators' door: a JSON API on a separate address, for loopback only.
pub mod auth;
pub mod metrics;
pub mod ports;
pub mod settings;
pub mod view;

use crate::analysis::explain;
use crate::base::ids::UpstreamName;
use crate::head::Client;
use crate::snapshot::handle::SnapshotHandle;
use bytes::Bytes;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use ports::Operator;
use serde::Serialize;
use std::convert::Infallible;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Connections at one time; more wait for their turn.
const MAX_CONNECTIONS: usize = 64;
/// Longest time for a request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause when no connection can be accepted.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// What the handlers share.
pub struct Admin {
    /// Where snapshots appear.
    pub snapshots: Arc<SnapshotHandle>,
    /// The rest of the program.
    pub operator: Arc<dyn Operator>,
}

type Reply = Response<Full<Bytes>>;

/// Serves until the task is dropped.
pub async fn serve(admin: Arc<Admin>, listener: TcpListener) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "The admin interface could not accept a connection.");
                tokio::time::sleep(SHORTAGE_PAUSE).await;
                continue;
            }
        };
        let admin = admin.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let admin = admin.clone();
                async move { Ok::<_, Infallible>(admin.answer(request).await) }
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
            if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "A connection to the admin interface failed.");
            }
            drop(slot);
        });
    }
}

impl Admin {
    async fn answer(&self, request: Request<Incoming>) -> Reply {
        if let Err(message) = auth::check(&request) {
            return json(StatusCode::FORBIDDEN, &Problem { error: message.to_string() });
        }
        let path: Vec<&str> = request.uri().path().split('/').skip(1).collect();
        let query = request.uri().query().unwrap_or_default();
        match (request.method(), path.as_slice()) {
            (&Method::GET | &Method::HEAD, ["healthz"]) => text(StatusCode::OK, "alive\n"),
            (&Method::GET | &Method::HEAD, ["readyz"]) => self.ready(),
            (&Method::GET, ["metrics"]) => self.metrics(),
            (&Method::GET, ["api", "v1", "status"]) => {
                json(StatusCode::OK, &view::status(&self.snapshots.load(), &self.operator.process()))
            }
            (&Method::GET, ["api", "v1", "upstreams"]) => {
                json(StatusCode::OK, &view::upstreams(&self.snapshots.load()))
            }
            (&Method::GET, ["api", "v1", "config"]) => self.config(),
            (&Method::GET, ["api", "v1", "explain"]) => self.explain(query),
            (&Method::GET, ["api", "v1", "upstreams", name, "explain"]) => self.explain_in(name, query),
            (&Method::POST, ["api", "v1", "reload"]) => self.reload().await,
            (_, ["api", "v1", "reload"]) => problem(StatusCode::METHOD_NOT_ALLOWED, "reload takes POST"),
            _ => problem(
                StatusCode::NOT_FOUND,
                "there is /metrics, /healthz, /readyz, /api/v1/status, /api/v1/config, /api/v1/upstreams, /api/v1/explain?url=, POST /api/v1/reload",
            ),
        }
    }

    fn ready(&self) -> Reply {
        match view::not_ready(&self.snapshots.load(), &self.operator.process()) {
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

    /// As written, one file after the other. This version's files hold no secrets, only names of files that do.
    fn config(&self) -> Reply {
        let parts = self.operator.config();
        let text: Vec<String> = parts.into_iter().map(|(name, text)| format!("# {name}\n{text}")).collect();
        reply(StatusCode::OK, "text/plain; charset=utf-8", text.join("\n").into_bytes())
    }

    fn explain(&self, query: &str) -> Reply {
        let Some(asked) = Asked::parse(query) else {
            return problem(
                StatusCode::BAD_REQUEST,
                "explain takes url=, and may take method=, header=NAME: VALUE, client_ip=, listener=",
            );
        };
        let (head, secure) = match explain::request(&asked.url, &asked.method, &asked.headers) {
            Ok(request) => request,
            Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
        };
        let client = Client { ip: asked.client_ip, secure };
        match explain::explain(&self.snapshots.load(), asked.listener.as_deref(), &head, &client) {
            Ok(explanation) => json(StatusCode::OK, &explanation),
            Err(error) => problem(StatusCode::NOT_FOUND, &error.to_string()),
        }
    }

    /// With `key=` the key itself; with `url=` the request, if it leads to this upstream.
    fn explain_in(&self, name: &str, query: &str) -> Reply {
        let Some(key) = pairs(query).find(|(name, _)| name == "key") else { return self.explain(query) };
        match explain::explain_key(&self.snapshots.load(), &UpstreamName::new(name), key.1.as_bytes()) {
            Some(explanation) => json(StatusCode::OK, &explanation),
            None => problem(StatusCode::NOT_FOUND, "there is no such upstream"),
        }
    }

    async fn reload(&self) -> Reply {
        match self.operator.reload().await {
            Ok(done) => json(StatusCode::OK, &serde_json::json!({ "result": done })),
            Err(problems) => json(StatusCode::UNPROCESSABLE_ENTITY, &Problem { error: problems }),
        }
    }
}

#[derive(Serialize)]
struct Problem {
    error: String,
}

/// What is to be explained.
struct Asked {
    url: String,
    method: String,
    headers: Vec<(String, String)>,
    client_ip: IpAddr,
    listener: Option<String>,
}

impl Asked {
    fn parse(query: &str) -> Option<Self> {
        let (mut url, mut method, mut headers) = (None, "GET".to_string(), Vec::new());
        let (mut client_ip, mut listener) = (IpAddr::V4(Ipv4Addr::LOCALHOST), None);
        for (name, value) in pairs(query) {
            match name.as_str() {
                "url" => url = Some(value),
                "method" => method = value,
                "header" => {
                    let (name, value) = value.split_once(':')?;
                    headers.push((name.trim().to_string(), value.trim().to_string()));
                }
                "client_ip" => client_ip = value.parse().ok()?,
                "listener" => listener = Some(value),
                _ => return None,
            }
        }
        Some(Self { url: url?, method, headers, client_ip, listener })
    }
}

/// The pairs of a query, decoded.
fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned()
    };
    query.split('&').filter(|pair| !pair.is_empty()).map(move |pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

fn reply(status: StatusCode, kind: &str, body: Vec<u8>) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(body)));
    *reply.status_mut() = status;
    if let Ok(kind) = http::HeaderValue::from_str(kind) {
        reply.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    }
    reply.headers_mut().insert(http::header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    reply
}

fn text(status: StatusCode, body: &str) -> Reply {
    reply(status, "text/plain; charset=utf-8", body.as_bytes().to_vec())
}

fn json(status: StatusCode, body: &impl Serialize) -> Reply {
    match serde_json::to_vec_pretty(body) {
        Ok(mut body) => {
            body.push(b'\n');
            reply(status, "application/json", body)
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
    }
}

fn problem(status: StatusCode, message: &str) -> Reply {
    json(status, &Problem { error: message.to_string() })
}
