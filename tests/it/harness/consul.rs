//! A real Consul that keeps nothing on disk: the agent of this machine, or the one that scripts/test has unpacked.
use super::http::Client;
use super::locks::LockServer;
use super::store::{BoardServer, Process, RING, Server, await_server, is_installed};
use super::{free_address, wait_for};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// Where scripts/test unpacks one when this machine has none.
const UNPACKED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/consul/usr/bin/consul");

/// One server. Dropping it kills it.
pub struct Consul {
    pub address: SocketAddr,
    folder: TempDir,
    process: Process,
    word: Option<String>,
}

impl Consul {
    /// Calls its API; `null` when there is nothing to read.
    #[track_caller]
    pub fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        wait_for(path, || try_call(self.address, self.word.as_deref(), method, path, body))
    }

    /// An instance on a node of its own, which no agent looks after.
    fn register(&self, id: &str, address: &str, port: u16, meta: &Value) {
        self.call("PUT", "/v1/catalog/register", &instance(id, address, port, meta));
    }

    fn config(&self) -> Value {
        let ports = [(); 4].map(|()| free_address().port());
        let mut config = json!({
            "ports": { "http": self.address.port(), "grpc": -1, "dns": -1, "server": ports[0], "serf_lan": ports[1], "serf_wan": ports[2] },
            "raft_protocol": 3, "session_ttl_min": "1s", "log_level": "err", "disable_update_check": true,
            "bind_addr": "127.0.0.1",
        });
        if let Some(word) = &self.word {
            config["acl"] =
                json!({ "enabled": true, "default_policy": "deny", "tokens": { "master": word, "agent": word } });
        }
        config
    }
}

fn instance(id: &str, address: &str, port: u16, meta: &Value) -> Value {
    let service = json!({ "ID": id, "Service": RING, "Address": address, "Port": port, "Meta": meta });
    json!({ "Node": format!("node-{id}"), "Address": "10.9.9.9", "Service": service })
}

fn try_call(address: SocketAddr, word: Option<&str>, method: &str, path: &str, body: &Value) -> Option<Value> {
    let token = word.unwrap_or_default();
    let headers = [("Connection", "close"), ("Content-Type", "application/json"), ("X-Consul-Token", token)];
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let answer = Client::new(address).request(method, path, &headers, Some(text.as_bytes())).ok()?;
    (answer.status == 200).then(|| serde_json::from_str(answer.text()).unwrap_or_default())
}

impl Server for Consul {
    const REFUSAL: &'static str = "ACL not found";
    const TAKES_SEVERAL: bool = false;

    fn start() -> Option<Self> {
        let program = ["consul", UNPACKED].into_iter().find(|program| is_installed(program, "version"))?;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("c.json");
        let process = Process::new(move || {
            let mut command = Command::new(program);
            command.args(["agent", "-dev", "-config-file"]).arg(&file);
            command
        });
        let mut consul = Self { address: free_address(), folder, process, word: None };
        consul.restart();
        Some(consul)
    }

    fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn restart(&mut self) {
        std::fs::write(self.folder.path().join("c.json"), self.config().to_string()).expect("write its own file");
        self.process.start();
        self.await_ready();
    }

    /// It has a leader, and has told it of itself.
    fn await_ready(&mut self) {
        let word = self.word.as_deref();
        await_server(&mut self.process, || {
            let checks = try_call(self.address, word, "GET", "/v1/health/state/passing", &Value::Null)?;
            checks.as_array()?.iter().any(|check| check["CheckID"] == "serfHealth").then_some(())
        });
    }

    fn lose_data(&mut self) {
        self.kill();
    }

    fn lines(&self, servers: &[SocketAddr]) -> String {
        format!("engine = \"consul\"\naddress = \"http://{}\"\nsession_ttl = \"1s\"", servers[0])
    }

    fn login(&self, file: &Path) -> String {
        format!("token_file = \"{}\"", file.display())
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn put(&self, id: &str, address: &str, weight: u32) {
        let address: SocketAddr = address.parse().expect("an address");
        let meta = if weight == 1 { json!({}) } else { json!({ "weight": weight.to_string() }) };
        self.register(id, &address.ip().to_string(), address.port(), &meta);
    }

    fn put_many(&self, members: &[(String, String)]) {
        let (agent, word) = (self.address, self.word.as_deref());
        let put = |(id, address): &(String, String)| {
            let address: SocketAddr = address.parse().expect("an address");
            let instance = instance(id, &address.ip().to_string(), address.port(), &json!({}));
            wait_for("a registration", || try_call(agent, word, "PUT", "/v1/catalog/register", &instance))
        };
        // One after the other they take longer than members that join at once.
        thread::scope(|scope| {
            for some in members.chunks(members.len().div_ceil(8).max(1)) {
                scope.spawn(move || some.iter().for_each(|member| drop(put(member))));
            }
        });
    }

    fn put_garbage(&self, kind: usize) {
        let address = ["not-an-address", "10.0.0.1", "169.254.169.254"][kind];
        let meta = if kind == 1 { json!({ "weight": "heavy" }) } else { json!({}) };
        self.register("z", address, 80, &meta);
    }

    fn delete(&self, id: &str) {
        self.call("PUT", "/v1/catalog/deregister", &json!({ "Node": format!("node-{id}") }));
    }

    fn has(&self, id: &str) -> bool {
        let told = self.call("GET", &format!("/v1/health/service/{RING}?passing=1"), &Value::Null);
        let service = |instance: &Value| {
            let service = &instance["Service"];
            service["ID"] == id || service["Meta"]["ringway_id"] == id
        };
        told.as_array().expect("a list").iter().any(service)
    }

    fn demand(&mut self, word: &str, (id, address): (&str, &str)) {
        self.word = Some(word.into());
        self.restart();
        self.put(id, address, 1);
    }
}

impl BoardServer for Consul {
    fn post(&self, instance: &str, text: &str) {
        let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.into()));
        self.call("PUT", &format!("/v1/kv/ringway/fleet/{instance}"), &value);
    }
}

impl LockServer for Consul {
    const IS_FAIR: bool = false;
    const WAYS: usize = 2;
    const WAITS_FOR_THE_FORGOTTEN: bool = true;
    const LATE: Duration = Duration::from_secs(4);

    fn lock_lines(&self, address: SocketAddr, seconds: u64) -> String {
        format!(
            "engine = \"consul\"\naddress = \"http://{address}\"\nsession_ttl = \"{seconds}s\"\nlock_delay = \"1s\""
        )
    }

    fn locks(&self) -> Vec<String> {
        let answer = wait_for("its keys", || {
            let answer = Client::new(self.address).request("GET", "/v1/kv/ringway/locks/?keys", &[], None).ok()?;
            matches!(answer.status, 200 | 404).then_some(answer)
        });
        if answer.status == 404 { Vec::new() } else { serde_json::from_str(answer.text()).expect("a list of keys") }
    }

    fn take(&self, lock: &str, way: usize) {
        let path = format!("/v1/kv/{lock}");
        if way == 0 {
            self.call("DELETE", &path, &Value::Null);
            return;
        }
        let session = self.call("GET", &path, &Value::Null)[0]["Session"].clone();
        self.call("PUT", &format!("/v1/session/destroy/{}", session.as_str().expect("a session")), &Value::Null);
    }
}
