//! All services of this process: one for locks within it, and one for each store and length of a lease.
use super::LeaseStore;
use super::consul::Consul;
use super::election::Seat;
use super::etcd::Etcd;
use super::key::LockKey;
#[cfg(not(feature = "store-redis"))]
use super::left_out::LeftOut;
use super::line::Lines;
#[cfg(feature = "store-redis")]
use super::redis::Redis;
use super::room::Room;
use super::service::Service;
use super::standing::Standing;
use super::token::Tokens;
use super::zookeeper::Zookeeper;
use crate::base::clock;
use crate::store::settings::Engine;
use crate::store::settings::Settings;
use crate::telemetry::labels::LockUse;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::Weak;
use std::time::Duration;

/// Longest time to give locks back when the program ends, and how often that is looked at.
const SETTLE: Duration = Duration::from_secs(1);
const SETTLE_LOOK: Duration = Duration::from_millis(5);

/// All services. They share the lines, so that a key has one turn in this process whichever of them it is asked of.
#[derive(Debug)]
pub struct Locks {
    lines: Arc<Lines>,
    tokens: Arc<Tokens>,
    here: Arc<Service>,
    stored: Mutex<Vec<Known>>,
    seats: Mutex<Vec<Weak<Seat>>>,
    room: OnceLock<Arc<Room>>,
}

/// A service that somebody has, or had.
#[derive(Debug)]
struct Known {
    store: Arc<Settings>,
    lease: Duration,
    service: Weak<Service>,
}

impl Default for Locks {
    fn default() -> Self {
        let (lines, tokens) = (Arc::new(Lines::default()), Arc::new(Tokens::default()));
        let here = Arc::new(Service::here(lines.clone(), tokens.clone()));
        Self { lines, tokens, here, stored: Mutex::default(), seats: Mutex::default(), room: OnceLock::new() }
    }
}

impl Locks {
    /// Locks within this process.
    pub fn here(&self) -> Arc<Service> {
        self.here.clone()
    }

    /// Locks of a store, with leases of this length: those that somebody has already, or new ones. They work once they are
    /// [started](Self::start), and end when nobody has them any more.
    pub fn of_store(&self, store: &Arc<Settings>, lease: Duration) -> Arc<Service> {
        let mut stored = self.stored();
        stored.retain(|known| known.service.strong_count() > 0);
        let is_same = |known: &&Known| known.store == *store && known.lease == lease;
        if let Some(service) = stored.iter().find(is_same).and_then(|known| known.service.upgrade()) {
            return service;
        }
        let standing = Arc::new(Standing::new(store.name.clone()));
        let engine = engine(store, lease, standing.clone());
        let service = Service::of_store(self.lines.clone(), self.tokens.clone(), engine, standing, lease);
        let service = Arc::new(service);
        stored.push(Known { store: store.clone(), lease, service: Arc::downgrade(&service) });
        service
    }

    /// A candidate for a job, with leases as long as what the store keeps: the one that there is already, or a new one.
    pub fn seat(&self, store: &Arc<Settings>, job: String, by: String, every: Duration) -> Arc<Seat> {
        // No lease there is longer than that.
        let lease = match store.engine {
            Engine::Redis(own) => store.lease_ttl.min(own.max_lease),
            _ => store.lease_ttl,
        };
        let service = self.of_store(store, lease);
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        seats.retain(|seat| seat.strong_count() > 0);
        let same = seats.iter().filter_map(Weak::upgrade).find(|seat| seat.is_same(&job, every, &service));
        same.unwrap_or_else(|| {
            let key = LockKey::new(LockUse::Elect, &[job.as_bytes()]);
            let seat = Arc::new(Seat::new(job, key, by, every, service));
            seats.push(Arc::downgrade(&seat));
            seat
        })
    }

    /// Sets all engines to work that do not yet.
    pub fn start(&self) {
        for service in self.stored().iter().filter_map(|known| known.service.upgrade()) {
            if self.room.get().is_none() {
                match Room::open() {
                    Ok(room) => drop(self.room.set(room)),
                    Err(error) => tracing::error!(%error, "There is no thread for locks: none can be had."),
                }
            }
            if let Some(room) = self.room.get() {
                service.start(room);
            }
        }
    }

    /// Before the program ends: waits until what was held is given back, for a moment. What is not runs out by itself.
    pub async fn settle(&self) {
        let end = clock::now() + SETTLE;
        let seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner).clone();
        seats.iter().filter_map(Weak::upgrade).for_each(|seat| seat.resign());
        let is_busy =
            || self.stored().iter().filter_map(|known| known.service.upgrade()).any(|service| service.is_busy());
        while is_busy() && clock::now() < end {
            tokio::time::sleep(SETTLE_LOOK).await;
        }
    }

    fn stored(&self) -> MutexGuard<'_, Vec<Known>> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The recipe of a store's engine.
fn engine(store: &Arc<Settings>, lease: Duration, standing: Arc<Standing>) -> Arc<dyn LeaseStore> {
    match store.engine {
        Engine::Consul(_) => Arc::new(Consul::new(store.clone(), lease, standing)),
        Engine::Etcd => Arc::new(Etcd::new(store.clone(), lease, standing)),
        #[cfg(feature = "store-redis")]
        Engine::Redis(own) => Arc::new(Redis::new(store.clone(), own, lease, standing)),
        Engine::Zookeeper => Arc::new(Zookeeper::new(store.clone(), lease, standing)),
        #[cfg(not(feature = "store-redis"))]
        Engine::Redis(_) => Arc::new(LeftOut { engine: store.engine.name(), standing }),
    }
}
