//! Where the proxies of a fleet tell each other of themselves.
use crate::store::settings::Settings as Store;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

/// `[fleet]`
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where they meet; below one root of a store there is one fleet.
    pub store: Arc<Store>,
    /// This proxy's name for people; need not be its own (default: the host's name).
    pub name: String,
    /// How long a proxy that gives no sign of life counts as a peer, at least 1 s (default 10 s).
    pub peers_ttl: Duration,
}

impl Settings {
    /// Before the keys of all proxies.
    pub fn prefix(&self) -> String {
        format!("{}/fleet/", self.store.root)
    }
}

/// The host's name, of letters that a key may have.
pub fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let is_fine = |letter: &char| letter.is_ascii_alphanumeric() || "._-".contains(*letter);
    let name: String = name.trim().chars().filter(is_fine).take(64).collect();
    if name.is_empty() { "ringway".into() } else { name }
}
