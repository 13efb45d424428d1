//! Requests in flight at each endpoint of an upstream, by the log's own time: each line comes when it was written and stays as long as its
//! request took. Who serves them is not decided here.
use crate::ring::Slot;

/// Milliseconds that are looked ahead: longer requests count as if they took so long.
const AHEAD: usize = 1 << 16;
/// A log that goes back by more than this, in milliseconds, is another log.
const BACK: u32 = 10_000;
/// Stands for no entry.
const NONE: u32 = u32::MAX;

/// Who has how many requests in flight now.
#[derive(Debug)]
pub(super) struct Crowd {
    now: u32,
    in_flight: Vec<u64>,
    all: u64,
    /// For each millisecond ahead, the first of those who leave then.
    leaving: Vec<u32>,
    entries: Vec<Entry>,
    free: u32,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    slot: u32,
    next: u32,
}

impl Crowd {
    /// Nobody, at so many endpoints.
    pub(super) fn new(endpoints: usize) -> Self {
        let (in_flight, leaving) = (vec![0; endpoints], vec![NONE; AHEAD]);
        Self { now: 0, in_flight, all: 0, leaving, entries: Vec::new(), free: NONE }
    }

    /// It is so many milliseconds after midnight. Lines that are a little late change nothing.
    pub(super) fn at(&mut self, now: u32) {
        if now.saturating_add(BACK) < self.now || now - now.min(self.now) >= AHEAD as u32 {
            self.clear();
            self.now = now;
        }
        while self.now < now {
            self.now += 1;
            let mut first = std::mem::replace(&mut self.leaving[self.now as usize % AHEAD], NONE);
            while let Some(entry) = self.entries.get_mut(first as usize) {
                let next = std::mem::replace(&mut entry.next, self.free);
                self.in_flight[entry.slot as usize] -= 1;
                self.all -= 1;
                self.free = first;
                first = next;
            }
        }
    }

    /// A request that takes so many milliseconds goes to an endpoint. One that takes less than half of one is gone already.
    pub(super) fn enter(&mut self, slot: Slot, takes: f64) {
        let takes = (takes.round().max(0.0) as usize).min(AHEAD - 1);
        if takes == 0 {
            return;
        }
        let first = &mut self.leaving[(self.now as usize + takes) % AHEAD];
        let entry = Entry { slot: slot.0, next: *first };
        match self.entries.get_mut(self.free as usize) {
            Some(place) => {
                *first = self.free;
                self.free = std::mem::replace(place, entry).next;
            }
            None => {
                *first = self.entries.len() as u32;
                self.entries.push(entry);
            }
        }
        self.in_flight[slot.0 as usize] += 1;
        self.all += 1;
    }

    /// Requests in flight at one endpoint.
    pub(super) fn of(&self, slot: Slot) -> u64 {
        self.in_flight[slot.0 as usize]
    }

    /// At all of them.
    pub(super) fn all(&self) -> u64 {
        self.all
    }

    fn clear(&mut self) {
        self.leaving.fill(NONE);
        self.in_flight.fill(0);
        self.entries.clear();
        (self.free, self.all) = (NONE, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_stay_as_long_as_they_take() {
        let mut crowd = Crowd::new(2);
        crowd.at(1000);
        for (slot, takes) in [(0, 5.0), (0, 10.4), (1, 5.2), (1, 0.4), (1, 1e12)] {
            crowd.enter(Slot(slot), takes);
        }
        let mut check = |now: u32, expected: (u64, u64)| {
            crowd.at(now);
            assert_eq!((crowd.of(Slot(0)), crowd.of(Slot(1))), expected, "at {now}");
            assert_eq!(crowd.all(), expected.0 + expected.1);
        };
        check(1004, (2, 2));
        check(1005, (1, 1));
        check(1002, (1, 1));
        check(1010, (0, 1));
        check(1000 + AHEAD as u32 - 1, (0, 0));
    }

    #[test]
    fn another_log_begins_with_nobody() {
        let mut crowd = Crowd::new(1);
        for now in [80_000_000, 5, 80_000_000] {
            crowd.at(now);
            crowd.enter(Slot(0), 100.0);
            crowd.enter(Slot(0), 100.0);
            assert_eq!(crowd.all(), 2, "{now}");
        }
    }

    #[test]
    fn places_are_used_again() {
        let mut crowd = Crowd::new(3);
        for now in 0..10_000 {
            crowd.at(now);
            crowd.enter(Slot(now % 3), f64::from(1 + now % 7));
        }
        assert!(crowd.entries.len() <= 8 && crowd.all() <= 7, "{} {}", crowd.entries.len(), crowd.all());
        let sum: u64 = crowd.in_flight.iter().sum();
        assert_eq!(sum, crowd.all());
    }
}
