//! `run`: starts the proxy.
use super::OK;
use super::WRONG;
use crate::app;
use crate::config;
use std::path::Path;

/// Runs the proxy until a signal ends it.
///
/// # Errors
/// When it cannot start.
pub fn run(path: &Path) -> anyhow::Result<u8> {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}");
            return Ok(WRONG);
        }
    };
    super::runtime()?.block_on(app::run(config, Some(path.to_path_buf()), |_| {}))?;
    Ok(OK)
}
