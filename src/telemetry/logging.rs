//! The program's own log: levels, where it goes, how often a client may cause a line. What events mean is not known here.
use crate::base::clock;
use crate::telemetry::settings::Level;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::Registry;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

/// Changes the level while the program runs.
#[derive(Debug, Clone)]
pub struct LevelHandle {
    handle: Option<reload::Handle<EnvFilter, Registry>>,
    level: Arc<Mutex<Level>>,
}

/// Starts logging to standard error.
pub fn start(level: Level) -> LevelHandle {
    let (filter, handle) = reload::Layer::new(filter(level));
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal()).with_target(false);
    // Somebody else's subscriber, in a test say, stays.
    let is_ours = tracing_subscriber::registry().with(filter).with(lines).try_init().is_ok();
    LevelHandle { handle: is_ours.then_some(handle), level: Arc::new(Mutex::new(level)) }
}

impl LevelHandle {
    /// The level now.
    pub fn level(&self) -> Level {
        *self.level.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs from this level on.
    pub fn set(&self, level: Level) {
        *self.level.lock().unwrap_or_else(PoisonError::into_inner) = level;
        if let Some(handle) = &self.handle
            && let Err(error) = handle.reload(filter(level))
        {
            tracing::warn!(%error, "The log level could not be changed.");
        }
    }
}

fn filter(level: Level) -> EnvFilter {
    // Libraries say more than anybody wants; theirs is heard from warnings on, `h2`'s, which clients can cause, from errors on.
    EnvFilter::new(format!("warn,h2=error,ringway={}", level.as_str()))
}

/// Lets one line a second through and counts the others.
#[derive(Debug, Default)]
pub struct Throttle(Mutex<(Option<Instant>, u64)>);

impl Throttle {
    /// A throttle that has let nothing through.
    pub const fn new() -> Self {
        Self(Mutex::new((None, 0)))
    }

    /// Whether a line may be written now; if so, how many were held back since the last.
    pub fn pass(&self) -> Option<u64> {
        let now = clock::now();
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0.is_some_and(|last| now.duration_since(last) < Duration::from_secs(1)) {
            state.1 += 1;
            return None;
        }
        state.0 = Some(now);
        Some(std::mem::take(&mut state.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_cannot_cause_more_than_a_line_a_second() {
        let throttle = Throttle::new();
        assert_eq!(throttle.pass(), Some(0));
        assert!((0..100).all(|_| throttle.pass().is_none()));
        throttle.0.lock().unwrap().0 = clock::now().checked_sub(Duration::from_secs(1));
        assert_eq!(throttle.pass(), Some(100));
    }
}
