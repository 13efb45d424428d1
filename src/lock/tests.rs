//! Leases of a store that does as it is told: what is asked and given back, in which order, however askers end.
use super::*;
use crate::base::clock;
use crate::telemetry::labels::LockUse;
use lease::Lease;
use line::Lines;
use room::Room;
use service::Service;
use standing::Standing;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use term::Ended;
use token::Tokens;
use tokio::sync::Semaphore;

const LEASE: Duration = Duration::from_millis(300);
const LIMITS: Limits = Limits { wait: Duration::from_secs(10), queue: 10 };

/// A store that gives a lock for each permit and writes down what it is told.
#[derive(Debug)]
struct Scripted {
    grants: Semaphore,
    told: Mutex<Vec<String>>,
    failures: AtomicU64,
    renews: bool,
}

impl Scripted {
    fn tell(&self, what: &str, ask: &Ask) {
        self.told.lock().unwrap().push(format!("{what} {}", ask.owner));
    }

    fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }

    fn fails(&self) -> Result<(), StoreError> {
        let left = self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_ok() { Err(StoreError::Ended("a test".into())) } else { Ok(()) }
    }
}

impl LeaseStore for Scripted {
    fn run(&self) -> Later<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn acquire<'a>(&'a self, ask: &'a Ask) -> Later<'a, Result<Grant, StoreError>> {
        Box::pin(async move {
            self.tell("ask", ask);
            self.grants.acquire().await.unwrap().forget();
            self.tell("give", ask);
            Ok(Grant { token: Token::new(1, ask.owner), term: Term::until(clock::now() + LEASE) })
        })
    }

    fn release<'a>(&'a self, ask: &'a Ask) -> Later<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.fails()?;
            self.tell("take", ask);
            Ok(())
        })
    }

    fn abandon(&self, ask: &Ask) {
        self.tell("abandon", ask);
    }

    fn renew<'a>(&'a self, _: &'a Ask) -> Option<Later<'a, Result<Option<Instant>, StoreError>>> {
        self.renews.then(|| -> Later<'a, _> { Box::pin(async { Ok(Some(clock::now() + LEASE)) }) })
    }
}

struct World {
    store: Arc<Scripted>,
    standing: Arc<Standing>,
    service: Arc<Service>,
}

fn world(renews: bool) -> World {
    let store = Scripted { grants: Semaphore::new(0), told: Mutex::default(), failures: AtomicU64::new(0), renews };
    let (store, standing) = (Arc::new(store), Arc::new(Standing::new("s".into())));
    let (lines, tokens) = (Arc::new(Lines::default()), Arc::new(Tokens::default()));
    let service = Service::of_store(lines, tokens, store.clone(), standing.clone(), LEASE);
    service.start(&Room::open().unwrap());
    World { store, standing, service: Arc::new(service) }
}

impl World {
    fn asks(&self) -> tokio::task::JoinHandle<Result<Lease, LockError>> {
        let service = self.service.clone();
        tokio::spawn(async move { service.acquire(key(), "a", LIMITS).await })
    }

    async fn until_told(&self, expected: &[&str]) {
        let deadline = clock::now() + Duration::from_secs(10);
        while self.store.told() != expected {
            assert!(clock::now() < deadline, "{:?} is not {expected:?}", self.store.told());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn key() -> LockKey {
    LockKey::new(LockUse::Serialize, &[b"a"])
}

#[tokio::test]
async fn the_next_is_asked_for_when_the_last_was_given_back_for_sure() {
    let world = world(false);
    world.store.grants.add_permits(2);
    let first = world.service.acquire(key(), "a", LIMITS).await.unwrap();
    let second = world.asks();
    world.until_told(&["ask 1", "give 1"]).await;
    world.store.failures.store(2, Ordering::SeqCst);
    drop(first);
    let second = second.await.unwrap().unwrap();
    assert_eq!(world.store.told(), ["ask 1", "give 1", "take 1", "ask 2", "give 2"]);
    assert_eq!((second.token(), world.standing.ghosts.get()), (Some(&Token::new(1, 2)), 1));
}

#[tokio::test]
async fn what_cannot_be_given_back_is_kept_in_mind_for_two_leases_and_no_longer() {
    let world = world(false);
    world.store.failures.store(u64::MAX, Ordering::SeqCst);
    world.store.grants.add_permits(1);
    let began = clock::now();
    drop(world.service.acquire(key(), "a", LIMITS).await.unwrap());
    world.until_told(&["ask 1", "give 1", "abandon 1"]).await;
    assert!(began.elapsed() >= 2 * LEASE && world.standing.ghosts.get() == 0);
}

#[tokio::test]
async fn whoever_leaves_while_asking_leaves_nothing_in_the_store() {
    let world = world(false);
    let asking = world.asks();
    world.until_told(&["ask 1"]).await;
    asking.abort();
    world.until_told(&["ask 1", "take 1"]).await;
    let late = Limits { wait: Duration::from_millis(20), ..LIMITS };
    assert_eq!(world.service.acquire(key(), "a", late).await.unwrap_err(), LockError::Timeout);
    world.until_told(&["ask 1", "take 1", "ask 2", "take 2"]).await;
}

#[tokio::test]
async fn a_lost_store_is_told_to_all_who_wait_and_locks_here_stand_in() {
    let world = world(false);
    let asking = [world.asks(), world.asks()];
    world.until_told(&["ask 1"]).await;
    world.standing.lost();
    for asking in asking {
        assert_eq!(asking.await.unwrap().unwrap_err(), LockError::StoreLost);
    }
    assert_eq!(world.service.acquire(key(), "a", LIMITS).await.unwrap_err(), LockError::StoreLost);
    let here = world.service.acquire_here(key(), LIMITS).await.unwrap();
    assert_eq!((here.token(), here.remaining()), (None, Duration::MAX));
    let late = Limits { wait: Duration::from_millis(20), ..LIMITS };
    assert_eq!(world.service.acquire_here(key(), late).await.unwrap_err(), LockError::Timeout);
    drop(here);
    world.standing.answered(Duration::ZERO);
    world.store.grants.add_permits(1);
    assert!(world.service.acquire(key(), "a", LIMITS).await.is_ok());
}

#[tokio::test]
async fn a_lease_that_is_renewed_goes_on_and_one_that_is_not_ends() {
    let mut ended = Vec::new();
    for renews in [true, false] {
        let world = world(renews);
        world.store.grants.add_permits(1);
        let mut lease = world.service.acquire(key(), "a", LIMITS).await.unwrap();
        ended.push(tokio::time::timeout(3 * LEASE, lease.over()).await.ok());
    }
    assert_eq!(ended, [None, Some(Ended::TimeUp)]);
}
