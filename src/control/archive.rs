//! PURE: which ring an upstream had at a moment of the past, found by undoing the changes since then. Kept is what each change
//! took away, not whole rings.
use crate::base::clock;
use crate::base::ids::EndpointId;
use crate::base::ids::UpstreamName;
use crate::control::history::Cause;
use crate::control::history::Change;
use crate::control::history::RingChanged;
use crate::ring::Member;
use crate::ring::Ring;
use crate::ring::build::BuildError;
use crate::ring::fingerprint;
use crate::ring::settings::Settings;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// What a ring was before a change.
#[derive(Debug, Clone, PartialEq)]
pub enum Before {
    /// There was none.
    Nothing,
    /// It had these settings, if they were others, and these weights of the members that are others now; `None`: it had no such
    /// member.
    Ring(Option<Settings>, Vec<(EndpointId, Option<u32>)>),
    /// It is not known any more: too much has changed since then.
    Forgotten,
}

impl Before {
    /// What undoes the change from one ring to another.
    pub fn of(before: Option<&Ring>, after: &Ring) -> Self {
        let Some(before) = before else { return Self::Nothing };
        let weights = |ring: &Ring| -> BTreeMap<EndpointId, u32> {
            ring.members().iter().map(|member| (member.id.clone(), member.weight)).collect()
        };
        let (old, new) = (weights(before), weights(after));
        let gone = old.iter().filter(|(id, weight)| new.get(*id) != Some(weight));
        let fresh = new.keys().filter(|id| !old.contains_key(*id));
        let members = gone.map(|(id, weight)| (id.clone(), Some(*weight))).chain(fresh.map(|id| (id.clone(), None)));
        let settings = (before.settings() != after.settings()).then(|| before.settings().clone());
        Self::Ring(settings, members.collect())
    }

    /// How many entries are kept for it.
    pub fn weight(&self) -> usize {
        match self {
            Self::Ring(_, members) => members.len(),
            Self::Nothing | Self::Forgotten => 0,
        }
    }
}

/// A ring of the past.
#[derive(Debug)]
pub struct Past {
    /// The ring.
    pub ring: Ring,
    /// The change that put it in force: when, since the epoch.
    pub since: Duration,
    /// And why.
    pub cause: Cause,
    /// The snapshot's generation at that moment.
    pub generation: u64,
}

/// Why a ring of the past is not known.
#[derive(Debug, Error)]
pub enum PastError {
    /// Nothing ran.
    #[error("this proxy was started at {}: what was before it does not know", clock::rfc3339(*.0))]
    NotStarted(Duration),
    /// It is older than what is kept.
    #[error("this is older than what is kept: the last changes go back to {}", clock::rfc3339(*.0))]
    TooOld(Duration),
    /// There was no such upstream.
    #[error("there was no upstream {0} at that moment: it came at {came}", came = clock::rfc3339(*.1))]
    NoUpstream(UpstreamName, Duration),
    /// A change is being published.
    #[error("the ring of upstream {0} is being changed just now: ask again")]
    Changing(UpstreamName),
    /// It cannot be built again.
    #[error("failed to build the ring of that moment: {0}")]
    Build(#[from] BuildError),
}

/// The ring that an upstream had at a moment, from the one it has `now` and the changes, newest first.
///
/// # Errors
/// When that is not known.
pub fn ring_at(changes: &[Arc<Change>], upstream: &UpstreamName, now: &Ring, at: Duration) -> Result<Past, PastError> {
    let oldest = changes.last().map_or(Duration::ZERO, |change| change.at);
    let mut of_it = changes.iter().filter(|change| change.cause.is_in_force()).filter_map(|change| {
        let ring = change.rings.iter().find(|ring| ring.upstream == *upstream)?;
        Some((change, ring))
    });
    if of_it.clone().next().is_some_and(|(_, last)| last.fingerprint != fingerprint::of(now.settings(), now.members()))
    {
        return Err(PastError::Changing(upstream.clone()));
    }
    match changes.last() {
        Some(first) if at < first.at && first.cause == Cause::Start => return Err(PastError::NotStarted(first.at)),
        Some(first) if at < first.at => return Err(PastError::TooOld(first.at)),
        _ => {}
    }
    let mut settings = now.settings().clone();
    let mut members: BTreeMap<EndpointId, u32> =
        now.members().iter().map(|member| (member.id.clone(), member.weight)).collect();
    let put_in_force = loop {
        let Some((change, RingChanged { before, .. })) = of_it.next() else { break None };
        if change.at <= at {
            break Some(change);
        }
        match before {
            Before::Nothing => return Err(PastError::NoUpstream(upstream.clone(), change.at)),
            Before::Forgotten => return Err(PastError::TooOld(change.at)),
            Before::Ring(others, weights) => {
                settings = others.clone().unwrap_or(settings);
                for (id, weight) in weights {
                    match weight {
                        Some(weight) => members.insert(id.clone(), *weight),
                        None => members.remove(id),
                    };
                }
            }
        }
    };
    let members: Vec<Member> = members.into_iter().map(|(id, weight)| Member { id, weight }).collect();
    let generation = changes.iter().find(|change| change.at <= at).map_or(0, |change| change.generation);
    Ok(Past {
        ring: Ring::build(&settings, &members)?,
        // What is older than all that is kept was in force already when the oldest of that came.
        since: put_in_force.map_or(oldest, |change| change.at),
        cause: put_in_force.map_or(Cause::Start, |change| change.cause),
        generation,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(text: &str, vnodes: u32) -> Ring {
        let member = |word: &str| Member { id: EndpointId::new(&word[..1]), weight: word[1..].parse().unwrap() };
        let members: Vec<Member> = text.split_whitespace().map(member).collect();
        Ring::build(&Settings { vnodes, ..Settings::default() }, &members).unwrap()
    }

    fn change(seconds: u64, cause: Cause, before: Option<&Ring>, after: &Ring) -> Arc<Change> {
        let ring = RingChanged {
            upstream: UpstreamName::new("u"),
            moved: 0.0,
            fingerprint: fingerprint::of(after.settings(), after.members()),
            before: Before::of(before, after),
        };
        let at = Duration::from_secs(seconds);
        Arc::new(Change { at, cause, what: Vec::new(), generation: seconds, rings: vec![ring] })
    }

    /// `u` comes at second 20 and changes at 30, 40 and 50; something is held at 45.
    fn story() -> (Vec<Arc<Change>>, [Ring; 4]) {
        let rings = [ring("a1 b1", 160), ring("a1 c2", 160), ring("a1 c2", 200), ring("a3 c2 d0", 200)];
        let [first, second, third, last] = &rings;
        let mut start = change(10, Cause::Start, None, first);
        Arc::make_mut(&mut start).rings.clear();
        let changes = vec![
            change(50, Cause::Discovery, Some(third), last),
            change(45, Cause::Held, Some(third), first),
            change(40, Cause::File, Some(second), third),
            change(30, Cause::Discovery, Some(first), second),
            change(20, Cause::File, None, first),
            start,
        ];
        (changes, rings)
    }

    fn at(changes: &[Arc<Change>], now: &Ring, seconds: u64) -> Result<(Ring, u64), String> {
        let past = ring_at(changes, &UpstreamName::new("u"), now, Duration::from_secs(seconds));
        past.map(|past| (past.ring, past.since.as_secs())).map_err(|error| error.to_string())
    }

    #[test]
    fn a_ring_of_the_past_is_what_was_built_then() {
        let (changes, rings) = story();
        for (seconds, which, since) in
            [(60, 3, 50), (50, 3, 50), (49, 2, 40), (46, 2, 40), (39, 1, 30), (30, 1, 30), (20, 0, 20)]
        {
            assert_eq!(at(&changes, &rings[3], seconds), Ok((rings[which].clone(), since)), "{seconds}");
        }
    }

    #[test]
    fn what_is_not_known_is_said() {
        let (mut changes, rings) = story();
        let now = &rings[3];
        assert!(
            at(&changes, now, 15).unwrap_err().contains("no upstream u at that moment: it came at 1970-01-01T00:00:20")
        );
        assert!(at(&changes, now, 5).unwrap_err().contains("started at 1970-01-01T00:00:10"));
        assert!(at(&changes, &rings[0], 60).unwrap_err().contains("ask again"));
        changes.truncate(4);
        assert!(at(&changes, now, 29).unwrap_err().contains("go back to 1970-01-01T00:00:30"));
        Arc::make_mut(&mut changes[2]).rings[0].before = Before::Forgotten;
        assert!(at(&changes, now, 35).unwrap_err().contains("older than what is kept"));
        assert!(at(&changes, now, 45).is_ok());
        changes.truncate(1);
        assert_eq!(
            ring_at(&changes, &UpstreamName::new("other"), now, Duration::from_secs(55)).unwrap().since.as_secs(),
            50
        );
    }
}
