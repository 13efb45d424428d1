//! The order and the time limits of an end.
use crate::lifecycle::settings::Settings;
use crate::lifecycle::signals::Intent;
use crate::lifecycle::signals::Signals;
use std::future::Future;
use std::time::Duration;

/// How often what still runs is counted.
const POLL: Duration = Duration::from_millis(20);

/// How an end went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Everything was finished.
    Clean,
    /// Time was up with so many connections open.
    TimedOut(u64),
    /// A second signal.
    Forced,
}

/// Waits out the delay, closes the doors by `stop_accepting`, then waits until `open` counts nothing. A second signal ends it.
pub async fn run<F: Future<Output = ()>>(
    settings: &Settings,
    signals: &mut Signals,
    stop_accepting: impl FnOnce() -> F,
    open: impl Fn() -> u64,
) -> Ended {
    let orderly = async {
        tokio::time::sleep(settings.shutdown_delay).await;
        stop_accepting().await;
        let drained = async {
            while open() > 0 {
                tokio::time::sleep(POLL).await;
            }
        };
        match tokio::time::timeout(settings.shutdown_timeout, drained).await {
            Ok(()) => Ended::Clean,
            Err(_) => Ended::TimedOut(open()),
        }
    };
    let again = async { while !matches!(signals.next().await, Intent::Stop | Intent::End) {} };
    tokio::select! {
        ended = orderly => ended,
        () = again => Ended::Forced,
    }
}
