//! Counters that each have one writer: a worker adds by a plain load and store, anybody may read. No cell is shared by two
//! workers, so counting never moves a cache line between cores.
use crate::telemetry::labels::LockLoss;
use crate::telemetry::labels::LockResult;
use crate::telemetry::metrics::DURATION_BUCKETS;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A number that only rises. One writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only the owning worker may.
    #[inline]
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number of things there are now. One writer.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// One more; only the owning worker may.
    #[inline]
    pub fn inc(&self) {
        self.0.store(self.0.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// One less; only the owning worker may.
    #[inline]
    pub fn dec(&self) {
        self.0.store(self.0.load(Ordering::Relaxed).saturating_sub(1), Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One more of a [`Gauge`], as long as this lasts.
#[derive(Debug)]
pub struct Counted<'a>(&'a Gauge);

impl Gauge {
    /// One more for as long as what this gives; only the owning worker may.
    pub fn count(&self) -> Counted<'_> {
        self.inc();
        Counted(self)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Durations by [`DURATION_BUCKETS`]. One writer.
#[derive(Debug, Default)]
pub struct HistogramCells {
    /// One for each bound, and one for what is above all.
    buckets: [Counter; DURATION_BUCKETS.len() + 1],
    sum_micros: Counter,
}

impl HistogramCells {
    /// Counts a duration.
    #[inline]
    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = DURATION_BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(DURATION_BUCKETS.len());
        self.buckets[bucket].add(1);
        self.sum_micros.add(duration.as_micros() as u64);
    }

    /// Adds these counts to `sums`: one for each bucket, not cumulative, and the sum of seconds.
    pub fn add_to(&self, sums: &mut HistogramSums) {
        for (sum, bucket) in sums.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.get();
        }
        sums.seconds += self.sum_micros.get() as f64 / 1e6;
    }
}

/// One worker's count of locks for one thing, or the count of an election.
#[derive(Debug, Default)]
pub struct LockCell {
    /// Time to what came of asking, by [`LockResult`].
    pub acquire: [HistogramCells; LockResult::ALL.len()],
    /// Time from the lock to its release.
    pub held: HistogramCells,
    /// Who asks now and has no answer yet.
    pub waiting: Gauge,
    /// Locks lost while they were held, by [`LockLoss`].
    pub lost: [Counter; LockLoss::ALL.len()],
    /// Answers with a status by which endpoints refuse an outdated token: 409 and 412.
    pub fenced: Counter,
}

impl LockCell {
    /// A lock was had for so long, and lost in this way if it was.
    pub fn over(&self, held: Duration, loss: Option<LockLoss>) {
        self.held.observe(held);
        loss.into_iter().for_each(|loss| self.lost[loss as usize].add(1));
    }
}

/// What several workers' histograms add up to.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct HistogramSums {
    /// One for each bound, and one for what is above all; not cumulative.
    pub buckets: [u64; DURATION_BUCKETS.len() + 1],
    /// All durations together.
    pub seconds: f64,
}

/// Statuses from 100 to 599, counted each for itself. Memory comes by the hundred when a status first occurs.
#[derive(Debug, Default)]
pub struct StatusCells {
    hundreds: [OnceLock<Box<[Counter; 100]>>; 5],
    other: Counter,
}

impl StatusCells {
    /// Counts a status; only the owning worker may.
    #[inline]
    pub fn count(&self, status: u16) {
        match usize::from(status / 100).checked_sub(1).and_then(|hundred| self.hundreds.get(hundred)) {
            Some(hundred) => {
                let cells = hundred.get_or_init(|| Box::new(std::array::from_fn(|_| Counter::default())));
                cells[usize::from(status % 100)].add(1);
            }
            None => self.other.add(1),
        }
    }

    /// Every status that occurred with its count; 0 stands for all others.
    pub fn each(&self, mut visit: impl FnMut(u16, u64)) {
        for (hundred, cells) in self.hundreds.iter().enumerate() {
            for (rest, counter) in cells.get().into_iter().flat_map(|cells| cells.iter().enumerate()) {
                if counter.get() > 0 {
                    visit(hundred as u16 * 100 + 100 + rest as u16, counter.get());
                }
            }
        }
        if self.other.get() > 0 {
            visit(0, self.other.get());
        }
    }
}

/// One `T` for each worker, each on cache lines of its own.
#[derive(Debug)]
pub struct PerWorker<T>(Box<[Padded<T>]>);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

impl<T: Default> PerWorker<T> {
    /// Fresh cells for this many workers.
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| Padded::default()).collect())
    }
}

impl<T> PerWorker<T> {
    /// The cell of one worker.
    #[inline]
    pub fn of(&self, worker: usize) -> &T {
        &self.0[worker].0
    }

    /// All cells, by worker.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|padded| &padded.0)
    }

    /// What `count` gives for all workers together.
    pub fn sum(&self, count: impl Fn(&T) -> u64) -> u64 {
        self.iter().map(count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_add_up_over_workers() {
        let cells: PerWorker<StatusCells> = PerWorker::new(2);
        cells.of(0).count(200);
        cells.of(1).count(200);
        cells.of(1).count(599);
        cells.of(1).count(999);
        let mut seen = std::collections::BTreeMap::new();
        cells.iter().for_each(|cell| cell.each(|status, count| *seen.entry(status).or_insert(0) += count));
        assert_eq!(seen, [(0, 1), (200, 2), (599, 1)].into());
    }

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        let cells = HistogramCells::default();
        for micros in [500, 501, 20_000_000] {
            cells.observe(Duration::from_micros(micros));
        }
        let mut sums = HistogramSums::default();
        cells.add_to(&mut sums);
        assert_eq!((sums.buckets[0], sums.buckets[1], sums.buckets.last()), (1, 1, Some(&1)));
        assert!((sums.seconds - 20.001_001).abs() < 1e-9);
    }

    #[test]
    fn workers_do_not_share_a_cache_line() {
        let cells: PerWorker<Counter> = PerWorker::new(2);
        let distance = std::ptr::from_ref(cells.of(1)).addr() - std::ptr::from_ref(cells.of(0)).addr();
        assert!(distance >= 128);
    }
}
