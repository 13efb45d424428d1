//! What the stories about stores need of each engine: a real server in a folder of its own. An engine is one file beside this.
use ringway::base::clock;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// Longest wait for a server to start.
const START: Duration = Duration::from_secs(60);

/// The upstream under which members are registered in the stories.
pub const RING: &str = "u";

/// What is no address, what cannot be read, and an address that members must not have.
pub const KINDS_OF_GARBAGE: usize = 3;

/// One server. Dropping it kills it.
pub trait Server: Sized {
    /// What it says when the word in its file is wrong.
    const REFUSAL: &'static str;

    /// Starts one; `None` when there is none on this machine.
    fn start() -> Option<Self>;
    /// Its process, killed and started again.
    fn process(&mut self) -> &mut Process;
    /// Waits until it serves.
    fn await_ready(&mut self);
    /// Kills it and forgets all it knew.
    fn lose_data(&mut self);
    /// The lines of its `[store.NAME]`, with the servers at these addresses, as far as the engine takes several.
    fn lines(&self, servers: &[SocketAddr]) -> String;
    /// Lines by which a proxy logs in with the word in this file.
    fn login(&self, file: &Path) -> String;
    /// What the file with this word says.
    fn word(word: &str) -> String {
        format!("{word}\n")
    }
    /// Where it listens.
    fn address(&self) -> SocketAddr;
    /// Whether the engine's settings take several servers.
    const TAKES_SEVERAL: bool;
    /// Whether it numbers its data by a revision that goes back with them alone.
    const NUMBERS_ITS_DATA: bool = false;
    /// Registers a member of [`RING`] by hand, or changes it.
    fn put(&self, id: &str, address: &str, weight: u32);
    /// Many at once.
    fn put_many(&self, members: &[(String, String)]);
    /// Puts what is no member there as `z`: one of the [`KINDS_OF_GARBAGE`].
    fn put_garbage(&self, kind: usize);
    /// Takes a member away by hand.
    fn delete(&self, id: &str);
    /// Whether there is such a member.
    fn has(&self, id: &str) -> bool;
    /// From now on nobody gets in without this word; it has this member then.
    fn demand(&mut self, word: &str, member: (&str, &str));

    /// Kills it as a crash would.
    fn kill(&mut self) {
        self.process().kill();
    }

    /// Starts it again at the same address, with the data it had.
    fn restart(&mut self) {
        self.process().start();
        self.await_ready();
    }
}

/// A store that a fleet meets at.
pub trait BoardServer: Server {
    /// Puts a notice up by hand.
    fn post(&self, instance: &str, text: &str);
}

/// A program in the foreground, and how it is started again.
pub struct Process {
    child: Option<Child>,
    command: Box<dyn Fn() -> Command>,
}

impl Process {
    /// A program that does not run yet.
    pub fn new(command: impl Fn() -> Command + 'static) -> Self {
        Self { child: None, command: Box::new(command) }
    }

    /// Starts it, or starts it anew.
    pub fn start(&mut self) {
        self.kill();
        let mut command = (self.command)();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("the server starts"));
    }

    /// Kills it as a crash would, also while it is stopped.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap_or_default();
            child.wait().map(drop).unwrap_or_default();
        }
    }

    /// Sends a signal by name: `"STOP"`, `"CONT"`.
    pub fn signal(&self, name: &str) {
        super::signal(self.child.as_ref().expect("it runs").id(), name);
    }

    /// Fails the test when it has ended.
    #[track_caller]
    pub fn check(&mut self) {
        let ended = self.child.as_mut().and_then(|child| child.try_wait().expect("our own child"));
        assert!(ended.is_none(), "the server ended: {ended:?}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until a server serves. On a machine that is busy some need longer than anything else here.
#[track_caller]
pub fn await_server<T>(process: &mut Process, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = clock::now() + START;
    loop {
        if let Some(it) = found() {
            return it;
        }
        process.check();
        assert!(clock::now() < deadline, "waited {START:?} for a server to start");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a program is on this machine, asked in a way that ends at once.
pub fn is_installed(program: &str, argument: &str) -> bool {
    let mut command = Command::new(program);
    command.arg(argument).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
