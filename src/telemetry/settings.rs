//! What is logged, and where to.
use crate::base::units::Ratio;
use std::path::PathBuf;

/// The settings of both logs.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The program's own log.
    pub level: Level,
    /// The access log's format.
    pub access: AccessFormat,
    /// The access log's file; `None` is standard output.
    pub access_path: Option<PathBuf>,
    /// Share of finished requests that the access log gets; those that failed it always gets.
    pub sample: Ratio,
}

impl Default for Settings {
    fn default() -> Self {
        Self { level: Level::Info, access: AccessFormat::Json, access_path: None, sample: Ratio(1.0) }
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

impl Level {
    /// All levels, fewest lines first; a level's number is its place here.
    pub const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// As the configuration writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    /// The level of a word.
    pub fn of(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == text)
    }
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
