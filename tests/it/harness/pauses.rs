//! How a machine that has too much to do holds everybody up: threads that sleep for a moment again and again, and note when it was
//! much longer. What they were kept from, the programs under test were kept from, too.
use ringway::base::clock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const NAP: Duration = Duration::from_millis(10);
/// What is less than this beyond a nap is no pause.
const NOTABLE: Duration = Duration::from_millis(20);

/// Pauses since this began. It ends when this is dropped.
#[derive(Debug)]
pub struct Pauses(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Vec<(Instant, Instant)>>,
    is_over: AtomicBool,
}

impl Pauses {
    /// Begins to look, by a thread for each processor: any of them may be the busy one.
    pub fn start() -> Self {
        let shared = Arc::new(Shared::default());
        for _ in 0..thread::available_parallelism().map_or(1, Into::into) {
            let shared = shared.clone();
            thread::spawn(move || {
                while !shared.is_over.load(Ordering::Relaxed) {
                    let due = clock::now() + NAP;
                    thread::sleep(NAP);
                    let now = clock::now();
                    if now > due + NOTABLE {
                        shared.seen.lock().unwrap_or_else(PoisonError::into_inner).push((due, now));
                    }
                }
            });
        }
        Self(shared)
    }

    /// From when to when; none overlaps another.
    pub fn all(&self) -> Vec<(Instant, Instant)> {
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        seen.sort_unstable();
        let mut all: Vec<(Instant, Instant)> = Vec::new();
        for (began, ended) in seen {
            match all.last_mut() {
                Some(last) if began <= last.1 => last.1 = last.1.max(ended),
                _ => all.push((began, ended)),
            }
        }
        all
    }

    /// The longest of them.
    pub fn longest(&self) -> Duration {
        self.all().iter().map(|(began, ended)| *ended - *began).max().unwrap_or_default()
    }
}

impl Drop for Pauses {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}
