//! Small clients for outside stores: bytes under keys, told when they change. What they mean is not known here.
pub mod consul;
pub mod dial;
pub mod etcd;
pub mod health;
pub mod http;
#[cfg(feature = "store-redis")]
pub mod redis;
pub mod settings;
pub mod zookeeper;

use crate::base::backoff;
use crate::base::dice::Dice;
use std::error::Error as _;
use std::io;
use std::time::Duration;
use thiserror::Error;

/// Shortest and longest bound of the pause before the next try.
const RETRY_FROM: Duration = Duration::from_millis(50);
const RETRY_TO: Duration = Duration::from_secs(2);

/// How long to wait after so many failures in a row: anywhere below a bound that doubles, so that those who lost a store together
/// do not come back together.
pub fn pause(failures: u32, dice: &mut Dice) -> Duration {
    dice.within(backoff::bound(RETRY_FROM, RETRY_TO, failures))
}

/// Why a store did not do as asked. After any of these the connection is made anew.
#[derive(Debug, Error)]
pub enum StoreError {
    /// It cannot be reached.
    #[error("connect to {0}")]
    Connect(String, #[source] io::Error),
    /// The connection failed.
    #[error("talk to {0}")]
    Http(String, #[source] hyper::Error),
    /// It does not do as it was told, by the words of its protocol.
    #[error("talk to {0}")]
    Protocol(String, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// It did not answer in time.
    #[error("get an answer of {0} in time")]
    Timeout(String),
    /// It refuses, with its own words.
    #[error("be served by {0}: {1} {2}")]
    Refused(String, u16, String),
    /// Its answer cannot be understood.
    #[error("understand {0}")]
    Answer(String),
    /// Its answer is larger than any that is meant.
    #[error("read an answer of {0} of more than {1} bytes")]
    TooLarge(String, usize),
    /// It ended what was to go on.
    #[error("go on with {0}, which the store has ended")]
    Ended(String),
    /// This program was built without it.
    #[error("use {0}, which this program was built without")]
    LeftOut(&'static str),
    /// A file of credentials cannot be read.
    #[error("read {0}")]
    Credentials(String, #[source] io::Error),
}

impl StoreError {
    /// What happened and why, in one line.
    pub fn told(&self) -> String {
        let (mut told, mut cause) = (format!("failed to {self}"), self.source());
        while let Some(error) = cause {
            told.push_str(&format!(": {error}"));
            cause = error.source();
        }
        told
    }
}
