//! `status`, `reload`: talks to a running proxy by its admin address.
use super::AdminArgs;
use super::FAILED;
use super::OK;
use crate::admin::view;
use anyhow::Context;
use anyhow::bail;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::path::Path;
use std::time::Duration;
use std::time::UNIX_EPOCH;

/// Where the token is unless a file is given.
const TOKEN: &str = "RINGWAY_TOKEN";
/// Longest time for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Prints a proxy's upstreams and endpoints.
///
/// # Errors
/// When it cannot be asked.
pub fn status(args: &AdminArgs) -> anyhow::Result<u8> {
    let value = Door::of(args)?.call("GET", "/api/v1/status")?;
    if args.json {
        println!("{value}");
        return Ok(OK);
    }
    let status: view::Status = serde_json::from_value(value).context("understand the proxy's answer")?;
    let ready = if status.ready { "ready" } else { "not ready" };
    println!(
        "ringway {} {ready}, up {}s, {} workers, generation {}, reloads {} taken up, {} refused",
        status.version,
        status.uptime_seconds,
        status.workers,
        status.generation,
        status.reloads.successes,
        status.reloads.failures
    );
    for listener in &status.listeners {
        let tunnels = if listener.tunnels > 0 { format!("  {} upgraded", listener.tunnels) } else { String::new() };
        println!("listener {}  {} connections{tunnels}", listener.name, listener.connections);
        for certificate in &listener.certificates {
            let end = UNIX_EPOCH + Duration::from_secs(certificate.not_after.max(0) as u64);
            println!("  certificate {}  until {}", certificate.name, httpdate::fmt_http_date(end));
        }
    }
    for upstream in &status.upstreams {
        let panic = if upstream.panic { "  PANIC: verdicts are ignored" } else { "" };
        println!("upstream {}  ring {}  {} points{panic}", upstream.name, upstream.fingerprint, upstream.points);
        for endpoint in &upstream.endpoints {
            println!(
                "  {:<24} {:<22} {:<8} weight {:<4} {:>6.2}% of keys  {:>4} in flight  {} ok  {} failed",
                endpoint.id,
                endpoint.address,
                endpoint.state,
                endpoint.weight,
                endpoint.key_share * 100.0,
                endpoint.in_flight,
                endpoint.ok,
                endpoint.failed
            );
            match endpoint.addresses.as_slice() {
                [] => println!("    its name was never resolved"),
                [only] if *only == endpoint.address => {}
                several => println!("    leads to {}", several.join(" ")),
            }
            if let Some(problem) = endpoint.last_check.as_ref().and_then(|check| check.problem.as_ref()) {
                println!("    last health check: {problem}");
            }
        }
    }
    Ok(OK)
}

/// Whether a proxy is ready, by the exit code alone: for probes where there is no shell and no curl.
///
/// # Errors
/// When it cannot be asked.
pub fn ready(args: &AdminArgs) -> anyhow::Result<u8> {
    let status = Door::of(args)?.call("GET", "/api/v1/status")?;
    Ok(if status["ready"] == true { OK } else { FAILED })
}

/// Has a proxy read its configuration again and prints what came of it.
///
/// # Errors
/// When it cannot be asked.
pub fn reload(args: &AdminArgs) -> anyhow::Result<u8> {
    match Door::of(args)?.call("POST", "/api/v1/reload") {
        Ok(value) if args.json => println!("{value}"),
        Ok(value) => println!("{}", value["result"].as_str().unwrap_or("done")),
        Err(error) => {
            eprintln!("{error}");
            return Ok(FAILED);
        }
    }
    Ok(OK)
}

/// A proxy's admin interface, and what opens it.
pub struct Door {
    url: String,
    token: Option<String>,
}

impl Door {
    /// The interface that a command's arguments name.
    ///
    /// # Errors
    /// When the token's file cannot be read.
    pub fn of(args: &AdminArgs) -> anyhow::Result<Self> {
        Self::new(&args.admin, args.token_file.as_deref())
    }

    /// The interface at `url`, with the token in the file or in the environment.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn new(url: &str, token_file: Option<&Path>) -> anyhow::Result<Self> {
        let token = match token_file {
            Some(path) => {
                let text = std::fs::read_to_string(path);
                Some(text.with_context(|| format!("read the token in {}", path.display()))?)
            }
            None => std::env::var(TOKEN).ok(),
        };
        Ok(Self { url: url.to_string(), token: token.map(|token| token.trim().to_string()) })
    }

    /// Calls; an answer that is not a success is an error with what it says.
    ///
    /// # Errors
    /// When nobody answers, or the answer is a refusal.
    pub fn call(&self, method: &str, path: &str) -> anyhow::Result<serde_json::Value> {
        let asked = async { tokio::time::timeout(TIMEOUT, self.exchange(method, path)).await };
        super::runtime()?.block_on(asked).context("get an answer in time")?
    }

    async fn exchange(&self, method: &str, path: &str) -> anyhow::Result<serde_json::Value> {
        let request = self.request(method, path)?;
        let target = request.headers()[header::HOST].to_str()?.to_string();
        let stream = tokio::net::TcpStream::connect(&target).await;
        let stream =
            stream.with_context(|| format!("connect to the admin interface at {target}: is the proxy running?"))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        read(sender.send_request(request).await?).await
    }

    fn request(&self, method: &str, path: &str) -> anyhow::Result<Request<Full<Bytes>>> {
        let admin = &self.url;
        let uri: http::Uri = admin.parse().with_context(|| format!("read {admin} as a URL"))?;
        let (Some(host), Some("http")) = (uri.host(), uri.scheme_str()) else {
            bail!("{admin} is not the URL of an admin interface; write http://127.0.0.1:9900")
        };
        let target = format!("{host}:{}", uri.port_u16().unwrap_or(80));
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, target);
        request = request.header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        Ok(request.body(Full::new(Bytes::new()))?)
    }
}

async fn read(response: Response<Incoming>) -> anyhow::Result<serde_json::Value> {
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    let value: serde_json::Value = serde_json::from_slice(&body).context("understand the proxy's answer")?;
    if status == StatusCode::UNAUTHORIZED {
        bail!("the proxy wants its admin token: give --token-file FILE, or set {TOKEN}");
    }
    if !status.is_success() {
        bail!("{}", value["error"].as_str().unwrap_or("the proxy refused"));
    }
    Ok(value)
}
