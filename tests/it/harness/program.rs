//! The program itself: started on a configuration in a folder of its own, watched through its admin address.
use super::http::{Client, Response};
use super::{PATIENCE, free_address, last_words, wait_for};
use ringway::base::clock;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// Time between two looks at the metrics that must agree: a request is counted a moment after its client has the answer.
const SETTLING: Duration = Duration::from_millis(10);

/// Looks at most, for when requests never cease.
const LOOKS: usize = 30;

/// A running `ringway run`. Dropping it kills it; when the test has failed, the end of what it logged is printed.
pub struct Ringway {
    child: Child,
    folder: TempDir,
    /// Where it accepts.
    pub address: SocketAddr,
    pub admin: SocketAddr,
    /// Processes that took its place, the newest last.
    heirs: Vec<u32>,
}

/// Runs the program with these arguments to its end.
pub fn command(arguments: &[&str]) -> Output {
    Command::new(program()).args(arguments).stdin(Stdio::null()).output().expect("the program starts")
}

/// The program under test.
pub fn program() -> PathBuf {
    std::env::var_os("RINGWAY_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_ringway")), PathBuf::from)
}

impl Ringway {
    /// Starts it and waits until it is ready. In `config`, `LISTEN` and `ADMIN` stand for the two addresses; `[admin]`,
    /// `[server]` (two workers) and one `[[listener]]` are added where they are missing.
    #[track_caller]
    pub fn start(config: &str) -> Self {
        Self::start_by(&program(), config)
    }

    /// As [`Ringway::start`], by another program that becomes this one.
    #[track_caller]
    pub fn start_by(program: &Path, config: &str) -> Self {
        Self::start_until(program, config, &|running| {
            running.admin_get("/readyz").is_ok_and(|ready| ready.status == 200)
        })
    }

    /// As [`Ringway::start`], by a program of the caller's and until it is ready by the caller's own judgement.
    #[track_caller]
    pub fn start_until(program: &Path, config: &str, is_ready: &dyn Fn(&Self) -> bool) -> Self {
        // Somebody else may take a port between our look and its bind: try with others then.
        for _ in 0..4 {
            if let Some(running) = Self::spawn_by(program, config).until_ready(is_ready) {
                return running;
            }
        }
        panic!("no free port in four tries");
    }

    /// Starts it without waiting.
    pub fn spawn(config: &str) -> Self {
        Self::spawn_by(&program(), config)
    }

    fn spawn_by(program: &Path, config: &str) -> Self {
        last_words::listen();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (address, admin) = (free_address(), free_address());
        fs::write(folder.path().join("ringway.toml"), complete(config, address, admin))
            .expect("write the configuration");
        let log = |name: &str| File::create(folder.path().join(name)).expect("create a log");
        let child = Command::new(program)
            .args(["run", "-c"])
            .arg(folder.path().join("ringway.toml"))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log("stdout.log"))
            .stderr(log("stderr.log"))
            .spawn()
            .expect("the program starts");
        Self { child, folder, address, admin, heirs: Vec::new() }
    }

    /// Itself once `/readyz` is 200; nothing when a port was taken; a failed test when it ended or took too long.
    fn until_ready(mut self, is_ready: &dyn Fn(&Self) -> bool) -> Option<Self> {
        let deadline = clock::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                assert!(self.stderr().contains("in use"), "ended at its start: {status}");
                return None;
            }
            if is_ready(&self) {
                return Some(self);
            }
            assert!(clock::now() < deadline, "not ready in {PATIENCE:?}");
            thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Itself once it answers at all, ready or not.
    #[track_caller]
    pub fn until_alive(self) -> Self {
        wait_for("the admin interface", || self.admin_get("/healthz").ok());
        self
    }

    pub fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// One GET at the admin address, on a connection of its own.
    pub fn admin_get(&self, path: &str) -> std::io::Result<Response> {
        Client::new(self.admin).request("GET", path, &[("Connection", "close")], None)
    }

    /// One POST of JSON at the admin address.
    pub fn admin_post(&self, path: &str, json: &str) -> std::io::Result<Response> {
        let headers = [("Connection", "close"), ("Content-Type", "application/json")];
        Client::new(self.admin).request("POST", path, &headers, Some(json.as_bytes()))
    }

    /// Every sample of `/metrics`, by name and labels as written there: `ringway_endpoint_up{endpoint="a",upstream="u"}`. Taken
    /// once they have settled, or after [`LOOKS`].
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        let mut before = self.scrape();
        for _ in 0..LOOKS {
            thread::sleep(SETTLING);
            let now = self.scrape();
            if now.counts().eq(before.counts()) {
                return now;
            }
            before = now;
        }
        before
    }

    /// The metrics at this moment.
    #[track_caller]
    fn scrape(&self) -> Metrics {
        let response = self.admin_get("/metrics").expect("the admin address answers");
        assert_eq!(response.status, 200);
        Metrics::parse(response.text())
    }

    /// Number of the snapshot that serves now.
    #[track_caller]
    pub fn generation(&self) -> u64 {
        self.metrics().get("ringway_ring_generation") as u64
    }

    pub fn config_path(&self) -> PathBuf {
        self.folder.path().join("ringway.toml")
    }

    /// A folder that lives as long as this, for files a configuration names.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Puts another configuration in place of the old one, by renaming over it, and waits until it was taken or refused.
    #[track_caller]
    pub fn rewrite_config(&self, config: &str) {
        let before = self.metrics().sum("ringway_config_reloads_total");
        self.replace_config(config);
        wait_for("a reload", || (self.metrics().sum("ringway_config_reloads_total") > before).then_some(()));
    }

    /// As [`Ringway::rewrite_config`], without waiting.
    pub fn replace_config(&self, config: &str) {
        let new = self.folder.path().join("ringway.toml.new");
        fs::write(&new, complete(config, self.address, self.admin)).expect("write the configuration");
        fs::rename(new, self.config_path()).expect("rename in our own folder");
    }

    /// What it logged.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr.log")).unwrap_or_default()
    }

    /// Its standard output: the access log, unless configured otherwise.
    pub fn stdout(&self) -> String {
        fs::read_to_string(self.folder.path().join("stdout.log")).unwrap_or_default()
    }

    /// Its process, or the one that took its place.
    pub fn pid(&self) -> u32 {
        self.heirs.last().copied().unwrap_or_else(|| self.child.id())
    }

    /// Has the program replaced by the one at its path, and waits until that one has taken over.
    #[track_caller]
    pub fn upgrade(&mut self) {
        let before = self.heirs.len();
        self.signal("USR2");
        self.await_heir(before + 1);
    }

    /// Waits until so many programs have taken over, one after the other.
    #[track_caller]
    pub fn await_heir(&mut self, count: usize) {
        self.heirs = wait_for("a new program to take over", || {
            let log = self.stderr();
            let told = log.lines().filter(|line| line.contains("has taken over"));
            let pids = told.filter_map(|line| line.split("pid=").nth(1)?.split_whitespace().next()?.parse().ok());
            Some(pids.collect::<Vec<u32>>()).filter(|pids| pids.len() >= count)
        });
    }

    /// Sends a signal by name: `"TERM"`, `"HUP"`, `"USR2"`.
    pub fn signal(&self, name: &str) {
        super::signal(self.pid(), name);
    }

    /// Waits for its end: that of the process that was started first.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the program's end", || self.child.try_wait().expect("our own child"))
    }

    /// SIGTERM to the process that took its place, and waits for its end.
    #[track_caller]
    pub fn stop_heir(&self) {
        self.signal("TERM");
        wait_for("the new program's end", || (!is_running(self.pid())).then_some(()));
    }

    /// SIGTERM, and its exit status.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }
}

impl Drop for Ringway {
    fn drop(&mut self) {
        // Both fail only when it has ended, which is what is wanted.
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
        for heir in self.heirs.iter().filter(|heir| is_running(**heir)) {
            Command::new("sh").args(["-c", &format!("kill -KILL {heir}")]).status().map(drop).unwrap_or_default();
        }
        if thread::panicking() {
            let logs = [("stdout", self.stdout()), ("stderr", self.stderr())];
            last_words::say(&format!("ringway-{}", self.address.port()), &logs);
        }
    }
}

/// Whether there is such a process; one that ended and that nobody asked for its status is none.
pub fn is_running(pid: u32) -> bool {
    let told = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    told.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn complete(config: &str, address: SocketAddr, admin: SocketAddr) -> String {
    let mut text = config.replace("LISTEN", &address.to_string()).replace("ADMIN", &admin.to_string());
    for (table, lines) in [
        ("[server]", "workers = 2".to_owned()),
        ("[admin]", format!("address = \"{admin}\"")),
        ("[[listener]]", format!("address = \"{address}\"")),
    ] {
        if !text.lines().any(|line| line.trim() == table) {
            text += &format!("\n{table}\n{lines}\n");
        }
    }
    text
}

/// The samples of one scrape.
#[derive(Debug)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
        Self(samples.map(|(name, value)| (name.to_owned(), value.parse().expect("a number"))).collect())
    }

    /// What requests and changes bump; not what the process takes of its machine.
    fn counts(&self) -> impl Iterator<Item = (&String, &f64)> {
        self.0.iter().filter(|(sample, _)| sample.starts_with("ringway_"))
    }

    /// The sample of that name and labels, as written; 0 when there is none, as for a counter not yet bumped.
    pub fn get(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or(0.0)
    }

    /// The sum over all labels of a name.
    pub fn sum(&self, name: &str) -> f64 {
        self.with(name, &[]).sum()
    }

    /// The sum over the samples of a name that have all these labels.
    pub fn sum_of(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.with(name, labels).sum()
    }

    fn with(&self, name: &str, labels: &[(&str, &str)]) -> impl Iterator<Item = f64> {
        let wanted: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        let named = self.0.iter().filter(move |(sample, _)| sample.split('{').next() == Some(name));
        named.filter(move |(sample, _)| wanted.iter().all(|label| sample.contains(label))).map(|(_, value)| *value)
    }
}
