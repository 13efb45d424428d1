//! PURE: whether a change of members does more than may be done without a person's word, and what of it may be done all the same.
use crate::base::ids::EndpointId;
use crate::base::ids::UpstreamName;
use crate::base::units::Ratio;
use crate::control::state::Group;
use crate::ring::fingerprint;
use crate::ring::fingerprint::Fingerprint;
use crate::snapshot::settings::Endpoint;
use crate::snapshot::settings::Guard;
use crate::telemetry::labels::HeldBack;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a change does beyond the guard.
#[derive(Debug, Clone, PartialEq)]
pub struct Breach {
    /// Which of the guard's limits.
    pub reason: HeldBack,
    /// In words: `3 of 4 endpoints would go, more than guard.max_removed = 50%`.
    pub why: String,
    /// Share of the key space that would get a new owner, 0 to 1.
    pub moved: f64,
    /// The ring's fingerprint after it.
    pub fingerprint: Fingerprint,
}

/// What is too much about a change from one group to another; `None` when nothing is. Endpoints that own no key count neither
/// before nor after, and where nobody owned any nothing can be lost.
pub fn breach(guard: &Guard, before: &Group, after: &Group) -> Option<Breach> {
    let owners = before.ring.members().iter().filter(|member| member.weight > 0);
    let all = before.ring.live_members();
    if all == 0 {
        return None;
    }
    let owns =
        |id: &EndpointId| after.ring.slot(id).is_some_and(|slot| after.ring.members()[slot.0 as usize].weight > 0);
    let gone = owners.filter(|member| !owns(&member.id)).count();
    let is_same_ring = Arc::ptr_eq(&before.ring, &after.ring);
    let moved = if is_same_ring { 0.0 } else { after.change.moved };
    let (reason, why) = match guard.max_moved {
        _ if is_more(gone as f64 / all as f64, guard.max_removed) => (
            HeldBack::MaxRemoved,
            format!("{gone} of {all} endpoints would go, more than guard.max_removed = {}", percent(guard.max_removed)),
        ),
        Some(max) if is_more(moved, max) => (
            HeldBack::MaxMoved,
            format!("{} of the keys would move, more than guard.max_moved = {}", percent(Ratio(moved)), percent(max)),
        ),
        _ => return None,
    };
    let fingerprint = fingerprint::of(after.ring.settings(), after.ring.members());
    Some(Breach { reason, why, moved, fingerprint })
}

/// All that is too much, in words.
pub fn told(breaches: &[(UpstreamName, Breach)]) -> String {
    let each: Vec<String> =
        breaches.iter().map(|(upstream, breach)| format!("upstream {upstream}: {}", breach.why)).collect();
    each.join("; ")
}

/// Shares of thirds are not exact to the last digit.
fn is_more(share: f64, max: Ratio) -> bool {
    share > max.0 + 1e-9
}

fn percent(share: Ratio) -> String {
    let text = format!("{:.2}", share.0 * 100.0);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

/// What of a list of members is left when less may be done: first nobody goes, then nothing but addresses is others. The last moves
/// no key, so that whoever listens elsewhere now is found there however long a person thinks.
pub fn less(in_force: &[Endpoint], wanted: &[Endpoint]) -> [Arc<[Endpoint]>; 2] {
    let by_id = |list: &[Endpoint]| -> BTreeMap<EndpointId, Endpoint> {
        list.iter().map(|endpoint| (endpoint.id.clone(), endpoint.clone())).collect()
    };
    let (before, after) = (by_id(in_force), by_id(wanted));
    let stays = |old: &Endpoint| {
        let address = after.get(&old.id).map_or(&old.address, |new| &new.address).clone();
        Endpoint { address, ..old.clone() }
    };
    let mut nobody_goes = after.clone();
    for old in before.values().filter(|old| old.weight > 0 || !after.contains_key(&old.id)) {
        if after.get(&old.id).is_none_or(|new| new.weight == 0) {
            nobody_goes.insert(old.id.clone(), stays(old));
        }
    }
    let addresses = before.values().map(stays).collect();
    [nobody_goes.into_values().collect(), addresses]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::address::HostPort;
    use crate::base::address::Location;

    /// `a1 b0@x`: ids of one letter, weights, and where they listen.
    fn list(text: &str) -> Vec<Endpoint> {
        let endpoint = |word: &str| {
            let (word, host) = word.split_once('@').unwrap_or((word, "h"));
            let address = Location::Named(HostPort { host: host.into(), port: 80 });
            Endpoint { id: EndpointId::new(&word[..1]), address, weight: word[1..].parse().unwrap() }
        };
        text.split_whitespace().map(endpoint).collect()
    }

    #[test]
    fn what_may_be_done_without_a_word_is_less_and_less() {
        let check = |before: &str, wanted: &str, nobody_goes: &str, addresses: &str| {
            let [first, second] = less(&list(before), &list(wanted));
            assert_eq!((&*first, &*second), (&*list(nobody_goes), &*list(addresses)), "{wanted}");
        };
        check("a1 b1", "a1 b1 c1", "a1 b1 c1", "a1 b1");
        check("a1 b1 c1", "a1", "a1 b1 c1", "a1 b1 c1");
        check("a1 b1 c1", "a2@x d1", "a2@x b1 c1 d1", "a1@x b1 c1");
        check("a1 b3", "a1 b0@x", "a1 b3@x", "a1 b3@x");
        check("a1 b0", "a1", "a1 b0", "a1 b0");
    }

    #[test]
    fn shares_are_told_as_people_write_them() {
        for (share, told) in [(0.5, "50%"), (0.125, "12.5%"), (1.0 / 3.0, "33.33%"), (0.0, "0%")] {
            assert_eq!(percent(Ratio(share)), told);
        }
        assert!(!is_more(0.1 + 0.2, Ratio(0.3)) && is_more(0.301, Ratio(0.3)));
    }
}
