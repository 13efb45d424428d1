//! The connections open to one endpoint, over all workers: how many there are, and the line of those who want one more. How many
//! there may be is not known here.
use crate::snapshot::gate::Gate;
use crate::snapshot::gate::Ticket;
use crate::telemetry::cells::Gauge;
use crate::telemetry::cells::PerWorker;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// The places for connections to one endpoint. Connecting is rare, so all workers may write one number.
#[derive(Debug)]
pub struct Places {
    open: AtomicU64,
    idle: PerWorker<Gauge>,
    gate: Gate,
}

/// The place of one open connection, given up when dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    worker: usize,
    is_idle: bool,
}

impl Places {
    /// No connection yet.
    pub fn new(workers: usize) -> Self {
        Self { open: AtomicU64::new(0), idle: PerWorker::new(workers), gate: Gate::default() }
    }

    /// Connections open or being made.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// How many wait for one more.
    pub fn waiting(&self) -> usize {
        self.gate.waiting()
    }

    /// A place for one of `worker`'s connections, unless `max` are taken or somebody was here before.
    pub fn enter(self: &Arc<Self>, worker: usize, max: Option<u64>) -> Option<Place> {
        if max.is_some() && self.waiting() > 0 { None } else { self.take(worker, max) }
    }

    /// As [`Places::enter`], for whoever is first in line.
    pub fn take(self: &Arc<Self>, worker: usize, max: Option<u64>) -> Option<Place> {
        let max = max.unwrap_or(u64::MAX);
        let more = |open| (open < max).then_some(open + 1);
        self.open.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).ok()?;
        Some(Place { places: self.clone(), worker, is_idle: false })
    }

    /// The last place in line, `None` when `max` wait already; those who only wait for a connection that idles at another worker
    /// are not counted: they have it soon.
    pub fn queue(&self, worker: usize, max: usize) -> Option<Ticket<'_>> {
        self.gate.queue(worker, max.saturating_add(self.idle.sum(Gauge::get) as usize))
    }
}

impl Place {
    /// The connection has nothing under way, or has again.
    pub fn set_idle(&mut self, is_idle: bool) {
        let idle = self.places.idle.of(self.worker);
        match (self.is_idle, is_idle) {
            (false, true) => idle.inc(),
            (true, false) => idle.dec(),
            _ => {}
        }
        self.is_idle = is_idle;
    }

    /// How many wait for this place, or another one there.
    pub fn wanted(&self) -> usize {
        self.places.waiting()
    }

    /// Who should have it next: `None` when nobody waits, else the worker of the first in line.
    pub fn next(&self) -> Option<usize> {
        self.places.gate.first()
    }

    /// Tells the first in line to look whether this place has become its own.
    pub fn offer(&self) {
        self.places.gate.freed();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.set_idle(false);
        self.places.open.fetch_sub(1, Ordering::SeqCst);
        self.places.gate.freed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_never_more_than_may_be_and_who_idles_elsewhere_lets_one_wait() {
        let places = Arc::new(Places::new(2));
        let (mut one, two) = (places.enter(0, Some(2)).unwrap(), places.enter(1, Some(2)).unwrap());
        assert!(places.enter(0, Some(2)).is_none() && places.queue(0, 0).is_none());
        one.set_idle(true);
        let ticket = places.queue(1, 0).unwrap();
        assert_eq!((one.wanted(), one.next(), places.queue(0, 0).is_none()), (1, Some(1), true));
        drop(one);
        assert!(places.enter(0, Some(2)).is_none(), "it would overtake");
        let three = places.take(1, Some(2)).unwrap();
        drop((ticket, two, three));
        assert_eq!((places.open(), places.waiting(), places.idle.sum(Gauge::get)), (0, 0, 0));
    }
}
