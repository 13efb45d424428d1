//! The line before an endpoint that has as many requests as it may take: first in, first out over all workers. Nobody comes
//! here unless the endpoint is full, so a lock serves; how full it may be is not known here.
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::atomic::fence;
use std::task::Context;
use std::task::Waker;

/// The line of one endpoint.
#[derive(Debug, Default)]
pub struct Gate {
    waiting: AtomicUsize,
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    last: u64,
    /// By number, and so by age.
    waiters: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    worker: usize,
    waker: Waker,
}

/// A place in the line, given up when dropped.
#[derive(Debug)]
pub struct Ticket<'a> {
    gate: &'a Gate,
    number: u64,
}

impl Gate {
    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The worker that the first in line runs on.
    pub fn first(&self) -> Option<usize> {
        if self.waiting() == 0 { None } else { self.line().waiters.front().map(|waiter| waiter.worker) }
    }

    /// The last place in the line, for a request of `worker`'s; `None` when `max` wait already.
    pub fn queue(&self, worker: usize, max: usize) -> Option<Ticket<'_>> {
        let mut line = self.line();
        if line.waiters.len() >= max {
            return None;
        }
        line.last += 1;
        let number = line.last;
        line.waiters.push_back(Waiter { number, worker, waker: Waker::noop().clone() });
        self.waiting.store(line.waiters.len(), Ordering::Relaxed);
        Some(Ticket { gate: self, number })
    }

    /// Tells the first in line that a request has left; costs a look at a number when there is no line.
    ///
    /// The request has been taken out of its count before. Either this sees who waits, or who waits sees that count: both
    /// write, fence, and then read what the other wrote.
    pub fn freed(&self) {
        fence(Ordering::SeqCst);
        if self.waiting() > 0 {
            self.wake_first(&self.line());
        }
    }

    fn wake_first(&self, line: &Line) {
        if let Some(waiter) = line.waiters.front() {
            waiter.waker.wake_by_ref();
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket<'_> {
    /// Whether it is this one's turn to look; if it is not, or nothing is free yet, the task is woken when that may change.
    pub fn poll_first(&self, cx: &Context<'_>) -> bool {
        let mut line = self.gate.line();
        let Ok(place) = line.place(self.number) else { return false };
        line.waiters[place].waker.clone_from(cx.waker());
        place == 0
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut line = self.gate.line();
        if let Ok(place) = line.place(self.number) {
            line.waiters.remove(place);
        }
        self.gate.waiting.store(line.waiters.len(), Ordering::Relaxed);
        // There may be room for one more, or this one had been woken and went away.
        self.gate.wake_first(&line);
    }
}

impl Line {
    fn place(&self, number: u64) -> Result<usize, usize> {
        self.waiters.binary_search_by_key(&number, |waiter| waiter.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::task::Wake;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn waker() -> (Arc<Woken>, Waker) {
        let woken = Arc::new(Woken::default());
        (woken.clone(), woken.into())
    }

    #[test]
    fn the_line_is_first_in_first_out_and_has_an_end() {
        let gate = Gate::default();
        let (one, two) = (gate.queue(0, 2).unwrap(), gate.queue(0, 2).unwrap());
        assert!(gate.queue(0, 2).is_none() && gate.waiting() == 2);
        let ((first, first_waker), (second, second_waker)) = (waker(), waker());
        assert!(one.poll_first(&Context::from_waker(&first_waker)));
        assert!(!two.poll_first(&Context::from_waker(&second_waker)));
        gate.freed();
        assert_eq!((first.0.load(Ordering::Relaxed), second.0.load(Ordering::Relaxed)), (1, 0));
        drop(one);
        assert_eq!(second.0.load(Ordering::Relaxed), 1, "the next one looks too");
        assert!(two.poll_first(&Context::from_waker(&second_waker)));
        drop(two);
        assert_eq!(gate.waiting(), 0);
    }

    #[test]
    fn who_goes_away_holds_nobody_up() {
        let gate = Gate::default();
        let (one, two, three) = (gate.queue(0, 3).unwrap(), gate.queue(0, 3).unwrap(), gate.queue(0, 3).unwrap());
        let (woken, waker) = waker();
        drop(two);
        assert!(!three.poll_first(&Context::from_waker(&waker)));
        drop(one);
        assert!(woken.0.load(Ordering::Relaxed) > 0 && three.poll_first(&Context::from_waker(&waker)));
    }
}
