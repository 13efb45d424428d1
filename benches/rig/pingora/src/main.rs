//! A consistent-hash reverse proxy of Pingora, for comparison.
//! usage: pingora_bench -c conf.yaml   (env: PB_BACKENDS=file with one addr per line, PB_PORT, PB_TLS_PORT, PB_CERT, PB_KEY)
use async_trait::async_trait;
use pingora::apps::HttpServerOptions;
use pingora::lb::discovery::ServiceDiscovery;
use pingora::lb::selection::Consistent;
use pingora::lb::{Backend, Backends, LoadBalancer};
use pingora::prelude::*;
use pingora::proxy::{http_proxy_service, ProxyHttp, Session};
use pingora::server::configuration::Opt;
use pingora::server::Server;
use pingora::services::background::background_service;
use pingora::upstreams::peer::HttpPeer;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

struct FileDiscovery(String);
#[async_trait]
impl ServiceDiscovery for FileDiscovery {
    async fn discover(&self) -> Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        let s = std::fs::read_to_string(&self.0).unwrap_or_default();
        let mut set = BTreeSet::new();
        for l in s.lines() {
            let l = l.trim();
            if !l.is_empty() {
                set.insert(Backend::new(l)?);
            }
        }
        Ok((set, HashMap::new()))
    }
}

pub struct LB(Arc<LoadBalancer<Consistent>>);

#[async_trait]
impl ProxyHttp for LB {
    type CTX = ();
    fn new_ctx(&self) -> Self::CTX {}
    async fn upstream_peer(&self, session: &mut Session, _ctx: &mut ()) -> Result<Box<HttpPeer>> {
        let key = session
            .req_header()
            .uri
            .path_and_query()
            .map(|p| p.as_str())
            .unwrap_or("/");
        let up = self.0.select(key.as_bytes(), 256).unwrap();
        Ok(Box::new(HttpPeer::new(up, false, String::new())))
    }
}

fn main() {
    let env = |k: &str, d: &str| std::env::var(k).unwrap_or_else(|_| d.to_string());
    let opt = Opt::parse_args();
    let mut server = Server::new(Some(opt)).unwrap();
    server.bootstrap();
    let backends = Backends::new(Box::new(FileDiscovery(env("PB_BACKENDS", "backends.txt"))));
    let mut lb = LoadBalancer::<Consistent>::from_backends(backends);
    lb.update_frequency = Some(Duration::from_millis(200));
    let bg = background_service("discovery", lb);
    let task = bg.task();
    let mut svc = http_proxy_service(&server.configuration, LB(task));
    let mut o = HttpServerOptions::default();
    o.h2c = true;
    svc.app_logic_mut().unwrap().server_options = Some(o);
    svc.add_tcp(&format!("127.0.0.1:{}", env("PB_PORT", "8080")));
    let mut tls = pingora::listeners::tls::TlsSettings::intermediate(
        &env("PB_CERT", "cert.pem"),
        &env("PB_KEY", "key.pem"),
    )
    .unwrap();
    tls.enable_h2();
    svc.add_tls_with_settings(&format!("127.0.0.1:{}", env("PB_TLS_PORT", "8443")), None, tls);
    server.add_service(svc);
    server.add_service(bg);
    server.run_forever();
}
