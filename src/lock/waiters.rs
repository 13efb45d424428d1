//! Who waits for the end of which key in a store: one for each lock. Told by a watch of all keys; a watch that may have missed some
//! has everybody look again.
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Notify;

/// Ends kept for one who does not know yet whose to wait for; with more it looks again anyway.
const MAX_GONE: usize = 64;

/// All who wait, by what comes before the keys of their lock.
#[derive(Debug, Default)]
pub struct Waiters {
    by_prefix: Arc<Mutex<HashMap<String, Arc<Waited>>>>,
    any: Notify,
    is_telling: AtomicBool,
}

/// One who waits. It is forgotten when this is dropped.
#[derive(Debug)]
pub struct Waiter {
    prefix: String,
    waited: Arc<Waited>,
    by_prefix: Arc<Mutex<HashMap<String, Arc<Waited>>>>,
}

#[derive(Debug, Default)]
struct Waited {
    /// Keys that ended since somebody looked; nothing when some may be missing.
    gone: Mutex<Option<Vec<Vec<u8>>>>,
    news: Notify,
}

impl Waiters {
    /// Begins to keep the ends of keys below a prefix; whoever looks at the store after this misses none that comes later.
    pub fn add(&self, prefix: &str) -> Waiter {
        let waited = Arc::new(Waited { gone: Mutex::new(Some(Vec::new())), news: Notify::new() });
        lock(&self.by_prefix).insert(prefix.to_string(), waited.clone());
        self.any.notify_one();
        Waiter { prefix: prefix.to_string(), waited, by_prefix: self.by_prefix.clone() }
    }

    /// Waits until anybody waits.
    pub async fn until_any(&self) {
        while lock(&self.by_prefix).is_empty() {
            self.any.notified().await;
        }
    }

    /// Whether ends of keys are told.
    pub fn are_told(&self) -> bool {
        self.is_telling.load(Ordering::Relaxed)
    }

    /// From now on ends are told: what came before may be missing.
    pub fn begin_telling(&self) {
        self.is_telling.store(true, Ordering::Relaxed);
        self.look_again();
    }

    /// They are told no more.
    pub fn end_telling(&self) {
        self.is_telling.store(false, Ordering::Relaxed);
        self.look_again();
    }

    /// A key has ended.
    pub fn tell(&self, key: &[u8]) {
        let end = key.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let Ok(prefix) = std::str::from_utf8(&key[..end]) else { return };
        if let Some(waited) = lock(&self.by_prefix).get(prefix) {
            match &mut *lock(&waited.gone) {
                Some(gone) if gone.len() < MAX_GONE => gone.push(key.to_vec()),
                some => *some = None,
            }
            waited.news.notify_one();
        }
    }

    fn look_again(&self) {
        for waited in lock(&self.by_prefix).values() {
            *lock(&waited.gone) = None;
            waited.news.notify_one();
        }
    }
}

impl Waiter {
    /// Waits until a key has ended, or may have, or it is time to look.
    pub async fn gone(&self, key: &[u8], look: Duration) {
        let gone = async {
            loop {
                {
                    let mut gone = lock(&self.waited.gone);
                    let is_gone = gone.as_ref().is_none_or(|gone| gone.iter().any(|gone| gone == key));
                    // Others' ends mean nothing: whoever is before us stays the same until it ends.
                    *gone = Some(Vec::new());
                    if is_gone {
                        return;
                    }
                }
                self.waited.news.notified().await;
            }
        };
        // Too late is as good: then somebody looks.
        tokio::time::timeout(look, gone).await.unwrap_or_default();
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut by_prefix = lock(&self.by_prefix);
        if by_prefix.get(&self.prefix).is_some_and(|waited| Arc::ptr_eq(waited, &self.waited)) {
            by_prefix.remove(&self.prefix);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock;

    const LONG: Duration = Duration::from_secs(60);

    /// Whether it waits no longer.
    async fn is_gone(waiter: &Waiter, key: &[u8]) -> bool {
        tokio::time::timeout(Duration::from_millis(20), waiter.gone(key, LONG)).await.is_ok()
    }

    #[tokio::test]
    async fn an_end_is_told_whether_it_comes_before_or_after_one_waits_for_it() {
        let waiters = Waiters::default();
        let waiter = waiters.add("/l/a/");
        waiters.tell(b"/l/a/1");
        waiters.tell(b"/l/b/2");
        assert!(is_gone(&waiter, b"/l/a/1").await);
        assert!(!is_gone(&waiter, b"/l/b/2").await);
        waiters.tell(b"/l/a/3");
        assert!(!is_gone(&waiter, b"/l/a/2").await, "another one's end");
        let telling = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            waiters.tell(b"/l/a/2");
        };
        tokio::join!(waiter.gone(b"/l/a/2", LONG), telling);
        waiters.begin_telling();
        assert!(is_gone(&waiter, b"/l/a/9").await, "something may have been missed");
        assert!(!is_gone(&waiter, b"/l/a/9").await);
        (0..=MAX_GONE).for_each(|n| waiters.tell(format!("/l/a/x{n}").as_bytes()));
        assert!(is_gone(&waiter, b"/l/a/9").await, "too many to keep");
        let began = clock::now();
        waiter.gone(b"/l/a/9", Duration::from_millis(30)).await;
        assert!(began.elapsed() >= Duration::from_millis(30));
        drop(waiter);
        assert!(lock(&waiters.by_prefix).is_empty());
    }
}
