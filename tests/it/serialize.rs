//! Requests that take turns within one proxy: one at a time for each key, first in first out, with a token that rises.
use crate::harness::h2;
use crate::harness::http::Client;
use crate::harness::origin::{Cut, Framing, Origin, Script};
use crate::harness::program::Ringway;
use crate::harness::register::Register;
use crate::harness::wait_for;
use crate::hashing::{BY_PATH, upstream};
use http::Request;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

fn config(upstream: &str, serialize: &str) -> String {
    format!("{BY_PATH}[route.serialize]\n{serialize}\n{upstream}")
}

/// So many clients post so often to a path, each waiting for its answer; their statuses that were not 200.
pub fn post_all(address: SocketAddr, path: &str, clients: usize, times: usize) -> Vec<u16> {
    let post = |_| {
        let path = path.to_string();
        thread::spawn(move || -> Vec<u16> {
            let mut client = Client::patient(address, Duration::from_secs(40));
            (0..times).map(|_| client.post(&path, b"x").unwrap().status).filter(|status| *status != 200).collect()
        })
    };
    let clients: Vec<_> = (0..clients).map(post).collect();
    clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
}

/// A connection on which a POST was sent; its answer is not waited for.
fn asked(ringway: &Ringway, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(ringway.address).unwrap();
    stream.write_all(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").as_bytes()).unwrap();
    stream
}

fn waiting(ringway: &Ringway) -> f64 {
    ringway.metrics().sum("ringway_serialize_queue_depth")
}

/// Every write was let through, each with a higher token than the one before.
pub fn check_tokens(writes: &[(String, bool)]) {
    assert!(writes.iter().all(|(token, is_let)| *is_let && token.len() == 41), "{writes:?}");
    assert!(writes.is_sorted_by(|before, after| before.0 < after.0), "{writes:?}");
}

#[test]
fn a_count_that_is_read_and_written_by_many_is_exact_and_keys_do_not_wait_for_each_other() {
    let register = Register::start(Duration::from_millis(1));
    let ringway = Ringway::start(&config(&register.upstream(), ""));
    assert_eq!(post_all(ringway.address, "/n", 8, 25), [0; 0]);
    let entry = register.at("/n");
    assert_eq!((entry.value, entry.most, entry.told.as_deref()), (200, 1, Some("/n")));
    check_tokens(&entry.writes);
    let metrics = ringway.metrics();
    assert_eq!(metrics.get("ringway_lock_acquire_seconds_count{use=\"serialize\",result=\"granted\"}"), 200.0);
    assert_eq!(metrics.get("ringway_lock_held_seconds_count{use=\"serialize\"}"), 200.0);
    assert_eq!((metrics.sum("ringway_lock_waiters"), waiting(&ringway)), (0.0, 0.0));
    // Two keys are there at one time.
    let held = register.hold();
    let hanging = asked(&ringway, "/slow");
    wait_for("the slow one", || (register.now("/slow") == 1).then_some(()));
    register.hold_no_more();
    assert_eq!(ringway.client().post("/other", b"").unwrap().status, 200);
    assert_eq!(register.now("/slow"), 1);
    // And who only reads waits for nobody.
    assert_eq!(ringway.client().get("/reader").unwrap().status, 200);
    assert_eq!((register.at("/reader").told, register.at("/reader").writes), (None, vec![(String::new(), true)]));
    drop((held, hanging));
}

#[test]
fn http1_and_http2_take_turns_with_each_other() {
    let register = Register::start(Duration::from_millis(2));
    let ringway = Ringway::start(&config(&register.upstream(), "wait = \"30s\""));
    let over_http1 = thread::spawn({
        let address = ringway.address;
        move || post_all(address, "/n", 2, 20)
    });
    h2::client(ringway.address, &::h2::client::Builder::new(), async |mut send| {
        let mut answers = Vec::new();
        for _ in 0..40 {
            send = send.ready().await.unwrap();
            let request = Request::post(format!("http://{}/n", ringway.address)).body(()).unwrap();
            answers.push(send.send_request(request, true).unwrap().0);
        }
        for answer in answers {
            assert_eq!(answer.await.unwrap().status(), 200);
        }
    });
    assert_eq!(over_http1.join().unwrap(), [0; 0]);
    let entry = register.at("/n");
    assert_eq!((entry.value, entry.most), (80, 1));
    check_tokens(&entry.writes);
}

#[test]
fn the_last_turn_ends_with_the_last_byte_and_waiting_has_bounds() {
    let origin = Origin::start("a");
    let ringway = Ringway::start(&config(&upstream(&[&origin]), "wait = \"2s\"\nmax_queue = 1"));
    // The head comes and a part of the body.
    let cut = Some((200, Cut::Stall));
    origin.script(Script {
        framing: Framing::Chunked(5),
        body: crate::harness::origin::Body::Bytes(500),
        cut,
        ..Script::default()
    });
    let holds = asked(&ringway, "/k");
    origin.wait_for_requests(1);
    let waits = thread::spawn({
        let address = ringway.address;
        move || Client::new(address).post("/k", b"").unwrap()
    });
    wait_for("one who waits", || (waiting(&ringway) == 1.0).then_some(()));
    let refused = ringway.client().post("/k", b"").unwrap();
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert!(refused.text().contains("lock_queue_full"), "{}", refused.text());
    let late = waits.join().unwrap();
    assert_eq!((late.status, late.header("retry-after")), (503, Some("1")));
    assert!(late.text().contains("lock_timeout"), "{}", late.text());
    assert_eq!(origin.requests().len(), 1, "whoever has no turn is not forwarded");
    origin.script(Script::default());
    // The holder leaves: it is the next one's turn.
    drop(holds);
    wait_for("a turn", || (ringway.client().post("/k", b"").unwrap().status == 200).then_some(()));
    let metrics = ringway.metrics();
    let asked = |result: &str| {
        metrics.sum_of("ringway_lock_acquire_seconds_count", &[("use", "serialize"), ("result", result)])
    };
    assert_eq!(asked("queue_full"), 1.0);
    assert!(asked("timeout") >= 1.0);
}

#[test]
fn who_leaves_the_line_holds_nobody_up_and_a_reload_keeps_it() {
    let register = Register::start(Duration::ZERO);
    let held = register.hold();
    let text = config(&register.upstream(), "wait = \"30s\"");
    let ringway = Ringway::start(&text);
    let holds = asked(&ringway, "/k");
    wait_for("the first", || (register.now("/k") == 1).then_some(()));
    let leaves = asked(&ringway, "/k");
    wait_for("the second", || (waiting(&ringway) == 1.0).then_some(()));
    let stays = thread::spawn({
        let address = ringway.address;
        move || Client::new(address).post("/k", b"").unwrap().status
    });
    wait_for("the third", || (waiting(&ringway) == 2.0).then_some(()));
    drop(leaves);
    wait_for("its leaving", || (waiting(&ringway) == 1.0).then_some(()));
    register.hold_no_more();
    ringway.rewrite_config(&format!("{text}[log]\nlevel = \"debug\"\n"));
    drop(held);
    assert_eq!(ringway.client().post("/k", b"").unwrap().status, 200);
    assert_eq!(stays.join().unwrap(), 200);
    let entry = register.at("/k");
    assert_eq!((entry.value, entry.most), (3, 1));
    check_tokens(&entry.writes);
    drop(holds);
}

#[test]
fn a_clients_own_token_never_reaches_the_upstream() {
    let register = Register::start(Duration::ZERO);
    let ringway = Ringway::start(&config(&register.upstream(), "key = [\"header:x-account + path\"]"));
    let fields = [("X-Account", "7 a"), ("Fencing-Token", "9"), ("Fencing-Key", "evil"), ("fencing_token", "9")];
    assert_eq!(ringway.client().request("POST", "/n", &fields, Some(b"")).unwrap().status, 200);
    let entry = register.at("/n");
    check_tokens(&entry.writes);
    assert_eq!(entry.told.as_deref(), Some("7%20a+/n"));
    // Without the key they take turns with each other.
    assert_eq!(ringway.client().post("/n", b"").unwrap().status, 200);
    assert_eq!(register.at("/n").told.as_deref(), Some("%"));
}
