//! What a fleet is to reach, measured: four proxies over each engine, by the numbers of the tests in its design (T1 to T14). Whatever
//! must never be fails; what takes its time is told as a figure beside its goal. `scripts/fleet-check` makes a table of them.
mod locks;
mod members;
mod uses;

use crate::harness::consul::Consul;
use crate::harness::etcd::Etcd;
use crate::harness::program::Ringway;
use crate::harness::redis::Redis;
use crate::harness::store::Server;
use crate::harness::zookeeper::Zookeeper;
use crate::skip;
use ringway::base::clock;
use std::time::{Duration, Instant};

const PROXIES: usize = 4;

/// One line of the table.
#[allow(clippy::disallowed_macros, reason = "scripts/fleet-check reads it")]
fn figure<S>(test: &str, what: &str, found: &str, goal: &str, is_met: bool) {
    let engine = std::any::type_name::<S>().rsplit("::").next().unwrap_or_default().to_lowercase();
    let met = if is_met { "met" } else { "MISSED" };
    println!("\nFIGURE\t{test}\t{engine}\t{what}\t{found}\t{goal}\t{met}");
}

/// A line about the longest of some durations, which is to be at most so long.
fn longest<S>(test: &str, what: &str, took: &[Duration], goal: Duration) {
    let most = took.iter().max().copied().unwrap_or_default();
    let told = if took.len() == 1 { text(most) } else { format!("{} (most of {})", text(most), took.len()) };
    figure::<S>(test, what, &told, &format!("at most {}", text(goal)), most <= goal);
}

fn text(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{:.1} ms", time.as_secs_f64() * 1000.0)
    } else {
        format!("{:.2} s", time.as_secs_f64())
    }
}

/// The value that so many in a hundred are no larger than.
fn percentile(took: &mut [Duration], percent: usize) -> Duration {
    took.sort_unstable();
    took[(took.len() * percent).div_ceil(100).max(1) - 1]
}

fn since(then: Instant) -> Duration {
    clock::now() - then
}

fn fleet(config: impl Fn(usize) -> String) -> Vec<Ringway> {
    (0..PROXIES).map(|number| Ringway::start(&config(number))).collect()
}

macro_rules! checks {
    ($($engine:ident $name:ident)*) => { $(
        mod $name {
            use super::*;
            checks! { $engine:
                t01 members::changes_are_in_force_at_once
                t02 members::many_that_join_are_a_few_swaps
                t03 locks::turns_are_many_and_fair
                t04 locks::the_lock_of_the_killed_passes_on
                t06 members::a_store_that_is_down_for_ten_seconds
                t07 locks::a_store_that_slept_leaves_no_ghosts
                t08 locks::a_proxy_that_is_cut_off_gives_up_before_others_go_on
                t11 uses::one_fetch_for_a_fleet
                t12 uses::the_elected_is_killed_again_and_again
                t13 locks::a_turn_that_passes_on_wakes_one
                t14 uses::an_idle_proxy_costs_little
            }
        }
    )* };
    ($engine:ident: $($test:ident $check:path)*) => { $(
        #[test]
        #[ignore = "figures, not right and wrong: scripts/fleet-check"]
        fn $test() {
            match $engine::start() {
                Some(store) => $check(store),
                None => skip!(concat!("no ", stringify!($engine))),
            }
        }
    )* };
}

checks! {
    Etcd etcd
    Redis redis
    Zookeeper zookeeper
    Consul consul
}
