//! The keys that this worker has seen in the second that runs, by upstream. Which of them are hot is decided elsewhere, for all
//! workers at once.
use crate::hotkeys::Counted;
use crate::hotkeys::Sketch;
use std::cell::RefCell;

/// Keys that a worker tells of, the most frequent ones.
const MOST: usize = 64;

/// One sketch for each upstream that wants to know its hot keys; made when its first request comes.
#[derive(Debug, Default)]
pub struct Sketches(RefCell<Vec<(u64, Sketch)>>);

/// What a worker has seen of one upstream.
#[derive(Debug)]
pub struct Taken {
    /// The upstream, by the uid of its heat.
    pub uid: u64,
    /// Requests that had a key.
    pub total: u64,
    /// The most frequent keys.
    pub top: Vec<Counted>,
}

impl Sketches {
    /// Counts a key of an upstream that has so many endpoints.
    #[inline]
    pub fn add(&self, uid: u64, endpoints: usize, key: u64) {
        let mut sketches = self.0.borrow_mut();
        match sketches.iter_mut().find(|(known, _)| *known == uid) {
            Some((_, sketch)) => sketch.add(key),
            None => begin(&mut sketches, uid, endpoints).add(key),
        };
    }

    /// What was seen since this was last asked of upstreams; whatever else there is, is forgotten.
    pub fn take(&self, uids: &[u64]) -> Vec<Taken> {
        let mut sketches = self.0.borrow_mut();
        sketches.retain(|(uid, _)| uids.contains(uid));
        let take = |(uid, sketch): &mut (u64, Sketch)| {
            let taken = Taken { uid: *uid, total: sketch.total(), top: sketch.places().to_vec() };
            if taken.total > 0 {
                sketch.clear();
            }
            taken
        };
        sketches.iter_mut().map(take).collect()
    }
}

#[cold]
fn begin(sketches: &mut Vec<(u64, Sketch)>, uid: u64, endpoints: usize) -> &mut Sketch {
    sketches.push((uid, Sketch::for_endpoints(MOST, endpoints)));
    let last = sketches.len() - 1;
    &mut sketches[last].1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_upstream_has_its_own_and_what_was_told_is_forgotten() {
        let sketches = Sketches::default();
        for (uid, key) in [(1, 7), (1, 7), (2, 7), (3, 8)] {
            sketches.add(uid, 4, key);
        }
        let told = |uids: &[u64]| -> Vec<(u64, u64, u32)> {
            sketches.take(uids).iter().map(|it| (it.uid, it.total, it.top.first().map_or(0, |top| top.seen))).collect()
        };
        assert_eq!(told(&[1, 2]), [(1, 2, 2), (2, 1, 1)]);
        assert_eq!(told(&[1, 2, 3]), [(1, 0, 0), (2, 0, 0)], "the third was not wanted and is gone");
    }
}
