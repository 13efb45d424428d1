//! What is logged, and where to.
use std::path::PathBuf;

/// The settings of both logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The program's own log.
    pub level: Level,
    /// The access log's format.
    pub access: AccessFormat,
    /// The access log's file; `None` is standard output.
    pub access_path: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { level: Level::Info, access: AccessFormat::Json, access_path: None }
    }
}

/// How much the program says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the usual levels")]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How a finished request is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessFormat {
    /// One JSON object a line.
    Json,
    /// One readable line.
    Text,
    /// Not at all.
    Off,
}
