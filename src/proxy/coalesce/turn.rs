//! Which proxy of a fleet asks for what many want: one after the other, by a lease in a store. Whoever comes after another asks a
//! cache that has the answer by then; if the one before failed, it asks in its place. Nobody waits for ever, and no loss of a lease
//! ends an exchange: it was for saving work.
use crate::base::clock;
use crate::lock::Limits;
use crate::lock::LockError;
use crate::lock::key::LockKey;
use crate::proxy::serialize::Held;
use crate::route::coalesce::OnLoss;
use crate::snapshot::Serial;
use crate::telemetry::labels::Coalesced;
use crate::telemetry::labels::LockResult;
use std::time::Duration;

/// Exchanges of this proxy for the same that may wait, one after the other; further ones do not wait.
const MAX_QUEUE: usize = 16;

/// The turn of an exchange.
#[derive(Debug)]
pub struct Turn {
    /// The lease, until the exchange is over; `None`: it is made without.
    pub held: Option<Held>,
    /// What the one who asked first is counted as.
    pub role: Coalesced,
}

/// What a turn is wanted for.
#[derive(Debug)]
pub struct Wish<'a> {
    /// What is asked for.
    pub key: LockKey,
    /// The same for people who look into the store.
    pub told: &'a str,
    /// Longest time to wait for other proxies.
    pub wait: Duration,
    /// What happens without the store.
    pub on_loss: OnLoss,
}

/// Waits until other proxies have asked for the same. Dropping it gives up.
///
/// # Errors
/// When the store is lost and nobody is to ask then.
pub async fn take(serial: &Serial, worker: usize, wish: Wish<'_>) -> Result<Turn, LockError> {
    let stats = serial.stats.clone();
    let cell = stats.of(worker);
    let (began, waiting) = (clock::now(), cell.waiting.count());
    let asked = serial.service.acquire(wish.key, wish.told, Limits { wait: wish.wait, queue: MAX_QUEUE }).await;
    drop(waiting);
    let (result, turn) = match asked {
        Ok(lease) => {
            let role = if lease.had_to_wait() { Coalesced::Peer } else { Coalesced::Filler };
            let held = Some(Held::new(lease, worker, serial.clone()));
            (LockResult::Granted, Ok(Turn { held, role }))
        }
        Err(LockError::StoreLost) if wish.on_loss == OnLoss::Local => {
            (LockResult::Local, Ok(Turn { held: None, role: Coalesced::Filler }))
        }
        Err(LockError::StoreLost) => (LockResult::StoreLost, Err(LockError::StoreLost)),
        // The others take too long: better one fetch too many than none.
        Err(error) => (error.into(), Ok(Turn { held: None, role: Coalesced::Timeout })),
    };
    cell.acquire[result as usize].observe(began.elapsed());
    turn
}
