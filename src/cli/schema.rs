//! `schema` and `completions`: what editors and shells read.
use super::Cli;
use super::OK;
use super::say;
use super::say::say;
use crate::config;
use clap::CommandFactory;
use clap_complete::Shell;

/// Prints the JSON Schema of the configuration.
pub fn schema() -> u8 {
    say!("{:#}", config::schema::schema());
    OK
}

/// Prints the completion script of a shell.
pub fn completions(shell: Shell) -> u8 {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ringway", &mut script);
    say::bytes(&script);
    OK
}
