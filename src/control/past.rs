//! Notes who owned which key, for as long as fills look back.
use crate::base::ids::EndpointId;
use crate::control::state::Group;
use crate::control::state::Known;
use crate::snapshot::endpoint::Endpoint;
use crate::snapshot::past::Era;
use crate::snapshot::past::Past;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

/// Eras that are kept; a fleet that changes more often than this within a window has no past worth asking.
const MAX_ERAS: usize = 32;

impl Group {
    /// Begins to note, or goes on from how the group was; ends it without a window.
    pub(super) fn remember_for(&mut self, window: Option<Duration>, before: Option<&Group>, now: Instant) {
        let past = before.and_then(|before| before.past.as_ref().map(|past| (before, past)));
        self.past = window.map(|window| match past {
            Some((before, past)) => Past { window, departed: self.departed(before, past), ..past.clone() },
            None => Past { window, now: Arc::new(self.era(now)), before: Arc::new([]), departed: Arc::default() },
        });
        self.note_era(now);
    }

    /// Who is no endpoint any more, and may have what it had.
    fn departed(&self, before: &Group, past: &Past) -> Arc<BTreeMap<EndpointId, Arc<Endpoint>>> {
        let well = before.members.iter().filter(|(_, known)| known.is_sound());
        let known = well.map(|(id, Known { endpoint, .. })| (id, endpoint)).chain(past.departed.iter());
        let gone = known.filter(|(id, _)| !self.members.contains_key(*id));
        Arc::new(gone.map(|(id, endpoint)| (id.clone(), endpoint.clone())).collect())
    }

    /// Ends an era where it is another from now on. Called before each publication.
    pub(super) fn note_era(&mut self, now: Instant) {
        let era = self.era(now);
        let Some(past) = self.past.as_mut().filter(|past| !past.now.is_same(&era)) else { return };
        let ended = (std::mem::replace(&mut past.now, Arc::new(era)), now);
        past.keep(Some(ended), now);
    }

    /// Forgets what is further back than fills look; says whether there was anything.
    pub(super) fn forget_eras(&mut self, now: Instant) -> bool {
        let Some(past) =
            self.past.as_mut().filter(|past| past.before.last().is_some_and(|(_, until)| past.is_over(*until, now)))
        else {
            return false;
        };
        past.keep(None, now);
        true
    }

    fn era(&self, now: Instant) -> Era {
        let (ring, mask, transition) = (self.ring.clone(), self.mask.clone(), self.transition.clone());
        Era { ring, mask, transition, from: now }
    }
}

impl Past {
    fn is_over(&self, until: Instant, now: Instant) -> bool {
        now.checked_sub(self.window).is_some_and(|horizon| until < horizon)
    }

    /// Keeps what is within the window, with one more era that has just ended, and those who are in it.
    fn keep(&mut self, ended: Option<(Arc<Era>, Instant)>, now: Instant) {
        let kept = self.before.iter().filter(|(_, until)| !self.is_over(*until, now));
        self.before = ended.into_iter().chain(kept.cloned()).take(MAX_ERAS).collect();
        let is_told_of = |id: &EndpointId| self.before.iter().any(|(era, _)| era.ring.slot(id).is_some());
        if !self.departed.keys().all(is_told_of) {
            let told_of = self.departed.iter().filter(|(id, _)| is_told_of(id));
            self.departed = Arc::new(told_of.map(|(id, endpoint)| (id.clone(), endpoint.clone())).collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock;
    use crate::base::hash::PlacementHash;
    use crate::base::hash::mix64;
    use crate::base::ids::ListenerName;
    use crate::base::ids::RouteName;
    use crate::base::ids::UpstreamName;
    use crate::control::apply;
    use crate::control::build;
    use crate::control::state::Desired;
    use crate::control::state::State;
    use crate::key::KeySpec;
    use crate::route::Matcher;
    use crate::route::Route;
    use crate::route::action::Action;
    use crate::route::action::Fill;
    use crate::route::action::Forward;
    use crate::snapshot::Snapshot;
    use crate::snapshot::past::MAX_FAILURES;
    use crate::snapshot::settings;

    const WINDOW: Duration = Duration::from_secs(60);
    const KEYS: u64 = 300;

    /// Caches with these names behind a route that fills them.
    fn desired(caches: &[&str], ramp: Duration) -> Desired {
        let endpoint = |id: &&str| settings::Endpoint {
            id: EndpointId::new(id),
            address: std::net::SocketAddr::from(([10, 0, 0, 1], 80)).into(),
            weight: 1,
        };
        let upstream = |name: &str, ids: &[&str]| {
            settings::Upstream::new(UpstreamName::new(name), ids.iter().map(endpoint).collect())
        };
        let mut forward = Forward::new(UpstreamName::new("origin"), None);
        let key = KeySpec::parse(&["path"], PlacementHash::Seeded(0)).ok();
        forward.fill = Some(Fill { upstream: UpstreamName::new("cache"), key });
        let cache = settings::Upstream { ramp, fill_window: WINDOW, ..upstream("cache", caches) };
        Desired {
            listeners: vec![ListenerName::new("fill")],
            routes: vec![Route::new(RouteName::new("fill"), Matcher::any(), Action::Forward(forward))],
            upstreams: vec![cache, upstream("origin", &["o"])],
            discoveries: Default::default(),
            stores: Default::default(),
            drain_timeout: Duration::ZERO,
            debug_token: None,
            guard_config: false,
        }
    }

    fn build(state: &mut State, desired: Desired, now: Instant) -> Snapshot {
        build::build(state, desired, false, now).unwrap().0
    }

    /// For each key who owns it and who did before, by their ids.
    fn owners(snapshot: &Snapshot, now: Instant) -> Vec<(String, Option<String>)> {
        let upstream = &snapshot.upstreams[0];
        let id = |slot| upstream.ring.id(slot).to_string();
        let of = |key: u64| {
            let owner = upstream.candidates(key, now).next().unwrap();
            (id(owner), upstream.previous_owner(key, now).map(|previous| previous.id.to_string()))
        };
        (0..KEYS).map(mix64).map(of).collect()
    }

    #[test]
    fn a_key_has_a_previous_owner_from_the_moment_it_goes_over_until_the_window_has_passed() {
        let (start, ramp) = (clock::now(), Duration::from_secs(30));
        let mut state = State::new(1);
        let first = build(&mut state, desired(&["a", "b"], ramp), start);
        let before = owners(&first, start);
        assert!(before.iter().all(|(_, previous)| previous.is_none()));
        let joined = start + Duration::from_secs(1000);
        let second = build(&mut state, desired(&["a", "b", "c"], ramp), joined);
        let at = |seconds: u64| owners(&second, joined + Duration::from_secs(seconds));
        for seconds in [0, 10, 20, 30, 59] {
            for ((owner, previous), (old, _)) in at(seconds).iter().zip(&before) {
                let expected = (owner == "c").then_some(old);
                assert_eq!(previous.as_ref(), expected, "{seconds} s: {owner}");
            }
        }
        // Half a minute after the window's beginning only what went over since then has one.
        let (half, late) = (at(15), at(75));
        for ((owner, previous), (then, _)) in late.iter().zip(&half) {
            assert_eq!(previous.is_some(), owner == "c" && then != "c", "{owner}, at 15 s {then}");
        }
        assert!(late.iter().any(|(_, previous)| previous.is_some()));
        assert!(at(95).iter().all(|(_, previous)| previous.is_none()), "the window has passed");
    }

    #[test]
    fn one_that_is_left_with_no_weight_is_asked_for_what_it_had() {
        let (start, ramp) = (clock::now(), Duration::from_secs(30));
        let mut state = State::new(1);
        let before = owners(&build(&mut state, desired(&["a", "b", "c"], ramp), start), start);
        let mut without = desired(&["a", "b", "c"], ramp);
        without.upstreams[0].endpoints[2].weight = 0;
        let snapshot = build(&mut state, without, start);
        for ((owner, previous), (old, _)) in owners(&snapshot, start + Duration::from_secs(40)).iter().zip(&before) {
            assert_ne!(owner, "c");
            assert_eq!(previous.as_deref(), (old == "c").then_some("c"));
        }
    }

    #[test]
    fn one_that_was_taken_out_while_it_was_well_is_asked_for_what_it_had_until_the_window_has_passed() {
        let mut now = clock::now();
        let mut state = State::new(1);
        let three = |state: &mut State, now| build(state, desired(&["a", "b", "c"], Duration::ZERO), now);
        let two = |state: &mut State, now| build(state, desired(&["a", "b"], Duration::ZERO), now);
        let first = three(&mut state, now);
        let (before, c) = (owners(&first, now), first.upstreams[0].endpoints[2].clone());
        let second = two(&mut state, now);
        let of_c = |old: &String| (old == "c").then_some("c");
        let lends = |snapshot: &Snapshot, now| {
            let told = owners(snapshot, now);
            told.iter().zip(&before).all(|((_, previous), (old, _))| previous.as_deref() == of_c(old))
        };
        assert!(lends(&second, now) && lends(&second, now + WINDOW - Duration::from_secs(1)));
        assert!(!lends(&second, now + WINDOW + Duration::from_secs(1)));
        // It is there no more, as requests found.
        while c.in_a_row() < MAX_FAILURES {
            c.live.of(0).fail();
        }
        assert!(!lends(&second, now));
        c.live.of(0).succeed();
        assert!(lends(&second, now));
        let past = |state: &State| state.groups[&UpstreamName::new("cache")].past.clone().unwrap();
        assert_eq!(past(&state).departed.len(), 1);
        now += WINDOW * 2;
        assert!(apply::tick(&mut state, now).masks_changed);
        assert!(past(&state).departed.is_empty() && past(&state).before.is_empty());
        assert!(!apply::tick(&mut state, now).masks_changed);
        // One that is back is an endpoint like all others, and one that was ill when it left is not asked.
        three(&mut state, now);
        two(&mut state, now);
        three(&mut state, now);
        assert!(past(&state).departed.is_empty());
        state.groups.get_mut(&UpstreamName::new("cache")).unwrap().members.values_mut().for_each(|known| {
            known.ejection.eject(&Default::default(), now);
        });
        two(&mut state, now);
        assert!(past(&state).departed.is_empty());
    }

    #[test]
    fn what_is_past_is_told_apart_from_what_never_was_and_has_an_end() {
        let (mut now, mut state) = (clock::now(), State::new(1));
        let two = |state: &mut State, now| build(state, desired(&["a", "b"], Duration::ZERO), now);
        two(&mut state, now);
        for _ in 0..2 * MAX_ERAS {
            now += Duration::from_secs(1);
            build(&mut state, desired(&["a", "b", "c"], Duration::ZERO), now);
            now += Duration::from_secs(1);
            let snapshot = two(&mut state, now);
            let told = owners(&snapshot, now);
            // `c` owned some a second ago, and may still have them.
            assert!(told.iter().all(|(_, previous)| previous.as_deref().is_none_or(|previous| previous == "c")));
            assert!(told.iter().any(|(_, previous)| previous.is_some()));
        }
        assert_eq!(state.groups[&UpstreamName::new("cache")].past.as_ref().unwrap().before.len(), MAX_ERAS);
        assert!(state.groups[&UpstreamName::new("origin")].past.is_none(), "nobody fills it");
        two(&mut state, now + WINDOW * 2);
        let third = build(&mut state, desired(&["a", "b", "c"], Duration::ZERO), now + WINDOW * 2);
        assert_eq!(third.upstreams[0].past.as_ref().unwrap().before.len(), 1, "what is older is forgotten");
    }
}
