//! PURE: what one proxy tells the others of itself, and what of it is otherwise here.
use crate::ring::Ring;
use crate::ring::fingerprint;
use crate::snapshot::Snapshot;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Members that are told by name, of all rings together; of more only their number is.
const MAX_MEMBERS: usize = 256;
/// Differences of one ring that are told in words.
const MAX_WORDS: usize = 8;
/// Largest notice that is looked at.
pub const MAX_NOTICE: usize = 256 << 10;

/// What a proxy tells. Fields that another version has beside these are left alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// Its name, for people.
    pub name: String,
    /// The program's version.
    pub version: String,
    /// Its snapshot.
    pub generation: u64,
    /// Its rings, by upstream.
    pub rings: BTreeMap<String, RingNotice>,
    /// Its clock when it wrote this, in milliseconds since the epoch.
    pub at: u64,
    /// How late others' notices came to it at least, by its clock and theirs, in milliseconds.
    #[serde(default)]
    pub delays: BTreeMap<String, i64>,
}

/// A ring as others are told of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RingNotice {
    /// The hash of everything that decides ownership.
    pub fingerprint: String,
    /// What decides it beside the members.
    #[serde(default)]
    pub settings: String,
    /// How many members own keys.
    #[serde(default)]
    pub members: usize,
    /// Their weights by id, unless they are too many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<BTreeMap<String, u32>>,
    /// When its last change began to go over gradually, by its clock, in milliseconds since the epoch; absent when it was at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<u64>,
}

impl Notice {
    /// What is to be told of a snapshot.
    pub fn of(snapshot: &Snapshot, name: &str) -> Self {
        let all: usize = snapshot.upstreams.iter().map(|upstream| upstream.ring.live_members()).sum();
        let rings = snapshot
            .upstreams
            .iter()
            .map(|upstream| (upstream.name.to_string(), RingNotice::of(&upstream.ring, all <= MAX_MEMBERS)));
        Self {
            name: name.to_string(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            generation: snapshot.generation,
            rings: rings.collect(),
            at: 0,
            delays: BTreeMap::new(),
        }
    }

    /// Reads one that somebody wrote; `None` when it is none.
    pub fn read(text: &[u8]) -> Option<Self> {
        let notice: Self = serde_json::from_slice(text).ok().filter(|_| text.len() <= MAX_NOTICE)?;
        let is_short = |text: &str| text.len() <= 256 && !text.contains(char::is_control);
        (is_short(&notice.name) && is_short(&notice.version)).then_some(notice)
    }

    /// When it was written, by its writer's clock.
    pub fn at(&self) -> Duration {
        Duration::from_millis(self.at)
    }

    /// Whether both give every key of the upstreams they share to the same endpoints.
    pub fn agrees(&self, other: &Self) -> bool {
        let is_same = |(name, ring): (&String, &RingNotice)| {
            other.rings.get(name).is_none_or(|other| other.fingerprint == ring.fingerprint)
        };
        self.rings.iter().all(is_same)
    }

    /// What is otherwise at another one, in words; upstreams that only one of them has included, though these are no disagreement.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut words = Vec::new();
        for (name, ring) in &self.rings {
            match other.rings.get(name) {
                None => words.push(format!("upstream {name} is here alone")),
                Some(other) if other.fingerprint != ring.fingerprint => {
                    words.push(format!("upstream {name}: {}", ring.differences(other)));
                }
                Some(_) => {}
            }
        }
        let theirs = other.rings.keys().filter(|name| !self.rings.contains_key(*name));
        words.extend(theirs.map(|name| format!("upstream {name} is there alone")));
        words
    }
}

impl RingNotice {
    fn of(ring: &Ring, with_members: bool) -> Self {
        let owners = ring.members().iter().filter(|member| member.weight > 0);
        let weights = || owners.clone().map(|member| (member.id.to_string(), member.weight)).collect();
        Self {
            fingerprint: fingerprint::of(ring.settings(), ring.members()).to_string(),
            settings: fingerprint::settings_text(ring.settings()),
            members: ring.live_members(),
            weights: with_members.then(weights),
            started: None,
        }
    }

    fn differences(&self, other: &Self) -> String {
        let mut words = Vec::new();
        if self.settings != other.settings {
            words.push(format!("settings are {} there, {} here", other.settings, self.settings));
        }
        match (&self.weights, &other.weights) {
            (Some(own), Some(theirs)) => {
                for (id, weight) in own {
                    match theirs.get(id) {
                        None => words.push(format!("{id} is here alone")),
                        Some(other) if other != weight => {
                            words.push(format!("{id} weighs {other} there, {weight} here"))
                        }
                        Some(_) => {}
                    }
                }
                let new = theirs.keys().filter(|id| !own.contains_key(*id));
                words.extend(new.map(|id| format!("{id} is there alone")));
            }
            _ => words.push(format!("{} members there, {} here", other.members, self.members)),
        }
        if words.len() > MAX_WORDS {
            let more = words.len() - MAX_WORDS;
            words.truncate(MAX_WORDS);
            words.push(format!("and {more} more"));
        }
        words.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(fingerprint: &str, settings: &str, weights: &[(&str, u32)]) -> RingNotice {
        RingNotice {
            fingerprint: fingerprint.into(),
            settings: settings.into(),
            members: weights.len(),
            weights: Some(weights.iter().map(|(id, weight)| (id.to_string(), *weight)).collect()),
            started: None,
        }
    }

    fn notice(rings: &[(&str, RingNotice)]) -> Notice {
        let rings = rings.iter().map(|(name, ring)| (name.to_string(), ring.clone())).collect();
        Notice { name: "p".into(), version: "1".into(), generation: 1, rings, at: 0, delays: BTreeMap::new() }
    }

    #[test]
    fn what_differs_is_told_in_words() {
        let here = notice(&[
            ("u", ring("1", "s", &[("a", 1), ("b", 1)])),
            ("v", ring("5", "s", &[])),
            ("w", ring("6", "s", &[])),
        ]);
        let there = notice(&[
            ("u", ring("2", "t", &[("b", 2), ("c", 1)])),
            ("v", ring("5", "s", &[])),
            ("x", ring("7", "s", &[])),
        ]);
        assert!(!here.agrees(&there) && !there.agrees(&here) && here.agrees(&here));
        assert_eq!(
            here.differences(&there),
            [
                "upstream u: settings are t there, s here, a is here alone, b weighs 2 there, 1 here, c is there alone",
                "upstream w is here alone",
                "upstream x is there alone",
            ]
        );
        let alone = notice(&[("w", ring("6", "s", &[]))]);
        assert!(alone.agrees(&there), "they share no upstream");
        let mut many = ring("3", "s", &[]);
        (many.weights, many.members) = (None, 500);
        assert_eq!(ring("1", "s", &[("a", 1)]).differences(&many), "500 members there, 1 here");
    }

    #[test]
    fn what_is_no_notice_is_none() {
        let good = serde_json::to_string(&notice(&[])).unwrap();
        assert_eq!(Notice::read(good.as_bytes()), Some(notice(&[])));
        let later = good.replacen('{', "{\"more\":[1],", 1);
        assert_eq!(Notice::read(later.as_bytes()), Some(notice(&[])), "of a later version");
        let control = good.replace("\"p\"", "\"\\u0007\"");
        for bad in
            ["", "{}", "null", "[]", &good[1..], &control, &good.replace("\"p\"", &format!("{:?}", "x".repeat(300)))]
        {
            assert_eq!(Notice::read(bad.as_bytes()), None, "{bad}");
        }
    }
}
