//! One request over HTTP/1.1 on a connection of its own, and whether its response is healthy.
use super::MAX_BODY;
use super::ProbeError;
use crate::health::check;
use crate::net::stream::Stream;
use ::http::Request;
use ::http::header;
use http_body_util::BodyExt;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

/// What checks call themselves.
pub const AGENT: &str = concat!("ringway-health-check/", env!("CARGO_PKG_VERSION"));

/// Asks over a fresh connection and judges; `host` is what the endpoint is called if the question does not say.
pub async fn ask(stream: Stream, host: &str, question: &check::Http) -> Result<(), ProbeError> {
    let request = request(host, question).map_err(ProbeError::Request)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(ProbeError::Http)?;
    // Dropped with this function, whatever it returns, and the connection with it.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let response = sender.send_request(request).await.map_err(ProbeError::Http)?;
    let status = response.status().as_u16();
    if !question.expect_status.iter().any(|range| range.contains(&status)) {
        return Err(ProbeError::Status(status));
    }
    let body = read(response.into_body()).await?;
    match &question.expect_body {
        Some(text) if memchr::memmem::find(&body, text.as_bytes()).is_none() => Err(ProbeError::Body),
        _ => Ok(()),
    }
}

fn request(host: &str, question: &check::Http) -> Result<Request<Empty<Bytes>>, ::http::Error> {
    let host = question.host.as_deref().unwrap_or(host);
    let mut request =
        Request::builder().method(question.method.as_str()).uri(&question.path).header(header::HOST, host);
    if !question.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("user-agent")) {
        request = request.header(header::USER_AGENT, AGENT);
    }
    for (name, value) in &question.headers {
        request = request.header(name, value);
    }
    request.header(header::CONNECTION, "close").body(Empty::new())
}

/// As much of a body as is looked at.
async fn read(mut body: Incoming) -> Result<Vec<u8>, ProbeError> {
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(ProbeError::Http)?.into_data() {
            read.extend_from_slice(&data[..data.len().min(MAX_BODY - read.len())]);
        }
        if read.len() == MAX_BODY {
            break;
        }
    }
    Ok(read)
}
