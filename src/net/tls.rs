//! rustls settings for a listener: certificates by server name, ALPN. Where certificates come from is in the settings.
use crate::net::certs::Files;
use crate::net::certs::TlsError;
use crate::net::settings::ServerTls;
use rustls::ServerConfig;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::io;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// Whether a connection failed because of TLS itself: an alert of the peer, or what is no TLS.
pub fn is_tls_failure(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|cause| cause.is::<rustls::Error>())
}

/// Reads the certificates and makes an acceptor that offers `alpn`, most wanted first.
pub fn acceptor(settings: &ServerTls, alpn: &[&[u8]]) -> Result<TlsAcceptor, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut files = Files::default();
    let pairs = settings.certificates.iter().map(|pair| files.pair(pair, &provider)).collect::<Result<Vec<_>, _>>()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByName { pairs }));
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Picks the first pair whose certificate is valid for the client's server name; else the first pair.
#[derive(Debug)]
struct ByName {
    pairs: Vec<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let wanted = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let fits = |pair: &&Arc<CertifiedKey>| {
            let leaf = pair.end_entity_cert().ok().and_then(|der| webpki::EndEntityCert::try_from(der).ok());
            matches!((&wanted, leaf), (Some(name), Some(leaf)) if leaf.verify_is_valid_for_subject_name(name).is_ok())
        };
        let by_name = if self.pairs.len() > 1 { self.pairs.iter().find(fits) } else { None };
        by_name.or(self.pairs.first()).cloned()
    }
}
