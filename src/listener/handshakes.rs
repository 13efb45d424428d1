//! The TLS handshakes under way on one door: so many at one time, and the oldest goes when another begins. Whoever has been at it
//! for longest is the most likely never to finish; clients that mean it are done within a few round trips.
use std::cell::Cell;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::task::Context;
use std::task::Waker;

/// Handshakes at one time, for each listener and worker. Each holds some 10 KiB.
const MAX: usize = 1024;

/// The handshakes of one door, by number: the oldest first.
#[derive(Debug, Default)]
pub struct Handshakes {
    open: RefCell<BTreeMap<u64, Option<Waker>>>,
    last: Cell<u64>,
}

/// One handshake; it is over when this is dropped.
#[derive(Debug)]
pub struct Turn<'a> {
    handshakes: &'a Handshakes,
    number: u64,
}

impl Handshakes {
    /// Begins another one, which may end the oldest.
    pub fn begin(&self) -> Turn<'_> {
        let mut open = self.open.borrow_mut();
        if open.len() >= MAX
            && let Some((_, Some(waker))) = open.pop_first()
        {
            waker.wake();
        }
        let number = self.last.get() + 1;
        self.last.set(number);
        open.insert(number, None);
        Turn { handshakes: self, number }
    }
}

impl Turn<'_> {
    /// Whether it has to end for others; if not, the task is woken when it has.
    pub fn poll_given_up(&self, cx: &Context<'_>) -> bool {
        let mut open = self.handshakes.open.borrow_mut();
        let Some(waker) = open.get_mut(&self.number) else { return true };
        if waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        false
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.handshakes.open.borrow_mut().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let handshakes = Handshakes::default();
        let cx = Context::from_waker(Waker::noop());
        let mut turns: Vec<Turn<'_>> = (0..MAX).map(|_| handshakes.begin()).collect();
        assert!(turns.iter().all(|turn| !turn.poll_given_up(&cx)));
        let another = handshakes.begin();
        assert!(turns[0].poll_given_up(&cx) && !turns[1].poll_given_up(&cx) && !another.poll_given_up(&cx));
        // One that ends by itself makes room.
        drop(turns.pop());
        let last = handshakes.begin();
        assert!(!turns[1].poll_given_up(&cx) && !last.poll_given_up(&cx));
    }
}
