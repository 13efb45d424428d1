//! Panics, counted and logged; each ends one task, never the process.
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

static COUNT: AtomicU64 = AtomicU64::new(0);

/// Counts and logs every panic from now on.
pub fn install() {
    std::panic::set_hook(Box::new(|info| {
        COUNT.fetch_add(1, Ordering::Relaxed);
        let thread = std::thread::current();
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let message = info.payload_as_str().unwrap_or("no message");
        tracing::error!(thread = thread.name().unwrap_or("?"), place, message, "A panic ended one connection or task.");
    }));
}

/// Panics so far.
pub fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}
