//! A real ZooKeeper in a folder of its own, and a client of the tests' own that speaks to it.
use super::locks::LockServer;
use super::store::{BoardServer, Process, RING, Server, await_server, is_installed};
use super::{free_address, wait_for};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::cell::RefCell;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// Where Debian has it; its manifest names what it needs but for something that takes its log.
const JAR: &str = "/usr/share/java/zookeeper.jar";
const LOG: &str = "/usr/share/java/slf4j-simple.jar";
/// What only one of several needs beside.
const MORE: [&str; 2] = ["/usr/share/java/snappy-java.jar", "/usr/share/java/metrics-core.jar"];

/// Numbers of requests.
mod op {
    pub const CREATE: i32 = 1;
    pub const DELETE: i32 = 2;
    pub const EXISTS: i32 = 3;
    pub const SET: i32 = 5;
    pub const CHILDREN: i32 = 8;
    pub const CLOSE: i32 = -11;
    pub const AUTH: i32 = 100;
}

const NO_NODE: i32 = -101;
const NODE_EXISTS: i32 = -110;

/// One server. Dropping it kills it.
pub struct Zookeeper {
    pub address: SocketAddr,
    folder: TempDir,
    process: Process,
    login: Option<String>,
    connection: RefCell<Option<Connection>>,
}

impl Zookeeper {
    /// Three that are one store; ready when all are.
    pub fn ensemble() -> Option<Vec<Self>> {
        if !Self::is_installed() {
            return None;
        }
        let numbers = [1, 2, 3];
        let peers = numbers.map(|number| {
            let [one, other] = [free_address(), free_address()];
            format!("server.{number}=127.0.0.1:{}:{}\n", one.port(), other.port())
        });
        // Ticks of half a second: sessions may be as long as ten.
        let more = format!("tickTime=500\ninitLimit=20\nsyncLimit=4\n{}", peers.concat());
        let mut all = numbers.map(|number| {
            let server = Self::prepare(&more, "quorum.QuorumPeerMain");
            let data = server.folder.path().join("data");
            std::fs::create_dir(&data).expect("its own folder");
            std::fs::write(data.join("myid"), number.to_string()).expect("write its own file");
            server
        });
        all.iter_mut().for_each(|server| server.process.start());
        all.iter_mut().for_each(Self::await_ready);
        Some(all.into())
    }

    /// Whether it decides for all.
    pub fn leads(&self) -> bool {
        mode(self.address).is_some_and(|mode| mode.contains("Mode: leader"))
    }

    fn is_installed() -> bool {
        Path::new(JAR).exists() && Path::new(LOG).exists() && is_installed("java", "-version")
    }

    /// One that does not run yet.
    fn prepare(more: &str, class: &'static str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (address, data, file) = (free_address(), folder.path().join("data"), folder.path().join("zoo.cfg"));
        let lines = [
            format!("dataDir={}\nclientPort={}", data.display(), address.port()),
            "clientPortAddress=127.0.0.1\nadmin.enableServer=false\n4lw.commands.whitelist=srvr".into(),
            format!("forceSync=no\nmaxClientCnxns=0\n{more}"),
        ];
        std::fs::write(&file, lines.join("\n")).expect("write its own file");
        let process = Process::new(move || {
            let mut command = Command::new("java");
            command.args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]);
            let jars = [JAR, LOG, MORE[0], MORE[1]].join(":");
            command.args(["-cp", &jars, &format!("org.apache.zookeeper.server.{class}")]).arg(&file);
            command
        });
        Self { address, folder, process, login: None, connection: RefCell::new(None) }
    }

    /// Puts a node there, with those above it, or gives it another value.
    #[track_caller]
    pub fn put(&self, path: &str, value: &str) {
        for (end, _) in path.match_indices('/').filter(|(end, _)| *end > 0) {
            self.create(&path[..end], "");
        }
        if self.create(path, value) == NODE_EXISTS {
            let set = [text(path), text(value), int(-1)].concat();
            assert_eq!(self.call(op::SET, &set).0, 0, "set {path}");
        }
    }

    fn create(&self, path: &str, value: &str) -> i32 {
        let own = self.login.as_ref().map(|login| {
            let hash = BASE64_STANDARD.encode(sha1_smol::Sha1::from(login).digest().bytes());
            format!("{}:{hash}", login.split(':').next().expect("a name"))
        });
        let (scheme, id) = own.as_ref().map_or(("world", "anyone"), |own| ("digest", own));
        let all = [int(1), int(31), text(scheme), text(id)].concat();
        let (code, _) = self.call(op::CREATE, &[text(path), text(value), all, int(0)].concat());
        assert!(code == 0 || code == NODE_EXISTS, "create {path}: {code}");
        code
    }

    #[track_caller]
    pub fn delete(&self, path: &str) {
        let (code, _) = self.call(op::DELETE, &[text(path), int(-1)].concat());
        assert!(code == 0 || code == NO_NODE, "delete {path}: {code}");
    }

    /// Whether there is such a node.
    pub fn has(&self, path: &str) -> bool {
        self.call(op::EXISTS, &[text(path), vec![0]].concat()).0 == 0
    }

    /// Names below a node.
    pub fn children(&self, path: &str) -> Vec<String> {
        let (code, answer) = self.call(op::CHILDREN, &[text(path), vec![0]].concat());
        if code == NO_NODE {
            return Vec::new();
        }
        let (mut rest, mut names) = (&answer[4..], Vec::new());
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let (name, after) = after.split_at(u32::from_be_bytes(*length) as usize);
            names.push(String::from_utf8(name.to_vec()).expect("a name is text"));
            rest = after;
        }
        names
    }

    /// Nodes that have none below them, under a node.
    pub fn leaves(&self, path: &str) -> Vec<String> {
        let below = self.children(path);
        let leaves = |name: &String| {
            let path = format!("{path}/{name}");
            let leaves = self.leaves(&path);
            if leaves.is_empty() { vec![path] } else { leaves }
        };
        below.iter().flat_map(leaves).collect()
    }

    /// The session a node goes with.
    pub fn owner(&self, path: &str) -> i64 {
        let (code, stat) = self.call(op::EXISTS, &[text(path), vec![0]].concat());
        assert_eq!(code, 0, "{path}");
        i64::from_be_bytes(stat[44..52].try_into().expect("eight bytes"))
    }

    /// Ends a session, whosever it is: goes on with it, and closes it.
    fn expire(&self, session: i64) {
        let mut connection = Connection(TcpStream::connect(self.address).expect("connect to the server"));
        let hello = hello(session, &password(session));
        let close = [int(1), int(op::CLOSE)].concat();
        let both = [int(hello.len() as i32), hello, int(close.len() as i32), close].concat();
        connection.0.write_all(&both).expect("a server that listens");
        let told = connection.frame().expect("an answer");
        assert_ne!(told[4..8], [0; 4], "the session was not over before");
    }

    /// Calls it; gives its code and what follows.
    #[track_caller]
    fn call(&self, op: i32, body: &[u8]) -> (i32, Vec<u8>) {
        let mut slot = self.connection.borrow_mut();
        wait_for("an answer of ZooKeeper", || {
            if slot.is_none() {
                *slot = Connection::open(self.address, self.login.as_deref()).ok();
            }
            let answer = slot.as_mut()?.call(op, body);
            if answer.is_err() {
                *slot = None;
            }
            answer.ok()
        })
    }
}

struct Connection(TcpStream);

impl Connection {
    fn open(address: SocketAddr, login: Option<&str>) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.set_nodelay(true)?;
        let mut connection = Self(stream);
        connection.send(&hello(0, &[0; 16]))?;
        connection.frame()?;
        if let Some(login) = login {
            connection.send(&[int(-4), int(op::AUTH), int(0), text("digest"), text(login)].concat())?;
            connection.frame()?;
        }
        Ok(connection)
    }

    fn send(&mut self, body: &[u8]) -> Result<()> {
        self.0.write_all(&[int(body.len() as i32), body.to_vec()].concat())
    }

    fn frame(&mut self) -> Result<Vec<u8>> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length)?;
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut body)?;
        Ok(body)
    }

    fn call(&mut self, op: i32, body: &[u8]) -> Result<(i32, Vec<u8>)> {
        self.send(&[&int(1)[..], &int(op), body].concat())?;
        let answer = self.frame()?;
        let (head, body) = answer.split_first_chunk::<16>().ok_or(Error::from(ErrorKind::InvalidData))?;
        Ok((i32::from_be_bytes(head[12..].try_into().expect("four bytes")), body.to_vec()))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.call(op::CLOSE, b"").map(drop).unwrap_or_default();
    }
}

/// Begins a session, or goes on with one.
fn hello(session: i64, password: &[u8]) -> Vec<u8> {
    let session = session.to_be_bytes().to_vec();
    [int(0), vec![0; 8], int(10_000), session, int(password.len() as i32), password.to_vec(), vec![0]].concat()
}

fn int(number: i32) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

fn text(text: &str) -> Vec<u8> {
    [&int(text.len() as i32)[..], text.as_bytes()].concat()
}

/// Whether it is ready: it says so of itself before it has its data, but tells its mode after.
fn mode(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(b"srvr").ok()?;
    let mut told = String::new();
    stream.read_to_string(&mut told).ok()?;
    told.contains("Mode:").then_some(told)
}

impl BoardServer for Zookeeper {
    fn post(&self, instance: &str, text: &str) {
        self.put(&format!("/ringway/fleet/{instance}"), text);
    }
}

impl Server for Zookeeper {
    const REFUSAL: &'static str = "NoAuth";
    const TAKES_SEVERAL: bool = true;

    fn start() -> Option<Self> {
        if !Self::is_installed() {
            return None;
        }
        // Ticks of a fifth of a second: sessions may be as short as two of them.
        let mut zookeeper = Self::prepare("tickTime=200\n", "ZooKeeperServerMain");
        zookeeper.restart();
        Some(zookeeper)
    }

    fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn await_ready(&mut self) {
        *self.connection.borrow_mut() = None;
        await_server(&mut self.process, || mode(self.address));
    }

    fn lose_data(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.folder.path().join("data")).expect("its own folder");
    }

    fn lines(&self, servers: &[SocketAddr]) -> String {
        let servers: Vec<String> = servers.iter().map(|server| format!("\"{server}\"")).collect();
        format!("engine = \"zookeeper\"\nservers = [{}]\nsession_timeout = \"1s\"", servers.join(", "))
    }

    fn login(&self, file: &Path) -> String {
        format!("auth = {{ scheme = \"digest\", credentials_file = \"{}\" }}", file.display())
    }

    fn word(word: &str) -> String {
        format!("ringway:{word}\n")
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn put(&self, id: &str, address: &str, weight: u32) {
        let value = serde_json::json!({ "addr": address, "weight": weight, "zone": "z" }).to_string();
        self.put(&node(id), if weight == 1 { address } else { &value });
    }

    fn put_many(&self, members: &[(String, String)]) {
        let Some((id, address)) = members.first() else { return };
        self.put(&node(id), address);
        for (id, address) in members {
            self.create(&node(id), address);
        }
    }

    fn put_garbage(&self, kind: usize) {
        self.put(&node("z"), ["no address", "{\"addr\":", "169.254.169.254:80"][kind]);
    }

    fn delete(&self, id: &str) {
        self.delete(&node(id));
    }

    fn has(&self, id: &str) -> bool {
        self.has(&node(id))
    }

    fn demand(&mut self, word: &str, (id, address): (&str, &str)) {
        // What is above is everybody's.
        self.put("/ringway/rings", "");
        *self.connection.borrow_mut() = None;
        self.login = Some(format!("ringway:{word}"));
        Server::put(self, id, address, 1);
    }
}

impl LockServer for Zookeeper {
    const IS_FAIR: bool = true;
    const WAYS: usize = 2;
    const WAITS_FOR_THE_FORGOTTEN: bool = false;
    const LATE: Duration = Duration::from_secs(1);

    fn lock_lines(&self, address: SocketAddr, seconds: u64) -> String {
        format!("engine = \"zookeeper\"\nservers = [\"{address}\"]\nsession_timeout = \"{seconds}s\"")
    }

    fn locks(&self) -> Vec<String> {
        self.leaves("/ringway/locks").into_iter().filter(|path| path.contains("-lock-")).collect()
    }

    /// Deletes its node, or ends the session it goes with.
    fn take(&self, lock: &str, way: usize) {
        match way {
            0 => self.delete(lock),
            _ => self.expire(self.owner(lock)),
        }
    }
}

/// The password of a session is a number of Java's own generator, from what is no secret.
fn password(session: i64) -> Vec<u8> {
    const SECRET: i64 = 0xB341_5C00;
    const MULTIPLIER: u64 = 0x5_DEEC_E66D;
    const MASK: u64 = (1 << 48) - 1;
    let mut seed = ((session ^ SECRET) as u64 ^ MULTIPLIER) & MASK;
    let mut next = || {
        seed = (seed.wrapping_mul(MULTIPLIER).wrapping_add(0xB)) & MASK;
        ((seed >> 16) as u32).to_le_bytes()
    };
    (0..4).flat_map(|_| next()).collect()
}

fn node(id: &str) -> String {
    format!("/ringway/rings/{RING}/{id}")
}
