//! The order and the time limits of an end.
use crate::lifecycle::settings::Settings;
use crate::lifecycle::signals::Intent;
use crate::lifecycle::signals::Signals;
use std::future::Future;
use std::time::Duration;

/// How often what still runs is counted.
const POLL: Duration = Duration::from_millis(20);
/// What connections have once those that wait for nothing were let go.
const LAST_MOMENT: Duration = Duration::from_secs(1);

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
        drained(&open, settings.shutdown_timeout).await
    };
    unless_told_again(signals, orderly).await
}

/// After a hand-over: waits until `open` counts nothing; when time is up, lets go by `close_idle` of those that wait for nothing,
/// and gives the others a last moment. A signal to stop ends it.
pub async fn after_hand_over<F: Future<Output = ()>>(
    settings: &Settings,
    signals: &mut Signals,
    close_idle: impl FnOnce() -> F,
    open: impl Fn() -> u64,
) -> Ended {
    let orderly = async {
        if drained(&open, settings.shutdown_timeout).await == Ended::Clean {
            return Ended::Clean;
        }
        close_idle().await;
        drained(&open, LAST_MOMENT).await
    };
    unless_told_again(signals, orderly).await
}

async fn drained(open: impl Fn() -> u64, within: Duration) -> Ended {
    let drained = async {
        while open() > 0 {
            tokio::time::sleep(POLL).await;
        }
    };
    match tokio::time::timeout(within, drained).await {
        Ok(()) => Ended::Clean,
        Err(_) => Ended::TimedOut(open()),
    }
}

async fn unless_told_again(signals: &mut Signals, orderly: impl Future<Output = Ended>) -> Ended {
    let again = async { while !matches!(signals.next().await, Intent::Stop | Intent::End) {} };
    tokio::select! {
        ended = orderly => ended,
        () = again => Ended::Forced,
    }
}
