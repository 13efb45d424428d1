//! TLS towards endpoints: made once from its settings, shared by all connections. Limits of time are the caller's.
use crate::base::address::Address;
use crate::base::address::Location;
use crate::net::certs::Files;
use crate::net::certs::TlsError;
use crate::net::settings::ClientTls;
use crate::net::stream::Socket;
use crate::net::stream::Stream;
use rustls::ClientConfig;
use rustls::DigitallySignedStruct;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::UnixTime;
use rustls::sign::CertifiedKey;
use rustls::sign::SingleCertAndKey;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use tokio_rustls::TlsConnector;

/// What connections to an upstream's endpoints are secured by, and the sessions they may resume. Equal when settings and
/// the contents of all files are.
pub struct TlsClient {
    id: u64,
    settings: ClientTls,
    digest: u64,
    connector: TlsConnector,
}

impl TlsClient {
    /// Reads what `settings` name.
    ///
    /// # Errors
    /// When a file cannot be read or used.
    pub fn load(settings: &ClientTls) -> Result<Self, TlsError> {
        static LAST_ID: AtomicU64 = AtomicU64::new(0);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut files = Files::default();
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let builder = if settings.verify {
            let roots = match &settings.ca {
                Some(path) => files.authorities(path)?,
                None => files.system_authorities()?,
            };
            builder.with_root_certificates(roots)
        } else {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider.clone())))
        };
        let config = match &settings.certificate {
            Some(pair) => builder.with_client_cert_resolver(shown(files.pair(pair, &provider)?)),
            None => builder.with_no_client_auth(),
        };
        Ok(Self {
            id: LAST_ID.fetch_add(1, Ordering::Relaxed) + 1,
            settings: settings.clone(),
            digest: files.digest(),
            connector: TlsConnector::from(Arc::new(config)),
        })
    }

    /// Reads all files again: what is to take this one's place, if anything has changed.
    ///
    /// # Errors
    /// When a file cannot be read or used, or a key does not fit its certificate.
    pub fn renewed(&self) -> Result<Option<Arc<Self>>, TlsError> {
        let new = Self::load(&self.settings)?;
        Ok((new != *self).then(|| Arc::new(new)))
    }

    /// Never 0 and never used twice in a process: a connection made by another one is not to be used again.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its settings, as written.
    pub fn settings(&self) -> &ClientTls {
        &self.settings
    }

    /// Secures a connection to the endpoint at `location`, which is called by its host unless the settings name it otherwise.
    /// Offers `alpn`, most wanted first; what was agreed on is [`Stream::alpn`].
    ///
    /// # Errors
    /// When the endpoint does not prove who it is, refuses us, or the connection fails.
    pub async fn handshake(&self, socket: Socket, location: &Location, alpn: &[&[u8]]) -> io::Result<Stream> {
        let name = match &self.settings.server_name {
            Some(name) => name.clone(),
            None => name_of(location)?,
        };
        let alpn = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let stream = self.connector.with_alpn(alpn).connect(name, socket).await?;
        Ok(Stream::ClientTls(Box::new(stream)))
    }
}

/// What a certificate has to name.
fn name_of(location: &Location) -> io::Result<ServerName<'static>> {
    match location {
        Location::At(Address::Ip(address)) => Ok(address.ip().into()),
        Location::At(Address::Unix(_)) => Err(io::Error::other("a unix socket has no name of its own")),
        Location::Named(name) => {
            let host = name.host.trim_end_matches('.').to_string();
            ServerName::try_from(host).map_err(io::Error::other)
        }
    }
}

impl PartialEq for TlsClient {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings && self.digest == other.digest
    }
}

impl std::fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TlsClient({}, {:?})", self.id, self.settings)
    }
}

fn shown(pair: Arc<CertifiedKey>) -> Arc<dyn ResolvesClientCert> {
    Arc::new(SingleCertAndKey::from(pair))
}

/// Takes every certificate, but still has the endpoint prove that it holds the key: `verify = false`.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
