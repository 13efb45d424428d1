//! Signal to intent; doing it is for others.
use std::io;
use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// SIGTERM, SIGQUIT: finish what runs, then end.
    Stop,
    /// SIGINT: end now.
    End,
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGUSR1: open the access log anew.
    ReopenLog,
    /// SIGUSR2: start the program again, which takes over.
    Upgrade,
}

/// All signals that mean something.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    quit: Signal,
    interrupt: Signal,
    hangup: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    /// Takes the signals over from their defaults.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next intent.
    pub async fn next(&mut self) -> Intent {
        tokio::select! {
            _ = self.terminate.recv() => Intent::Stop,
            _ = self.quit.recv() => Intent::Stop,
            _ = self.interrupt.recv() => Intent::End,
            _ = self.hangup.recv() => Intent::Reload,
            _ = self.user1.recv() => Intent::ReopenLog,
            _ = self.user2.recv() => Intent::Upgrade,
        }
    }
}
