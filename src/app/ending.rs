//! The end of the program: as a signal asks, or because another one has taken over.
use super::upgrade::Upgrades;
use crate::config::Config;
use crate::lifecycle::shutdown;
use crate::lifecycle::shutdown::Ended;
use crate::lifecycle::signals::Signals;
use crate::listener;
use crate::listener::door::Leaving;
use crate::worker::Remote;

/// Nobody listens after this: whoever waits in a queue is served, what runs is finished. `open` counts connections.
pub(super) async fn told(
    config: &Config,
    upgrades: Upgrades,
    remote: &Remote,
    signals: &mut Signals,
    open: impl Fn() -> u64,
) -> Ended {
    let stop = async || {
        // The last descriptors are the workers': they see to it that nobody is left in a queue.
        drop(upgrades);
        for listener in &config.listeners {
            listener::stop(remote, &listener.name).await;
        }
    };
    shutdown::run(&config.server, signals, stop, open).await
}

/// Somebody else listens: connections go when their clients know.
pub(super) async fn handed_over(
    config: &Config,
    remote: &Remote,
    signals: &mut Signals,
    open: impl Fn() -> u64,
) -> Ended {
    let leave = async |how| {
        for listener in &config.listeners {
            listener::leave(remote, &listener.name, how).await;
        }
    };
    leave(Leaving::WithNextResponse).await;
    shutdown::after_hand_over(&config.server, signals, || leave(Leaving::Now), open).await
}
