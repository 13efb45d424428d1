//! What the stories about locks need of each engine beside its members: what there is of locks, and how one is taken away.
use super::store::Server;
use std::time::Duration;

/// A store that keeps locks.
pub trait LockServer: Server {
    /// Whether those who wait have their turns in the order of asking.
    const IS_FAIR: bool;
    /// Ways to take a lock away from its holder by hand.
    const WAYS: usize;
    /// Whether no lock is given after a loss of data until those that may be held have run out.
    const WAITS_FOR_THE_FORGOTTEN: bool;
    /// Longest time until the lock of a holder that died passes on, beyond its lease: the engine's own part of it.
    const LATE: Duration;

    /// The lines of its `[store.NAME]`, at this address, for leases of so many seconds.
    fn lock_lines(&self, address: std::net::SocketAddr, seconds: u64) -> String;
    /// One for each lock, and for each who waits for one.
    fn locks(&self) -> Vec<String>;
    /// Takes a lock away, in one of the [`WAYS`](Self::WAYS).
    fn take(&self, lock: &str, way: usize);

    /// Has it sleep, or wakes it up.
    fn set_asleep(&mut self, is_asleep: bool) {
        self.process().signal(if is_asleep { "STOP" } else { "CONT" });
    }
}
