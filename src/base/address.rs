//! Where something listens: numbers and a port, or a socket file of this machine. Names of hosts are not addresses yet.
use std::ffi::OsStr;
use std::fmt;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use thiserror::Error;

/// Before the path of a unix socket.
const UNIX: &str = "unix:";
/// The longest path of a unix socket in bytes: the system keeps 108, one of them for the end.
const MAX_PATH: usize = 107;

/// Where a stream is accepted, or connected to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// TCP.
    Ip(SocketAddr),
    /// A unix socket, by its absolute path.
    Unix(Arc<Path>),
}

/// Why a text is no address.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum AddressError {
    /// The path of a unix socket is relative: it would depend on where the program was started.
    #[error("the path of a unix socket begins with a slash: \"unix:/run/app.sock\"")]
    Relative,
    /// The path of a unix socket is longer than the system takes, or holds a NUL.
    #[error("the path of a unix socket has 1 to {MAX_PATH} bytes and no NUL")]
    Path,
    /// Neither numbers nor a path.
    #[error("an address is \"10.0.0.1:8080\", \"[::1]:8080\" or \"unix:/run/app.sock\"")]
    Form,
}

impl Address {
    /// Whether two who listen here would be in each other's way; port 0 is a new port for each.
    pub fn collides_with(&self, other: &Self) -> bool {
        self == other && !matches!(self, Self::Ip(address) if address.port() == 0)
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let Some(path) = text.strip_prefix(UNIX) else {
            return text.parse().map(Self::Ip).map_err(|_| AddressError::Form);
        };
        match path.as_bytes() {
            [b'/', rest @ ..] if !rest.is_empty() && path.len() <= MAX_PATH && !rest.contains(&0) => {
                Ok(Self::Unix(Path::new(OsStr::from_bytes(path.as_bytes())).into()))
            }
            [b'/', ..] => Err(AddressError::Path),
            _ => Err(AddressError::Relative),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_as_it_is_written() {
        for text in ["10.0.0.1:8080", "[::1]:80", "unix:/run/app.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_cannot_be_an_address_is_refused() {
        let check = |text: &str, expected: AddressError| assert_eq!(text.parse::<Address>(), Err(expected), "{text}");
        check("localhost:80", AddressError::Form);
        check("10.0.0.1", AddressError::Form);
        check("unix:run/app.sock", AddressError::Relative);
        check("unix:", AddressError::Relative);
        check("unix:/", AddressError::Path);
        check("unix:/a\0b", AddressError::Path);
        check(&format!("unix:/{}", "x".repeat(107)), AddressError::Path);
        assert!(format!("unix:/{}", "x".repeat(106)).parse::<Address>().is_ok());
    }

    #[test]
    fn only_port_0_is_shared_by_two() {
        let collide = |text: &str| text.parse::<Address>().unwrap().collides_with(&text.parse().unwrap());
        assert!(collide("127.0.0.1:80") && collide("unix:/a") && !collide("127.0.0.1:0"));
    }
}
