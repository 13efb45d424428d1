//! When changes that go over gradually began: here, and at whichever proxy was the first. `control` and the fleet's task meet here.
use crate::base::ids::UpstreamName;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

/// A difference that is not worth moving anything for.
const SAME: Duration = Duration::from_millis(10);

/// An upstream, and the fingerprint of its ring after the change: a change is the same on all proxies when both are.
pub type Change = (String, String);

/// Beginnings, in time since the epoch.
#[derive(Debug, Default)]
pub struct Starts(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    own: BTreeMap<UpstreamName, (String, Duration)>,
    /// By our clock.
    earliest: BTreeMap<Change, Duration>,
    /// Rises when an own one is another.
    serial: u64,
}

impl Starts {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes when the change of an upstream to a ring of this fingerprint began here; `None`: nothing ramps there.
    pub fn begin(&self, upstream: &UpstreamName, start: Option<(String, Duration)>) {
        let mut inner = self.inner();
        let is_other = match start {
            Some(start) => inner.own.insert(upstream.clone(), start.clone()) != Some(start),
            None => inner.own.remove(upstream).is_some(),
        };
        inner.serial += u64::from(is_other);
    }

    /// What began here, by upstream, and a number that rises with it.
    pub fn own(&self) -> (u64, BTreeMap<String, (String, Duration)>) {
        let inner = self.inner();
        (inner.serial, inner.own.iter().map(|(upstream, start)| (upstream.to_string(), start.clone())).collect())
    }

    /// Takes in when each change began at the first of all others.
    pub fn hear(&self, earliest: BTreeMap<Change, Duration>) {
        self.inner().earliest = earliest;
    }

    /// Changes that began elsewhere before they began here, and by how much.
    pub fn late(&self) -> Vec<(UpstreamName, Duration)> {
        let inner = self.inner();
        let late = |(upstream, (fingerprint, at)): (&UpstreamName, &(String, Duration))| {
            let first = inner.earliest.get(&(upstream.to_string(), fingerprint.clone()))?;
            at.checked_sub(*first).filter(|by| *by > SAME).map(|by| (upstream.clone(), by))
        };
        inner.own.iter().filter_map(late).collect()
    }

    /// An own change begins earlier now.
    pub fn move_back(&self, upstream: &UpstreamName, by: Duration) {
        let mut inner = self.inner();
        if let Some((_, at)) = inner.own.get_mut(upstream) {
            *at = at.saturating_sub(by);
            inner.serial += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_late_learns_by_how_much_and_only_for_the_same_change() {
        let (starts, u) = (Starts::default(), UpstreamName::new("u"));
        let seconds = Duration::from_secs;
        let change = |fingerprint: &str| ("u".to_string(), fingerprint.to_string());
        starts.begin(&u, Some(("new".into(), seconds(100))));
        starts.hear(BTreeMap::from([(change("other"), seconds(10))]));
        assert!(starts.late().is_empty());
        starts.hear(BTreeMap::from([(change("new"), seconds(97))]));
        assert_eq!(starts.late(), [(u.clone(), seconds(3))]);
        let serial = starts.own().0;
        starts.move_back(&u, seconds(3));
        assert!(starts.late().is_empty() && starts.own().0 > serial);
        starts.hear(BTreeMap::from([(change("new"), seconds(99))]));
        assert!(starts.late().is_empty(), "who was the first waits for nobody");
        starts.begin(&u, None);
        assert!(starts.own().1.is_empty());
    }
}
