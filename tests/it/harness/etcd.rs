//! A real etcd in a folder of its own; not a service of the system.
use super::http::Client;
use super::locks::LockServer;
use super::store::{BoardServer, Process, RING, Server, await_server, is_installed};
use super::{free_address, wait_for};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// One server. Dropping it kills it.
pub struct Etcd {
    pub address: SocketAddr,
    folder: TempDir,
    process: Process,
}

impl Etcd {
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

    /// Calls its gateway.
    #[track_caller]
    pub fn call(&self, path: &str, body: &Value) -> Value {
        wait_for(path, || try_call(self.address, path, body))
    }
}

fn try_call(address: SocketAddr, path: &str, body: &Value) -> Option<Value> {
    let headers = [("Connection", "close"), ("Content-Type", "application/json")];
    let body = body.to_string();
    let answer = Client::new(address).request("POST", path, &headers, Some(body.as_bytes())).ok()?;
    if answer.status == 200 { serde_json::from_str(answer.text()).ok() } else { None }
}

impl BoardServer for Etcd {
    fn post(&self, instance: &str, text: &str) {
        self.put(&format!("/ringway/fleet/{instance}"), text);
    }
}

impl Server for Etcd {
    const REFUSAL: &'static str = "authentication failed";
    const TAKES_SEVERAL: bool = true;
    const NUMBERS_ITS_DATA: bool = true;

    fn start() -> Option<Self> {
        if !is_installed("etcd", "--version") {
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (address, peers) = (free_address(), free_address());
        let data = folder.path().join("data");
        let process = Process::new(move || {
            let (own, peers) = (format!("http://{address}"), format!("http://{peers}"));
            let mut command = Command::new("etcd");
            command.arg("--data-dir").arg(&data);
            command.args(["--listen-client-urls", &own, "--advertise-client-urls", &own]);
            command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
            command.args(["--initial-cluster", &format!("default={peers}"), "--unsafe-no-fsync"]);
            // Leases of a second need elections that are quicker than that.
            command.args(["--heartbeat-interval", "50", "--election-timeout", "250"]);
            command
        });
        let mut etcd = Self { address, folder, process };
        etcd.restart();
        Some(etcd)
    }

    fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn await_ready(&mut self) {
        let asked = json!({ "key": encode("x") });
        await_server(&mut self.process, || try_call(self.address, "/v3/kv/range", &asked));
    }

    fn lose_data(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.folder.path().join("data")).expect("its own folder");
    }

    fn lines(&self, servers: &[SocketAddr]) -> String {
        let servers: Vec<String> = servers.iter().map(|server| format!("\"http://{server}\"")).collect();
        format!("engine = \"etcd\"\nendpoints = [{}]\nlease_ttl = \"1s\"", servers.join(", "))
    }

    fn login(&self, file: &Path) -> String {
        format!("username = \"root\"\npassword_file = \"{}\"", file.display())
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn put(&self, id: &str, address: &str, weight: u32) {
        let value = json!({ "addr": address, "weight": weight, "zone": "z" }).to_string();
        self.put(&key(id), if weight == 1 { address } else { &value });
    }

    fn put_many(&self, members: &[(String, String)]) {
        // One transaction holds 128 operations at most.
        for some in members.chunks(50) {
            let put = |(id, address): &(String, String)| json!({ "request_put": { "key": encode(&key(id)), "value": encode(address) } });
            self.call("/v3/kv/txn", &json!({ "success": some.iter().map(put).collect::<Vec<_>>() }));
        }
    }

    fn put_garbage(&self, kind: usize) {
        self.put(&key("z"), ["no address", "{\"addr\":", "169.254.169.254:80"][kind]);
    }

    fn delete(&self, id: &str) {
        self.delete(&key(id));
    }

    fn has(&self, id: &str) -> bool {
        self.has(&key(id))
    }

    fn demand(&mut self, word: &str, (id, address): (&str, &str)) {
        Server::put(self, id, address, 1);
        self.call("/v3/auth/role/add", &json!({ "name": "root" }));
        self.call("/v3/auth/user/add", &json!({ "name": "root", "password": word }));
        self.call("/v3/auth/user/grant", &json!({ "user": "root", "role": "root" }));
        self.call("/v3/auth/enable", &json!({}));
    }
}

impl LockServer for Etcd {
    const IS_FAIR: bool = true;
    const WAYS: usize = 2;
    const WAITS_FOR_THE_FORGOTTEN: bool = false;
    const LATE: Duration = Duration::from_secs(3);

    fn lock_lines(&self, address: SocketAddr, seconds: u64) -> String {
        format!("engine = \"etcd\"\nendpoints = [\"http://{address}\"]\nlease_ttl = \"{seconds}s\"")
    }

    fn locks(&self) -> Vec<String> {
        self.keys("/ringway/locks/")
    }

    fn take(&self, lock: &str, way: usize) {
        let encoded = encode(lock);
        let lease = self.call("/v3/kv/range", &json!({ "key": encoded }))["kvs"][0]["lease"].clone();
        let path = ["/v3/kv/deleterange", "/v3/lease/revoke"][way];
        self.call(path, &json!({ "key": encoded, "ID": lease }));
    }
}

fn key(id: &str) -> String {
    format!("/ringway/rings/{RING}/{id}")
}

fn encode(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}
