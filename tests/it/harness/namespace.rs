//! A network of its own (network namespace), joined to this one by a wire that can be pulled: what is sent while it is out is lost, as where
//! a switch has failed. Needs root, and `ip`.
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// One network with one address in it. Dropping it ends it.
pub struct Namespace {
    name: String,
    address: Ipv4Addr,
}

impl Namespace {
    /// A new one; nothing where this process may make none.
    pub fn start() -> Option<Self> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed) % 64;
        let name = format!("rw{}n{number}", std::process::id());
        // Of those that are for tests of networks (RFC 2544), four for each wire.
        let own = |last: u8| Ipv4Addr::new(198, 18, (std::process::id() % 256) as u8, number as u8 * 4 + last);
        let (near, address) = (own(1), own(2));
        ip(&format!("netns add {name}")).then_some(())?;
        let namespace = Self { name, address };
        let Self { name, .. } = &namespace;
        let commands = [
            format!("link add {name} type veth peer name wire netns {name}"),
            format!("addr add {near}/30 dev {name}"),
            format!("link set {name} up"),
            format!("-n {name} addr add {address}/30 dev wire"),
            format!("-n {name} link set wire up"),
        ];
        commands.iter().all(|command| ip(command)).then_some(namespace)
    }

    /// Listens at the address in it.
    pub fn listen(&self) -> TcpListener {
        let (path, address) = (format!("/run/netns/{}", self.name), self.address);
        // A thread is in one network, and what it opens stays there.
        let listening = thread::spawn(move || {
            let namespace = File::open(path).expect("the namespace");
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("enter it");
            TcpListener::bind((address, 0)).expect("bind in it")
        });
        listening.join().expect("a thread in the namespace")
    }

    /// Pulls the wire out, or puts it in again.
    pub fn set_cut(&self, is_cut: bool) {
        let state = if is_cut { "down" } else { "up" };
        assert!(ip(&format!("-n {} link set wire {state}", self.name)), "set the wire {state}");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Sockets in it keep it alive for a while yet: the wire has to go by itself.
        for command in [format!("link del {}", self.name), format!("netns del {}", self.name)] {
            if !ip(&command) && !thread::panicking() {
                panic!("ip {command}");
            }
        }
    }
}

fn ip(words: &str) -> bool {
    let mut command = Command::new("ip");
    command.args(words.split(' ')).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
