//! The admin interface of a running proxy, as commands call it.
use crate::base::files;
use crate::net::settings::CertificateFiles;
use crate::net::settings::ClientTls;
use crate::net::stream::Socket;
use crate::net::stream::Stream;
use crate::net::tls_client::TlsClient;
use anyhow::Context;
use anyhow::anyhow;
use anyhow::bail;
use clap::Args;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;
use tokio::net::TcpStream;

/// Where the token is unless a file is given.
const TOKEN: &str = "RINGWAY_TOKEN";
/// Longest time for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What opens the door.
#[derive(Debug, Args)]
pub struct DoorArgs {
    /// A file with the token of the admin address; else the one in RINGWAY_TOKEN
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// With an https:// address: the authority to trust, PEM; else those of the system
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// With an https:// address: the certificate to show, PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The private key of --cert, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

impl DoorArgs {
    /// Whether any was given.
    pub fn is_given(&self) -> bool {
        self.token_file.is_some() || self.ca.is_some() || self.cert.is_some()
    }
}

/// What was sent is wrong, as the proxy says.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// A proxy's admin interface, and what opens it.
pub struct Door {
    url: String,
    token: Option<String>,
    tls: ClientTls,
}

impl Door {
    /// The interface that a command's arguments name.
    ///
    /// # Errors
    /// When the token's file cannot be read.
    pub fn of(args: &DoorArgs, url: &str) -> anyhow::Result<Self> {
        let token = match &args.token_file {
            Some(path) => {
                let text = files::read_text(path, files::MAX_WORD);
                Some(text.with_context(|| format!("read the token in {}", path.display()))?)
            }
            None => std::env::var(TOKEN).ok(),
        };
        let pair = args.cert.clone().zip(args.key.clone());
        let tls = ClientTls {
            server_name: None,
            ca: args.ca.clone(),
            certificate: pair.map(|(cert, key)| CertificateFiles { cert, key, ocsp: None }),
            verify: true,
        };
        Ok(Self { url: url.to_string(), token: token.map(|token| token.trim().to_string()), tls })
    }

    /// Calls; an answer that is not a success is an error with what it says.
    ///
    /// # Errors
    /// When nobody answers, or the answer is a refusal.
    pub fn call(&self, method: &str, path: &str) -> anyhow::Result<serde_json::Value> {
        self.send(method, path, String::new())
    }

    /// Calls with something to read.
    ///
    /// # Errors
    /// When nobody answers, or the answer is a refusal: [`Refused`] when what was sent is wrong.
    pub fn send(&self, method: &str, path: &str, body: String) -> anyhow::Result<serde_json::Value> {
        let asked = async { tokio::time::timeout(TIMEOUT, self.exchange(method, path, body)).await };
        super::runtime()?.block_on(asked).context("get an answer in time")?
    }

    async fn exchange(&self, method: &str, path: &str, body: String) -> anyhow::Result<serde_json::Value> {
        let admin = &self.url;
        let uri: http::Uri = admin.parse().with_context(|| format!("read {admin} as a URL"))?;
        let (host, is_secure) = match (uri.host(), uri.scheme_str()) {
            (Some(host), Some("http")) => (host, false),
            (Some(host), Some("https")) => (host, true),
            _ => bail!("{admin} is not the URL of an admin interface; write http://127.0.0.1:9900"),
        };
        let target = format!("{host}:{}", uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 }));
        let stream = TcpStream::connect(&target).await;
        let stream =
            stream.with_context(|| format!("connect to the admin interface at {target}: is the proxy running?"))?;
        let stream = if is_secure { self.secure(stream, &target).await? } else { Stream::Plain(Socket::Tcp(stream)) };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        read(sender.send_request(self.request(method, path, &target, body)?).await?).await
    }

    async fn secure(&self, stream: TcpStream, target: &str) -> anyhow::Result<Stream> {
        let tls = TlsClient::load(&self.tls).map_err(|error| anyhow!("failed to {error}"))?;
        let location = target.parse().with_context(|| format!("read {target} as an address"))?;
        let shaken = tls.handshake(Socket::Tcp(stream), &location, &[b"http/1.1"]).await;
        shaken.with_context(|| format!("agree on TLS with {target}; --ca names the file of its authority"))
    }

    fn request(&self, method: &str, path: &str, target: &str, body: String) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, target);
        request = request.header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        Ok(request.body(Full::new(Bytes::from(body)))?)
    }
}

async fn read(response: Response<Incoming>) -> anyhow::Result<serde_json::Value> {
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    let value: serde_json::Value = serde_json::from_slice(&body).context("understand the proxy's answer")?;
    if status == StatusCode::UNAUTHORIZED {
        bail!("the proxy wants its admin token: give --token-file FILE, or set {TOKEN}");
    }
    if status == StatusCode::UNPROCESSABLE_ENTITY {
        return Err(Refused(value["error"].as_str().unwrap_or("the proxy refused").to_string()).into());
    }
    if !status.is_success() {
        bail!("{}", value["error"].as_str().unwrap_or("the proxy refused"));
    }
    Ok(value)
}
