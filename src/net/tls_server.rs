//! TLS on a listener: made from its settings, replaced as a whole when a file changes. Which listener it is, is not known here.
use crate::net::certs::Certificate;
use crate::net::certs::Files;
use crate::net::certs::TlsError;
use crate::net::settings::ClientAuth;
use crate::net::settings::ServerTls;
use crate::net::settings::TlsVersion;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::ClientHello;
use rustls::server::ResolvesServerCert;
use rustls::server::ServerSessionMemoryCache;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::version::TLS12;
use rustls::version::TLS13;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// Sessions kept for clients of TLS 1.2 that take no ticket; others carry theirs themselves.
const MAX_SESSIONS: usize = 4096;

/// What a listener's connections are secured by, and the sessions its clients may resume. Equal when settings and the
/// contents of all files are.
pub struct TlsServer {
    settings: ServerTls,
    digest: u64,
    clients_digest: u64,
    certificates: Arc<Vec<Certificate>>,
    by_name: Arc<ByName>,
    config: Arc<ServerConfig>,
}

impl TlsServer {
    /// Reads what `settings` name and offers `alpn`, most wanted first.
    ///
    /// # Errors
    /// When a file cannot be read or used.
    pub fn load(settings: &ServerTls, alpn: &[&[u8]]) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut client_files = Files::default();
        let clients = settings.clients.as_ref().map(|clients| verifier(clients, &mut client_files, &provider));
        let clients = clients.transpose()?.unwrap_or_else(WebPkiClientVerifier::no_client_auth);
        let mut files = Files::default();
        let pairs = settings.certificates.iter().map(|pair| files.pair(pair, &provider));
        let pairs = pairs.collect::<Result<Vec<_>, _>>()?;
        let described = settings.certificates.iter().zip(&pairs);
        let certificates: Vec<Certificate> =
            described.map(|(files, pair)| Certificate::read(&pair.cert[0], &files.cert)).collect();
        let versions: &[_] = match settings.min_version {
            TlsVersion::V12 => &[&TLS13, &TLS12],
            TlsVersion::V13 => &[&TLS13],
        };
        let by_name = Arc::new(ByName::new(&certificates, pairs));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(by_name.clone());
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config.ticketer = rustls::crypto::ring::Ticketer::new()?;
        config.session_storage = ServerSessionMemoryCache::new(MAX_SESSIONS);
        Ok(Self {
            settings: settings.clone(),
            digest: files.digest(),
            clients_digest: client_files.digest(),
            certificates: Arc::new(certificates),
            by_name,
            config: Arc::new(config),
        })
    }

    /// Reads all files again: what is to take this one's place, if anything has changed.
    ///
    /// # Errors
    /// When a file cannot be read or used, or a key does not fit its certificate.
    pub fn renewed(self: &Arc<Self>) -> Result<Option<Arc<Self>>, TlsError> {
        let alpn: Vec<&[u8]> = self.config.alpn_protocols.iter().map(Vec::as_slice).collect();
        let new = Arc::new(Self::load(&self.settings, &alpn)?).in_place_of(self);
        Ok((!Arc::ptr_eq(&new, self)).then_some(new))
    }

    /// This one in the place of `old`: sessions that clients had with `old` can be resumed, unless who may connect has changed.
    /// When nothing has, it is `old` that stays.
    pub fn in_place_of(self: Arc<Self>, old: &Arc<Self>) -> Arc<Self> {
        if *self == **old {
            return old.clone();
        }
        let has_other_clients =
            self.settings.clients != old.settings.clients || self.clients_digest != old.clients_digest;
        if has_other_clients || self.settings.min_version != old.settings.min_version {
            return self;
        }
        let mut config = ServerConfig::clone(&self.config);
        config.ticketer = old.config.ticketer.clone();
        config.session_storage = old.config.session_storage.clone();
        Arc::new(Self {
            settings: self.settings.clone(),
            digest: self.digest,
            clients_digest: self.clients_digest,
            certificates: self.certificates.clone(),
            by_name: self.by_name.clone(),
            config: Arc::new(config),
        })
    }

    /// Its settings, as written.
    pub fn settings(&self) -> &ServerTls {
        &self.settings
    }

    /// Its certificates, in the order written.
    pub fn certificates(&self) -> &Arc<Vec<Certificate>> {
        &self.certificates
    }

    /// Whether a request for `host` (lower case) came to the wrong place: the client was shown the certificate of another name,
    /// `server_name`, which is not for this host, while one is here that is. Hosts that no certificate is for are anybody's.
    pub fn is_misdirected(&self, server_name: &str, host: &str) -> bool {
        let (own, shown) = (self.by_name.of(host), self.by_name.of(server_name));
        let shown = if shown.is_empty() { &[0] } else { shown };
        let is_for_host = |place: &usize| self.certificates.get(*place).is_some_and(|shown| shown.is_for(host));
        !own.is_empty() && !shown.iter().any(is_for_host)
    }

    /// What secures a connection that has come in.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.clone())
    }
}

impl PartialEq for TlsServer {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
            && (self.digest, self.clients_digest) == (other.digest, other.clients_digest)
            && self.config.alpn_protocols == other.config.alpn_protocols
    }
}

impl std::fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TlsServer({:?})", self.settings)
    }
}

fn verifier(
    clients: &ClientAuth,
    files: &mut Files,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let roots = Arc::new(files.authorities(&clients.ca)?);
    let builder = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
    let builder = if clients.is_required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| TlsError::Authority {
        path: clients.ca.clone(),
        source: rustls::Error::General(error.to_string()),
    })
}

/// Picks the certificate for the client's server name: one that has the name itself, else a wildcard, else the first. Where
/// several fit, the first whose key the client can use.
#[derive(Debug)]
struct ByName {
    pairs: Vec<Arc<CertifiedKey>>,
    places: HashMap<String, SmallVec<[usize; 2]>>,
}

impl ByName {
    fn new(certificates: &[Certificate], pairs: Vec<Arc<CertifiedKey>>) -> Self {
        let mut places: HashMap<String, SmallVec<[usize; 2]>> = HashMap::new();
        for (place, certificate) in certificates.iter().enumerate() {
            for name in &certificate.dns_names {
                places.entry(name.clone()).or_default().push(place);
            }
        }
        Self { pairs, places }
    }

    fn of(&self, name: &str) -> &[usize] {
        let wildcard = || name.split_once('.').and_then(|(_, parent)| self.places.get(&format!("*.{parent}")));
        self.places.get(name).or_else(wildcard).map_or(&[], SmallVec::as_slice)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fitting = hello.server_name().map_or(&[][..], |name| self.of(name)).iter().map(|place| &self.pairs[*place]);
        let can_use = |pair: &&Arc<CertifiedKey>| pair.key.choose_scheme(hello.signature_schemes()).is_some();
        let chosen = fitting.clone().find(can_use).or_else(|| fitting.clone().next());
        chosen.or(self.pairs.first()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_itself_goes_before_a_wildcard_and_a_wildcard_stands_for_one_label() {
        let certificate = |names: &[&str]| Certificate {
            name: names[0].into(),
            dns_names: names.iter().map(ToString::to_string).collect(),
            not_after: 0,
        };
        let certificates = [
            certificate(&["first.test"]),
            certificate(&["*.b.test", "b.test"]),
            certificate(&["x.b.test"]),
            certificate(&["b.test"]),
        ];
        let by_name = ByName::new(&certificates, Vec::new());
        for (name, places) in [
            ("first.test", &[0][..]),
            ("b.test", &[1, 3]),
            ("y.b.test", &[1]),
            ("x.b.test", &[2]),
            ("x.y.b.test", &[]),
            ("test", &[]),
        ] {
            assert_eq!(by_name.of(name), places, "{name}");
        }
    }
}
