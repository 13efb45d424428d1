//! What a front door accepts.
use crate::base::address::Address;
use crate::base::ids::ListenerName;
use crate::http1::limits::Limits;
use crate::net::tls_server::TlsServer;
use ipnet::IpNet;
use std::sync::Arc;
use std::time::Duration;

/// A front door, as written.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Its name: given, or its address.
    pub name: ListenerName,
    /// Where it accepts.
    pub address: Address,
    /// Permissions of the file when the address is a unix socket (default 0666).
    pub mode: u32,
    /// Which protocols it speaks; at least one is true.
    pub protocols: Protocols,
    /// TLS, if it is spoken here.
    pub tls: Option<Arc<TlsServer>>,
    /// Connections at one time, over all workers (default 20,000).
    pub max_connections: usize,
    /// Connections of one client address at one time, over all workers; `None` is no limit of its own.
    pub max_connections_per_ip: Option<usize>,
    /// Peers that send, and have to send, a PROXY header; `None`: nobody does.
    pub proxy_protocol: Option<Vec<IpNet>>,
    /// Longest time from accept to a whole head, the TLS handshake included (default 10 s).
    pub header_timeout: Duration,
    /// Longest silence of the client while a body moves, either way (default 30 s).
    pub body_timeout: Duration,
    /// Bytes a second that a request's body has to come in at, beyond the first seconds; `None` is no limit.
    pub min_body_rate: Option<u64>,
    /// Longest time between two requests (default 75 s).
    pub idle_timeout: Duration,
    /// Limits of a request's head.
    pub limits: Limits,
    /// Largest request body in bytes; `None` is no limit.
    pub max_body: Option<u64>,
    /// Peers whose `X-Forwarded-For` is believed and appended to.
    pub trusted_proxies: Vec<IpNet>,
}

/// The protocols of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocols {
    /// HTTP/1.0 and HTTP/1.1.
    pub http1: bool,
    /// HTTP/2: by ALPN on TLS, by prior knowledge in clear.
    pub h2: bool,
}

impl Protocols {
    /// What is offered by ALPN, most wanted first.
    pub fn alpn(self) -> Vec<&'static [u8]> {
        let offers: [(bool, &[u8]); 2] = [(self.h2, b"h2"), (self.http1, b"http/1.1")];
        offers.into_iter().filter(|(is_spoken, _)| *is_spoken).map(|(_, name)| name).collect()
    }
}

impl Settings {
    /// A listener at `address` with every default.
    pub fn new(address: Address) -> Self {
        Self {
            name: ListenerName::new(&address.to_string()),
            address,
            mode: 0o666,
            protocols: Protocols { http1: true, h2: true },
            tls: None,
            max_connections: 20_000,
            max_connections_per_ip: None,
            proxy_protocol: None,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            min_body_rate: None,
            idle_timeout: Duration::from_secs(75),
            limits: Limits::default(),
            max_body: None,
            trusted_proxies: Vec::new(),
        }
    }
}
