//! Notes who owned which key, for as long as fills look back.
use crate::control::state::Group;
use crate::snapshot::past::Era;
use crate::snapshot::past::Past;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

/// Eras that are kept; a fleet that changes more often than this within a window has no past worth asking.
const MAX_ERAS: usize = 32;

impl Group {
    /// Begins to note, or goes on; ends it without a window.
    pub(super) fn remember_for(&mut self, window: Option<Duration>, before: Option<&Past>, now: Instant) {
        self.past = window.map(|window| match before {
            Some(past) => Past { window, ..past.clone() },
            None => Past { window, now: Arc::new(self.era(now)), before: Arc::new([]) },
        });
        self.note_era(now);
    }

    /// Ends an era where it is another from now on. Called before each publication.
    pub(super) fn note_era(&mut self, now: Instant) {
        let era = self.era(now);
        let Some(past) = self.past.as_mut().filter(|past| !past.now.is_same(&era)) else { return };
        let ended = (std::mem::replace(&mut past.now, Arc::new(era)), now);
        let horizon = now.checked_sub(past.window);
        let kept = past.before.iter().filter(|(_, until)| horizon.is_none_or(|horizon| *until >= horizon));
        past.before = std::iter::once(ended).chain(kept.cloned()).take(MAX_ERAS).collect();
    }

    fn era(&self, now: Instant) -> Era {
        let (ring, mask, transition) = (self.ring.clone(), self.mask.clone(), self.transition.clone());
        Era { ring, mask, transition, from: now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock;
    use crate::base::hash::PlacementHash;
    use crate::base::hash::mix64;
    use crate::base::ids::EndpointId;
    use crate::base::ids::ListenerName;
    use crate::base::ids::RouteName;
    use crate::base::ids::UpstreamName;
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
            (id(owner), upstream.previous_owner(key, now).map(id))
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
            // `c` owned some a second ago, and is no endpoint any more.
            assert!(told.iter().all(|(_, previous)| previous.is_none()));
        }
        assert_eq!(state.groups[&UpstreamName::new("cache")].past.as_ref().unwrap().before.len(), MAX_ERAS);
        assert!(state.groups[&UpstreamName::new("origin")].past.is_none(), "nobody fills it");
        two(&mut state, now + WINDOW * 2);
        let third = build(&mut state, desired(&["a", "b", "c"], Duration::ZERO), now + WINDOW * 2);
        assert_eq!(third.upstreams[0].past.as_ref().unwrap().before.len(), 1, "what is older is forgotten");
    }
}
