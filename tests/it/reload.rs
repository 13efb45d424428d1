//! Every change is one atomic swap, or none at all.
use crate::harness::origin::{Origin, Script};
use crate::harness::program::Ringway;
use crate::harness::{free_address, wait_for};
use crate::hashing::{BY_PATH, fleet, upstream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[test]
fn a_bad_file_keeps_the_old_configuration() {
    let (origins, upstream) = fleet(&["a", "b"]);
    let good = format!("{BY_PATH}{upstream}");
    let ringway = Ringway::start(&good);
    let before = ringway.generation();
    for bad in ["[[listener", "", "[[route]]\nupstream = \"none\"\n", &good.replace("key", "kye")] {
        ringway.rewrite_config(bad);
        assert_eq!(ringway.client().get("/").unwrap().status, 200);
        let metrics = ringway.metrics();
        assert_eq!(metrics.get("ringway_config_last_reload_successful"), 0.0);
        assert_eq!(metrics.get("ringway_ring_generation"), before as f64);
    }
    assert!(ringway.stderr().contains("unknown key \"kye\" in [[route]]; did you mean \"key\"?"));
    ringway.rewrite_config(&format!("{good}\n# a comment\n"));
    assert_eq!(ringway.metrics().get("ringway_config_last_reload_successful"), 1.0);
    assert_eq!(ringway.generation(), before + 1);
    drop(origins);
}

/// Ends the clients also when the test fails before it would.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn no_request_fails_and_no_counter_is_lost_while_endpoints_change() {
    let (origins, _) = fleet(&["a", "b", "c", "d"]);
    let config = |count: usize| format!("{BY_PATH}{}", upstream(&origins.iter().take(count).collect::<Vec<_>>()));
    let ringway = Ringway::start(&config(2));
    let done = AtomicBool::new(false);
    let answered = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|client_number| {
                let (ringway, done) = (&ringway, &done);
                scope.spawn(move || {
                    let (mut client, mut answered) = (ringway.client(), 0u32);
                    while !done.load(Ordering::Relaxed) {
                        let response = client.get(&format!("/{}", answered * 4 + client_number)).unwrap();
                        assert_eq!(response.status, 200);
                        answered += 1;
                    }
                    answered
                })
            })
            .collect();
        let end = SetOnDrop(&done);
        for round in 0..10 {
            ringway.rewrite_config(&config(2 + (round + 1) % 3));
        }
        drop(end);
        clients.into_iter().map(|client| client.join().unwrap()).sum::<u32>()
    });
    // A request is counted when its response is written, which its client may see a moment earlier.
    wait_for("the last request to be counted", || {
        let counted = ringway.metrics().sum_of("ringway_requests_total", &[("code", "200")]);
        assert!(counted <= f64::from(answered));
        (counted == f64::from(answered)).then_some(())
    });
    let metrics = ringway.metrics();
    assert_eq!(metrics.sum("ringway_config_reloads_total"), 11.0);
}

#[test]
fn a_removed_endpoint_finishes_what_it_has_begun() {
    let (origins, both) = fleet(&["a", "b"]);
    let ringway = Ringway::start(&format!("{BY_PATH}{both}"));
    let path =
        (0..).map(|n| format!("/{n}")).find(|path| ringway.client().get(path).unwrap().header("x-origin") == Some("b"));
    let path = path.unwrap();
    let before = origins[1].requests().len();
    origins[1].script(Script { delay: Duration::from_millis(400), ..Script::default() });
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| ringway.client().get(&path).unwrap());
        origins[1].wait_for_requests(before + 1);
        ringway.rewrite_config(&format!("{BY_PATH}{}", upstream(&[&origins[0]])));
        assert_eq!(slow.join().unwrap().header("x-origin"), Some("b"));
    });
    assert_eq!(ringway.client().get(&path).unwrap().header("x-origin"), Some("a"));
    wait_for("its connections to close", || (origins[1].open_connections() == 0).then_some(()));
    let metrics = ringway.admin_get("/metrics").unwrap();
    assert!(!metrics.text().contains("endpoint=\"b\""), "series of removed endpoints go");
}

#[test]
fn a_connection_that_comes_back_late_from_a_removed_endpoint_is_not_kept() {
    let (origins, both) = fleet(&["a", "b"]);
    let ringway = Ringway::start(&format!("{BY_PATH}{both}"));
    let path =
        (0..).map(|n| format!("/{n}")).find(|path| ringway.client().get(path).unwrap().header("x-origin") == Some("b"));
    let before = origins[1].requests().len();
    // Long after idle connections were looked through for the change.
    origins[1].script(Script { delay: Duration::from_millis(2500), ..Script::default() });
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| ringway.client().get(&path.unwrap()).unwrap());
        origins[1].wait_for_requests(before + 1);
        ringway.rewrite_config(&format!("{BY_PATH}{}", upstream(&[&origins[0]])));
        assert_eq!(slow.join().unwrap().header("x-origin"), Some("b"));
    });
    wait_for("its connection to close", || (origins[1].open_connections() == 0).then_some(()));
}

#[test]
fn what_hangs_on_a_removed_endpoint_is_closed_after_the_drain_timeout() {
    let (origins, both) = fleet(&["a", "b"]);
    let server = "[server]\nworkers = 2\ndrain_timeout = \"300ms\"\n";
    let ringway = Ringway::start(&format!("{server}{BY_PATH}{both}"));
    let path =
        (0..).map(|n| format!("/{n}")).find(|path| ringway.client().get(path).unwrap().header("x-origin") == Some("b"));
    let before = origins[1].requests().len();
    origins[1].script(Script { cut: Some((0, crate::harness::origin::Cut::Stall)), ..Script::default() });
    std::thread::scope(|scope| {
        let hanging = scope.spawn(|| ringway.client().get(&path.unwrap()).unwrap());
        origins[1].wait_for_requests(before + 1);
        ringway.rewrite_config(&format!("{server}{BY_PATH}{}", upstream(&[&origins[0]])));
        assert_eq!(hanging.join().unwrap().status, 504);
    });
}

#[test]
fn a_new_address_under_an_old_id_keeps_keys_and_counters() {
    let (origins, both) = fleet(&["a", "b"]);
    let ringway = Ringway::start(&format!("{BY_PATH}{both}"));
    let mut client = ringway.client();
    let owners: Vec<_> =
        (0..50).map(|n| client.get(&format!("/{n}")).unwrap().header("x-origin").unwrap().to_string()).collect();
    let moved = Origin::start("b");
    ringway.rewrite_config(&format!("{BY_PATH}{}", upstream(&[&origins[0], &moved])));
    for (number, owner) in owners.iter().enumerate() {
        assert_eq!(client.get(&format!("/{number}")).unwrap().header("x-origin"), Some(owner.as_str()));
    }
    assert!(!moved.requests().is_empty(), "the new address serves");
    assert_eq!(ringway.metrics().sum("ringway_upstream_requests_total"), 100.0);
    assert_eq!(ringway.metrics().sum("ringway_ring_moved_share"), 0.0);
}

#[test]
fn listeners_come_and_go_and_one_that_cannot_bind_refuses_the_whole_change() {
    let (origins, upstream_toml) = fleet(&["a"]);
    let more = free_address();
    let first = "[[listener]]\naddress = \"LISTEN\"\n";
    let rest = format!("{BY_PATH}{upstream_toml}");
    let ringway = Ringway::start(&format!("{first}{rest}"));
    ringway.rewrite_config(&format!("{first}[[listener]]\naddress = \"{more}\"\n{rest}"));
    assert_eq!(crate::harness::http::Client::new(more).get("/").unwrap().status, 200);
    ringway.rewrite_config(&format!("{first}{rest}"));
    wait_for("the listener to close", || std::net::TcpStream::connect(more).is_err().then_some(()));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let generation = ringway.generation();
    ringway.rewrite_config(&format!("{first}[[listener]]\naddress = \"{}\"\n{rest}", taken.local_addr().unwrap()));
    assert_eq!(ringway.metrics().get("ringway_config_last_reload_successful"), 0.0);
    assert_eq!(ringway.generation(), generation);
    assert!(ringway.stderr().contains("in use"), "{}", ringway.stderr());
    drop(origins);
}

#[test]
fn a_signal_and_the_admin_interface_reload_too() {
    let (origins, both) = fleet(&["a", "b"]);
    let server = "[server]\nworkers = 2\nreload = \"signal\"\n";
    let config = format!("{server}{BY_PATH}{both}");
    let ringway = Ringway::start(&config);
    let one = format!("{server}{BY_PATH}{}", upstream(&[&origins[0]]));
    ringway.replace_config(&one);
    ringway.signal("HUP");
    wait_for("the reload", || (ringway.generation() == 2).then_some(()));
    ringway.replace_config(&config);
    let answer = ringway.admin_post("/api/v1/reload", "").unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("generation 3"), "{}", answer.text());
    ringway.replace_config("nonsense");
    let refused = ringway.admin_post("/api/v1/reload", "").unwrap();
    assert_eq!(refused.status, 422);
    assert!(refused.text().contains("ringway.toml:1:"), "{}", refused.text());
}

#[test]
fn what_needs_a_restart_says_so() {
    let (origins, both) = fleet(&["a", "b"]);
    let ringway = Ringway::start(&format!("[server]\nworkers = 2\n{BY_PATH}{both}"));
    ringway.rewrite_config(&format!("[server]\nworkers = 3\n{BY_PATH}{both}"));
    assert!(ringway.stderr().contains("a change of server.workers needs a restart"), "{}", ringway.stderr());
    drop(origins);
}
