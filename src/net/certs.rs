//! Certificates, keys and authorities from PEM files. Who uses them is not known here.
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
            Self::Authority { path, .. } | Self::Pair { path, .. } => Some(path),
            Self::NoSystemRoots | Self::Setup(_) => None,
        }
    }
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
        let bytes = std::fs::read(path).map_err(|source| TlsError::Read { path: path.into(), source })?;
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

    /// A certificate chain and the key that fits it.
    pub fn pair(&mut self, files: &CertificateFiles, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
        let chain = self.chain(&files.cert)?;
        let key = self.key(&files.key)?;
        CertifiedKey::from_der(chain, key, provider)
            .map(Arc::new)
            .map_err(|source| TlsError::Pair { path: files.key.clone(), source })
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
