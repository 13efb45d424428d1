//! What the admin interface asks of the program; `app` answers.
use crate::admin::settings::Settings;
use crate::analysis::plan::Plan;
use crate::base::ids::ListenerName;
use crate::base::ids::UpstreamName;
use crate::control::ControlError;
use crate::control::Drain;
use crate::control::apply::Drained;
use crate::fleet::peers::Peers;
use crate::net::certs::Certificate;
use crate::telemetry::access_log::AccessLogControl;
use crate::telemetry::settings::Level;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// A future that may cross threads.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The rest of the program, as operators see it.
pub trait Operator: Send + Sync {
    /// Reads the configuration again: what came of it, or everything that is wrong. With `is_forced` no guard holds it, nor what
    /// else is held.
    fn reload(&self, is_forced: bool) -> Later<Result<String, String>>;
    /// Lets through what is held: what is in force by that, each in a line, or why it is not.
    fn approve(&self, which: Which) -> Later<Result<Vec<String>, String>>;
    /// What a configuration would do in place of the one that runs, or everything that is wrong with it.
    fn plan(&self, text: String) -> Later<Result<Plan, String>>;
    /// Begins or ends a drain.
    fn drain(&self, drain: Drain) -> Later<Result<Drained, ControlError>>;
    /// Who may call, and how.
    fn settings(&self) -> Arc<Settings>;
    /// How much the program says of itself.
    fn log_level(&self) -> Level;
    /// Changes that until the file's level changes, or the program ends.
    fn set_log_level(&self, level: Level);
    /// The configuration as written, before `${}`, secrets masked: file names and texts.
    fn config(&self) -> Vec<(String, String)>;
    /// What is known of the process now.
    fn process(&self) -> Process;
}

/// Which of the changes that are held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// All.
    All,
    /// The configuration.
    Configuration,
    /// Members of one upstream, or of all.
    Members(Option<UpstreamName>),
}

/// A configuration that waits for a person's word.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldChange {
    /// Since when, in time since the epoch.
    pub since: Duration,
    /// What is too much, in words.
    pub why: String,
}

/// The process now.
#[derive(Debug, Clone)]
pub struct Process {
    /// Why it is not ready; `None` when it is.
    pub not_ready: Option<&'static str>,
    /// Time since it was started.
    pub uptime: Duration,
    /// Number of workers.
    pub workers: usize,
    /// What came of reloads.
    pub reloads: Reloads,
    /// What came of certificates' files that changed.
    pub renewals: Renewals,
    /// The certificates that clients are shown, by listener.
    pub certificates: Vec<(ListenerName, Certificate)>,
    /// The configuration that guards hold, if there is one.
    pub held: Option<HeldChange>,
    /// The other proxies of the fleet, if there is one.
    pub fleet: Option<Arc<Peers>>,
    /// Panics so far.
    pub panics: u64,
    /// The access log, if there is one.
    pub access_log: Option<AccessLogControl>,
}

/// What came of changes of the files that TLS is made of.
#[derive(Debug, Clone, Copy, Default)]
pub struct Renewals {
    /// Those that were taken up.
    pub successes: u64,
    /// Those that were refused.
    pub failures: u64,
}

/// What came of reloads so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reloads {
    /// Those that were taken up, the first one at the start included.
    pub successes: u64,
    /// Those that were refused.
    pub failures: u64,
    /// Those that guards held.
    pub held: u64,
    /// Whether the last one was taken up.
    pub last_succeeded: bool,
    /// When one was last taken up, since the epoch.
    pub last_success: Duration,
}
