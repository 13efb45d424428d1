//! Real Varnish caches with the VCL we ship, each in a folder of its own; not services of the system.
use super::free_address;
use super::http::Client;
use ringway::base::clock;
use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// Longest time to start: its configuration is compiled.
const START: Duration = Duration::from_secs(60);

/// One cache. Dropping it kills it.
pub struct Varnish {
    pub id: String,
    pub address: SocketAddr,
    child: Child,
    _folder: TempDir,
}

impl Varnish {
    /// Starts caches that fetch at `fill`; `None` when there is no Varnish on this machine.
    pub fn start_all(ids: &[&str], fill: SocketAddr) -> Option<Vec<Self>> {
        let program = ["varnishd", "/usr/sbin/varnishd"]
            .into_iter()
            .find(|program| Command::new(program).arg("-V").output().is_ok())?;
        let caches: Vec<Self> = ids.iter().map(|id| Self::spawn(program, id, fill)).collect();
        let deadline = clock::now() + START;
        for cache in &caches {
            while !cache.is_ready() {
                assert!(clock::now() < deadline, "{} was not ready in {START:?}", cache.id);
                thread::sleep(Duration::from_millis(20));
            }
        }
        Some(caches)
    }

    fn spawn(program: &str, id: &str, fill: SocketAddr) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/config/varnish-fill.vcl");
        let vcl = fs::read_to_string(shipped).expect("the VCL we ship");
        let vcl = vcl.replace("10.0.0.100", &fill.ip().to_string()).replace("8081", &fill.port().to_string());
        let file = folder.path().join("fill.vcl");
        fs::write(&file, vcl).expect("write the VCL");
        let address = free_address();
        let mut command = Command::new(program);
        // In the foreground, as the user who runs the test, with an unmanaged little memory.
        command.args(["-F", "-j", "none", "-s", "malloc,32m", "-a", &address.to_string()]);
        command.arg("-n").arg(folder.path().join("state")).arg("-f").arg(&file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("varnishd starts");
        Self { id: id.to_owned(), address, child, _folder: folder }
    }

    fn is_ready(&self) -> bool {
        Client::new(self.address).get("/healthz").is_ok_and(|answer| answer.status == 200)
    }
}

impl Drop for Varnish {
    fn drop(&mut self) {
        // Its manager ends the process that serves when it is told to.
        Command::new("sh")
            .args(["-c", &format!("kill -TERM {}", self.child.id())])
            .status()
            .map(drop)
            .unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}
