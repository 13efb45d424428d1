//! How often a route may be asked by one key. Counting is `crate::limit`'s.
use crate::head::Client;
use crate::head::Head;
use crate::key::KeySpec;
use crate::limit::Limiter;
use crate::limit::Rate;
use std::time::Duration;
use std::time::Instant;

/// A limit, as written.
#[derive(Debug, Clone)]
pub struct RateLimit {
    /// How much.
    pub rate: Rate,
    /// Whose requests count together. Those without any of it count by the client's address.
    pub key: KeySpec,
}

impl RateLimit {
    /// Whether what was counted under another limit goes on to count under this one.
    pub fn is_same(&self, other: &Self) -> bool {
        self.rate == other.rate && self.key.texts().eq(other.key.texts())
    }

    /// Takes one request.
    ///
    /// # Errors
    /// When it comes too early: how long to wait.
    pub fn admit(
        &self,
        limiter: &Limiter,
        head: &Head,
        client: &Client,
        scratch: &mut Vec<u8>,
        now: Instant,
    ) -> Result<(), Duration> {
        let extracted = self.key.extract(head, client, scratch);
        let source = extracted.unwrap_or_else(|| self.key.of_client(client, scratch)).source;
        limiter.admit(source, scratch, now)
    }
}
