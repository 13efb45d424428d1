//! `status`, `reload`: talks to a running proxy by its admin address.
use super::AdminArgs;
use super::FAILED;
use super::OK;
use crate::admin::view;
use anyhow::Context;
use anyhow::bail;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use std::time::Duration;

/// Longest time for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Prints a proxy's upstreams and endpoints.
///
/// # Errors
/// When it cannot be asked.
pub fn status(args: &AdminArgs) -> anyhow::Result<u8> {
    let value = call(&args.admin, "GET", "/api/v1/status")?;
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

/// Has a proxy read its configuration again and prints what came of it.
///
/// # Errors
/// When it cannot be asked.
pub fn reload(args: &AdminArgs) -> anyhow::Result<u8> {
    match call(&args.admin, "POST", "/api/v1/reload") {
        Ok(value) if args.json => println!("{value}"),
        Ok(value) => println!("{}", value["result"].as_str().unwrap_or("done")),
        Err(error) => {
            eprintln!("{error}");
            return Ok(FAILED);
        }
    }
    Ok(OK)
}

/// Calls the admin interface; an answer that is not a success is an error with what it says.
///
/// # Errors
/// When nobody answers, or the answer is a refusal.
pub fn call(admin: &str, method: &str, path: &str) -> anyhow::Result<serde_json::Value> {
    let asked = async { tokio::time::timeout(TIMEOUT, exchange(admin, method, path)).await };
    super::runtime()?.block_on(asked).context("get an answer in time")?
}

async fn exchange(admin: &str, method: &str, path: &str) -> anyhow::Result<serde_json::Value> {
    let uri: http::Uri = admin.parse().with_context(|| format!("read {admin} as a URL"))?;
    let (Some(host), port) = (uri.host(), uri.port_u16().unwrap_or(80)) else {
        bail!("{admin} names no host; write http://127.0.0.1:9900")
    };
    let target = format!("{host}:{port}");
    let stream = tokio::net::TcpStream::connect(&target).await;
    let stream =
        stream.with_context(|| format!("connect to the admin interface at {target}: is the proxy running?"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("host", &target)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::new()))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    let value: serde_json::Value = serde_json::from_slice(&body).context("understand the proxy's answer")?;
    if !status.is_success() {
        bail!("{}", value["error"].as_str().unwrap_or("the proxy refused"));
    }
    Ok(value)
}
