//! A real nginx as an upstream server, in a folder of its own; not a service of the system.
use super::http::Client;
use super::{free_address, wait_for};
use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// One nginx that answers `ID PATH\n` and names itself in `X-Origin`, as `Origin` does. Dropping it kills it.
pub struct Nginx {
    pub id: String,
    pub address: SocketAddr,
    program: &'static str,
    folder: TempDir,
    child: Child,
}

impl Nginx {
    /// Starts one; `None` when there is no nginx on this machine.
    pub fn start(id: &str) -> Option<Self> {
        let answer = format!("add_header X-Origin {id} always; return 200 \"{id} $request_uri\\n\";");
        Self::serving(id, "", &answer)
    }

    /// Starts one that passes each request to the owner of its URI by `hash ... consistent`, among `servers` as `upstream`
    /// lists them, and names whom it asked in `X-Upstream`. It asks only once, whoever answers or not.
    pub fn hashing(servers: &[String]) -> Option<Self> {
        let listed: String = servers.iter().map(|server| format!("server {server} max_fails=0; ")).collect();
        let upstream = format!("upstream u {{ hash $request_uri consistent; {listed} }}");
        let pass = "proxy_pass http://u; proxy_next_upstream off; add_header X-Upstream $upstream_addr always;";
        Self::serving("hashing", &upstream, pass)
    }

    /// Starts a cache of what the server at that address answers. It names itself in `X-Origin`, does not merge fetches, and has
    /// fetched `/` when it is ready.
    pub fn caching(id: &str, server: SocketAddr) -> Option<Self> {
        let pass = "proxy_cache z; proxy_cache_key $request_uri; proxy_http_version 1.1; proxy_pass";
        let http = "proxy_cache_path cache keys_zone=z:1m;";
        Self::serving(id, http, &format!("{pass} http://{server}; add_header X-Origin {id} always;"))
    }

    fn serving(id: &str, http: &str, location: &str) -> Option<Self> {
        let program = ["nginx", "/usr/sbin/nginx"]
            .into_iter()
            .find(|program| Command::new(program).arg("-v").output().is_ok())?;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let address = free_address();
        fs::write(folder.path().join("nginx.conf"), configuration(address, http, location)).expect("write nginx.conf");
        let child = spawn(program, &folder);
        let mut nginx = Self { id: id.to_owned(), address, program, folder, child };
        nginx.until_ready();
        Some(nginx)
    }

    /// Kills it as a crash would: no goodbye on any connection but the kernel's.
    pub fn kill(&mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }

    /// Starts it again at the same address.
    pub fn restart(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().expect("our own child");
        self.child = spawn(self.program, &self.folder);
        self.until_ready();
    }

    fn until_ready(&mut self) {
        wait_for("nginx", || {
            let ended = self.child.try_wait().expect("our own child");
            let log = || fs::read_to_string(self.folder.path().join("error.log"));
            assert!(ended.is_none(), "nginx ended: {:?}", log());
            Client::new(self.address).get("/").ok()
        });
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

fn spawn(program: &str, folder: &TempDir) -> Child {
    let mut command = Command::new(program);
    command.arg("-p").arg(folder.path()).args(["-c", "nginx.conf", "-e", "error.log"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("nginx starts")
}

/// One process and no daemon, so that killing the child ends it all; nothing is written outside its folder.
fn configuration(address: SocketAddr, http: &str, location: &str) -> String {
    format!(
        r#"daemon off;
master_process off;
pid nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    {http}
    server {{
        listen {address};
        location / {{ {location} }}
    }}
}}
"#
    )
}
