//! Turns by a Redis that forgets, or that keeps all: whoever may still have a lock is waited for.
use crate::harness::http::Client;
use crate::harness::program::{Ringway, command};
use crate::harness::redis::Redis;
use crate::harness::register::Register;
use crate::harness::store::Server;
use crate::harness::wait_for;
use crate::serialize::check_tokens;
use crate::serialize_stores::{config, is_lost, post_later, start_on, word};
use crate::skip;
use ringway::base::clock;
use std::time::Duration;

const QUARANTINE: &str = "ringway_lock_quarantine_seconds{store=\"e\"}";

#[track_caller]
fn start(redis: &Redis, register: &Register, lease: u64, line: &str) -> Ringway {
    start_on(
        &config(redis, &register.upstream(), lease, &[("/", "")]).replace("[store.e]", &format!("[store.e]\n{line}")),
    )
}

#[test]
fn a_redis_that_forgot_its_locks_gives_none_until_they_have_run_out() {
    let Some(redis) = Redis::start() else { skip!("no redis") };
    let register = Register::start(Duration::ZERO);
    let held = register.hold();
    let [a, b] = [1, 2].map(|_| start(&redis, &register, 6, ""));
    let holds = post_later(a.address, "/n");
    wait_for("the holder", || (register.now("/n") == 1).then_some(()));
    let before: u64 = redis.call(&[&["GET", "ringway:fence"]]).parse().unwrap();
    let emptied = clock::now();
    redis.call(&[&["FLUSHALL"]]);
    assert_eq!(word(&holds.join().unwrap()).1, "lease_lost");
    register.hold_no_more();
    drop(held);
    wait_for("the loss", || is_lost(&b).then_some(()));
    assert_eq!(word(&b.client().post("/n", b"").unwrap()), (503, "store_lost".into(), Some("1")));
    assert!(b.metrics().get(QUARANTINE) > 0.0 && b.metrics().get("ringway_store_up{store=\"e\"}") == 1.0);
    assert_eq!(b.metrics().get("ringway_cap_degraded{use=\"serialize\",mode=\"refuse\"}"), 1.0);
    let told = command(&["status", "--admin", &format!("http://{}", b.admin)]);
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(
        told.contains("store e MAY HAVE FORGOTTEN LOCKS and gives none for a time: REQUESTS ARE REFUSED"),
        "{told}"
    );
    // Whoever is connected has told what it has seen, long before it is over.
    wait_for("the last token", || {
        let fence: u64 = redis.call(&[&["GET", "ringway:fence"]]).parse().ok()?;
        (fence >= before).then_some(())
    });
    wait_for("a turn", || (b.client().post("/n", b"").unwrap().status == 200).then_some(()));
    assert!(emptied.elapsed() >= Duration::from_millis(5900), "{:?}", emptied.elapsed());
    assert_eq!((b.metrics().get(QUARANTINE), b.metrics().sum("ringway_cap_degraded")), (0.0, 0.0));
    check_tokens(&register.at("/n").writes);
    assert!(b.stderr().contains("The store may have forgotten locks"), "{}", b.stderr());
}

#[test]
fn a_redis_that_keeps_all_keeps_locks_over_a_crash() {
    let Some(mut redis) = Redis::start_by(true) else { skip!("no redis") };
    let register = Register::start(Duration::ZERO);
    let held = register.hold();
    let [a, b] = [1, 2].map(|_| start(&redis, &register, 9, "durability = \"always\""));
    let holds = post_later(a.address, "/n");
    wait_for("the holder", || (register.now("/n") == 1).then_some(()));
    redis.kill();
    redis.restart();
    let waits = post_later(b.address, "/n");
    register.hold_no_more();
    drop(held);
    assert_eq!(holds.join().unwrap().status, 200);
    // It may have been refused while nobody answered.
    if waits.join().unwrap().status != 200 {
        wait_for("a turn", || (Client::new(b.address).post("/n", b"").unwrap().status == 200).then_some(()));
    }
    let entry = register.at("/n");
    assert_eq!((entry.value, entry.most, b.metrics().get(QUARANTINE)), (2, 1, 0.0));
    check_tokens(&entry.writes);
}

#[test]
fn a_redis_that_slept_does_nothing_late() {
    let Some(mut redis) = Redis::start() else { skip!("no redis") };
    let register = Register::start(Duration::ZERO);
    let [a, b] = [1, 2].map(|_| start(&redis, &register, 9, ""));
    redis.process().signal("STOP");
    let asked = [&a, &b].map(|ringway| post_later(ringway.address, "/n"));
    for asked in asked {
        assert_eq!(word(&asked.join().unwrap()).1, "store_lost");
    }
    redis.process().signal("CONT");
    let awake = clock::now();
    // A lock that was given to nobody would be in the way for nine seconds.
    wait_for("a turn", || (a.client().post("/n", b"").unwrap().status == 200).then_some(()));
    assert!(awake.elapsed() < Duration::from_secs(5), "{:?}", awake.elapsed());
    check_tokens(&register.at("/n").writes);
}
