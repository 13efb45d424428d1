//! The load bound: an endpoint far busier than the others is asked after them.
use crate::harness::origin::{Origin, Script};
use crate::harness::program::Ringway;
use crate::harness::wait_for;
use crate::hashing::{BY_PATH, upstream};
use std::thread;
use std::time::Duration;

/// More than one endpoint may have in flight before the next request goes on, as the documentation says it.
fn limit(mean: f64) -> f64 {
    2.0 * f64::max(8.0, 1.25 * mean + 2.0 * mean.sqrt())
}

/// Sends `count` requests for one key, each once the one before is under way at an origin, and says how many each of the
/// origins has, the busiest first.
fn one_key(ringway: &Ringway, origins: &[Origin], count: usize) -> Vec<usize> {
    let seen = || origins.iter().map(|origin| origin.requests().len()).collect::<Vec<usize>>();
    let clients: Vec<_> = (0..count)
        .map(|number| {
            let mut client = ringway.client();
            let sent = thread::spawn(move || client.get("/hot").unwrap().status);
            wait_for("the request at an origin", || (seen().iter().sum::<usize>() > number).then_some(()));
            sent
        })
        .collect();
    assert!(clients.into_iter().all(|client| client.join().unwrap() == 200));
    let mut counts = seen();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    counts
}

fn fleet(count: usize) -> Vec<Origin> {
    let origins: Vec<Origin> = (0..count).map(|number| Origin::start(&format!("o{number}"))).collect();
    for origin in &origins {
        origin.script(Script { delay: Duration::from_secs(4), ..Script::default() });
    }
    origins
}

#[test]
fn what_is_too_much_for_the_owner_goes_on_in_the_order_of_candidates() {
    let origins = fleet(8);
    let toml = upstream(&origins.iter().collect::<Vec<_>>());
    let ringway = Ringway::start(&format!("{BY_PATH}{toml}profile = \"cache\"\nload.hot_keys.share = \"0%\"\n"));
    let count = 50;
    let counts = one_key(&ringway, &origins, count);
    // The same rule, one request after the other.
    let mut expected = [0usize; 8];
    for sent in 0..count {
        let at = expected.iter().position(|in_flight| *in_flight as f64 + 1.0 <= limit(sent as f64 / 8.0)).unwrap();
        expected[at] += 1;
    }
    assert_eq!(counts, expected);
    assert!(expected[0] >= 16 && expected[1] >= 16, "{expected:?}");
    let metrics = ringway.metrics();
    let at = |position: &str| metrics.sum_of("ringway_requests_by_position_total", &[("position", position)]) as usize;
    assert_eq!((at("owner"), at("overflow"), at("successor")), (expected[0], count - expected[0], 0));
}

#[test]
fn without_a_bound_the_owner_gets_all() {
    let origins = fleet(3);
    let toml = upstream(&origins.iter().collect::<Vec<_>>());
    let ringway = Ringway::start(&format!("{BY_PATH}{toml}"));
    assert_eq!(one_key(&ringway, &origins, 24), [24, 0, 0]);
}

#[test]
fn an_owner_that_is_over_serves_when_the_others_fail() {
    let mut origins = fleet(6);
    let toml = upstream(&origins.iter().collect::<Vec<_>>());
    let ringway = Ringway::start(&format!(
        "{BY_PATH}{toml}load = {{ bound = \"100%\" }}\noutlier = {{ max_ejected = \"0%\" }}\n"
    ));
    let explained = ringway.admin_get("/api/v1/explain?url=/hot").unwrap();
    let explained: serde_json::Value = serde_json::from_str(explained.text()).unwrap();
    let owner = explained["owner"].as_str().unwrap().to_string();
    for origin in origins.iter_mut().filter(|origin| origin.id != owner) {
        origin.stop();
    }
    let counts = one_key(&ringway, &origins, 20);
    assert_eq!(counts, [20, 0, 0, 0, 0, 0]);
    let retries = ringway.metrics().sum_of("ringway_requests_by_position_total", &[("position", "retry")]);
    assert!(retries > 0.0, "others were asked first");
}
