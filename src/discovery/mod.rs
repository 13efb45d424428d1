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
pub mod store;

use crate::snapshot::settings::Endpoint;
use crate::store::StoreError;
use crate::store::health::StoreHealth;
use dns::Dns;
use dns::client::DnsError;
use file::File;
use settings::Settings;
use settings::Source;
use std::sync::Arc;
use store::Store;
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
    /// The store is lost.
    #[error("{}", .0.told())]
    Store(#[from] StoreError),
}

/// A source of membership.
#[derive(Debug)]
pub enum Provider {
    /// A file.
    File(File),
    /// A name.
    Dns(Dns),
    /// A store.
    Store(Box<Store>),
}

impl Provider {
    /// The source that settings name; what becomes of a store is noted in `health`.
    pub fn new(settings: &Settings, health: Option<Arc<StoreHealth>>) -> Self {
        match &settings.source {
            Source::File(path) => Self::File(File::new(path.clone(), settings.allow.clone())),
            Source::Dns(question) => Self::Dns(Dns::new(question.clone(), settings.allow.clone())),
            Source::Store(question) => {
                let health = health.unwrap_or_else(|| Arc::new(StoreHealth::new(question.store.name.clone())));
                Self::Store(Box::new(Store::new(question.clone(), settings.allow.clone(), health)))
            }
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
            Self::Store(store) => store.next().await,
        }
    }
}
