//! A real DNS server, dnsmasq, with names of the test's own; not a service of the system.
use super::{free_address, wait_for};
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// A name server that knows what it was told and nothing else. Dropping it kills it.
pub struct Dnsmasq {
    pub address: SocketAddr,
    program: &'static str,
    folder: TempDir,
    child: Option<Child>,
}

impl Dnsmasq {
    /// Starts one with these lines of its configuration, such as `host-record=one.test,10.0.0.1`; what it answers holds for a
    /// second. `None` when there is no dnsmasq on this machine.
    pub fn start(lines: &str) -> Option<Self> {
        let program = ["dnsmasq", "/usr/sbin/dnsmasq"]
            .into_iter()
            .find(|program| Command::new(program).arg("--version").output().is_ok())?;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut dnsmasq = Self { address: free_address(), program, folder, child: None };
        dnsmasq.restart(lines);
        Some(dnsmasq)
    }

    /// Starts it again, at the same address, with other lines.
    pub fn restart(&mut self, lines: &str) {
        self.stop();
        let file = self.folder.path().join("dnsmasq.conf");
        let (ip, port) = (self.address.ip(), self.address.port());
        let text = format!(
            "listen-address={ip}\nport={port}\nbind-interfaces\nno-resolv\nno-hosts\nno-poll\nlocal=/test/\nlocal-ttl=1\n{lines}\n"
        );
        fs::write(&file, text).expect("write dnsmasq.conf");
        let mut command = Command::new(self.program);
        // In the foreground, as the user who runs the test, without a file of its number.
        command.args(["--keep-in-foreground", "--user=", "--group=", "--pid-file="]);
        command.arg(format!("--conf-file={}", file.display()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("dnsmasq starts"));
        let address = self.address;
        wait_for("dnsmasq", || {
            let ended = self.child.as_mut()?.try_wait().expect("our own child");
            assert!(ended.is_none(), "dnsmasq ended: {ended:?}");
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
            socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a time");
            socket.connect(address).expect("a loopback address");
            // `version.bind`, class CH: any answer will do.
            let question = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x07version\x04bind\0\0\x10\0\x03";
            socket.send(question).ok()?;
            socket.recv(&mut [0; 512]).ok()
        });
    }

    /// Ends it: nobody answers any more.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap_or_default();
            child.wait().map(drop).unwrap_or_default();
        }
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        self.stop();
    }
}
