//! What must hold for every ring, against a reference that knows no tables and no tricks.
use super::Member;
use super::PLACE_BITS;
use super::PLACE_MASK;
use super::Ring;
use super::build;
use super::build::BuildError;
use super::build::MAX_POINTS;
use super::fingerprint;
use super::movement;
use super::place_of;
use super::settings::Algorithm;
use super::settings::Settings;
use super::slot_of;
use super::verify::VerifyError;
use super::verify::verify;
use crate::base::hash::PlacementHash;
use crate::base::hash::mix64;
use crate::base::ids::EndpointId;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

fn member(id: &str, weight: u32) -> Member {
    Member { id: EndpointId::new(id), weight }
}

fn members(count: usize) -> Vec<Member> {
    (0..count).map(|number| member(&format!("cache-{number}"), 1)).collect()
}

fn small() -> Settings {
    Settings { vnodes: 8, ..Settings::default() }
}

fn ring(settings: &Settings, members: &[Member]) -> Ring {
    let ring = Ring::build(settings, members).unwrap();
    verify(&ring, members).unwrap();
    ring
}

fn walk(ring: &Ring, key: u64) -> Vec<&str> {
    ring.candidates(key).map(|slot| ring.id(slot).as_str()).collect()
}

/// Placement version 1 as the design says it, one point after the other.
fn reference(settings: &Settings, members: &[Member], key: u64) -> Vec<String> {
    let mut nearest: Vec<(u64, &str)> = Vec::new();
    for member in members.iter().filter(|member| member.weight > 0) {
        let mut best = u64::MAX;
        let (host, port) = member.id.as_str().rsplit_once(':').unwrap_or((member.id.as_str(), ""));
        let (server, mut previous) = (format!("{host}\0{port}").into_bytes(), 0u32);
        for number in 0..settings.vnodes * member.weight {
            let point = match settings.algorithm {
                Algorithm::Ringway => reference_point(settings, member.id.as_str(), number),
                Algorithm::Ketama => {
                    previous = crc32fast::hash(&[server.as_slice(), &previous.to_le_bytes()].concat());
                    u64::from(previous) << 8
                }
            };
            for probe in 0..settings.probes {
                let start = match probe {
                    0 => key >> 24,
                    n => mix64(key ^ 0x9E37_79B9_7F4A_7C15u64.wrapping_mul(u64::from(n))) >> 24,
                };
                best = best.min(point.wrapping_sub(start) & ((1 << 40) - 1));
            }
        }
        nearest.push((best, member.id.as_str()));
    }
    nearest.sort_unstable();
    nearest.into_iter().map(|(_, id)| id.to_string()).collect()
}

fn reference_point(settings: &Settings, id: &str, number: u32) -> u64 {
    let mut text = b"p1\0".to_vec();
    text.extend_from_slice(id.as_bytes());
    text.push(0);
    text.extend_from_slice(&number.to_le_bytes());
    settings.hash.hash(&text) >> 24
}

/// Both algorithms, with few points.
fn arbitrary_settings() -> impl Strategy<Value = Settings> {
    prop_oneof![Just(small()), Just(Settings::ketama())]
}

/// Movement as the design's formula says it, with a sum over all points for each point of each endpoint.
fn naive_moved(before: &Ring, after: &Ring) -> f64 {
    let points = |ring: &Ring| -> BTreeSet<(u64, EndpointId)> {
        ring.points.iter().map(|point| (place_of(*point), ring.id(slot_of(*point)).clone())).collect()
    };
    let (old, new) = (points(before), points(after));
    if old.is_empty() || new.is_empty() {
        return if old == new { 0.0 } else { 1.0 };
    }
    let ids: BTreeSet<&EndpointId> = old.intersection(&new).map(|(_, id)| id).collect();
    let kept = ids.iter().map(|id| {
        let is_seen = |point: &&(u64, EndpointId)| &point.1 != *id || (old.contains(point) && new.contains(point));
        let seen: Vec<_> = old.union(&new).filter(is_seen).collect();
        let arc = |index: usize| {
            let before = seen[(index + seen.len() - 1) % seen.len()].0;
            let arc = seen[index].0.wrapping_sub(before) & PLACE_MASK;
            if seen.len() == 1 { 1.0 } else { arc as f64 / (1u64 << PLACE_BITS) as f64 }
        };
        let arcs: Vec<f64> = (0..seen.len()).map(arc).collect();
        let covered = |length: f64, other: f64| {
            if other >= length { length * length / 2.0 } else { other * length - other * other / 2.0 }
        };
        let share = |length: f64| match before.settings.probes {
            1 => length,
            _ => 2.0 * length - 2.0 * arcs.iter().map(|other| covered(length, *other)).sum::<f64>(),
        };
        seen.iter().zip(&arcs).filter(|(point, _)| &point.1 == *id).map(|(_, length)| share(*length)).sum::<f64>()
    });
    1.0 - kept.sum::<f64>()
}

fn arbitrary_members() -> impl Strategy<Value = Vec<Member>> {
    proptest::collection::btree_map("[a-z0-9]{1,6}(:[0-9]{1,5})?", 0u32..5, 1..14)
        .prop_map(|map| map.into_iter().map(|(id, weight)| member(&id, weight)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_order_of_candidates_is_that_of_the_reference(
        members in arbitrary_members(), probes in 1u32..4, seed in any::<u64>(), keys in proptest::collection::vec(any::<u64>(), 20),
    ) {
        let settings = Settings { probes, hash: PlacementHash::Seeded(seed), ..small() };
        let ring = ring(&settings, &members);
        for key in keys {
            prop_assert_eq!(walk(&ring, key), reference(&settings, &members, key));
        }
    }

    #[test]
    fn the_order_by_ketama_is_that_of_the_reference(members in arbitrary_members(), keys in proptest::collection::vec("[a-z/]{0,9}", 3)) {
        let settings = Settings::ketama();
        let ring = ring(&settings, &members);
        for key in keys {
            let hash = settings.hash.hash(key.as_bytes());
            prop_assert_eq!(walk(&ring, hash), reference(&settings, &members, hash));
        }
    }

    #[test]
    fn a_change_of_one_endpoint_moves_no_key_between_two_others(
        settings in arbitrary_settings(), members in arbitrary_members(), at in any::<prop::sample::Index>(), weight in 0u32..5, keys in proptest::collection::vec(any::<u64>(), 40),
    ) {
        let changed = at.get(&members).id.clone();
        let mut others = members.clone();
        others.retain(|member| member.id != changed);
        let mut reweighted = others.clone();
        reweighted.push(Member { id: changed.clone(), weight });
        let before = ring(&settings, &members);
        for after in [ring(&settings, &others), ring(&settings, &reweighted)] {
            for key in &keys {
                let (Some(old), Some(new)) = (before.owner(*key), after.owner(*key)) else { continue };
                let (old, new) = (before.id(old), after.id(new));
                prop_assert!(old == new || *old == changed || *new == changed);
            }
        }
    }

    #[test]
    fn the_order_of_the_file_decides_nothing(settings in arbitrary_settings(), members in arbitrary_members(), keys in proptest::collection::vec(any::<u64>(), 20), turn in any::<prop::sample::Index>()) {
        let mut turned = members.clone();
        turned.rotate_left(turn.index(members.len()));
        let (one, other) = (ring(&settings, &members), ring(&settings, &turned));
        prop_assert_eq!(fingerprint::of(&settings, &members), fingerprint::of(&settings, &turned));
        for key in keys {
            prop_assert_eq!(walk(&one, key), walk(&other, key));
        }
    }

    #[test]
    fn a_masked_ring_is_the_ring_without_the_masked(settings in arbitrary_settings(), members in arbitrary_members(), mask in any::<u16>(), keys in proptest::collection::vec(any::<u64>(), 30)) {
        let whole = ring(&settings, &members);
        let is_open = |id: &EndpointId| mask >> (id.as_str().as_bytes()[0] % 16) & 1 == 0;
        let open: Vec<Member> = members.iter().filter(|member| is_open(&member.id)).cloned().collect();
        let rest = ring(&settings, &open);
        for key in keys {
            let masked: Vec<&str> = whole.candidates(key).map(|slot| whole.id(slot)).filter(|id| is_open(id)).map(EndpointId::as_str).collect();
            prop_assert_eq!(masked, walk(&rest, key));
        }
    }

    #[test]
    fn a_changed_ring_is_the_ring_built_anew(
        settings in arbitrary_settings(), members in arbitrary_members(), count in 20usize..60,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), 0u32..5, any::<bool>()), 0..4),
    ) {
        let mut before = self::members(count);
        before.extend(members);
        let mut after = before.clone();
        for (at, weight, is_removed) in changes {
            let at = at.index(after.len());
            if is_removed {
                after.remove(at);
            } else {
                after[at].weight = weight;
            }
        }
        let (old, new) = (ring(&settings, &before), ring(&settings, &after));
        prop_assert!(old.change(&after).unwrap() == new);
        prop_assert!(new.change(&before).unwrap() == old);
        prop_assert!(old.change(&before).unwrap() == old);
    }

    #[test]
    fn exact_movement_is_that_of_the_formula(
        old in arbitrary_members(), new in arbitrary_members(), keep in any::<u16>(), probes in 1u32..3,
    ) {
        let settings = Settings { probes, vnodes: 5, ..Settings::default() };
        // Many of the old ones stay, some with another weight.
        let mut new = new;
        for (number, member) in old.iter().enumerate().filter(|(number, _)| keep >> number & 1 == 0) {
            new.retain(|other| other.id != member.id);
            new.push(Member { weight: if number % 3 == 0 { number as u32 % 5 } else { member.weight }, ..member.clone() });
        }
        let (before, after) = (ring(&settings, &old), ring(&settings, &new));
        let (exact, naive) = (movement::moved(&before, &after), naive_moved(&before, &after));
        prop_assert!((exact - naive).abs() < 1e-9, "{} by the sweep, {} by the formula", exact, naive);
    }

    #[test]
    fn every_live_endpoint_is_reached_from_every_key_once(count in 1usize..60, key in any::<u64>(), probes in 1u32..8) {
        let ring = ring(&Settings { probes, ..small() }, &members(count));
        let mut reached = walk(&ring, key);
        reached.sort_unstable();
        reached.dedup();
        prop_assert_eq!(reached.len(), count);
        prop_assert_eq!(ring.candidates(key).count(), count);
    }
}

#[test]
fn movement_is_exact_when_a_kept_arc_is_longer_than_any_of_the_union() {
    let settings = Settings { probes: 1, vnodes: 5, ..Settings::default() };
    let old = ring(&settings, &[member("19", 1), member("9a9tq:074", 1), member("qgg", 4)]);
    let new = ring(&settings, &[member("19", 1), member("9a9tq:074", 3)]);
    for (before, after) in [(&old, &new), (&new, &old)] {
        assert!((movement::moved(before, after) - naive_moved(before, after)).abs() < 1e-9);
    }
}

#[test]
fn an_empty_ring_has_no_candidates() {
    let empty = ring(&Settings::default(), &[]);
    assert_eq!(empty.candidates(1).next(), None);
    let drained = ring(&Settings::default(), &[member("a", 0)]);
    assert_eq!((drained.candidates(1).next(), drained.members().len()), (None, 1));
}

#[test]
fn what_cannot_be_built_is_refused() {
    let check = |settings: Settings, members: &[Member]| Ring::build(&settings, members).unwrap_err();
    let a = || EndpointId::new("a");
    assert_eq!(check(small(), &[member("a", 1), member("a", 2)]), BuildError::DuplicateId(a()));
    assert_eq!(check(small(), &[member("a", 1001)]), BuildError::Weight(a(), 1001));
    let huge = Settings { vnodes: 10_000, ..small() };
    let many: Vec<_> = (0..2).map(|number| member(&format!("{number}"), 1000)).collect();
    assert_eq!(check(huge, &many), BuildError::TooManyPoints(20_000_000));
    const { assert!(MAX_POINTS < 20_000_000) };
    assert_eq!(check(Settings { probes: 0, ..small() }, &[]), BuildError::Settings);
    assert_eq!(check(Settings { probes: 2, ..Settings::ketama() }, &[]), BuildError::Ketama);
}

#[test]
fn a_damaged_ring_is_not_published() {
    let members = members(5);
    let good = ring(&small(), &members);
    let check = |damage: &dyn Fn(&mut Ring), expected: Option<VerifyError>| {
        let mut bad = good.clone();
        damage(&mut bad);
        let found = verify(&bad, &members);
        assert!(found.is_err());
        if let Some(expected) = expected {
            assert_eq!(found, Err(expected));
        }
    };
    check(
        &|ring| {
            ring.points.remove(7);
        },
        None,
    );
    check(&|ring| ring.points.swap(3, 30), Some(VerifyError::Order));
    check(&|ring| ring.points[9] |= 0xff_ffff, None);
    check(&|ring| ring.points[9] = (ring.points[9] & !0xff_ffff) | (((ring.points[9] & 0xff_ffff) + 1) % 5), None);
    check(
        &|ring| {
            // One member's points stand elsewhere, though in order and as many.
            let is_its = |point: &u64| point & 0xff_ffff == 2;
            ring.points.iter_mut().filter(|point| is_its(point)).for_each(|point| *point ^= 1 << 30);
            ring.points.sort_unstable();
            ring.prefixes = build::prefix_table(&ring.points, ring.prefix_shift);
        },
        Some(VerifyError::Place(members[2].id.clone())),
    );
    check(&|ring| ring.prefixes[3] += 1, Some(VerifyError::Table));
    check(
        &|ring| {
            ring.members.pop();
        },
        Some(VerifyError::Members),
    );
    check(&|ring| ring.live_members -= 1, Some(VerifyError::Members));
}

#[test]
fn the_fingerprint_sees_all_that_decides_and_nothing_else() {
    let base = [member("a", 1), member("b", 2)];
    let of = fingerprint::of;
    let same = of(&small(), &base);
    assert_eq!(of(&small(), &[member("b", 2), member("a", 1), member("c", 0)]), same);
    let keyed = |byte| Settings { hash: PlacementHash::Keyed([byte; 16]), ..small() };
    for (settings, members) in [
        (small(), vec![member("a", 1), member("b", 1)]),
        (small(), vec![member("a", 1)]),
        (Settings { vnodes: 9, ..small() }, base.to_vec()),
        (Settings { probes: 1, ..small() }, base.to_vec()),
        (Settings { hash: PlacementHash::Seeded(1), ..small() }, base.to_vec()),
        (keyed(1), base.to_vec()),
        (Settings::ketama(), base.to_vec()),
    ] {
        assert_ne!(of(&settings, &members), same);
    }
    assert_ne!(of(&keyed(1), &base), of(&keyed(2), &base));
}

#[test]
fn exact_movement_agrees_with_sampling() {
    let ringway = |probes| Settings { vnodes: 40, probes, ..Settings::default() };
    for settings in [ringway(1), ringway(2), Settings::ketama()] {
        let before = members(10);
        let mut after = before.clone();
        after.remove(3);
        after[5].weight = 2;
        after.push(member("new", 1));
        let (before, after) = (ring(&settings, &before), ring(&settings, &after));
        let total = 400_000;
        let keys = (0..total).map(|number| mix64(number + 99));
        let moved =
            keys.filter(|key| before.id(before.owner(*key).unwrap()) != after.id(after.owner(*key).unwrap())).count();
        let sampled = moved as f64 / total as f64;
        let exact = movement::moved(&before, &after);
        assert!((sampled - exact).abs() < 0.003, "{settings:?}: {sampled} sampled, {exact} exact");
        for (slot, (kept, sampled)) in kept_and_sampled(&before, &after, total).into_iter().enumerate() {
            assert!((kept - sampled).abs() < 0.003, "{settings:?}, {slot}: {sampled} sampled, {kept} exact");
        }
        let sum: f64 = movement::shares(&after).iter().sum();
        assert!((sum - 1.0).abs() < 1e-9, "{sum}");
        assert_eq!(movement::moved(&before, &before.clone()), 0.0f64.max(movement::moved(&before, &before)));
        assert!(movement::moved(&after, &after) < 1e-9);
    }
}

/// What each endpoint of either ring keeps, by the sweep and by counting keys.
fn kept_and_sampled(before: &Ring, after: &Ring, total: u64) -> Vec<(f64, f64)> {
    let kept = movement::kept(before, after);
    assert!(kept.is_exact);
    let ids: BTreeSet<&EndpointId> = before.members().iter().chain(after.members()).map(|member| &member.id).collect();
    let stays = |key: u64| {
        let (was, is) = (before.id(before.owner(key).unwrap()), after.id(after.owner(key).unwrap()));
        (was == is).then_some(was)
    };
    let mut counted: BTreeMap<&EndpointId, u64> = BTreeMap::new();
    for id in (0..total).filter_map(|number| stays(mix64(number + 99))) {
        *counted.entry(id).or_default() += 1;
    }
    let counted = |id: &EndpointId| counted.get(id).map_or(0.0, |count| *count as f64 / total as f64);
    ids.into_iter().map(counted).zip(kept.shares).map(|(counted, kept)| (kept, counted)).collect()
}

#[test]
fn the_default_is_even_enough() {
    for (count, probes, most) in [(100, 2, 1.15), (1000, 2, 1.17), (100, 1, 1.32)] {
        let ring = ring(&Settings { probes, ..Settings::default() }, &members(count));
        let peak = movement::peak_to_mean(ring.members(), &movement::shares(&ring));
        assert!(peak <= most, "{count} endpoints, {probes} probes: {peak}");
    }
}

#[test]
fn a_ring_needs_little_memory() {
    // 10,000 endpoints: 8 bytes for each of 1.6 M points, and a table of 2 M entries.
    let count: usize = 1_600_000;
    let bytes = count * 8 + (1usize << (PLACE_BITS - build::prefix_shift(count))) * 4;
    assert!(bytes <= 21 << 20, "{bytes}");
    let ring = ring(&Settings::default(), &members(100));
    assert_eq!(ring.memory_bytes(), 16_000 * 8 + (1 << 14) * 4);
}

#[test]
fn exact_shares_agree_with_sampling_for_any_number_of_probes() {
    for probes in 1..=8 {
        let ring = ring(&Settings { probes, vnodes: 20, ..Settings::default() }, &members(7));
        let shares = movement::shares(&ring);
        let mut sampled = vec![0.0; 7];
        let total = 200_000;
        for key in 0..total {
            sampled[ring.owner(mix64(key + 5)).unwrap().0 as usize] += 1.0 / total as f64;
        }
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        for (exact, sampled) in shares.iter().zip(&sampled) {
            assert!((exact - sampled).abs() < 0.004, "{probes} probes: {exact} exact, {sampled} sampled");
        }
    }
}

#[test]
fn placement_version_1_never_changes() {
    let mut lines = String::from(
        "# placement version 1: key hash, settings, candidates in order. Frozen: a new line is a new version.\n",
    );
    let five: Vec<Member> = ["10.0.0.1:8080", "10.0.0.2:8080", "cache-a", "cache-b", "[::1]:80"]
        .into_iter()
        .zip([1, 1, 2, 1, 3])
        .map(|(id, weight)| member(id, weight))
        .collect();
    for (name, settings) in [
        ("default", Settings::default()),
        ("one-probe", Settings { probes: 1, ..Settings::default() }),
        ("seed-7", Settings { hash: PlacementHash::Seeded(7), ..Settings::default() }),
        ("keyed", Settings { hash: PlacementHash::Keyed(*b"0123456789abcdef"), ..Settings::default() }),
        ("ketama", Settings::ketama()),
        ("vnodes-3", Settings { vnodes: 3, probes: 3, ..Settings::default() }),
    ] {
        let ring = ring(&settings, &five);
        lines.push_str(&format!("{name}\tfingerprint\t{}\n", fingerprint::of(&settings, &five)));
        for key in ["", "/", "/index.html", "user-42", "héllo"] {
            let hash = settings.hash.hash(key.as_bytes());
            assert_eq!(walk(&ring, hash), reference(&settings, &five, hash));
            lines.push_str(&format!("{name}\t{key}\t{hash:016x}\t{}\n", walk(&ring, hash).join(" ")));
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/ring_v1.tsv");
    if std::env::var_os("RINGWAY_BLESS").is_some() {
        std::fs::write(path, &lines).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), lines);
}
