//! A job that one proxy of a fleet does for all, and what it tells the others: whoever has the lock does it and publishes under
//! its fencing token; the others listen, and know when nobody tells them any more. What the job is is not known here.
use super::Limits;
use super::Post;
use super::key::LockKey;
use super::lease::Lease;
use super::service::Service;
use super::term::Term;
use crate::base::clock;
use crate::telemetry::cells::Counter;
use crate::telemetry::cells::LockCell;
use crate::telemetry::labels::LockLoss;
use crate::telemetry::labels::LockResult;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::watch;

/// Shortest time between two words of the one that does the job.
const MIN_EVERY: Duration = Duration::from_millis(500);
/// After so many times that without a word nobody does it, as far as is known.
const PATIENCE: u32 = 3;
/// A candidate waits for the lock for so long, and then goes on waiting.
const CAMPAIGN: Duration = Duration::from_secs(3600);
/// Candidates of this process: one of the settings before may still be giving up its lease.
const CANDIDATES: usize = 16;
/// Pause before a candidate that could not wait tries again.
const RETRY: Duration = Duration::from_millis(200);
/// Longest and shortest time between two looks at what is published.
const LOOK: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// This proxy's place in a job's election.
#[derive(Debug)]
pub struct Seat {
    /// What is done, in words that are fit for a key of a store.
    pub job: String,
    /// Times this proxy was elected.
    pub terms: Counter,
    /// What its lock cost.
    pub locks: LockCell,
    post: Arc<Post>,
    by: String,
    every: Duration,
    service: Arc<Service>,
    seen: Mutex<Seen>,
    own: watch::Sender<Option<Value>>,
    resigned: watch::Sender<bool>,
}

/// What a proxy is to a job at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It does it.
    Elected,
    /// Another one does it.
    Follows,
    /// As far as it knows nobody does it.
    Alone,
}

/// What the elected one told.
#[derive(Debug, Clone)]
pub struct Told {
    /// Rises with each that is told.
    pub number: u64,
    /// Its fencing token.
    pub token: String,
    /// Who it is, for people.
    pub by: String,
    /// What it found.
    pub found: Value,
}

#[derive(Debug)]
struct Seen {
    elected: Option<Arc<Term>>,
    /// When somebody was last heard, or this one did the job itself.
    heard: Instant,
    /// The version of what is published, as it was read last.
    version: Option<u64>,
    told: Option<Told>,
}

/// As it is published.
#[derive(Debug, Serialize, Deserialize)]
struct Word {
    /// Another each time, so that the same found again is news.
    #[serde(default)]
    serial: u64,
    token: String,
    by: String,
    found: Value,
}

impl Seat {
    /// A candidate for a job, known to people as `by`, that has something to tell each `every`. Nothing happens before it
    /// [runs](Self::run).
    pub fn new(job: String, key: LockKey, by: String, every: Duration, service: Arc<Service>) -> Self {
        let every = every.max(MIN_EVERY);
        let post = Arc::new(Post { key, name: job.clone(), lasts: PATIENCE * every });
        let seen = Seen { elected: None, heard: clock::now(), version: None, told: None };
        Self {
            job,
            terms: Counter::default(),
            locks: LockCell::default(),
            post,
            by,
            every,
            service,
            seen: Mutex::new(seen),
            own: watch::Sender::new(None),
            resigned: watch::Sender::new(false),
        }
    }

    /// Whether it is one for the same, by the same store.
    pub fn is_same(&self, job: &str, every: Duration, service: &Arc<Service>) -> bool {
        self.job == job && self.every == every.max(MIN_EVERY) && Arc::ptr_eq(&self.service, service)
    }

    /// Whose lock it is.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// What this proxy is to the job at this moment.
    pub fn role(&self, now: Instant) -> Role {
        let seen = self.seen();
        if seen.elected.as_ref().is_some_and(|term| term.ended().is_none()) {
            return Role::Elected;
        }
        let is_silent = now.saturating_duration_since(seen.heard) > PATIENCE * self.every;
        if is_silent || self.service.is_lost() { Role::Alone } else { Role::Follows }
    }

    /// What was told last, if anything was.
    pub fn told(&self) -> Option<Told> {
        self.seen().told.clone()
    }

    /// Its number, to see whether there is something new.
    pub fn last_number(&self) -> u64 {
        self.seen().told.as_ref().map_or(0, |told| told.number)
    }

    /// Since when nobody has told anything; this one itself is never silent.
    pub fn silence(&self, now: Instant) -> Duration {
        if self.role(now) == Role::Elected {
            return Duration::ZERO;
        }
        self.unheard(now)
    }

    /// How long ago another one was heard last: whoever is elected since then knows by it how long nobody did the job.
    pub fn unheard(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.seen().heard)
    }

    /// What others are told as long as this one is elected.
    pub fn tell(&self, found: Value) {
        self.own.send_if_modified(|own| {
            let is_other = own.as_ref() != Some(&found);
            *own = Some(found);
            is_other
        });
    }

    /// Does the job no more: the next one may. For the end of the program.
    pub fn resign(&self) {
        self.resigned.send_replace(true);
    }

    /// Stands for election and listens, for ever.
    pub async fn run(&self) {
        self.seen().heard = clock::now();
        tokio::join!(self.stand(), self.listen());
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn stand(&self) {
        let told = format!("{} {}", self.job, self.by);
        loop {
            let (began, waiting) = (clock::now(), self.locks.waiting.count());
            let asking = self.service.acquire(self.post.key, &told, Limits { wait: CAMPAIGN, queue: CANDIDATES });
            let lease = tokio::select! {
                lease = asking => lease,
                () = self.until_resigned() => return,
            };
            drop(waiting);
            let result = lease.as_ref().map_or_else(|error| (*error).into(), |_| LockResult::Granted);
            self.locks.acquire[result as usize].observe(began.elapsed());
            match lease {
                Ok(lease) => self.serve(lease).await,
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }

    /// Does the job for as long as the lease is ours.
    async fn serve(&self, mut lease: Lease) {
        let (Some(term), Some(token)) = (lease.term().cloned(), lease.token().map(ToString::to_string)) else { return };
        let since = clock::now();
        tracing::info!(job = self.job, token, "This proxy is elected.");
        self.terms.add(1);
        self.seen().elected = Some(term);
        let owner = lease.owner();
        let is_refused = tokio::select! {
            // What is lost is looked at first: a process that slept may wake up after its time.
            biased;
            _ = lease.over() => false,
            is_refused = self.publish(owner, &token) => is_refused,
        };
        let loss = lease.loss(self.service.is_lost()).or(is_refused.then_some(LockLoss::Session));
        match loss {
            Some(_) => tracing::warn!(job = self.job, token, "This proxy is elected no more: its lease is lost."),
            None => tracing::info!(job = self.job, token, "This proxy is elected no more."),
        }
        self.locks.over(since.elapsed(), loss);
        let mut seen = self.seen();
        (seen.elected, seen.heard) = (None, clock::now());
    }

    /// Tells the others, again and again; until the store says that it is not for this proxy to tell (then this is true), or it resigns.
    async fn publish(&self, owner: u64, token: &str) -> bool {
        let (mut own, mut serial) = (self.own.subscribe(), 0);
        loop {
            let found = own.borrow_and_update().clone();
            let mut pause = self.every;
            if let Some(found) = found {
                serial += 1;
                let word = Word { serial, token: token.to_string(), by: self.by.clone(), found };
                let text = serde_json::to_string(&word).unwrap_or_default();
                match self.service.publish(owner, &self.post, text).await {
                    Ok(true) => {}
                    Ok(false) => return true,
                    Err(error) => {
                        tracing::debug!(job = self.job, error = error.told(), "The others could not be told.");
                        pause = RETRY;
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = own.changed() => {}
                () = self.until_resigned() => return false,
            }
        }
    }

    async fn until_resigned(&self) {
        // The sender is held here: it does not end.
        self.resigned.subscribe().wait_for(|resigned| *resigned).await.map(drop).unwrap_or_default();
    }

    /// Hears what the elected one tells.
    async fn listen(&self) {
        let look = (self.every / 4).clamp(LOOK.0, LOOK.1);
        loop {
            if self.role(clock::now()) != Role::Elected {
                match self.service.published(&self.post).await {
                    Ok(Some((version, text))) => self.hear(version, &text),
                    Ok(None) => {}
                    Err(error) => tracing::debug!(job = self.job, error = error.told(), "Nobody could be heard."),
                }
            }
            tokio::time::sleep(look).await;
        }
    }

    fn hear(&self, version: u64, text: &[u8]) {
        let mut seen = self.seen();
        if seen.elected.is_some() || seen.version.replace(version) == Some(version) {
            return;
        }
        let Ok(Word { token, by, found, .. }) = serde_json::from_slice(text) else {
            return tracing::warn!(job = self.job, "What is published in the store cannot be read.");
        };
        // Whoever has a lower one was elected before, and may not know that it is over; unless nobody else is heard any more, as when
        // the store is another one now.
        let is_silent = seen.heard.elapsed() > PATIENCE * self.every;
        if !is_silent && seen.told.as_ref().is_some_and(|told| told.token > token) {
            return tracing::warn!(job = self.job, token, "What an outdated proxy tells is not heard.");
        }
        let number = seen.told.as_ref().map_or(0, |told| told.number) + 1;
        (seen.heard, seen.told) = (clock::now(), Some(Told { number, token, by, found }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::line::Lines;
    use crate::lock::token::Tokens;
    use crate::telemetry::labels::LockUse;

    #[test]
    fn what_is_told_is_heard_once_and_from_nobody_who_was_elected_before() {
        let service = Service::here(Arc::new(Lines::default()), Arc::new(Tokens::default()));
        let key = LockKey::new(LockUse::Elect, &[b"j"]);
        let seat = Seat::new("j".into(), key, "a".into(), Duration::ZERO, Arc::new(service));
        let word = |token: &str| format!("{{\"token\":\"{token}\",\"by\":\"b\",\"found\":{{}}}}").into_bytes();
        seat.hear(1, &word("5"));
        assert_eq!((seat.last_number(), seat.told().unwrap().token), (1, "5".into()));
        seat.hear(1, &word("6"));
        seat.hear(2, b"nonsense");
        seat.hear(3, &word("4"));
        assert_eq!(seat.last_number(), 1, "read already, unreadable, outdated");
        seat.hear(4, &word("5"));
        seat.hear(5, &word("6"));
        assert_eq!((seat.last_number(), seat.role(clock::now())), (3, Role::Follows));
        let late = clock::now() + 4 * MIN_EVERY;
        assert_eq!(seat.role(late), Role::Alone);
        seat.seen().heard = clock::now().checked_sub(4 * MIN_EVERY).unwrap();
        seat.hear(6, &word("1"));
        assert_eq!(seat.told().unwrap().token, "1", "of a store that is another one");
    }
}
