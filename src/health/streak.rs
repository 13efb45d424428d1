//! Failures in a row, when several workers each see a part of an endpoint's traffic.

/// What one worker has seen of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// Successes so far.
    pub ok: u64,
    /// Failures so far.
    pub failed: u64,
    /// Failures since the last success.
    pub streak: u32,
}

/// Merges the workers' streaks into one. A success anywhere ends what the others had seen before it.
#[derive(Debug, Clone, Default)]
pub struct Merger {
    last: Vec<Seen>,
    /// For each worker, how much of its streak no longer counts.
    spent: Vec<u32>,
}

impl Merger {
    /// Failures in a row over all workers now.
    pub fn merge(&mut self, now: &[Seen]) -> u32 {
        self.last.resize(now.len(), Seen::default());
        self.spent.resize(now.len(), 0);
        let had_success = now.iter().zip(&self.last).any(|(now, last)| now.ok != last.ok);
        for ((now, last), spent) in now.iter().zip(&self.last).zip(&mut self.spent) {
            if now.ok != last.ok {
                // Its own success ended its own streak; what it counts now came after.
                *spent = 0;
            } else if had_success {
                // Another one's success came after what this worker had seen at the last merge.
                *spent = last.streak;
            }
        }
        self.last.copy_from_slice(now);
        now.iter().zip(&self.spent).map(|(now, spent)| now.streak.saturating_sub(*spent)).sum()
    }

    /// Starts over: what was counted so far counts no more.
    pub fn reset(&mut self) {
        for (spent, last) in self.spent.iter_mut().zip(&self.last) {
            *spent = last.streak;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(ok: u64, failed: u64, streak: u32) -> Seen {
        Seen { ok, failed, streak }
    }

    #[test]
    fn workers_add_up() {
        let mut merger = Merger::default();
        assert_eq!(merger.merge(&[seen(0, 2, 2), seen(0, 3, 3)]), 5);
    }

    #[test]
    fn a_success_anywhere_ends_the_row() {
        let mut merger = Merger::default();
        assert_eq!(merger.merge(&[seen(0, 4, 4), seen(0, 0, 0)]), 4);
        assert_eq!(merger.merge(&[seen(0, 4, 4), seen(1, 0, 0)]), 0);
        assert_eq!(merger.merge(&[seen(0, 5, 5), seen(1, 1, 1)]), 2);
        assert_eq!(merger.merge(&[seen(1, 5, 0), seen(1, 2, 2)]), 1);
    }

    #[test]
    fn a_reset_forgets_what_was_counted() {
        let mut merger = Merger::default();
        merger.merge(&[seen(0, 5, 5)]);
        merger.reset();
        assert_eq!(merger.merge(&[seen(0, 5, 5)]), 0);
        assert_eq!(merger.merge(&[seen(0, 6, 6)]), 1);
    }
}
