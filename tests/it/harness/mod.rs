//! What every story needs: an origin that does as told, the program itself, a client that sees bytes, a real nginx.
//! Ports, files and processes belong to one test each, and end with it. Waiting is always for something, with a deadline.
#![allow(dead_code, reason = "each story uses the part it needs")]
pub mod consul;
pub mod dnsmasq;
pub mod etcd;
pub mod h2;
pub mod history;
pub mod http;
pub mod last_words;
pub mod locks;
pub mod namespace;
pub mod nginx;
pub mod origin;
pub mod pauses;
pub mod peer;
pub mod program;
pub mod python;
pub mod redis;
pub mod register;
pub mod relay;
pub mod store;
pub mod tls;
pub mod varnish;
pub mod zookeeper;

use ringway::base::clock;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::Duration;

/// Longest wait for anything that should happen at once, on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Ends the test as skipped, visibly: past the test runner's capture. With `NO_SKIP=1` the test fails instead.
#[macro_export]
macro_rules! skip {
    ($($why:tt)*) => {{
        $crate::harness::skipped(&format!($($why)*));
        return;
    }};
}

/// Tells these stories, functions that take a store, of each engine: tests in a module for each. They end as skipped where it is missing.
#[macro_export]
macro_rules! stories {
    (@ $module:ident $engine:ident $($story:ident)*) => {
        mod $module { $(
            #[test]
            fn $story() {
                match <$crate::harness::$module::$engine as $crate::harness::store::Server>::start() {
                    Some(store) => super::$story(store),
                    None => $crate::skip!(concat!("no ", stringify!($engine))),
                }
            }
        )* }
    };
    ($($story:ident)*) => {
        $crate::stories! { @ etcd Etcd $($story)* }
        $crate::stories! { @ redis Redis $($story)* }
        $crate::stories! { @ zookeeper Zookeeper $($story)* }
        $crate::stories! { @ consul Consul $($story)* }
    };
}

/// What `skip!` says, and whether that is allowed.
pub fn skipped(why: &str) {
    use std::io::Write;
    let name = thread::current().name().unwrap_or("a test").to_owned();
    assert!(std::env::var_os("NO_SKIP").is_none(), "skipped although NO_SKIP is set: {why}");
    writeln!(std::io::stderr(), "SKIPPED: {name}: {why}").expect("standard error is open");
}

/// Waits until `found` gives something; fails the test, saying `what`, when it does not within [`PATIENCE`].
#[track_caller]
pub fn wait_for<T>(what: &str, found: impl FnMut() -> Option<T>) -> T {
    wait_within(PATIENCE, what, found)
}

/// The same within a time of one's own: for what takes its time, as the end of a lease does.
#[track_caller]
pub fn wait_within<T>(patience: Duration, what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = clock::now() + patience;
    loop {
        if let Some(it) = found() {
            return it;
        }
        assert!(clock::now() < deadline, "waited {patience:?} for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal by name, `"TERM"`, `"HUP"`, to one process. After `"STOP"` it waits until nothing of it runs any more.
#[track_caller]
pub fn signal(pid: u32, name: &str) {
    // The shell's own kill: a signal needs either unsafe code here or a program there.
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status();
    assert!(sent.expect("a shell").success(), "send SIG{name}");
    if name == "STOP" {
        wait_for("all its threads to stop", || is_stopped(pid).then_some(()));
    }
}

fn is_stopped(pid: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    // `PID (NAME) STATE ...`; one that is gone meanwhile does not run either.
    tasks.map(|task| fs::read_to_string(task.path().join("stat")).unwrap_or_default()).all(|stat| {
        let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
        matches!(state, Some("T" | "Z" | "X") | None)
    })
}

/// A loopback address nobody listens at. It lies below the range the kernel takes for outgoing connections, so only
/// another listener could take it before the caller does.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + ((std::process::id() * 131 + u32::from(step)) % 12_000) as u16;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
