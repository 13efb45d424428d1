//! What the outside sees of us: metrics, access log, log. Knows no snapshot, no proxy, no control.
pub mod access_log;
pub mod cells;
pub mod labels;
pub mod log_line;
pub mod logging;
pub mod metrics;
pub mod panics;
pub mod record;
pub mod settings;
