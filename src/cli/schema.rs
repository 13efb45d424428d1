//! `schema` and `completions`: what editors and shells read.
use super::Cli;
use super::OK;
use crate::config;
use clap::CommandFactory;
use clap_complete::Shell;
use std::io;
use std::io::Write;

/// Prints the JSON Schema of the configuration.
///
/// # Errors
/// When it cannot be written.
pub fn schema() -> anyhow::Result<u8> {
    write(format!("{:#}\n", config::schema::schema()).as_bytes())
}

/// Prints the completion script of a shell.
///
/// # Errors
/// When it cannot be written.
pub fn completions(shell: Shell) -> anyhow::Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ringway", &mut script);
    write(&script)
}

/// Writes to standard output. A reader that has seen enough is no failure.
fn write(bytes: &[u8]) -> anyhow::Result<u8> {
    match io::stdout().lock().write_all(bytes) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(OK),
    }
}
