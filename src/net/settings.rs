//! What TLS is made of, as written: file names and choices.
use rustls::pki_types::ServerName;
use std::path::PathBuf;

/// TLS on a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// At least one pair; the client's server name picks, the first is the fallback.
    pub certificates: Vec<CertificateFiles>,
}

/// A certificate chain and its private key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, leaf first.
    pub cert: PathBuf,
    /// The private key (PKCS#8, PKCS#1 or SEC1).
    pub key: PathBuf,
}

/// TLS towards endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTls {
    /// The name that is asked for and that the certificate must have; absent: the endpoint's own host.
    pub server_name: Option<ServerName<'static>>,
    /// Certificates of the authorities to trust, PEM; absent: those of the system.
    pub ca: Option<PathBuf>,
    /// What we show when we are asked who we are.
    pub certificate: Option<CertificateFiles>,
    /// Whether the endpoint must prove who it is (default true).
    pub verify: bool,
}
