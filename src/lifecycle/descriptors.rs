//! Descriptors: each connection is one, and what a shell or a service manager allows at first is soon used up.
use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::getrlimit;
use rustix::process::setrlimit;

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
