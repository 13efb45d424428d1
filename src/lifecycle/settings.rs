//! How the process starts, takes changes up, and ends.
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The process's settings, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Worker threads, 1 to 1024; `None` is one for each core.
    pub workers: Option<usize>,
    /// Longest time for what runs to finish after a signal to stop (default 30 s).
    pub shutdown_timeout: Duration,
    /// How long `/readyz` says 503 while connections are still accepted (default 0 s).
    pub shutdown_delay: Duration,
    /// What still hangs on a removed endpoint is closed after this (default 5 min).
    pub drain_timeout: Duration,
    /// What makes the file be read again.
    pub reload: ReloadOn,
    /// Whether a configuration that does more than a guard allows waits for a person's word (default no).
    pub guard_config: bool,
    /// Where `run --upgrade` gets the listening sockets; `None`: nowhere.
    pub upgrade_socket: Option<Arc<Path>>,
    /// Longest time for a new program to get ready (default 30 s).
    pub upgrade_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            workers: None,
            shutdown_timeout: Duration::from_secs(30),
            shutdown_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(300),
            reload: ReloadOn::Watch,
            guard_config: false,
            upgrade_socket: None,
            upgrade_timeout: Duration::from_secs(30),
        }
    }
}

/// What makes the configuration file be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadOn {
    /// A change of the file, and also what `Signal` takes.
    Watch,
    /// SIGHUP or the admin interface only.
    Signal,
}
