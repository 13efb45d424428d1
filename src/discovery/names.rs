//! Looks names of hosts up with the system's resolver, again and again.
//!
//! The system answers when it likes, so each look-up has a thread of its own, at most `MAX_AT_ONCE` of them and one for each
//! name; whoever waits stops waiting after `PATIENCE`.
use crate::base::address::Address;
use crate::base::address::HostPort;
use crate::base::clock;
use crate::base::dice::Dice;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::io;
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use thiserror::Error;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Look-ups under way at one time.
const MAX_AT_ONCE: usize = 16;
/// Longest wait for one. A resolver that asks a dead server first may need ten seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most addresses taken of one answer.
const MAX_ADDRESSES: usize = 64;
/// Answers that may wait; a look-up that has one more waits with it.
const MAX_ANSWERS: usize = 64;

/// What came of one look-up.
#[derive(Debug)]
pub struct Answer {
    /// What was looked up.
    pub name: HostPort,
    /// Where it leads, in the resolver's order; never empty.
    pub result: Result<Vec<Address>, LookUpError>,
}

/// Why a look-up failed.
#[derive(Debug, Error)]
pub enum LookUpError {
    /// The resolver says so.
    #[error(transparent)]
    Resolver(#[from] io::Error),
    /// The resolver knows the name but no address.
    #[error("the name has no address")]
    Empty,
    /// The resolver did not answer in time.
    #[error("no answer within {PATIENCE:?}")]
    Timeout,
}

/// The names that are looked up.
#[derive(Debug)]
pub struct Names {
    wanted: BTreeMap<HostPort, Wanted>,
    slots: Arc<Semaphore>,
    answers: mpsc::Receiver<Answer>,
    sender: mpsc::Sender<Answer>,
    running: JoinSet<()>,
    dice: Dice,
}

#[derive(Debug)]
struct Wanted {
    every: Duration,
    /// When it is looked up next; `None` while it is.
    due: Option<Instant>,
}

impl Default for Names {
    fn default() -> Self {
        let (sender, answers) = mpsc::channel(MAX_ANSWERS);
        Self {
            wanted: BTreeMap::new(),
            slots: Arc::new(Semaphore::new(MAX_AT_ONCE)),
            answers,
            sender,
            running: JoinSet::new(),
            dice: Dice::new(clock::since_epoch().as_nanos() as u64),
        }
    }
}

impl Names {
    /// Has these looked up, each so often, and no others; a new one at once.
    pub fn want(&mut self, names: &HashMap<HostPort, Duration>) {
        self.wanted.retain(|name, _| names.contains_key(name));
        for (name, every) in names {
            let fresh = || Wanted { every: *every, due: Some(clock::now()) };
            let wanted = self.wanted.entry(name.clone()).or_insert_with(fresh);
            if wanted.every != *every {
                wanted.every = *every;
                wanted.due = wanted.due.map(|due| due.min(clock::now() + *every));
            }
        }
    }

    /// Whether this one is looked up.
    pub fn wants(&self, name: &HostPort) -> bool {
        self.wanted.contains_key(name)
    }

    /// Waits for the next answer about a name that is still wanted. Cancelling it loses none.
    pub async fn next(&mut self) -> Answer {
        loop {
            self.begin_due();
            let next_due = self.wanted.values().filter_map(|wanted| wanted.due).min();
            let pause = async {
                match next_due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(answer) = self.answers.recv() => {
                    if let Some(answer) = self.take_in(answer) {
                        return answer;
                    }
                }
                () = pause => {}
            }
        }
    }

    fn begin_due(&mut self) {
        let now = clock::now();
        while self.running.try_join_next().is_some() {}
        for (name, wanted) in &mut self.wanted {
            if wanted.due.is_none_or(|due| due > now) {
                continue;
            }
            wanted.due = None;
            let (name, slots, sender) = (name.clone(), self.slots.clone(), self.sender.clone());
            self.running.spawn(async move {
                let result = tokio::time::timeout(PATIENCE, look_up(&name, slots)).await;
                let result = result.unwrap_or(Err(LookUpError::Timeout));
                if sender.send(Answer { name, result }).await.is_err() {
                    tracing::debug!("Nobody waited for a look-up any more.");
                }
            });
        }
    }

    /// Has its name looked up again when its time comes; an answer that came late about a name nobody wants is dropped.
    fn take_in(&mut self, answer: Answer) -> Option<Answer> {
        let wanted = self.wanted.get_mut(&answer.name)?;
        wanted.due = Some(clock::now() + self.dice.around(wanted.every));
        Some(answer)
    }
}

async fn look_up(name: &HostPort, slots: Arc<Semaphore>) -> Result<Vec<Address>, LookUpError> {
    let Ok(slot) = slots.acquire_owned().await else { return Err(LookUpError::Timeout) };
    let answered = ask_system(name.clone(), slot)?;
    // A thread that ends without an answer has panicked, which is logged.
    let mut addresses = answered.await.map_err(|_| LookUpError::Empty)??;
    if addresses.len() > MAX_ADDRESSES {
        // The same ones each time, whatever the order they came in.
        addresses.sort_unstable();
        addresses.truncate(MAX_ADDRESSES);
    }
    if addresses.is_empty() { Err(LookUpError::Empty) } else { Ok(addresses) }
}

/// Asks the system in a thread that holds its slot until the system answers, however long nobody has been waiting any more.
/// The runtime's own threads for this would hold up the program's end.
fn ask_system(name: HostPort, slot: OwnedSemaphorePermit) -> io::Result<oneshot::Receiver<io::Result<Vec<Address>>>> {
    let (answer, answered) = oneshot::channel();
    std::thread::Builder::new().name("look-up".into()).spawn(move || {
        let found = (&*name.host, name.port).to_socket_addrs();
        drop(slot);
        if answer.send(found.map(|found| found.map(Address::Ip).collect())).is_err() {
            tracing::debug!(%name, "A look-up took too long.");
        }
    })?;
    Ok(answered)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HostPort {
        let (host, port) = text.split_once(':').unwrap();
        HostPort { host: host.into(), port: port.parse().unwrap() }
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn a_name_is_looked_up_at_once_and_again_each_interval() {
        runtime().block_on(async {
            let mut names = Names::default();
            names.want(&HashMap::from([(name("localhost:80"), Duration::from_millis(20))]));
            for _ in 0..3 {
                let answer = tokio::time::timeout(Duration::from_secs(10), names.next()).await.unwrap();
                let found = answer.result.unwrap();
                let is_loopback =
                    |address: &Address| matches!(address, Address::Ip(it) if it.ip().is_loopback() && it.port() == 80);
                assert!(!found.is_empty() && found.iter().all(is_loopback), "{found:?}");
            }
        });
    }

    #[test]
    fn a_name_that_is_not_there_is_a_failure_and_the_others_go_on() {
        runtime().block_on(async {
            let mut names = Names::default();
            let hour = Duration::from_secs(3600);
            // RFC 6761: never a host.
            names.want(&HashMap::from([(name("nowhere.invalid:80"), hour), (name("localhost:81"), hour)]));
            let mut seen = [names.next().await, names.next().await];
            seen.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            assert!(seen[0].result.is_ok() && seen[1].result.is_err(), "{seen:?}");
        });
    }

    #[test]
    fn an_answer_nobody_wants_any_more_is_dropped() {
        runtime().block_on(async {
            let mut names = Names::default();
            names.want(&HashMap::from([(name("localhost:80"), Duration::from_secs(1))]));
            names.begin_due();
            names.want(&HashMap::from([(name("localhost:81"), Duration::from_secs(1))]));
            assert_eq!(names.next().await.name, name("localhost:81"));
        });
    }
}
