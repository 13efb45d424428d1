//! A real etcd in a folder of its own; not a service of the system.
use super::http::Client;
use super::{free_address, wait_for};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// One server. Dropping it kills it.
pub struct Etcd {
    pub address: SocketAddr,
    peers: SocketAddr,
    folder: TempDir,
    child: Option<Child>,
}

impl Etcd {
    /// Starts one; `None` when there is no etcd on this machine.
    pub fn start() -> Option<Self> {
        Command::new("etcd").arg("--version").output().ok()?;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut etcd = Self { address: free_address(), peers: free_address(), folder, child: None };
        etcd.restart();
        Some(etcd)
    }

    /// Starts it again at the same address, with the data it had.
    pub fn restart(&mut self) {
        self.kill();
        let (own, peers) = (format!("http://{}", self.address), format!("http://{}", self.peers));
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(self.folder.path().join("data"));
        command.args(["--listen-client-urls", &own, "--advertise-client-urls", &own]);
        command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
        command.args(["--initial-cluster", &format!("default={peers}"), "--unsafe-no-fsync"]);
        // Leases of a second need elections that are quicker than that.
        command.args(["--heartbeat-interval", "50", "--election-timeout", "250"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("etcd starts"));
        wait_for("etcd", || {
            let ended = self.child.as_mut()?.try_wait().expect("our own child");
            assert!(ended.is_none(), "etcd ended: {ended:?}");
            self.try_call("/v3/kv/range", &json!({ "key": encode("x") }))
        });
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap_or_default();
            child.wait().map(drop).unwrap_or_default();
        }
    }

    /// Kills it and forgets all it knew.
    pub fn lose_data(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.folder.path().join("data")).expect("its own folder");
    }

    pub fn put(&self, key: &str, value: &str) {
        self.call("/v3/kv/put", &json!({ "key": encode(key), "value": encode(value) }));
    }

    pub fn delete(&self, key: &str) {
        self.call("/v3/kv/deleterange", &json!({ "key": encode(key) }));
    }

    /// Whether there is such a key.
    pub fn has(&self, key: &str) -> bool {
        !self.call("/v3/kv/range", &json!({ "key": encode(key) }))["kvs"].is_null()
    }

    /// All keys that begin so.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let mut end = prefix.as_bytes().to_vec();
        *end.last_mut().expect("a prefix") += 1;
        let asked = json!({ "key": encode(prefix), "range_end": BASE64_STANDARD.encode(end), "keys_only": true });
        let answer = self.call("/v3/kv/range", &asked);
        let decode = |pair: &Value| {
            String::from_utf8(BASE64_STANDARD.decode(pair["key"].as_str().expect("a key")).expect("base64"))
                .expect("text")
        };
        answer["kvs"].as_array().map(|kvs| kvs.iter().map(decode).collect()).unwrap_or_default()
    }

    /// Has it sleep, or wakes it up.
    pub fn set_asleep(&self, is_asleep: bool) {
        let signal = if is_asleep { "STOP" } else { "CONT" };
        let pid = self.child.as_ref().expect("it runs").id();
        let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).status();
        assert!(sent.expect("a shell").success(), "send SIG{signal}");
    }

    /// Calls its gateway.
    #[track_caller]
    pub fn call(&self, path: &str, body: &Value) -> Value {
        wait_for(path, || self.try_call(path, body))
    }

    fn try_call(&self, path: &str, body: &Value) -> Option<Value> {
        let headers = [("Connection", "close"), ("Content-Type", "application/json")];
        let body = body.to_string();
        let answer = Client::new(self.address).request("POST", path, &headers, Some(body.as_bytes())).ok()?;
        if answer.status == 200 { serde_json::from_str(answer.text()).ok() } else { None }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

fn encode(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}
