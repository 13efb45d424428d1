//! Who belongs to an upstream, and where: what is asked of the outside, again and again. What the answers change is decided
//! elsewhere.
pub mod dns;
pub mod file;
pub mod folders;
pub mod judge;
pub mod list;
pub mod names;
pub mod runner;
pub mod settings;

use crate::snapshot::settings::Endpoint;
use dns::Dns;
use dns::client::DnsError;
use file::File;
use settings::Settings;
use settings::Source;
use thiserror::Error;

/// A source's full answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndpointSet {
    /// The members, in any order, each id once.
    pub members: Vec<Endpoint>,
    /// What cannot be a member, and why; told, counted and left out.
    pub left_out: Vec<String>,
}

/// Why a source has no answer.
#[derive(Debug, Error)]
pub enum ProviderError {
    /// The list cannot be read.
    #[error(transparent)]
    List(#[from] list::ListError),
    /// The name servers have no answer.
    #[error(transparent)]
    Dns(#[from] DnsError),
}

/// A source of membership.
#[derive(Debug)]
pub enum Provider {
    /// A file.
    File(File),
    /// A name.
    Dns(Dns),
}

impl Provider {
    /// The source that settings name.
    pub fn new(settings: &Settings) -> Self {
        match &settings.source {
            Source::File(path) => Self::File(File::new(path.clone(), settings.allow.clone())),
            Source::Dns(question) => Self::Dns(Dns::new(question.clone(), settings.allow.clone())),
        }
    }

    /// Waits for the next full answer; the same one twice is fine. It paces itself, also after errors.
    ///
    /// # Errors
    /// When there is no answer, or none that can be read.
    pub async fn next(&mut self) -> Result<EndpointSet, ProviderError> {
        match self {
            Self::File(file) => file.next().await,
            Self::Dns(dns) => dns.next().await,
        }
    }
}
