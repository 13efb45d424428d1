//! Giving everything to the next program: starts it, or takes one that asks; hands the listening sockets over; hears that it is
//! ready. What the running program does then is for others.
use crate::base::clock;
use crate::lifecycle::handoff;
use crate::lifecycle::handoff::Goods;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::oneshot;

/// Set for a program that is started to take over, to the process id of the one that starts it. Its standard input is where the
/// sockets come from.
pub const FROM: &str = "RINGWAY_UPGRADE_FROM";
/// What the new program says when it can take over.
pub const READY: &[u8] = b"ready\n";
/// What the running one answers: from now on it is the new one's.
pub const YOURS: &[u8] = b"yours\n";

/// How often it is looked whether a program has ended.
const PAUSE: Duration = Duration::from_millis(10);
/// How long a program that gave up is waited for before it is killed.
const LAST_MOMENT: Duration = Duration::from_secs(2);

/// Why the new program has not taken over.
#[derive(Debug, Error)]
pub enum UpgradeError {
    /// It cannot be started.
    #[error("start {program}: {source}")]
    Start {
        /// Where it should be.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Descriptors cannot be had or sent.
    #[error("hand the listening sockets over: {0}")]
    Send(io::Error),
    /// It ended.
    #[error("see the new program get ready: it ended with {0}; what it said stands above")]
    Ended(ExitStatus),
    /// It closed the connection.
    #[error("see the new program get ready: it gave up")]
    GaveUp,
    /// It took too long.
    #[error("see the new program get ready within {0:?}")]
    Late(Duration),
}

/// A hand-over under way. Dropping it ends the new program, unless it was told that all is its own.
#[derive(Debug)]
pub struct Upgrade {
    /// The new program's process id.
    pub pid: u32,
    stream: UnixStream,
    outcome: oneshot::Receiver<Result<(), UpgradeError>>,
}

impl Upgrade {
    /// Starts the program at `program` on the configuration `config`, which has `within` to get ready.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(program: &Path, config: &Path, goods: Goods, within: Duration) -> Result<Self, UpgradeError> {
        let failed = |source| UpgradeError::Start { program: program.to_path_buf(), source };
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let mut command = Command::new(program);
        command.arg("run").arg("-c").arg(config).env(FROM, std::process::id().to_string());
        for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
            command.env_remove(name);
        }
        let child = command.stdin(Stdio::from(OwnedFd::from(theirs))).spawn().map_err(failed)?;
        // The command still holds the other end: with it, its closing would never be seen.
        drop(command);
        Self::watch(ours, child.id(), Some(child), goods, within)
    }

    /// Gives all to a program that asked for it over `stream`.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn give(stream: UnixStream, pid: u32, goods: Goods, within: Duration) -> Result<Self, UpgradeError> {
        Self::watch(stream, pid, None, goods, within)
    }

    fn watch(
        stream: UnixStream,
        pid: u32,
        child: Option<Child>,
        goods: Goods,
        within: Duration,
    ) -> Result<Self, UpgradeError> {
        let theirs = stream.try_clone().map_err(UpgradeError::Send)?;
        let (tell, outcome) = oneshot::channel();
        // A thread: it waits for a process, and happens once in a long while.
        let watching = move || {
            let outcome = match (hand_over(&theirs, goods, within), child) {
                (Err(error), Some(child)) => Err(end(child, error)),
                (outcome, _) => outcome,
            };
            // Nobody listens when this program ends meanwhile.
            tell.send(outcome).unwrap_or_default();
        };
        let thread = std::thread::Builder::new().name("upgrade".into()).spawn(watching);
        thread.map_err(UpgradeError::Send)?;
        Ok(Self { pid, stream, outcome })
    }

    /// Waits until the new program is ready.
    ///
    /// # Errors
    /// When it does not get so far; it has ended then.
    pub async fn outcome(&mut self) -> Result<(), UpgradeError> {
        (&mut self.outcome).await.unwrap_or(Err(UpgradeError::GaveUp))
    }

    /// Tells the new program that all is its own.
    ///
    /// # Errors
    /// When it is gone.
    pub fn confirm(&self) -> io::Result<()> {
        (&self.stream).write_all(YOURS)
    }
}

impl Drop for Upgrade {
    fn drop(&mut self) {
        // It fails when the other side has closed it, which is as good.
        self.stream.shutdown(Shutdown::Both).unwrap_or_default();
    }
}

fn hand_over(stream: &UnixStream, goods: Goods, within: Duration) -> Result<(), UpgradeError> {
    let end = clock::now() + within;
    stream.set_write_timeout(Some(within)).map_err(UpgradeError::Send)?;
    handoff::send(stream, &goods).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => UpgradeError::GaveUp,
        _ => UpgradeError::Send(error),
    })?;
    drop(goods);
    let (mut said, mut count) = ([0; READY.len()], 0);
    while count < said.len() {
        let left = end.saturating_duration_since(clock::now());
        if left.is_zero() {
            return Err(UpgradeError::Late(within));
        }
        stream.set_read_timeout(Some(left)).map_err(UpgradeError::Send)?;
        match (&*stream).read(&mut said[count..]) {
            Ok(0) => return Err(UpgradeError::GaveUp),
            Ok(more) => count += more,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(UpgradeError::GaveUp),
        }
    }
    if said == READY { Ok(()) } else { Err(UpgradeError::GaveUp) }
}

/// Sees to it that a program that has failed is gone, and says how it ended if it did so by itself.
fn end(mut child: Child, error: UpgradeError) -> UpgradeError {
    let end = clock::now() + LAST_MOMENT;
    while !matches!(error, UpgradeError::Late(_)) && clock::now() < end {
        if let Ok(Some(status)) = child.try_wait() {
            return UpgradeError::Ended(status);
        }
        std::thread::sleep(PAUSE);
    }
    if let Err(problem) = child.kill().and_then(|()| child.wait()) {
        tracing::warn!(error = %problem, pid = child.id(), "The new program could not be ended.");
    }
    error
}
