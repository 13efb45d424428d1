//! What TLS is made of, as written: file names and choices.
use rustls::pki_types::ServerName;
use std::path::PathBuf;

/// TLS on a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// At least one pair; the client's server name picks, the first is the fallback.
    pub certificates: Vec<CertificateFiles>,
    /// Who may connect, if clients are asked who they are.
    pub clients: Option<ClientAuth>,
    /// The oldest version spoken (default 1.2).
    pub min_version: TlsVersion,
}

/// How clients prove who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientAuth {
    /// Certificates of the authorities whose clients are trusted, PEM.
    pub ca: PathBuf,
    /// Whether a client without a certificate is refused. One with a bad certificate always is.
    pub is_required: bool,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// 1.2
    V12,
    /// 1.3
    V13,
}

/// A certificate chain and its private key, both PEM, and maybe a word of its authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, leaf first.
    pub cert: PathBuf,
    /// The private key (PKCS#8, PKCS#1 or SEC1).
    pub key: PathBuf,
    /// What the authority says of the certificate (OCSP, DER), shown with it to clients that ask.
    pub ocsp: Option<PathBuf>,
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

impl ServerTls {
    /// All files that are named.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let pairs = self.certificates.iter().flat_map(CertificateFiles::files);
        pairs.chain(self.clients.iter().map(|clients| &clients.ca))
    }
}

impl ClientTls {
    /// All files that are named.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.ca.iter().chain(self.certificate.iter().flat_map(CertificateFiles::files))
    }
}

impl CertificateFiles {
    fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.cert, &self.key].into_iter().chain(&self.ocsp)
    }
}
