//! All services of this process: one for locks within it, and one for each store and length of a lease.
use super::line::Lines;
use super::service::Service;
use super::token::Tokens;
use std::sync::Arc;

/// All services. They share the lines, so that a key has one turn in this process whichever of them it is asked of.
#[derive(Debug)]
pub struct Locks {
    here: Arc<Service>,
}

impl Default for Locks {
    fn default() -> Self {
        let (lines, tokens) = (Arc::new(Lines::default()), Arc::new(Tokens::default()));
        Self { here: Arc::new(Service::here(lines, tokens)) }
    }
}

impl Locks {
    /// Locks within this process.
    pub fn here(&self) -> Arc<Service> {
        self.here.clone()
    }
}
