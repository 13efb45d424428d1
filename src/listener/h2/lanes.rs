//! All requests of one connection in the connection's own task: each runs in a lane, and only lanes whose waker was called
//! are polled. Lanes are used again, so that a request allocates neither its future nor its waker.
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::task::Context;
use std::task::Wake;
use std::task::Waker;

const WORDS: usize = 4;
/// How many lanes a connection may have; the last bit is the connection's own.
pub const MAX_LANES: usize = WORDS * 64 - 1;

/// Who asked to be polled, as bits. Wakers may be called on any thread.
#[derive(Debug)]
struct Ready {
    words: [AtomicU64; WORDS],
    /// While the task runs it looks at the bits by itself: it need not be woken.
    is_running: AtomicBool,
    task: Waker,
}

impl Ready {
    fn set(&self, index: usize) {
        self.words[index / 64].fetch_or(1 << (index % 64), SeqCst);
        if !self.is_running.load(SeqCst) {
            self.task.wake_by_ref();
        }
    }

    fn take(&self, index: usize) -> bool {
        let bit = 1 << (index % 64);
        self.words[index / 64].fetch_and(!bit, SeqCst) & bit != 0
    }

    fn is_any(&self) -> bool {
        self.words.iter().any(|word| word.load(SeqCst) != 0)
    }
}

/// The waker of one lane.
#[derive(Debug)]
struct Bell {
    ready: Arc<Ready>,
    index: usize,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ready.set(self.index);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.set(self.index);
    }
}

/// A connection's requests under way.
#[derive(Debug)]
pub struct Lanes<F> {
    ready: Arc<Ready>,
    connection: Waker,
    lanes: Vec<Lane<F>>,
    free: Vec<usize>,
}

#[derive(Debug)]
struct Lane<F> {
    future: Pin<Box<Option<F>>>,
    waker: Waker,
}

impl<F: Future<Output = ()>> Lanes<F> {
    /// No request yet; `task` is the connection's task.
    pub fn new(task: Waker) -> Self {
        let words = [const { AtomicU64::new(0) }; WORDS];
        let ready = Arc::new(Ready { words, is_running: AtomicBool::new(false), task });
        let connection = waker(&ready, MAX_LANES);
        ready.set(MAX_LANES);
        Self { ready, connection, lanes: Vec::new(), free: Vec::new() }
    }

    /// The waker of the connection itself.
    pub fn connection(&self) -> Waker {
        self.connection.clone()
    }

    /// Whether the connection's waker was called since this was last asked.
    pub fn take_connection(&self) -> bool {
        self.ready.take(MAX_LANES)
    }

    /// Calls the connection's waker.
    pub fn wake_connection(&self) {
        self.ready.set(MAX_LANES);
    }

    /// Requests under way.
    pub fn busy(&self) -> usize {
        self.lanes.len() - self.free.len()
    }

    /// Whether another request may begin.
    pub fn has_room(&self) -> bool {
        self.busy() < MAX_LANES
    }

    /// Begins a request; it is polled in the next round.
    pub fn start(&mut self, future: F) {
        let index = self.free.pop().unwrap_or_else(|| {
            let index = self.lanes.len();
            self.lanes.push(Lane { future: Box::pin(None), waker: waker(&self.ready, index) });
            index
        });
        self.lanes[index].future.set(Some(future));
        self.ready.set(index);
    }

    /// From here on wakers only set bits.
    pub fn enter(&self) {
        self.ready.is_running.store(true, SeqCst);
    }

    /// From here on wakers wake the task. Whoever was woken before is polled after the task was woken.
    pub fn leave(&self) {
        self.ready.is_running.store(false, SeqCst);
        if self.ready.is_any() {
            self.ready.task.wake_by_ref();
        }
    }

    /// Polls every lane that asked for it, once. Gives how many were polled, and how many of them ended.
    pub fn round(&mut self) -> (usize, usize) {
        let (mut polled, mut ended) = (0, 0);
        for word in 0..self.lanes.len().div_ceil(64) {
            let own = if word == WORDS - 1 { 1 << 63 } else { 0 };
            let mut bits = self.ready.words[word].fetch_and(own, SeqCst) & !own;
            while bits != 0 {
                let index = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                let lane = &mut self.lanes[index];
                // A lane may be woken by what the request before it left behind.
                let Some(future) = lane.future.as_mut().as_pin_mut() else { continue };
                polled += 1;
                if future.poll(&mut Context::from_waker(&lane.waker)).is_ready() {
                    lane.future.set(None);
                    self.free.push(index);
                    ended += 1;
                }
            }
        }
        (polled, ended)
    }

    /// Gives back the memory of lanes that a burst left behind, if none is busy.
    pub fn shrink(&mut self) {
        if self.busy() == 0 {
            self.lanes = Vec::new();
            self.free = Vec::new();
        }
    }
}

fn waker(ready: &Arc<Ready>, index: usize) -> Waker {
    Waker::from(Arc::new(Bell { ready: ready.clone(), index }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::rc::Rc;
    use std::task::Poll;

    #[test]
    fn only_lanes_that_were_woken_are_polled() {
        let mut lanes = Lanes::new(Waker::noop().clone());
        assert!(lanes.take_connection() && !lanes.take_connection());
        let (wakers, polls) = (Rc::new(Cell::new(None)), Rc::new(Cell::new(0)));
        for _ in 0..3 {
            let (wakers, polls) = (wakers.clone(), polls.clone());
            lanes.start(poll_fn(move |cx: &mut Context<'_>| {
                polls.set(polls.get() + 1);
                wakers.set(Some(cx.waker().clone()));
                if polls.get() < 5 { Poll::Pending } else { Poll::Ready(()) }
            }));
        }
        assert_eq!(lanes.round(), (3, 0));
        assert_eq!(lanes.round(), (0, 0));
        let waker = wakers.take().unwrap();
        waker.wake_by_ref();
        waker.wake_by_ref();
        assert_eq!(lanes.round(), (1, 0));
        wakers.take().unwrap().wake();
        assert_eq!((lanes.round(), lanes.busy()), ((1, 1), 2));
        waker.wake();
        assert_eq!(lanes.round(), (0, 0), "the lane is free");
        assert!(!lanes.take_connection());
    }
}
