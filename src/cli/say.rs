//! What commands print. A reader that has seen enough (`ringway ring ... | head`) is no error.
use super::FAILED;
use std::fmt;
use std::io;
use std::io::Write;
use std::process::exit;

/// The exit code of whom nobody listens to any more: what a shell tells of programs that SIGPIPE ends.
const UNHEARD: i32 = 141;

/// A line to standard output.
macro_rules! say {
    ($($part:tt)*) => { $crate::cli::say::line(std::io::stdout().lock(), format_args!($($part)*)) };
}

/// A line to standard error.
macro_rules! complain {
    ($($part:tt)*) => { $crate::cli::say::line(std::io::stderr().lock(), format_args!($($part)*)) };
}

pub(super) use complain;
pub(super) use say;

/// Writes a line, or ends the program: without a word when nobody reads any more.
pub fn line(mut to: impl Write, text: fmt::Arguments<'_>) {
    // In one piece: lines of several programs at one terminal do not mix.
    end_unless(to.write_all(format!("{text}\n").as_bytes()));
}

/// Writes bytes, or ends the program as [`line`] does.
pub fn bytes(bytes: &[u8]) {
    let mut stdout = io::stdout().lock();
    end_unless(stdout.write_all(bytes).and_then(|()| stdout.flush()));
}

fn end_unless(written: io::Result<()>) {
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => exit(UNHEARD),
        Err(error) => {
            // There may be nobody to tell.
            writeln!(io::stderr(), "ringway: write: {error}").unwrap_or_default();
            exit(FAILED.into())
        }
    }
}
