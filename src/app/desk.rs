//! What the admin interface may ask of the program.
use super::Shared;
use super::plan;
use super::reload::Order;
use crate::admin::ports::Later;
use crate::admin::ports::Operator;
use crate::admin::ports::Process;
use crate::admin::ports::Which;
use crate::admin::settings::Settings;
use crate::analysis::plan::Plan;
use crate::control::ControlError;
use crate::control::Drain;
use crate::control::apply::Drained;
use crate::telemetry::panics;
use crate::telemetry::settings::Level;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Answers the admin interface.
pub(super) struct Desk(pub(super) Arc<Shared>);

impl Desk {
    /// Has the one that takes changes up do something, and waits for what came of it.
    fn order<T: Send + 'static>(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<T, String>>) -> Order,
    ) -> Later<Result<T, String>> {
        let (answer, answered) = oneshot::channel();
        let (order, orders) = (order(answer), self.0.orders.clone());
        Box::pin(async move {
            let gone = || "the program is about to end".to_string();
            orders.send(order).await.map_err(|_| gone())?;
            answered.await.map_err(|_| gone())?
        })
    }
}

impl Operator for Desk {
    fn reload(&self, is_forced: bool) -> Later<Result<String, String>> {
        self.order(|answer| Order::Reload { is_forced, answer })
    }

    fn approve(&self, which: Which) -> Later<Result<Vec<String>, String>> {
        self.order(|answer| Order::Approve { which, answer })
    }

    fn plan(&self, text: String) -> Later<Result<Plan, String>> {
        let snapshots = self.0.snapshots.clone();
        Box::pin(async move {
            // Thousands of endpoints take longer than others should wait for their turn.
            let planned = tokio::task::spawn_blocking(move || plan::of_sent(&text, &snapshots.load())).await;
            planned.map_err(|error| error.to_string())?
        })
    }

    fn drain(&self, drain: Drain) -> Later<Result<Drained, ControlError>> {
        let control = self.0.control.clone();
        Box::pin(async move { control.drain(drain).await })
    }

    fn settings(&self) -> Arc<Settings> {
        self.0.with(|state| state.admin.clone())
    }

    fn log_level(&self) -> Level {
        self.0.level.level()
    }

    fn set_log_level(&self, level: Level) {
        self.0.level.set(level);
        tracing::info!(level = level.as_str(), "The log level was changed, as an operator wants.");
    }

    fn config(&self) -> Vec<(String, String)> {
        self.0.with(|state| state.config.clone())
    }

    fn process(&self) -> Process {
        let (not_ready, reloads, renewals, certificates) =
            self.0.with(|state| (state.not_ready, state.reloads, state.renewals, state.certificates.clone()));
        let (held, fleet) = self.0.with(|state| (state.held.clone(), state.peers.clone()));
        Process {
            not_ready,
            uptime: self.0.started.elapsed(),
            workers: self.0.workers,
            reloads,
            renewals,
            certificates,
            held,
            fleet,
            panics: panics::count(),
            access_log: self.0.access_log.clone(),
        }
    }
}
