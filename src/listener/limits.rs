//! What one client may take: connections at one time, and time for its bodies.
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

/// Locks: far more than workers.
const SHARDS: usize = 64;
/// Time a client may take for a body whatever its rate: the first bytes of a slow line come late.
const GRACE: Duration = Duration::from_secs(5);

/// Connections of each address at one listener, over all workers. Only touched where there is a limit. An address is kept in mind as
/// long as it has a connection, so the number of connections bounds it.
#[derive(Debug)]
pub struct Addresses {
    hasher: RandomState,
    shards: [Mutex<HashMap<IpAddr, usize>>; SHARDS],
}

/// One connection of an address; it counts until this is dropped.
#[derive(Debug)]
pub struct Held {
    addresses: Arc<Addresses>,
    ip: IpAddr,
}

impl Default for Addresses {
    fn default() -> Self {
        Self { hasher: RandomState::new(), shards: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl Addresses {
    /// Counts one more connection of `ip`, unless it has `most` already.
    pub fn hold(self: &Arc<Self>, ip: IpAddr, most: usize) -> Option<Held> {
        let ip = ip.to_canonical();
        let mut shard = self.shard(ip);
        let count = shard.entry(ip).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Held { addresses: self.clone(), ip })
    }

    fn shard(&self, ip: IpAddr) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        let shard = &self.shards[self.hasher.hash_one(ip) as usize % SHARDS];
        // A poisoned count is still a count: nothing in it can be half done.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut shard = self.addresses.shard(self.ip);
        match shard.get_mut(&self.ip) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(shard.remove(&self.ip)),
        }
    }
}

/// How fast a body comes, as far as that is up to the client: the time in which the endpoint could not take more is not counted.
#[derive(Debug)]
pub struct Pace {
    bytes_per_second: u64,
    received: u64,
    waited: Duration,
    waiting_since: Option<Instant>,
}

impl Pace {
    /// A body of which nothing has come yet.
    pub fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, received: 0, waited: Duration::ZERO, waiting_since: None }
    }

    /// From now on the client is waited for: how long it may take. `None` when it was waited for already.
    pub fn begin_waiting(&mut self, now: Instant) -> Option<Duration> {
        if self.waiting_since.is_some() {
            return None;
        }
        self.waiting_since = Some(now);
        let earned = Duration::from_secs_f64(self.received as f64 / self.bytes_per_second as f64);
        Some((GRACE + earned).saturating_sub(self.waited))
    }

    /// These bytes came.
    pub fn receive(&mut self, bytes: usize, now: impl FnOnce() -> Instant) {
        self.received += bytes as u64;
        if let Some(since) = self.waiting_since.take() {
            self.waited += now().saturating_duration_since(since);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock;

    #[test]
    fn an_address_has_so_many_connections_and_no_more() {
        let addresses = Arc::new(Addresses::default());
        let hold = |ip: &str| addresses.hold(ip.parse().unwrap(), 2);
        let (first, _second) = (hold("10.0.0.1").unwrap(), hold("::ffff:10.0.0.1").unwrap());
        assert!(hold("10.0.0.1").is_none() && hold("10.0.0.2").is_some());
        drop(first);
        let _third = hold("10.0.0.1").unwrap();
        assert!(hold("10.0.0.1").is_none());
        drop((_second, _third));
        assert!(addresses.shards.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }

    #[test]
    fn a_body_may_take_the_grace_and_what_it_has_earned() {
        let (mut pace, start) = (Pace::new(1000), clock::now());
        let at = |millis: u64| start + Duration::from_millis(millis);
        assert_eq!(pace.begin_waiting(at(0)), Some(GRACE));
        assert_eq!(pace.begin_waiting(at(100)), None);
        pace.receive(500, || at(2000));
        // What happens here is the endpoint's time.
        assert_eq!(pace.begin_waiting(at(60_000)), Some(GRACE - Duration::from_millis(1500)));
        pace.receive(1, || at(63_499));
        assert_eq!(pace.begin_waiting(at(63_499)), Some(Duration::from_millis(2)));
    }
}
