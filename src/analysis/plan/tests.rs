//! Plans of changes whose figures are known.
use super::Fate;
use super::Plan;
use super::World;
use crate::base::clock;
use crate::base::ids::EndpointId;
use crate::base::ids::UpstreamName;
use crate::ring::movement;
use crate::snapshot::settings::Endpoint;
use crate::snapshot::settings::Upstream;

fn upstream(endpoints: &[(&str, u32)]) -> Upstream {
    let endpoint = |(id, weight): &(&str, u32)| Endpoint {
        id: EndpointId::new(id),
        address: "10.0.0.1:80".parse().unwrap(),
        weight: *weight,
    };
    Upstream::new(UpstreamName::new("cache"), endpoints.iter().map(endpoint).collect())
}

fn plan(before: &[Upstream], after: &[Upstream]) -> Plan {
    Plan::of(&World::of_settings(&[], before).unwrap(), &World::of_settings(&[], after).unwrap())
}

#[test]
fn one_endpoint_more_moves_its_share_and_nothing_else() {
    let plan = plan(&[upstream(&[("a", 1), ("b", 1)])], &[upstream(&[("c", 1), ("b", 1), ("a", 1)])]);
    let upstream = &plan.upstreams[0];
    assert!((0.25..0.42).contains(&plan.moved) && upstream.exact && upstream.change == Fate::Changed);
    assert!(upstream.excess < 1e-9, "{}", upstream.excess);
    let [a, b, c] = upstream.endpoints.as_slice() else { panic!("{upstream:?}") };
    assert_eq!((a.change, b.change, c.change), (Fate::Same, Fate::Same, Fate::Added));
    assert!((c.gains - plan.moved).abs() < 1e-9 && (a.loses + b.loses - plan.moved).abs() < 1e-9);
    assert_eq!((a.gains, b.gains, c.loses, c.share.before), (0.0, 0.0, 0.0, None));
    assert_eq!((upstream.points.before, upstream.points.after), (Some(320), Some(480)));
}

#[test]
fn a_change_of_what_decides_nothing_moves_nothing() {
    let before = upstream(&[("a", 1), ("b", 1)]);
    let mut after = upstream(&[("b", 1), ("a", 1)]);
    after.endpoints[0].address = "10.9.9.9:1".parse().unwrap();
    let plan = plan(&[before], &[after]);
    assert_eq!((plan.moved, plan.upstreams[0].change), (0.0, Fate::Same));
    assert_eq!(plan.upstreams[0].fingerprint.before, plan.upstreams[0].fingerprint.after);
}

#[test]
fn a_new_name_for_an_endpoint_costs_more_than_it_has_to() {
    let plan = plan(&[upstream(&[("a", 1), ("b", 1), ("c", 1)])], &[upstream(&[("a", 1), ("b", 1), ("d", 1)])]);
    let upstream = &plan.upstreams[0];
    assert!(upstream.excess > 0.05 && (upstream.moved - upstream.least - upstream.excess).abs() < 1e-12);
    let sums = |of: fn(&super::EndpointPlan) -> f64| upstream.endpoints.iter().map(of).sum::<f64>();
    assert!((sums(|it| it.loses) - plan.moved).abs() < 1e-9 && (sums(|it| it.gains) - plan.moved).abs() < 1e-9);
}

#[test]
fn weights_upstreams_and_settings_are_told() {
    let mut after = upstream(&[("a", 2), ("b", 0)]);
    let changed = plan(&[upstream(&[("a", 1), ("b", 1)])], &[after.clone()]);
    assert_eq!(changed.upstreams[0].endpoints[0].change, Fate::Changed);
    assert!((changed.upstreams[0].endpoints[1].loses - changed.moved).abs() < 1e-9);
    after.ring.vnodes = 40;
    let sampled = plan(&[upstream(&[("a", 2), ("b", 0)])], &[after]);
    assert_eq!(sampled.upstreams[0].settings, ["vnodes 160 -> 40"]);
    assert!(!sampled.upstreams[0].exact && sampled.moved == 0.0, "there is one endpoint");
    let gone = plan(&[upstream(&[("a", 1)])], &[]);
    assert_eq!((gone.moved, gone.upstreams[0].change), (1.0, Fate::Removed));
    let come = plan(&[], &[upstream(&[("a", 1)])]);
    assert_eq!((come.moved, come.upstreams[0].change), (0.0, Fate::Added));
}

#[test]
fn a_thousand_endpoints_take_no_time_worth_the_name() {
    let names: Vec<String> = (0..1000).map(|number| format!("e{number}")).collect();
    let endpoints: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let started = clock::now();
    let plan = plan(&[upstream(&endpoints)], &[upstream(&endpoints[1..])]);
    // In a release build this is milliseconds; a debug build on a busy machine takes longer.
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    let share = plan.upstreams[0].endpoints.iter().find(|it| it.id == "e0").unwrap().share.before.unwrap();
    assert!((plan.moved - share).abs() < 1e-9 && plan.upstreams[0].excess < 1e-9);
    assert_eq!(movement::shares(&crate::ring::Ring::build(&Default::default(), &[]).unwrap()), [0.0; 0]);
}
