//! What locks are for, by four proxies: one fetch for all, one that checks for all; and what a proxy with a store costs when nothing
//! happens.
use super::{PROXIES, figure, fleet, longest, percentile, since};
use crate::harness::http::Client;
use crate::harness::locks::LockServer;
use crate::harness::nginx::Nginx;
use crate::harness::origin::{Origin, Script};
use crate::harness::program::{Ringway, command};
use crate::harness::store::Server;
use crate::harness::{wait_for, wait_within};
use crate::hashing::upstream;
use crate::skip;
use ringway::base::clock;
use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

const FETCH: Duration = Duration::from_millis(500);
const LONG: u64 = 5;
const KILLS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(60);

fn table(store: &impl LockServer) -> String {
    format!("[store.e]\n{}\n", store.lock_lines(store.address(), LONG))
}

/// Whether the program takes such a configuration: a use may not be there for an engine.
fn is_taken(config: &str) -> bool {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("r.toml");
    fs::write(&file, format!("{config}\n[[listener]]\naddress = \"127.0.0.1:1\"\n")).expect("write its own file");
    command(&["check", "-c", &file.display().to_string()]).status.success()
}

/// T11, behind real caches.
pub fn one_fetch_for_a_fleet<S: LockServer>(store: S) {
    let origin = Origin::start("origin");
    let headers = vec![("Cache-Control", "max-age=3600".to_string())];
    origin.script(Script { headers: headers.clone(), ..Script::default() });
    let caches: Option<Vec<Nginx>> = ["c1", "c2"].into_iter().map(|id| Nginx::caching(id, origin.address)).collect();
    let Some(caches) = caches else { skip!("no nginx") };
    origin.script(Script { headers, delay: FETCH, ..Script::default() });
    let endpoints: Vec<String> =
        caches.iter().map(|cache| format!("{{ id = \"{}\", address = \"{}\" }}", cache.id, cache.address)).collect();
    let config = format!(
        "[[route]]\nupstream = \"u\"\nkey = [\"path\"]\ntimeout = \"5m\"\n[route.coalesce]\nwait = \"60s\"\nstore = \"e\"\n\
         lease = \"{LONG}s\"\n{}[upstream.u]\nendpoints = [{}]\nconnect_timeout = \"30s\"\n",
        table(&store),
        endpoints.join(", ")
    );
    if !is_taken(&config) {
        return figure::<S>("T11", "one fetch over the fleet", "not offered", "", false);
    }
    let proxies = fleet(|_| config.clone());
    proxies.iter().for_each(until_given);
    // One client of each proxy: how long after the first answer the last one comes.
    let (mut after_fetch, mut after_first) = (Vec::new(), Vec::new());
    for number in 0..10 {
        let mut took = ask_all(&proxies, 1, &format!("/few/{number}"));
        let (first, last) = (percentile(&mut took, 1), percentile(&mut took, 100));
        after_fetch.push(last.saturating_sub(FETCH));
        after_first.push(last - first);
    }
    let goal = Duration::from_millis(50);
    longest::<S>("T11", "1 client of each proxy: last answer after the fetch", &after_fetch, goal);
    longest::<S>("T11", "1 client of each proxy: last answer after the first", &after_first, goal);
    let mut took = ask_all(&proxies, 200, "/many");
    let p99 = percentile(&mut took, 99).saturating_sub(FETCH);
    longest::<S>("T11", "200 clients of each: p99 after the fetch", &[p99], goal);
    let fetched =
        ["/many", "/few/0", "/few/9"].map(|path| origin.requests().iter().filter(|seen| seen.path() == path).count());
    let most = fetched.iter().max().copied().unwrap_or(0);
    figure::<S>("T11", "fetches of one key", &most.to_string(), "1", fetched == [1; 3]);
}

fn until_given(proxy: &Ringway) {
    wait_for("leases to be given", || {
        let metrics = proxy.metrics();
        let is_up = metrics.get("ringway_store_up{store=\"e\"}") == 1.0;
        (is_up && metrics.sum("ringway_cap_degraded") == 0.0).then_some(())
    });
}

/// How long answers took to so many clients of each proxy, from when all were connected.
fn ask_all(proxies: &[Ringway], clients: usize, path: &str) -> Vec<Duration> {
    let ready = std::sync::Barrier::new(proxies.len() * clients);
    let ask = |address: SocketAddr| {
        let mut client = Client::patient(address, PATIENCE);
        client.send(b"GET /ready HTTP/1.1\r\nHost: fleet.example\r\n\r\n").expect("connect");
        assert!(client.response("GET").is_ok());
        ready.wait();
        let began = clock::now();
        let answer = client.request("GET", path, &[("Host", "fleet.example")], None).expect("an answer");
        assert_eq!(answer.status, 200);
        since(began)
    };
    thread::scope(|scope| {
        let all: Vec<_> = proxies.iter().cycle().take(proxies.len() * clients).collect();
        let asking: Vec<_> = all.into_iter().map(|proxy| scope.spawn(|| ask(proxy.address))).collect();
        asking.into_iter().map(|asking| asking.join().expect("an answer")).collect()
    })
}

/// T12. With an interval of 2 s, as it is unless it is chosen.
pub fn the_elected_is_killed_again_and_again<S: LockServer>(store: S) {
    let endpoint = Origin::start("a");
    let config = |number: usize| {
        format!(
            "[[route]]\nupstream = \"u\"\nkey = [\"path\"]\n{}[upstream.u.health_check]\nelect = \"e\"\n\
             interval = \"2s\"\nheaders = {{ x-probe = \"{number}\" }}\n{}",
            upstream(&[&endpoint]),
            table(&store)
        )
    };
    if !is_taken(&config(0)) {
        return figure::<S>("T12", "one checks for all", "not offered", "", false);
    }
    let mut proxies: Vec<Ringway> = fleet(config);
    let job = "ringway_leader{job=\"health_check/u\"}";
    let elected = |proxies: &[&Ringway]| {
        wait_within(PATIENCE, "one that is elected", || {
            let all: Vec<bool> = proxies.iter().map(|proxy| proxy.metrics().get(job) == 1.0).collect();
            assert!(all.iter().filter(|is| **is).count() <= 1, "two are elected");
            all.iter().position(|is| *is)
        })
    };
    let (mut gaps, mut from_kill, mut tokens) = (Vec::new(), Vec::new(), BTreeSet::new());
    for round in 0..KILLS {
        let number = elected(&proxies.iter().collect::<Vec<_>>());
        // It has told what it found.
        let rest = (number + 1) % PROXIES;
        tokens.insert(wait_within(PATIENCE, "its word", || token(&proxies[rest])));
        endpoint.wait_for_requests(endpoint.requests().len() + 1);
        let last = clock::now();
        thread::sleep(Duration::from_millis(250 * round as u64));
        let (asked, killed) = (endpoint.requests().len(), clock::now());
        proxies[number].signal("KILL");
        proxies[number].wait();
        wait_within(PATIENCE, "the next check", || (endpoint.requests().len() > asked).then_some(()));
        gaps.push(since(last));
        from_kill.push(since(killed));
        let left = proxies.iter().enumerate().filter(|(n, _)| *n != number).map(|(_, proxy)| proxy);
        elected(&left.collect::<Vec<_>>());
        proxies[number] = Ringway::start(&config(PROXIES + round));
    }
    assert!(tokens.len() >= KILLS / 2, "tokens rise: {tokens:?}");
    longest::<S>("T12", "lease 5 s, interval 2 s: from the kill to the next check", &from_kill, Duration::from_secs(7));
    longest::<S>("T12", "from the last check to the next one", &gaps, Duration::from_secs(7));
}

fn token(proxy: &Ringway) -> Option<String> {
    let status: serde_json::Value = serde_json::from_str(proxy.admin_get("/api/v1/status").ok()?.text()).ok()?;
    status["upstreams"][0]["elect"]["token"].as_str().map(str::to_string)
}

/// T14, beside `scripts/fleet-soak`.
pub fn an_idle_proxy_costs_little<S: LockServer>(store: S) {
    let origin = Origin::start("a");
    Server::put(&store, "a", &origin.address.to_string(), 1);
    let config = format!(
        "[[route]]\nupstream = \"u\"\nkey = [\"path\"]\n[route.serialize]\nstore = \"e\"\nlease = \"{LONG}s\"\n{}\
         [upstream.u.discovery]\nprovider = \"store\"\nstore = \"e\"\nallow = [\"127.0.0.0/8\"]\n[fleet]\nstore = \"e\"\n",
        table(&store)
    );
    let proxies = fleet(|_| config.clone());
    thread::sleep(Duration::from_secs(5));
    let before: Vec<u64> = proxies.iter().map(|proxy| ticks(proxy.pid())).collect();
    let began: Instant = clock::now();
    thread::sleep(Duration::from_secs(10));
    // A tick is a hundredth of a second.
    let share = proxies
        .iter()
        .zip(before)
        .map(|(proxy, before)| (ticks(proxy.pid()) - before) as f64 / since(began).as_secs_f64());
    let share = share.fold(0.0, f64::max);
    figure::<S>(
        "T14",
        "idle proxy with members, turns and peers: CPU",
        &format!("{share:.1} %"),
        "below 1 %",
        share < 1.0,
    );
    let memory = proxies.iter().map(|proxy| resident(proxy.pid())).max().unwrap_or(0);
    figure::<S>(
        "T14",
        "its memory",
        &format!("{:.1} MiB", memory as f64 / 1024.0),
        "at most 50 MiB",
        memory < 50 << 10,
    );
}

/// Time of processors that a process has had, in ticks.
fn ticks(pid: u32) -> u64 {
    let told = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<&str> = told.rsplit_once(") ").expect("a name").1.split(' ').collect();
    fields[11].parse::<u64>().expect("a number") + fields[12].parse::<u64>().expect("a number")
}

/// Memory of a process in KiB.
fn resident(pid: u32) -> u64 {
    let told = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = told.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
