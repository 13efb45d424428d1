//! `run`: starts the proxy.
use super::OK;
use super::WRONG;
use super::say::complain;
use crate::app;
use crate::config;
use crate::lifecycle::inheritance::Inheritance;
use anyhow::Context;
use std::path::Path;

/// Runs the proxy until a signal ends it, or another program has taken over; with `takes_over` in place of the one that runs.
///
/// # Errors
/// When it cannot start.
pub fn run(path: &Path, takes_over: bool) -> anyhow::Result<u8> {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(problems) => {
            complain!("{problems}");
            return Ok(WRONG);
        }
    };
    let inheritance = if takes_over {
        let Some(socket) = &config.server.upgrade_socket else {
            complain!(
                "{}: --upgrade needs `upgrade_socket` in [server], in the running proxy's configuration, too",
                path.display()
            );
            return Ok(WRONG);
        };
        let inherited = Inheritance::from_socket(socket);
        inherited
            .with_context(|| format!("get the listening sockets at {}: is the proxy running?", socket.display()))?
    } else {
        Inheritance::from_parent().context("take the listening sockets that are handed over")?
    };
    super::runtime()?.block_on(app::run(config, Some(path.to_path_buf()), inheritance, |_| {}))?;
    Ok(OK)
}
