//! One proxy of a fleet checks for all, by a real store: the others know what it found, and what to do when nobody tells them. Each
//! story is told of each engine.
use crate::dashboard;
use crate::harness::locks::LockServer;
use crate::harness::origin::{Origin, Script};
use crate::harness::program::{Ringway, command};
use crate::harness::wait_for;
use crate::stories;
use ringway::base::clock;
use serde_json::Value;
use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

const JOB: &str = "ringway_leader{job=\"health_check/u\"}";
const INTERVAL: Duration = Duration::from_millis(500);

/// A fleet before two endpoints; its proxies are called by their numbers in what they ask.
struct Fleet<S> {
    store: S,
    endpoints: [Origin; 2],
    proxies: Vec<Option<Ringway>>,
    mode: &'static str,
    lease: u64,
}

impl<S: LockServer> Fleet<S> {
    fn start(store: S, count: usize, mode: &'static str) -> Self {
        Self::start_by(store, count, mode, 2)
    }

    /// As [`start`](Self::start), with leases of so many seconds.
    fn start_by(store: S, count: usize, mode: &'static str, lease: u64) -> Self {
        let endpoints = ["a", "b"].map(Origin::start);
        let mut fleet = Self { store, endpoints, proxies: Vec::new(), mode, lease };
        for number in 0..count {
            fleet.proxies.push(Some(Ringway::start(&fleet.config(number))));
        }
        fleet
    }

    fn config(&self, number: usize) -> String {
        let [a, b] = &self.endpoints;
        format!(
            "[[route]]\nupstream = \"u\"\nkey = [\"path\"]\n[upstream.u]\npanic_below = \"0%\"\nendpoints = [\
             {{ id = \"a\", address = \"{}\" }}, {{ id = \"b\", address = \"{}\" }}]\n\
             [upstream.u.health_check]\nelect = \"e\"\non_store_loss = \"{}\"\ninterval = \"500ms\"\nfall = 1\nrise = 1\n\
             headers = {{ x-probe = \"{number}\" }}\n\
             [store.e]\n{}\n",
            a.address,
            b.address,
            self.mode,
            self.store.lock_lines(self.store.address(), self.lease)
        )
    }

    fn running(&self) -> impl Iterator<Item = (usize, &Ringway)> {
        self.proxies.iter().enumerate().filter_map(|(number, proxy)| Some((number, proxy.as_ref()?)))
    }

    fn proxy(&self, number: usize) -> &Ringway {
        self.proxies[number].as_ref().expect("it runs")
    }

    /// Waits until one of these is elected.
    #[track_caller]
    fn elected_of(&self, among: &[usize]) -> usize {
        wait_for("an election", || among.iter().copied().find(|number| self.proxy(*number).metrics().get(JOB) == 1.0))
    }

    #[track_caller]
    fn elected(&self) -> usize {
        let all: Vec<usize> = self.running().map(|(number, _)| number).collect();
        self.elected_of(&all)
    }

    fn set_up(&self, endpoint: usize, is_up: bool) {
        let status = if is_up { 200 } else { 500 };
        self.endpoints[endpoint].script(Script { status, ..Script::default() });
    }

    /// Who asked an endpoint since so many questions, in order.
    fn askers(&self, endpoint: usize, since: usize) -> Vec<usize> {
        let seen = self.endpoints[endpoint].requests();
        seen[since..].iter().map(|seen| seen.header("x-probe").unwrap().parse().unwrap()).collect()
    }

    /// Waits until one alone asks: another may have, when the machine held this one up so long that it seemed gone.
    #[track_caller]
    fn until_alone(&self, endpoint: usize, asker: usize) {
        wait_for("questions of one alone", || {
            let since = self.asked(endpoint);
            self.endpoints[endpoint].wait_for_requests(since + 3);
            (self.askers(endpoint, since).into_iter().collect::<BTreeSet<_>>() == BTreeSet::from([asker])).then_some(())
        });
    }

    fn asked(&self, endpoint: usize) -> usize {
        self.endpoints[endpoint].requests().len()
    }

    /// Waits until an endpoint is up or down for all of these.
    #[track_caller]
    fn until(&self, among: &[usize], id: &str, is_up: bool) {
        let name = format!("ringway_endpoint_up{{upstream=\"u\",endpoint=\"{id}\"}}");
        let wanted = f64::from(u8::from(is_up));
        wait_for(&format!("{id} to be {wanted}"), || {
            among.iter().all(|number| self.proxy(*number).metrics().get(&name) == wanted).then_some(())
        });
    }

    fn status(&self, number: usize) -> Value {
        let status: Value =
            serde_json::from_str(self.proxy(number).admin_get("/api/v1/status").unwrap().text()).unwrap();
        status["upstreams"][0]["elect"].clone()
    }

    fn degraded(&self, number: usize) -> f64 {
        let name = format!("ringway_cap_degraded{{use=\"elect\",mode=\"{}\"}}", self.mode);
        self.proxy(number).metrics().get(&name)
    }
}

fn one_proxy_asks_and_all_know_what_it_found(store: impl LockServer) {
    // A lease that a busy machine does not lose.
    let fleet = Fleet::start_by(store, 3, "check-locally", 5);
    let elected = fleet.elected();
    assert_eq!(fleet.running().filter(|(_, proxy)| proxy.metrics().get(JOB) == 1.0).count(), 1);
    fleet.until_alone(0, elected);
    fleet.set_up(1, false);
    fleet.until(&[0, 1, 2], "b", false);
    for (number, proxy) in fleet.running() {
        // What is wrong is known to all.
        let status: Value = serde_json::from_str(proxy.admin_get("/api/v1/status").unwrap().text()).unwrap();
        let problem = status["upstreams"][0]["endpoints"][1]["last_check"]["problem"].to_string();
        assert!(problem.contains("500"), "{problem}");
        let (role, granted) = if number == elected { ("elected", 1.0) } else { ("follows", 0.0) };
        let metrics = proxy.metrics();
        assert_eq!(metrics.get("ringway_lock_acquire_seconds_count{use=\"elect\",result=\"granted\"}"), granted);
        assert_eq!(metrics.get("ringway_lock_waiters{use=\"elect\"}"), 1.0 - granted);
        // Who hears nothing for a while, as on a busy machine, asks for itself meanwhile.
        wait_for("its role", || {
            let is_well = proxy.metrics().sum("ringway_cap_degraded") == 0.0;
            (is_well && fleet.status(number)["role"] == role).then_some(())
        });
    }
    fleet.set_up(1, true);
    fleet.until(&[0, 1, 2], "b", true);
    let told = command(&["status", "--admin", &format!("http://{}", fleet.proxy(elected).admin)]);
    assert!(String::from_utf8(told.stdout).unwrap().contains("health checks by this proxy for all, by store e"));
    // A proxy that comes later knows at once, and asks nobody.
    fleet.set_up(1, false);
    fleet.until(&[0, 1, 2], "b", false);
    let late = Ringway::start(&fleet.config(9));
    wait_for("its first verdict", || {
        (late.metrics().get("ringway_endpoint_up{upstream=\"u\",endpoint=\"b\"}") == 0.0).then_some(())
    });
    assert!(!fleet.askers(1, 0).contains(&9));
}

fn when_the_elected_is_killed_the_next_goes_on_with_what_was_known<S: LockServer>(store: S) {
    let late = S::LATE;
    let mut fleet = Fleet::start(store, 3, "freeze");
    fleet.set_up(1, false);
    fleet.until(&[0, 1, 2], "b", false);
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let elected = fleet.elected();
        let rest: Vec<usize> = fleet.running().map(|(number, _)| number).filter(|number| *number != elected).collect();
        tokens.push(wait_for("its word", || fleet.status(rest[0])["token"].as_str().map(str::to_string)));
        let mut gone = fleet.proxies[elected].take().unwrap();
        gone.signal("KILL");
        gone.wait();
        let (began, since) = (clock::now(), fleet.asked(0));
        fleet.endpoints[0].wait_for_requests(since + 1);
        let took = began.elapsed();
        let most = Duration::from_secs(6) + late;
        assert!(took < most, "a lease of two seconds, an interval, and a busy machine: {took:?}");
        let next = fleet.elected_of(&rest);
        assert!(fleet.askers(0, since).iter().all(|asker| *asker == next || *asker == elected));
        // Nobody forgot that b is down: it would be up for those who know nothing.
        fleet.until(&rest, "b", false);
    }
    let last = fleet.elected();
    assert!(tokens.is_sorted() && tokens[0] != tokens[1], "{tokens:?}");
    fleet.set_up(1, true);
    fleet.until(&[last], "b", true);
}

fn an_elected_that_is_stopped_is_followed_by_one_other(store: impl LockServer) {
    let fleet = Fleet::start(store, 3, "check-locally");
    let first = fleet.elected();
    fleet.proxy(first).signal("STOP");
    let rest: Vec<usize> = (0..3).filter(|number| *number != first).collect();
    let second = fleet.elected_of(&rest);
    fleet.set_up(0, false);
    fleet.until(&rest, "a", false);
    fleet.proxy(first).signal("CONT");
    // Woken up it knows that it is elected no more, and what the other has found.
    wait_for("its insight", || (fleet.status(first)["role"] == "follows").then_some(()));
    fleet.until(&[first], "a", false);
    assert_eq!(fleet.running().filter(|(_, proxy)| proxy.metrics().get(JOB) == 1.0).count(), 1);
    // Its store was lost for a moment, in which it may have asked for itself.
    fleet.until_alone(1, second);
}

fn an_elected_that_ends_gives_way_at_once(store: impl LockServer) {
    let mut fleet = Fleet::start_by(store, 3, "check-locally", 5);
    let first = fleet.elected();
    fleet.until_alone(0, first);
    let mut gone = fleet.proxies[first].take().unwrap();
    assert!(gone.stop().success());
    let began = clock::now();
    fleet.elected();
    // Two thirds of it would be left at least.
    assert!(began.elapsed() < Duration::from_secs(3), "no lease had to run out: {:?}", began.elapsed());
}

fn an_elected_whose_lock_is_taken_away_is_elected_no_more<S: LockServer>(store: S) {
    let fleet = Fleet::start(store, 2, "freeze");
    for way in 0..S::WAYS {
        let elected = fleet.elected();
        let token = wait_for("its word", || fleet.status(1 - elected)["token"].as_str().map(str::to_string));
        let locks = fleet.store.locks();
        assert!(!locks.is_empty());
        let lost = "ringway_lock_lost_total{use=\"elect\",reason=\"session\"}";
        let before = fleet.proxy(elected).metrics().get(lost);
        locks.iter().for_each(|lock| fleet.store.take(lock, way));
        wait_for("the word of one who was elected after that", || {
            let mut words = (0..2).filter_map(|number| fleet.status(number)["token"].as_str().map(str::to_string));
            words.any(|word| word > token).then_some(())
        });
        let metrics = fleet.proxy(elected).metrics();
        assert_eq!(metrics.get(lost), before + 1.0);
        assert!(metrics.get("ringway_lock_held_seconds_count{use=\"elect\"}") > before);
        wait_for("one who is elected", || {
            let count = fleet.running().filter(|(_, proxy)| proxy.metrics().get(JOB) == 1.0).count();
            (count == 1).then_some(())
        });
    }
}

fn without_the_store_each_proxy_checks_for_itself(store: impl LockServer) {
    let mut fleet = Fleet::start(store, 2, "check-locally");
    fleet.elected();
    assert_eq!((fleet.degraded(0), fleet.degraded(1)), (0.0, 0.0));
    fleet.store.kill();
    wait_for("both to ask", || (fleet.degraded(0) + fleet.degraded(1) == 2.0).then_some(()));
    let since = fleet.asked(0);
    wait_for("questions of both", || {
        (fleet.askers(0, since).into_iter().collect::<BTreeSet<_>>() == BTreeSet::from([0, 1])).then_some(())
    });
    fleet.set_up(1, false);
    fleet.until(&[0, 1], "b", false);
    assert_eq!(fleet.status(0)["role"], "check-locally");
    let told = command(&["status", "--admin", &format!("http://{}", fleet.proxy(0).admin)]);
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(
        told.contains("store e is LOST, nobody was heard for") && told.contains(": this proxy checks for itself"),
        "{told}"
    );
    dashboard::tells(fleet.proxy(0), &["Upstream u: store e is lost, this proxy checks for itself."]);
    fleet.store.restart();
    fleet.elected();
    wait_for("the store", || (fleet.degraded(0) + fleet.degraded(1) == 0.0).then_some(()));
    let since = fleet.asked(0);
    fleet.endpoints[0].wait_for_requests(since + 3);
    // A question that was under way when one of them stopped asking may still come.
    assert_eq!(fleet.askers(0, since + 1).into_iter().collect::<BTreeSet<_>>().len(), 1);
}

fn without_the_store_the_last_verdicts_are_kept_where_that_is_wanted(store: impl LockServer) {
    let mut fleet = Fleet::start(store, 2, "freeze");
    fleet.set_up(1, false);
    fleet.until(&[0, 1], "b", false);
    fleet.store.kill();
    wait_for("both to stop", || (fleet.degraded(0) + fleet.degraded(1) == 2.0).then_some(()));
    fleet.set_up(1, true);
    let since = wait_for("the last question", || {
        let since = fleet.asked(1);
        thread::sleep(2 * INTERVAL);
        (fleet.asked(1) == since).then_some(since)
    });
    fleet.until(&[0, 1], "b", false);
    assert_eq!(fleet.asked(1), since);
    assert_eq!(fleet.status(0)["role"], "freeze");
    dashboard::tells(fleet.proxy(0), &["Upstream u: store e is lost, the last verdicts are kept."]);
    fleet.store.restart();
    fleet.until(&[0, 1], "b", true);
    wait_for("the store", || (fleet.degraded(0) + fleet.degraded(1) == 0.0).then_some(()));
}

stories! {
    one_proxy_asks_and_all_know_what_it_found
    when_the_elected_is_killed_the_next_goes_on_with_what_was_known
    an_elected_that_is_stopped_is_followed_by_one_other
    an_elected_that_ends_gives_way_at_once
    an_elected_whose_lock_is_taken_away_is_elected_no_more
    without_the_store_each_proxy_checks_for_itself
    without_the_store_the_last_verdicts_are_kept_where_that_is_wanted
}
