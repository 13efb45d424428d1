//! rustls settings for a listener: certificates by server name, ALPN. Where certificates come from is in the settings.
use crate::net::settings::{CertificateFiles, ServerTls};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::path::PathBuf;
use std::sync::Arc;
use thiserror::Error;
use tokio_rustls::TlsAcceptor;

/// Why TLS cannot be served.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file could not be read as PEM.
    #[error("read {path} as PEM")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was wrong.
        source: rustls::pki_types::pem::Error,
    },
    /// A file holds no certificate.
    #[error("find a certificate in {0}")]
    NoCertificate(PathBuf),
    /// A key does not fit its certificate, or is of a kind that is not supported.
    #[error("use the key {path} for its certificate")]
    Pair {
        /// The key's file.
        path: PathBuf,
        /// What was wrong.
        source: rustls::Error,
    },
    /// The protocol settings were refused.
    #[error("set up TLS")]
    Setup(#[from] rustls::Error),
}

/// Reads the certificates and makes an acceptor that offers `alpn`, most wanted first.
pub fn acceptor(settings: &ServerTls, alpn: &[&[u8]]) -> Result<TlsAcceptor, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let pairs = settings.certificates.iter().map(|files| load(files, &provider)).collect::<Result<Vec<_>, _>>()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByName { pairs }));
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn load(files: &CertificateFiles, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
    let pem = |path: &PathBuf| {
        let path = path.clone();
        move |source| TlsError::Pem { path, source }
    };
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(&files.cert).and_then(Iterator::collect).map_err(pem(&files.cert))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate(files.cert.clone()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(pem(&files.key))?;
    CertifiedKey::from_der(chain, key, provider)
        .map(Arc::new)
        .map_err(|source| TlsError::Pair { path: files.key.clone(), source })
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
