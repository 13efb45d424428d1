//! What the steps of one request fill in.
use crate::base::ids::ListenerName;
use crate::head::Client;
use crate::head::Head;
use crate::key::Extracted;
use crate::net::subject;
use crate::net::tls_server::TlsServer;
use crate::proxy::admission;
use crate::proxy::serialize::Held;
use crate::ring::Slot;
use crate::route::RouteIndex;
use crate::route::action::Forward;
use crate::route::host;
use crate::route::template::Facts;
use crate::snapshot::UpstreamIndex;
use crate::snapshot::endpoint::Endpoint;
use crate::snapshot::handle::View;
use crate::snapshot::stats;
use crate::snapshot::upstream::Upstream;
use crate::telemetry::labels::Coalesced;
use crate::telemetry::labels::Position;
use crate::worker::buffers::Draft;
use crate::worker::buffers::Lent;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use rustls::pki_types::CertificateDer;
use smallvec::SmallVec;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

/// What is known of a connection before its first request.
#[derive(Debug)]
pub struct ConnInfo {
    /// The listener it came in by.
    pub listener: ListenerName,
    /// The listener's counters.
    pub stats: Arc<stats::Listener>,
    /// Who is on the other side.
    pub peer: SocketAddr,
    /// Whether it is encrypted.
    pub secure: bool,
    /// The certificate it showed, which was verified.
    pub client_certificate: Option<Box<ClientCertificate>>,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Arc<[IpNet]>,
    /// The server that the client named, where its listener shows several certificates.
    pub named: Option<Box<Named>>,
}

/// The server that a client named when it connected, in lower case.
#[derive(Debug)]
pub struct Named {
    /// Its name.
    pub server_name: String,
    /// What it was shown one of.
    pub tls: Arc<TlsServer>,
}

impl ConnInfo {
    /// Whether a request came by a connection that was not made for its host (RFC 9110 section 7.4).
    pub fn is_misdirected(&self, head: &Head) -> bool {
        let Some(named) = &self.named else { return false };
        let host = host::of(head);
        let host = std::str::from_utf8(&host).unwrap_or_default();
        host != named.server_name && named.tls.is_misdirected(&named.server_name, host)
    }
}

/// A client's certificate as endpoints are told of it: written down once for all requests of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// `Client-Cert`: all of it (RFC 9440).
    pub whole: String,
    /// `Client-Cert-Subject`: whom it is about (RFC 4514); may be empty.
    pub subject: String,
}

impl ClientCertificate {
    /// What is told of this one.
    pub fn new(certificate: &CertificateDer<'_>) -> Self {
        Self { whole: format!(":{}:", STANDARD.encode(certificate)), subject: subject::of(certificate) }
    }
}

/// One request and what was found out about it.
#[derive(Debug)]
pub struct RequestContext {
    /// The one view of this request.
    pub view: Rc<View>,
    /// Its connection.
    pub conn: Rc<ConnInfo>,
    /// Its head and what is changed on the way to the endpoint.
    pub request: Lent,
    /// Its sender.
    pub client: Client,
    /// Its name in logs, here and at the endpoint.
    pub id: SmallVec<[u8; 32]>,
    /// When its head was complete.
    pub started: Instant,
    /// The route, once found.
    pub route: Option<RouteIndex>,
    /// The key, once found.
    pub key: Option<Extracted>,
    /// The upstream that is asked in place of the route's: the caches that it fills.
    pub instead: Option<UpstreamIndex>,
    /// The endpoint of the last attempt.
    pub slot: Option<Slot>,
    /// The endpoint that is asked in place of one of the route's upstream; it may have left its own by now.
    pub lender: Option<Arc<Endpoint>>,
    /// What that endpoint is to the key.
    pub position: Option<Position>,
    /// What its answer has to do with those of others, where a route coalesces.
    pub coalesced: Option<Coalesced>,
    /// Attempts made.
    pub attempts: u32,
    is_in_flight: bool,
    /// Whether it waited before its first attempt.
    pub has_waited: bool,
    /// The lock it has, if it takes turns.
    pub held: Option<Box<Held>>,
    /// From the last attempt's request to its response head.
    pub upstream_time: Option<Duration>,
    /// From the head to the answer, where the response that follows is no measure of it: a tunnel.
    pub answered: Option<Duration>,
    /// The status told to the client; 0 until one is known.
    pub status: u16,
    /// Body bytes from the client.
    pub bytes_in: u64,
    /// Body bytes to the client.
    pub bytes_out: u64,
    /// The stable word of what went wrong.
    pub error: Option<&'static str>,
}

impl RequestContext {
    /// A request of which nothing is known but its head and its sender.
    pub fn new(
        view: Rc<View>,
        conn: Rc<ConnInfo>,
        request: Box<Draft>,
        client: Client,
        id: SmallVec<[u8; 32]>,
        started: Instant,
    ) -> Self {
        Self {
            view,
            conn,
            request: request.into(),
            client,
            id,
            started,
            route: None,
            key: None,
            instead: None,
            slot: None,
            lender: None,
            position: None,
            coalesced: None,
            attempts: 0,
            is_in_flight: false,
            has_waited: false,
            held: None,
            upstream_time: None,
            answered: None,
            status: 0,
            bytes_in: 0,
            bytes_out: 0,
            error: None,
        }
    }

    /// Begins an attempt at the endpoint of `slot`, where it has been counted in; the one before is over.
    pub fn enter(&mut self, worker: usize, slot: Slot, position: Position) {
        (self.slot, self.position, self.is_in_flight) = (Some(slot), Some(position), true);
        self.attempts += 1;
        let upstream = self.upstream();
        upstream.stats.of(worker).positions[position as usize].add(1);
        if upstream.balance.is_some() {
            upstream.stats.of(worker).in_flight.inc();
        }
    }

    /// Ends the attempt, if one is under way.
    pub fn leave(&mut self, worker: usize) {
        if let (true, Some(endpoint)) = (self.is_in_flight, self.endpoint()) {
            let upstream = self.upstream();
            admission::leave(upstream, endpoint, worker);
            if upstream.balance.is_some() {
                upstream.stats.of(worker).in_flight.dec();
            }
            self.is_in_flight = false;
        }
    }

    /// Begins to ask an endpoint of another upstream than the route's, where it has been counted in. That is no attempt.
    pub fn enter_instead(&mut self, worker: usize, upstream: UpstreamIndex, endpoint: Arc<Endpoint>) {
        (self.instead, self.lender, self.is_in_flight) = (Some(upstream), Some(endpoint), true);
        let upstream = self.upstream();
        if upstream.balance.is_some() {
            upstream.stats.of(worker).in_flight.inc();
        }
    }

    /// Ends that without an answer: the route's own upstream is asked.
    pub fn leave_instead(&mut self, worker: usize) {
        self.leave(worker);
        (self.instead, self.lender) = (None, None);
    }

    /// The endpoint that was asked last.
    pub fn endpoint(&self) -> Option<&Arc<Endpoint>> {
        let of_slot = |slot| Some(self.view.upstream(self.upstream_index()?).endpoint(slot));
        self.lender.as_ref().or_else(|| self.slot.and_then(of_slot))
    }

    /// The request's head.
    pub fn head(&self) -> &Head {
        &self.request.head
    }

    /// The upstream of the route, once found, if it has one, or the one that is asked in its place.
    pub fn upstream_index(&self) -> Option<UpstreamIndex> {
        self.instead.or_else(|| self.route.and_then(|route| self.view.upstream_of(route)))
    }

    /// The upstream of the route.
    ///
    /// # Panics
    /// When there is none: steps that ask endpoints only.
    pub fn upstream(&self) -> &Arc<Upstream> {
        let index = self.upstream_index().expect("a step that asks endpoints has an upstream");
        self.view.upstream(index)
    }

    /// Notes what the route changes in the fields of an answer.
    pub fn edit_response(&self, answer: &mut Draft) {
        let Some(route) = self.route.map(|route| self.view.routes.get(route)) else { return };
        if !route.response_headers.is_empty() {
            route.response_headers.apply(&answer.head, &mut answer.edits, self.facts());
        }
    }

    /// How the route's requests go to an upstream, once it is found, if they do.
    pub fn forward(&self) -> Option<&Forward> {
        self.view.routes.get(self.route?).action.forward()
    }

    /// What templates are filled from.
    pub fn facts(&self) -> Facts<'_> {
        Facts { head: self.head(), client: &self.client, id: &self.id }
    }
}
