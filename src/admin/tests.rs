//! The API's shapes are frozen: scripts read them, so they change only by adding.
use super::*;
use crate::analysis::explain;
use crate::base::ids::ListenerName;
use crate::control::apply;
use crate::control::build;
use crate::control::history::Cause;
use crate::control::history::Change;
use crate::control::history::RingChanged;
use crate::control::state::Desired;
use crate::control::state::State;
use crate::health::check::HealthCheck;
use crate::health::check::Question;
use crate::hotkeys;
use crate::hotkeys::meter::Hot;
use crate::snapshot::Snapshot;
use crate::snapshot::endpoint::Found;
use crate::snapshot::heat::Rates;
use crate::snapshot::settings;
use ports::Process;
use ports::Reloads;
use serde_json::json;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/admin_api.json");

/// Two endpoints: one drained, one of which a check has just found that it is well.
fn snapshot() -> (Snapshot, Drain, apply::Drained) {
    let endpoint = |id: &str, port: u16, weight| settings::Endpoint {
        id: EndpointId::new(id),
        address: std::net::SocketAddr::from(([10, 0, 0, 1], port)).into(),
        weight,
    };
    let name = UpstreamName::new("cache");
    let mut upstream = settings::Upstream::new(name.clone(), vec![endpoint("c1", 8080, 1), endpoint("c2", 8081, 2)]);
    upstream.hot_keys = Some(hotkeys::Settings::default());
    upstream.health_check = Some(HealthCheck {
        question: Question::Tcp,
        interval: Duration::from_secs(2),
        timeout: Duration::from_secs(1),
        fall: 3,
        rise: 2,
        port: None,
        elect: None,
    });
    let desired = Desired {
        listeners: vec![ListenerName::new("127.0.0.1:8080")],
        routes: Vec::new(),
        upstreams: vec![upstream],
        discoveries: Default::default(),
        stores: Default::default(),
        drain_timeout: Duration::ZERO,
        debug_token: None,
        guard_config: false,
    };
    let mut state = State::new(1);
    let now = crate::base::clock::now();
    let first = build::build(&mut state, desired, false, now).unwrap().0;
    let drain = Drain { upstream: name, endpoint: EndpointId::new("c2"), is_on: true };
    let drained = apply::drain(&mut state, &drain.upstream, &drain.endpoint, true, clock::now()).unwrap();
    let snapshot = build::rebuild_masks(&mut state, &first);
    let hot = vec![Hot { key: 0x0123_4567_89ab_cdef, rate: 250.0 }];
    snapshot.upstreams[0].heat.as_ref().unwrap().report.set(Rates { all: 1000.0, hot });
    let problem = Some("could not get an expected status: it was 503".to_string());
    snapshot.upstreams[0].endpoints[1].last_check.set(Found { at: now, problem });
    (snapshot, drain, drained)
}

fn process() -> Process {
    let reloads = Reloads { successes: 2, failures: 1, held: 0, last_succeeded: true, last_success: Duration::ZERO };
    let uptime = Duration::from_secs(61);
    Process {
        not_ready: None,
        uptime,
        workers: 1,
        reloads,
        renewals: Default::default(),
        certificates: Vec::new(),
        held: None,
        fleet: None,
        panics: 0,
        access_log: None,
    }
}

#[test]
fn the_shapes_of_the_api_are_frozen() {
    let (snapshot, drain, drained) = snapshot();
    let upstream = &snapshot.upstreams[0];
    let rings = vec![RingChanged::of(&upstream.name, None, &upstream.ring, 0.25)];
    let what = vec!["endpoint cache/c2: weight 1 -> 2".to_string()];
    let at = Duration::from_secs(1_767_225_600);
    let changes = [Arc::new(Change { at, cause: Cause::File, what, generation: 2, rings })];
    let status = serde_json::to_value(view::status(&snapshot, &process())).unwrap();
    let mut shapes = json!({
        "/api/v1/status": status,
        "/api/v1/upstreams": view::upstreams(&snapshot),
        "/api/v1/upstreams/cache/ring": view::ring(upstream),
        "/api/v1/upstreams/cache/hotkeys": super::hotkeys::hotkeys(upstream),
        "/api/v1/upstreams/cache/explain?key=k": explain::explain_key(&snapshot, &drain.upstream, b"k"),
        "/api/v1/upstreams/cache/endpoints/c2/drain": view::drained(&snapshot, &drain, drained),
        "/api/v1/history": view::history(&changes),
        "/api/v1/loglevel": view::LogLevel { level: "info".into() },
    });
    shapes["/api/v1/status"]["version"] = "VERSION".into();
    for upstreams in ["/api/v1/upstreams", "/api/v1/status"] {
        let shape = &mut shapes[upstreams];
        let upstreams = if shape.is_array() { shape } else { &mut shape["upstreams"] };
        upstreams[0]["endpoints"][1]["last_check"]["seconds_ago"] = 0.5.into();
    }
    let text = serde_json::to_string_pretty(&shapes).unwrap() + "\n";
    if std::env::var_os("RINGWAY_BLESS").is_some() {
        std::fs::write(GOLDEN, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(GOLDEN).unwrap(), text);
}
