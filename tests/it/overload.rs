//! An endpoint that takes no more: who waits, in which order, and who is turned away at once.
use crate::harness::http::Client;
use crate::harness::origin::{Cut, Origin, Script};
use crate::harness::program::Ringway;
use crate::harness::wait_for;
use crate::hashing::{BY_PATH, fleet, upstream};
use ringway::base::clock;
use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

fn start(limits: &str, origins: &[&Origin]) -> Ringway {
    Ringway::start(&format!("{BY_PATH}{}{limits}\n", upstream(origins)))
}

fn in_background(address: SocketAddr, path: String) -> thread::JoinHandle<u16> {
    thread::spawn(move || Client::new(address).get(&path).unwrap().status)
}

/// A connection on which a request was sent; its answer is not waited for.
fn asked(ringway: &Ringway, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(ringway.address).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
    stream
}

fn pending(ringway: &Ringway) -> f64 {
    ringway.metrics().sum("ringway_endpoint_pending")
}

#[test]
fn one_more_than_an_endpoint_takes_is_turned_away_at_once() {
    let (origins, _) = fleet(&["a", "b"]);
    let ringway = start("max_requests = 2", &origins.iter().collect::<Vec<_>>());
    let owner = ringway.client().get("/k").unwrap().header("x-origin").unwrap().to_string();
    let full = origins.iter().find(|origin| origin.id == owner).unwrap();
    // A client may have its whole response before the place of its request is free again.
    wait_for("the place of the first request", || {
        (ringway.metrics().sum("ringway_endpoint_in_flight") == 0.0).then_some(())
    });
    let before = full.requests().len();
    full.script(Script { cut: Some((0, Cut::Stall)), ..Script::default() });
    let hanging = [asked(&ringway, "/k"), asked(&ringway, "/k")];
    full.wait_for_requests(before + 2);
    let refused = ringway.client().request("GET", "/k", &[("Accept", "application/json")], None).unwrap();
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert!(refused.text().contains("\"error\":\"overloaded\""), "{}", refused.text());
    let metrics = ringway.metrics();
    let overloaded = [("endpoint", owner.as_str()), ("reason", "overloaded")];
    assert_eq!(metrics.sum_of("ringway_upstream_errors_total", &overloaded), 1.0);
    assert_eq!(metrics.sum("ringway_retries_total"), 0.0, "its keys are not sent elsewhere");
    drop(hanging);
    full.script(Script::default());
    wait_for("a place", || (ringway.client().get("/k").unwrap().status == 200).then_some(()));
    assert_eq!(ringway.metrics().sum("ringway_ejections_total"), 0.0, "it did nothing wrong");
}

#[test]
fn who_waits_is_served_in_the_order_they_came() {
    let origin = Origin::start("a");
    let ringway = start("max_requests = 1\nmax_pending = 3\nconnect_timeout = \"10s\"", &[&origin]);
    origin.script(Script { delay: Duration::from_millis(400), ..Script::default() });
    let mut asked = vec![in_background(ringway.address, "/0".into())];
    origin.wait_for_requests(1);
    for number in 1..=3 {
        asked.push(in_background(ringway.address, format!("/{number}")));
        wait_for("a place in line", || {
            (pending(&ringway) + origin.requests().len() as f64 > f64::from(number)).then_some(())
        });
    }
    assert_eq!(asked.into_iter().map(|asked| asked.join().unwrap()).collect::<Vec<_>>(), [200; 4]);
    let paths: Vec<String> = origin.requests().iter().map(|seen| seen.path().to_string()).collect();
    assert_eq!(paths, ["/0", "/1", "/2", "/3"]);
    assert_eq!(pending(&ringway), 0.0);
}

#[test]
fn the_line_has_an_end_and_nobody_waits_longer_than_connecting_may_take() {
    let origin = Origin::start("a");
    let ringway = start("max_requests = 1\nmax_pending = 1\nconnect_timeout = \"400ms\"", &[&origin]);
    origin.script(Script { cut: Some((0, Cut::Stall)), ..Script::default() });
    let _hanging = asked(&ringway, "/0");
    origin.wait_for_requests(1);
    let started = clock::now();
    let waiting = in_background(ringway.address, "/1".into());
    wait_for("a place in line", || (pending(&ringway) == 1.0).then_some(()));
    assert_eq!(ringway.client().get("/2").unwrap().status, 503, "the line is full");
    assert_eq!(waiting.join().unwrap(), 503);
    assert!(started.elapsed() >= Duration::from_millis(400));
    // Who leaves the line makes room in it.
    let leaving = asked(&ringway, "/3");
    wait_for("a place in line", || (pending(&ringway) == 1.0).then_some(()));
    drop(leaving);
    wait_for("it to leave", || (pending(&ringway) == 0.0).then_some(()));
}

/// Serves requests one by one on each connection and remembers how many there were at one time at most.
fn counting() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = most.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(mut stream), now, most) = (stream, now.clone(), seen.clone()) else { return };
            thread::spawn(move || {
                let (mut head, mut part) = (Vec::new(), [0; 4096]);
                while let Ok(count @ 1..) = stream.read(&mut part) {
                    head.extend_from_slice(&part[..count]);
                    if !head.ends_with(b"\r\n\r\n") {
                        continue;
                    }
                    head.clear();
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    thread::sleep(Duration::from_millis(1));
                    now.fetch_sub(1, Ordering::SeqCst);
                    if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, most)
}

#[test]
fn all_workers_together_never_send_more_than_an_endpoint_takes_and_forget_nobody() {
    let (address, most) = counting();
    let limits = "max_requests = 3\nmax_pending = 100\nconnect_timeout = \"10s\"";
    let upstream = format!("[upstream.u]\nendpoints = [{{ id = \"a\", address = \"{address}\" }}]\n{limits}\n");
    let ringway = Ringway::start(&format!("[server]\nworkers = 4\n{BY_PATH}{upstream}"));
    thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| {
                let mut client = ringway.client();
                for number in 0..40 {
                    assert_eq!(client.get(&format!("/{number}")).unwrap().status, 200);
                }
            });
        }
    });
    let most = most.load(Ordering::SeqCst);
    assert!((1..=3).contains(&most), "{most} at one time");
    assert_eq!((pending(&ringway), ringway.metrics().sum("ringway_endpoint_in_flight")), (0.0, 0.0));
}

/// Our ends of the connections this machine has open to a port, or is making. The table is not read in one moment.
fn ends_of_connections_to(port: u16) -> HashSet<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let end = |line: &str| {
        let mut columns = line.split_whitespace().skip(1);
        let (local, remote, state) = (columns.next()?, columns.next()?, columns.next()?);
        let is_open = remote.ends_with(&format!(":{port:04X}")) && (state == "01" || state == "02");
        is_open.then(|| local.to_string())
    };
    table.lines().skip(1).filter_map(end).collect()
}

#[test]
fn all_workers_together_never_have_more_connections_than_an_endpoint_takes() {
    let (address, _) = counting();
    let limits = "max_connections = 3\nmax_pending = 100\nconnect_timeout = \"20s\"";
    let upstream = format!("[upstream.u]\nendpoints = [{{ id = \"a\", address = \"{address}\" }}]\n{limits}\n");
    let ringway = Ringway::start(&format!("[server]\nworkers = 4\n{BY_PATH}{upstream}"));
    let (ended, mut seen, mut most) = (AtomicUsize::new(0), HashSet::new(), 0);
    thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| {
                let mut client = ringway.client();
                for number in 0..40 {
                    assert_eq!(client.get(&format!("/{number}")).unwrap().status, 200);
                }
                ended.fetch_add(1, Ordering::SeqCst);
            });
        }
        while ended.load(Ordering::SeqCst) < 24 {
            // What is in two tables in a row was open at one and the same moment.
            let now = ends_of_connections_to(address.port());
            most = most.max(now.intersection(&ends_of_connections_to(address.port())).count());
            seen.extend(now);
        }
    });
    assert!(most <= 3 && !seen.is_empty(), "{most} at one time, {} in all", seen.len());
    assert_eq!(pending(&ringway), 0.0);
    assert!(ringway.metrics().sum("ringway_endpoint_connections") <= 3.0);
}

#[test]
fn a_connection_that_idles_at_another_worker_turns_nobody_away() {
    let origin = Origin::start("a");
    let limits = "max_connections = 1\nconnect_timeout = \"20s\"";
    let ringway = Ringway::start(&format!("[server]\nworkers = 4\n{BY_PATH}{}{limits}\n", upstream(&[&origin])));
    let mut clients: Vec<Client> = (0..12).map(|_| ringway.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").unwrap().status, 200);
        wait_for("the connection to idle", || {
            (ringway.metrics().sum("ringway_endpoint_in_flight") == 0.0).then_some(())
        });
    }
    assert!(origin.connections() > 1, "more than one worker was asked");
}

#[test]
fn one_more_connection_than_an_endpoint_takes_is_turned_away_at_once() {
    let origin = Origin::start("a");
    let ringway = start("max_connections = 1", &[&origin]);
    origin.script(Script { cut: Some((0, Cut::Stall)), ..Script::default() });
    let hanging = asked(&ringway, "/0");
    origin.wait_for_requests(1);
    let refused = ringway.client().request("GET", "/1", &[("Accept", "application/json")], None).unwrap();
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert!(refused.text().contains("\"error\":\"overloaded\""), "{}", refused.text());
    let metrics = ringway.metrics();
    assert_eq!(metrics.sum_of("ringway_upstream_errors_total", &[("reason", "overloaded")]), 1.0);
    assert_eq!((metrics.sum("ringway_endpoint_connections"), metrics.sum("ringway_ejections_total")), (1.0, 0.0));
    drop(hanging);
    origin.script(Script::default());
    wait_for("a place", || (ringway.client().get("/2").unwrap().status == 200).then_some(()));
}
