//! Tells the service manager: ready, reloading, stopping, replaced. Without one this does nothing.
use sd_notify::NotifyState;

/// Connections are accepted.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The configuration is being read again; [`ready`] follows.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "The service manager was not told of a reload."),
    }
}

/// The process is about to end.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Another process is the service from now on, and is ready.
pub fn handed_over(pid: u32) {
    tell(&[NotifyState::MainPid(pid), NotifyState::Ready]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "The service manager was not told.");
    }
}
