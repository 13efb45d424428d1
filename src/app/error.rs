//! Why the program cannot start.
use crate::control::build::BuildError;
use crate::listener;
use std::net::SocketAddr;
use std::path::PathBuf;
use thiserror::Error;

/// Why the program cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The access log cannot be written.
    #[error("open the access log {path}: {source}")]
    AccessLog {
        /// Its file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// An address cannot be had.
    #[error("listen on {address} for the admin interface: {source}")]
    Admin {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The socket for upgrades cannot be had.
    #[error("listen on {path} for upgrades: {source}")]
    UpgradeSocket {
        /// Its path.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The running program does not let this one take over.
    #[error("take over from the running program: {0}")]
    TakeOver(std::io::Error),
    /// A listener cannot be opened.
    #[error(transparent)]
    Listener(#[from] listener::OpenError),
    /// What is desired cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The system refuses threads or signals.
    #[error("start: {0}")]
    System(#[from] std::io::Error),
}
