//! The program is replaced while it serves: nobody notices; and a new one that is no good changes nothing.
use crate::harness::http::Client;
use crate::harness::origin::{Origin, Script};
use crate::harness::program::{Ringway, command, is_running, program};
use crate::harness::{PATIENCE, free_address, wait_for};
use crate::hashing::{BY_PATH, fleet, upstream};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use tempfile::TempDir;

/// A path at which the program lies, for now.
struct Installed {
    _folder: TempDir,
    path: PathBuf,
}

impl Installed {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ringway");
        symlink(program(), &path).unwrap();
        Self { _folder: folder, path }
    }

    /// Puts another program there.
    fn install(&self, other: &Path) {
        let new = self.path.with_extension("new");
        symlink(other, &new).unwrap();
        fs::rename(new, &self.path).unwrap();
    }

    /// A script beside it.
    fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path.with_file_name(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}

/// Does `work` while clients ask without a pause, half of them on connections of their own for each request. Fails when one of
/// them sees anything but 200.
fn under_load(address: SocketAddr, work: impl FnOnce()) {
    let (done, answered) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..12)
            .map(|number| {
                let (done, answered) = (&done, &answered);
                scope.spawn(move || {
                    let mut client = Client::new(address);
                    while !done.load(Ordering::Relaxed) {
                        if number % 2 == 0 {
                            client = Client::new(address);
                        }
                        let path = format!("/{number}/{}", answered.fetch_add(1, Ordering::Relaxed));
                        let response = client.get(&path).unwrap_or_else(|error| panic!("client {number}: {error}"));
                        assert_eq!(response.status, 200, "client {number}");
                    }
                })
            })
            .collect();
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(|client| client.join().unwrap());
        worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    assert!(answered.into_inner() > 100, "there was a load");
}

#[test]
fn no_request_fails_while_the_program_is_replaced_again_and_again() {
    let (_origins, upstream) = fleet(&["a", "b"]);
    let config = |workers: usize| {
        format!("[server]\nreload = \"signal\"\nworkers = {workers}\n[log]\naccess = \"off\"\n{BY_PATH}{upstream}")
    };
    let mut ringway = Ringway::start(&config(2));
    under_load(ringway.address, || {
        for workers in [2, 4, 1, 3, 2, 2] {
            ringway.replace_config(&config(workers));
            ringway.upgrade();
            assert_eq!(ringway.metrics().get("ringway_ring_generation"), 1.0, "the new program answers operators");
        }
    });
    assert_eq!(ringway.wait().code(), Some(0));
    assert!(!ringway.stderr().contains("time was up"), "{}", ringway.stderr());
    ringway.stop_heir();
}

#[test]
fn a_new_program_that_is_no_good_leaves_the_old_one_serving() {
    let (_origins, upstream) = fleet(&["a", "b"]);
    let good = format!("[server]\nreload = \"signal\"\nupgrade_timeout = \"4s\"\n{BY_PATH}{upstream}");
    let installed = Installed::new();
    let mut ringway = Ringway::start_by(&installed.path, &good);
    let hung = installed.path.with_file_name("pid");
    let attempts = [
        (installed.script("fails", "exit 7"), "it ended with exit status: 7"),
        (installed.script("hangs", &format!("echo $$ > {}; exec sleep 600", hung.display())), "ready within 4s"),
        (installed.script("gives-up", "exec 0<&-; exec sleep 600"), "it gave up"),
        (installed.path.with_file_name("missing"), "No such file"),
        (program(), "it ended with exit status: 2"),
    ];
    under_load(ringway.address, || {
        for (number, (other, why)) in attempts.iter().enumerate() {
            installed.install(other);
            if *other == program() {
                ringway.replace_config("[[listener");
            }
            ringway.signal("USR2");
            wait_for("the failure to be told", || {
                (ringway.stderr().matches("The upgrade has failed, this program goes on").count() > number)
                    .then_some(())
            });
            assert!(ringway.stderr().contains(why), "{why}");
        }
    });
    let hung = fs::read_to_string(hung).unwrap().trim().parse().unwrap();
    assert!(!is_running(hung), "what hangs is ended");
    // And after all that, one that is good.
    ringway.replace_config(&good);
    ringway.upgrade();
    assert_eq!(ringway.wait().code(), Some(0));
    assert_eq!(ringway.client().get("/").unwrap().status, 200);
}

#[test]
fn whoever_is_connected_is_served_before_the_old_program_leaves() {
    let origin = Origin::start("a");
    let mut ringway = Ringway::start(&format!("{BY_PATH}{}", upstream(&[&origin])));
    // One that waits between requests, one that has said nothing yet, one that is waited for.
    let (mut kept, mut fresh) = (ringway.client(), TcpStream::connect(ringway.address).unwrap());
    kept.get("/warm").unwrap();
    wait_for("both to be accepted", || (ringway.metrics().sum("ringway_connections") == 2.0).then_some(()));
    origin.script(Script { delay: std::time::Duration::from_millis(300), ..Script::default() });
    let address = ringway.address;
    let slow = std::thread::spawn(move || Client::new(address).get("/slow").unwrap());
    origin.wait_for_requests(2);
    ringway.upgrade();
    assert_eq!(slow.join().unwrap().status, 200);
    // All on the old connection, until that one's worker knows.
    wait_for("to be told", || (kept.get("/late").unwrap().header("connection") == Some("close")).then_some(()));
    assert_eq!(kept.connections, 1);
    fresh.write_all(b"GET /first HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut said = String::new();
    fresh.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    assert_eq!(ringway.wait().code(), Some(0));
    assert!(ringway.stderr().contains("nothing was cut off"), "{}", ringway.stderr());
}

#[test]
fn a_stream_of_http2_is_finished_by_the_old_program() {
    let origin = Origin::start("a");
    let mut ringway = Ringway::start(&format!("{BY_PATH}{}", upstream(&[&origin])));
    origin.script(Script { delay: std::time::Duration::from_millis(300), ..Script::default() });
    let address = ringway.address;
    let client = std::thread::spawn(move || {
        crate::harness::h2::client(address, &h2::client::Builder::new(), |mut send| async move {
            let request = http::Request::get(format!("http://{address}/slow")).body(()).unwrap();
            let (response, _) = send.send_request(request, true).unwrap();
            response.await.unwrap().status()
        })
    });
    origin.wait_for_requests(1);
    ringway.upgrade();
    assert_eq!(client.join().unwrap(), 200);
    assert_eq!(ringway.wait().code(), Some(0));
    assert!(ringway.stderr().contains("nothing was cut off"), "{}", ringway.stderr());
}

#[test]
fn another_upgrade_socket_needs_a_restart() {
    let (_origins, upstream) = fleet(&["a"]);
    let config =
        |name: &str| format!("[server]\nworkers = 2\nupgrade_socket = \"/nowhere/{name}\"\n{BY_PATH}{upstream}");
    let ringway = Ringway::start(&format!("{BY_PATH}{upstream}"));
    ringway.rewrite_config(&config("a"));
    assert!(ringway.stderr().contains("a change of server.upgrade_socket needs a restart"), "{}", ringway.stderr());
}

#[test]
fn whoever_waits_for_nothing_is_let_go_when_time_is_up() {
    let (_origins, upstream) = fleet(&["a"]);
    let mut ringway = Ringway::start(&format!("[server]\nshutdown_timeout = \"300ms\"\n{BY_PATH}{upstream}"));
    let mut kept = ringway.client();
    kept.get("/warm").unwrap();
    ringway.upgrade();
    assert_eq!(ringway.wait().code(), Some(0));
    assert!(ringway.stderr().contains("nothing was cut off"), "{}", ringway.stderr());
    assert!(kept.get("/late").is_err());
}

#[test]
fn run_upgrade_takes_over_from_the_program_at_the_socket() {
    let (_origins, upstream) = fleet(&["a", "b"]);
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("upgrade.sock");
    let config = format!("[server]\nupgrade_socket = \"{}\"\n{BY_PATH}{upstream}", socket.display());
    let mut ringway = Ringway::start(&config);
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let path = ringway.config_path();
    let log = || fs::File::options().append(true).open(path.with_file_name("stderr.log")).unwrap();
    under_load(ringway.address, || {
        for count in 1..=3 {
            let arguments = ["run", "--upgrade", "-c", path.to_str().unwrap()];
            let started = Command::new(program()).args(arguments).stderr(log()).stdout(Stdio::null()).spawn();
            let heir = started.unwrap().id();
            ringway.await_heir(count);
            assert_eq!(ringway.pid(), heir);
        }
    });
    assert_eq!(ringway.wait().code(), Some(0));
    assert!(socket.exists(), "the next program may ask as well");
    ringway.stop_heir();
    assert!(!socket.exists());
    let told = command(&["run", "--upgrade", "-c", path.to_str().unwrap()]);
    assert_eq!(told.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&told.stderr).contains("is the proxy running?"));
}

#[test]
fn run_upgrade_without_a_socket_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    let route = "[[route]]\npath = \"/\"\nrespond = { body = \"hi\" }\n";
    fs::write(&path, format!("[[listener]]\naddress = \"127.0.0.1:0\"\n{route}")).unwrap();
    let told = command(&["run", "--upgrade", "-c", path.to_str().unwrap()]);
    assert_eq!(told.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&told.stderr).contains("needs `upgrade_socket` in [server]"));
}

#[test]
fn a_unix_socket_goes_over_with_its_file() {
    let (_origins, upstream) = fleet(&["a"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http.sock");
    let listeners =
        format!("[[listener]]\naddress = \"LISTEN\"\n[[listener]]\naddress = \"unix:{}\"\n", path.display());
    let mut ringway = Ringway::start(&format!("{listeners}{BY_PATH}{upstream}"));
    let ask = || {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    };
    ask();
    ringway.upgrade();
    assert_eq!(ringway.wait().code(), Some(0));
    ask();
    ringway.stop_heir();
    assert!(!path.exists());
}

/// Starts the program as a service manager does that has opened its sockets: descriptor 3 is `listener`.
fn activate(listener: TcpListener, name: &str, config: &Path) -> std::process::Child {
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=$2 exec \"$0\" run -c \"$1\"";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(program()).arg(config).arg(name);
    command.stdin(Stdio::from(OwnedFd::from(listener))).stdout(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_listener_takes_the_socket_that_the_service_manager_opened() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("c.toml");
    // By address, and by name when the addresses differ; with several workers at one queue.
    for by_name in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, admin) = (listener.local_addr().unwrap(), free_address());
        let written = if by_name { "127.0.0.1:1".to_string() } else { address.to_string() };
        let text = format!(
            "[server]\nworkers = 3\n[admin]\naddress = \"{admin}\"\n[log]\naccess = \"off\"\n\
             [[listener]]\nname = \"web\"\naddress = \"{written}\"\n\
             [[route]]\npath_prefix = \"/\"\nrespond = {{ body = \"hi\" }}\n"
        );
        fs::write(&config, text).unwrap();
        let mut program = activate(listener, if by_name { "web" } else { "other" }, &config);
        // Who comes before it is up waits in the queue.
        for _ in 0..20 {
            assert_eq!(Client::new(address).get("/").unwrap().text(), "hi");
        }
        program.kill().unwrap();
        program.wait().unwrap();
    }
}

#[test]
fn the_service_manager_learns_who_the_service_is_now() {
    let folder = tempfile::tempdir().unwrap();
    let notify = folder.path().join("notify");
    let socket = UnixDatagram::bind(&notify).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let heard = || {
        let mut buffer = [0; 256];
        let count = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    };
    let installed = Installed::new();
    let with_manager = format!("NOTIFY_SOCKET={} exec {} \"$@\"", notify.display(), installed.path.display());
    let starter = installed.script("start", &with_manager);
    let route = "[[route]]\npath_prefix = \"/\"\nrespond = { body = \"hi\" }\n";
    let mut ringway = Ringway::start_by(&starter, route);
    assert_eq!(heard(), "READY=1\n");
    ringway.upgrade();
    assert!(heard().starts_with("RELOADING=1\n"));
    assert_eq!(heard(), format!("MAINPID={}\nREADY=1\n", ringway.pid()));
    // The old one says nothing more: the service goes on.
    assert_eq!(heard(), "READY=1\n");
    ringway.stop_heir();
    assert_eq!(heard(), "STOPPING=1\n");
}
