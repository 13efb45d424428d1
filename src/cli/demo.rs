//! `demo`: everything on loopback, nothing to configure: three toy origins, the proxy, and what to try.
use super::OK;
use super::say::say;
use crate::app;
use crate::app::Addresses;
use crate::config;
use crate::lifecycle::inheritance::Inheritance;
use anyhow::Context;
use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::SocketAddr;
use tokio::net::TcpListener;

const ORIGINS: [&str; 3] = ["red", "green", "blue"];

/// Runs the demo until a signal ends it.
///
/// # Errors
/// When a port is taken.
pub fn run(port: u16, admin_port: u16) -> anyhow::Result<u8> {
    super::runtime()?.block_on(async {
        let mut endpoints = String::new();
        for id in ORIGINS {
            let address = start_origin(id).await.context("start an origin")?;
            endpoints.push_str(&format!("  {{ id = \"{id}\", address = \"{address}\" }},\n"));
        }
        let text = format!(
            "[admin]\naddress = \"127.0.0.1:{admin_port}\"\n\n[log]\nlevel = \"warn\"\naccess = \"off\"\n\n\
             [[listener]]\naddress = \"127.0.0.1:{port}\"\n\n\
             [[route]]\nupstream = \"demo\"\nkey = [\"path\"]\n\n[upstream.demo]\nendpoints = [\n{endpoints}]\n"
        );
        let config = config::parse("demo", &text, &|_| None)?;
        app::run(config, None, Inheritance::default(), print_hints).await?;
        Ok(OK)
    })
}

fn print_hints(addresses: &Addresses) {
    let (proxy, admin) = (&addresses.listeners[0], addresses.admin);
    say!(
        "Ringway serves on http://{proxy}, its admin interface is http://{admin}.\n\
         Three origins ({}) answer with their name; each path always goes to the same one.\n\nTry:\n  \
         curl http://{proxy}/apple\n  \
         curl -i http://{proxy}/banana\n  \
         curl 'http://{admin}/api/v1/explain?url=/apple'\n\n\
         Metrics: http://{admin}/metrics   Status: ringway status --admin http://{admin}\n\
         Ctrl-C ends it.",
        ORIGINS.join(", ")
    );
}

/// Starts an origin that answers with its id and the path, the same bytes each time.
async fn start_origin(id: &'static str) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| async move {
                let body = format!("{id} {}\n", request.uri().path());
                let mut response = http::Response::new(Full::new(Bytes::from(body)));
                response.headers_mut().insert("x-origin", http::HeaderValue::from_static(id));
                Ok::<_, Infallible>(response)
            });
            tokio::spawn(async move {
                if let Err(error) =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
                {
                    tracing::debug!(%error, "A connection to a demo origin failed.");
                }
            });
        }
    });
    Ok(address)
}
