//! Certificates, keys and authorities from PEM files. Who uses them is not known here.
use crate::base::files;
use crate::base::hash::PlacementHash;
use crate::net::settings::CertificateFiles;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem;
use rustls::pki_types::pem::PemObject;
use rustls::sign::CertifiedKey;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use thiserror::Error;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::prelude::X509Certificate;

/// Why TLS cannot be set up. Each names the file that is to blame, if it is one file.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is not PEM.
    #[error("read {path} as PEM: {source}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was wrong.
        source: pem::Error,
    },
    /// A file holds no certificate.
    #[error("find a certificate in {0}: \"-----BEGIN CERTIFICATE-----\" is not in it")]
    NoCertificate(PathBuf),
    /// A certificate cannot be an authority's.
    #[error("trust the certificates in {path}: {source}")]
    Authority {
        /// The file.
        path: PathBuf,
        /// What was wrong.
        source: rustls::Error,
    },
    /// A key does not fit its certificate, or is of a kind that is not supported.
    #[error("use the key {path} for its certificate: {source}")]
    Pair {
        /// The key's file.
        path: PathBuf,
        /// What was wrong.
        source: rustls::Error,
    },
    /// A file is not what an authority says of that certificate.
    #[error("use {path} as the OCSP response for its certificate: {why}")]
    Ocsp {
        /// The file.
        path: PathBuf,
        /// What was wrong.
        why: &'static str,
    },
    /// The system has no certificates of authorities.
    #[error("find the system's authorities (install ca-certificates, or name a file by \"ca\")")]
    NoSystemRoots,
    /// The protocol settings were refused.
    #[error("set up TLS: {0}")]
    Setup(#[from] rustls::Error),
}

impl TlsError {
    /// The file that is to blame.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Read { path, .. } | Self::Pem { path, .. } | Self::NoCertificate(path) => Some(path),
            Self::Authority { path, .. } | Self::Pair { path, .. } | Self::Ocsp { path, .. } => Some(path),
            Self::NoSystemRoots | Self::Setup(_) => None,
        }
    }
}

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// What people call it: its first name, or its file.
    pub name: String,
    /// The DNS names it is for, in lower case, wildcards included.
    pub dns_names: Vec<String>,
    /// When it ends, in seconds since the epoch.
    pub not_after: i64,
}

impl Certificate {
    /// Reads the first certificate of the file `path`. One that cannot be read in full still serves as a fallback.
    pub fn read(certificate: &CertificateDer<'_>, path: &Path) -> Self {
        let file = || path.display().to_string();
        let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
            return Self { name: file(), dns_names: Vec::new(), not_after: 0 };
        };
        let alternatives = parsed.subject_alternative_name().ok().flatten();
        let alternatives = alternatives.map_or(&[][..], |extension| &extension.value.general_names);
        let dns_name = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        };
        let dns_names: Vec<String> = alternatives.iter().filter_map(dns_name).collect();
        let name = dns_names.first().cloned().unwrap_or_else(file);
        Self { name, dns_names, not_after: parsed.validity().not_after.timestamp() }
    }
}

impl Certificate {
    /// Whether it is for this host, in lower case.
    pub fn is_for(&self, host: &str) -> bool {
        let parent = host.split_once('.').map_or("", |(_, parent)| parent);
        self.dns_names.iter().any(|name| match name.strip_prefix("*.") {
            Some(of) => of == parent,
            None => name == host,
        })
    }
}

/// Whether a connection failed because of TLS itself: an alert of the peer, or what is no TLS.
pub fn is_tls_failure(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|cause| cause.is::<rustls::Error>())
}

/// Whether a handshake failed because of what the client showed of itself, or because it showed nothing.
pub fn is_client_refused(error: &io::Error) -> bool {
    use rustls::Error::{InvalidCertificate, NoCertificatesPresented};
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    matches!(cause, Some(NoCertificatesPresented | InvalidCertificate(_)))
}

/// Reads files and remembers what was in them, so that it can be told whether anything has changed.
#[derive(Debug, Default)]
pub struct Files {
    read: Vec<u8>,
}

impl Files {
    /// Equal for equal contents in the same order.
    pub fn digest(&self) -> u64 {
        PlacementHash::Seeded(0).hash(&self.read)
    }

    fn read(&mut self, path: &Path) -> Result<Vec<u8>, TlsError> {
        let bytes = files::read(path, files::MAX_PEM).map_err(|source| TlsError::Read { path: path.into(), source })?;
        self.read.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.read.extend_from_slice(&bytes);
        Ok(bytes)
    }

    /// The certificates of a file, at least one, in its order.
    pub fn chain(&mut self, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let bytes = self.read(path)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        let chain = chain.map_err(|source| TlsError::Pem { path: path.into(), source })?;
        if chain.is_empty() { Err(TlsError::NoCertificate(path.into())) } else { Ok(chain) }
    }

    /// The first private key of a file.
    pub fn key(&mut self, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
        let bytes = self.read(path)?;
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|source| TlsError::Pem { path: path.into(), source })
    }

    /// A certificate chain, the key that fits it, and what its authority says of it, if that is given.
    pub fn pair(&mut self, files: &CertificateFiles, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
        let chain = self.chain(&files.cert)?;
        let key = self.key(&files.key)?;
        let mut pair = CertifiedKey::from_der(chain, key, provider)
            .map_err(|source| TlsError::Pair { path: files.key.clone(), source })?;
        if let Some(path) = &files.ocsp {
            let response = self.read(path)?;
            check_ocsp(&response, &pair.cert[0]).map_err(|why| TlsError::Ocsp { path: path.clone(), why })?;
            pair.ocsp = Some(response);
        }
        Ok(Arc::new(pair))
    }

    /// The authorities of a file, all of them.
    pub fn authorities(&mut self, path: &Path) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.chain(path)? {
            roots.add(certificate).map_err(|source| TlsError::Authority { path: path.into(), source })?;
        }
        Ok(roots)
    }

    /// The authorities the system trusts. Single ones that cannot be used are left out, as every program does.
    pub fn system_authorities(&mut self) -> Result<RootCertStore, TlsError> {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::debug!(%error, "A certificate of the system cannot be read.");
        }
        let mut roots = RootCertStore::empty();
        found.certs.iter().for_each(|certificate| self.read.extend_from_slice(certificate));
        let (added, _) = roots.add_parsable_certificates(found.certs);
        if added == 0 { Err(TlsError::NoSystemRoots) } else { Ok(roots) }
    }
}

/// Whether a file is an OCSP response (RFC 6960) that tells something of this certificate. Whether it is signed well and in time
/// is for the clients, as always.
fn check_ocsp(response: &[u8], certificate: &CertificateDer<'_>) -> Result<(), &'static str> {
    let content =
        der_sequence(response).ok_or("it is not one response in DER, as `openssl ocsp -respout` writes it")?;
    // The responder's own status comes first; 0 is success, and only then something follows.
    if !content.starts_with(&[0x0a, 1, 0]) {
        return Err("the responder did not answer the question");
    }
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| "its certificate cannot be read")?;
    match memchr::memmem::find(response, parsed.raw_serial()) {
        Some(_) => Ok(()),
        None => Err("it is about another certificate"),
    }
}

/// The content of a DER sequence that is all there is.
fn der_sequence(bytes: &[u8]) -> Option<&[u8]> {
    let [0x30, length, rest @ ..] = bytes else { return None };
    let (length, content) = match length {
        0..=0x7f => (usize::from(*length), rest),
        0x81..=0x84 => {
            let (digits, content) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), content)
        }
        _ => return None,
    };
    (content.len() == length).then_some(content)
}
