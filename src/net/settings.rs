//! What a listener's TLS is made of.
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
