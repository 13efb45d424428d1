//! Descriptors: each connection is one, and what a shell or a service manager allows at first is soon used up.
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::getrlimit;
use rustix::process::setrlimit;

/// Room in the system's table of this program's descriptors from the beginning: 8 bytes each.
const ROOM: u64 = 64 << 10;

/// Makes room for connections to come. The system doubles the table when it is full, and where there are several threads each time
/// waits for all processors, 10 to 25 ms in which a worker serves nobody: best done before there are any.
pub fn make_room(limit: Option<u64>) {
    let last = limit.unwrap_or(ROOM).min(ROOM).saturating_sub(1);
    let last = i32::try_from(last).unwrap_or_default();
    // A descriptor so high, closed at once, is all it takes.
    if let Err(error) = fcntl_dupfd_cloexec(std::io::stderr(), last) {
        tracing::debug!(%error, "No room was made for descriptors to come.");
    }
}

/// Takes as many as the system lets this program have (the hard limit) and says how many that is; `None`: any number.
pub fn take_all() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "The limit of open files could not be raised.");
            limit.current
        }
    }
}
