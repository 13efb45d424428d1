//! Deadlines in ticks of 50 ms, without a timer object per request: arming is a store, one task per worker looks.
//!
//! A deadline is never early and at most two ticks late. An entry whose deadline only moves away stays where it is queued
//! and is looked at again when its old moment comes.
use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

/// Length of a tick.
pub const TICK: Duration = Duration::from_millis(50);
const BUCKETS: u64 = 256;
const NEVER: u64 = u64::MAX;

/// All deadlines of one worker.
#[derive(Debug)]
pub struct Wheel {
    inner: RefCell<Inner>,
}

#[derive(Debug)]
struct Inner {
    now: u64,
    /// Places to look at when a tick comes.
    buckets: Vec<Vec<u32>>,
    entries: Vec<Entry>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Entry {
    due: u64,
    /// The tick of the earliest bucket this entry lies in; `NEVER` when in none. Whoever uses the place next finds it there: a
    /// deadline for each request does not add to the buckets.
    queued: u64,
    /// Whose deadline it is, for [`Wheel::expire_tagged`].
    tag: u64,
    /// Whether it was made to expire: nothing moves it any more.
    is_final: bool,
    waker: Option<Waker>,
}

/// One deadline: a place in the wheel, given back when dropped.
#[derive(Debug)]
pub struct Deadline {
    wheel: Rc<Wheel>,
    index: u32,
}

impl Default for Wheel {
    fn default() -> Self {
        let buckets = (0..BUCKETS).map(|_| Vec::new()).collect();
        Self { inner: RefCell::new(Inner { now: 0, buckets, entries: Vec::new(), free: Vec::new() }) }
    }
}

impl Wheel {
    /// A new deadline, not armed.
    pub fn deadline(self: &Rc<Self>) -> Deadline {
        let mut inner = self.inner.borrow_mut();
        let index = match inner.free.pop() {
            Some(index) => index,
            None => {
                inner.entries.push(Entry { due: NEVER, queued: NEVER, tag: 0, is_final: false, waker: None });
                (inner.entries.len() - 1) as u32
            }
        };
        Deadline { wheel: self.clone(), index }
    }

    /// Moves time on by `ticks`. Whoever's deadline has come is to be woken: all at once, or in helpings when they are many.
    #[must_use]
    pub fn advance(&self, ticks: u64) -> Vec<Waker> {
        let mut inner = self.inner.borrow_mut();
        (0..ticks).flat_map(|_| inner.step()).collect()
    }

    /// Wakes the holders of all deadlines, so that they look at their world again.
    pub fn wake_all(&self) {
        let wakers: Vec<Waker> = self.inner.borrow().entries.iter().filter_map(|entry| entry.waker.clone()).collect();
        for waker in wakers {
            waker.wake();
        }
    }

    /// Lets all deadlines with this tag expire now, for good.
    pub fn expire_tagged(&self, tag: u64) {
        let wakers: Vec<Waker> = {
            let mut inner = self.inner.borrow_mut();
            let now = inner.now;
            let tagged = inner.entries.iter_mut().filter(|entry| entry.tag == tag);
            tagged
                .filter_map(|entry| {
                    (entry.due, entry.is_final) = (now, true);
                    entry.waker.clone()
                })
                .collect()
        };
        for waker in wakers {
            waker.wake();
        }
    }
}

impl Inner {
    fn step(&mut self) -> Vec<Waker> {
        self.now += 1;
        let now = self.now;
        let bucket = (now % BUCKETS) as usize;
        let mut list = std::mem::take(&mut self.buckets[bucket]);
        let mut due = Vec::new();
        for index in list.drain(..) {
            let entry = &mut self.entries[index as usize];
            if entry.queued != now {
                continue;
            }
            entry.queued = NEVER;
            if entry.due <= now {
                due.extend(entry.waker.clone());
            } else if entry.due != NEVER {
                self.queue(index);
            }
        }
        if self.buckets[bucket].is_empty() {
            self.buckets[bucket] = list;
        }
        due
    }

    fn queue(&mut self, index: u32) {
        let furthest = self.now + BUCKETS - 1;
        let entry = &mut self.entries[index as usize];
        entry.queued = entry.due.clamp(self.now + 1, furthest);
        let place = (entry.queued % BUCKETS) as usize;
        self.buckets[place].push(index);
    }
}

/// How many ticks are at least so long. Without a division of 128 bits, which deadlines are set too often for.
fn ticks(after: Duration) -> u64 {
    const NANOS: u32 = TICK.subsec_nanos();
    const A_SECOND: u64 = (1_000_000_000 / NANOS) as u64;
    after.as_secs().saturating_mul(A_SECOND).saturating_add(u64::from(after.subsec_nanos().div_ceil(NANOS)))
}

impl Deadline {
    /// Arms it: it expires `after` from now, to the tick, never early.
    pub fn set(&self, after: Duration) {
        let ticks = ticks(after);
        let mut inner = self.wheel.inner.borrow_mut();
        let due = inner.now.saturating_add(ticks).saturating_add(1);
        let entry = &mut inner.entries[self.index as usize];
        if entry.is_final {
            return;
        }
        entry.due = due;
        if due < entry.queued {
            inner.queue(self.index);
        }
    }

    /// Disarms it.
    pub fn clear(&self) {
        let entry = &mut self.wheel.inner.borrow_mut().entries[self.index as usize];
        if !entry.is_final {
            entry.due = NEVER;
        }
    }

    /// Whether it will expire, or has.
    pub fn is_armed(&self) -> bool {
        self.wheel.inner.borrow().entries[self.index as usize].due != NEVER
    }

    /// Whether it was made to expire by [`Wheel::expire_tagged`].
    pub fn is_final(&self) -> bool {
        self.wheel.inner.borrow().entries[self.index as usize].is_final
    }

    /// Says whose deadline it is.
    pub fn tag(&self, tag: u64) {
        self.wheel.inner.borrow_mut().entries[self.index as usize].tag = tag;
    }

    /// Whether it has expired; if not, the task is woken when it does.
    pub fn poll_expired(&self, cx: &Context<'_>) -> bool {
        let mut inner = self.wheel.inner.borrow_mut();
        let now = inner.now;
        let entry = &mut inner.entries[self.index as usize];
        match &entry.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => entry.waker = Some(cx.waker().clone()),
        }
        entry.due <= now
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let mut inner = self.wheel.inner.borrow_mut();
        let entry = &mut inner.entries[self.index as usize];
        *entry = Entry { due: NEVER, queued: entry.queued, tag: 0, is_final: false, waker: None };
        inner.free.push(self.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counting() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count(AtomicUsize::new(0)));
        (count.clone(), count.into())
    }

    #[test]
    fn a_deadline_is_never_early_and_wakes_once() {
        for millis in [1, 50, 51, 1000, 20_000, 75_000] {
            let wheel = Rc::new(Wheel::default());
            let (count, waker) = counting();
            let cx = Context::from_waker(&waker);
            let deadline = wheel.deadline();
            deadline.set(Duration::from_millis(millis));
            assert!(!deadline.poll_expired(&cx));
            wheel.advance(millis.div_ceil(50)).into_iter().for_each(Waker::wake);
            assert!(!deadline.poll_expired(&cx), "{millis} ms expired early");
            wheel.advance(1).into_iter().for_each(Waker::wake);
            assert!(deadline.poll_expired(&cx), "{millis} ms did not expire");
            assert_eq!(count.0.load(Ordering::Relaxed), 1, "{millis}");
        }
    }

    #[test]
    fn moving_a_deadline_either_way_holds() {
        let wheel = Rc::new(Wheel::default());
        let (count, waker) = counting();
        let cx = Context::from_waker(&waker);
        let deadline = wheel.deadline();
        deadline.set(Duration::from_secs(75));
        deadline.set(Duration::from_millis(100));
        deadline.set(Duration::from_secs(1));
        assert!(!deadline.poll_expired(&cx));
        wheel.advance(20).into_iter().for_each(Waker::wake);
        assert!(!deadline.poll_expired(&cx));
        wheel.advance(1).into_iter().for_each(Waker::wake);
        assert!(deadline.poll_expired(&cx));
        deadline.clear();
        wheel.advance(4000).into_iter().for_each(Waker::wake);
        assert!(!deadline.poll_expired(&cx));
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_place_used_again_does_not_inherit_a_deadline() {
        let wheel = Rc::new(Wheel::default());
        let (count, waker) = counting();
        let cx = Context::from_waker(&waker);
        let first = wheel.deadline();
        first.set(Duration::from_millis(100));
        drop(first);
        let second = wheel.deadline();
        assert!(!second.poll_expired(&cx));
        wheel.advance(300).into_iter().for_each(Waker::wake);
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_deadline_for_each_request_does_not_fill_the_wheel() {
        let wheel = Rc::new(Wheel::default());
        for _ in 0..1000 {
            wheel.deadline().set(Duration::from_secs(30));
        }
        assert_eq!(wheel.inner.borrow().buckets.iter().map(Vec::len).sum::<usize>(), 1);
    }

    #[test]
    fn ticks_are_rounded_up() {
        let of = |duration| ticks(duration);
        assert_eq!(of(Duration::ZERO), 0);
        assert_eq!(of(Duration::from_nanos(1)), 1);
        assert_eq!((of(TICK), of(TICK + Duration::from_nanos(1))), (1, 2));
        assert_eq!((of(Duration::from_secs(75)), of(Duration::MAX)), (1500, u64::MAX));
    }

    #[test]
    fn tagged_deadlines_expire_together() {
        let wheel = Rc::new(Wheel::default());
        let (_, waker) = counting();
        let cx = Context::from_waker(&waker);
        let (one, other) = (wheel.deadline(), wheel.deadline());
        one.tag(7);
        other.tag(8);
        assert!(!one.poll_expired(&cx) && !other.poll_expired(&cx));
        wheel.expire_tagged(7);
        assert!(one.poll_expired(&cx) && !other.poll_expired(&cx));
        one.set(Duration::from_secs(1));
        assert!(one.poll_expired(&cx) && one.is_final(), "whoever is busy does not outlive it");
    }
}
