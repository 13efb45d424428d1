//! Where something listens: numbers and a port, a socket file of this machine, or the name of a host that stands for addresses.
use std::ffi::OsStr;
use std::fmt;
use std::io::Write;
use std::net::IpAddr;
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
/// The longest name of a host, in characters.
const MAX_NAME: usize = 253;

/// Where a stream is accepted, or connected to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// TCP.
    Ip(SocketAddr),
    /// A unix socket, by its absolute path.
    Unix(Arc<Path>),
}

/// The name of a host, to be looked up, and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// The name, as a resolver takes it.
    pub host: Arc<str>,
    /// The port, never 0.
    pub port: u16,
}

/// Where an endpoint is, as written.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Location {
    /// At this address.
    At(Address),
    /// Wherever this name leads at the moment.
    Named(HostPort),
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
    /// Neither an address nor a name and a port.
    #[error("write \"10.0.0.1:8080\", \"[::1]:8080\", \"app.example.com:8080\" or \"unix:/run/app.sock\"")]
    Location,
    /// Nobody listens at port 0.
    #[error("port 0 is nowhere")]
    Port0,
}

impl Address {
    /// The same host at another port; a unix socket has none.
    pub fn with_port(&self, port: u16) -> Self {
        match self {
            Self::Ip(address) => Self::Ip(SocketAddr::new(address.ip(), port)),
            Self::Unix(_) => self.clone(),
        }
    }

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

impl HostPort {
    /// Whether a text can be the name of a host. Names that end in a number are mistaken or shortened addresses.
    pub fn is_host(text: &str) -> bool {
        let text = text.strip_suffix('.').unwrap_or(text);
        let is_label = |label: &str| {
            (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        };
        let last = text.rsplit('.').next().unwrap_or_default();
        let is_number = last.starts_with("0x") || last.bytes().all(|b| b.is_ascii_digit());
        text.len() <= MAX_NAME && text.split('.').all(is_label) && !is_number
    }
}

impl FromStr for Location {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match text.parse() {
            Ok(Address::Ip(address)) if address.port() == 0 => return Err(AddressError::Port0),
            Ok(address) => return Ok(Self::At(address)),
            Err(AddressError::Form) => {}
            Err(error) => return Err(error),
        }
        let (host, port) = text.rsplit_once(':').ok_or(AddressError::Location)?;
        match port.parse() {
            Ok(0) if HostPort::is_host(host) => Err(AddressError::Port0),
            Ok(port) if HostPort::is_host(host) => Ok(Self::Named(HostPort { host: host.into(), port })),
            _ => Err(AddressError::Location),
        }
    }
}

impl Location {
    /// What a request made by ourselves calls this host: `port` replaces the one written, a unix socket is `localhost`.
    pub fn authority(&self, port: Option<u16>) -> String {
        match self {
            Self::At(Address::Unix(_)) => "localhost".into(),
            Self::At(address) => port.map_or_else(|| address.clone(), |port| address.with_port(port)).to_string(),
            Self::Named(name) => format!("{}:{}", name.host, port.unwrap_or(name.port)),
        }
    }
}

impl From<SocketAddr> for Location {
    fn from(address: SocketAddr) -> Self {
        Self::At(address.into())
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(address) => address.fmt(f),
            Self::Named(name) => name.fmt(f),
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

/// Appends an address as text. Most are of IPv4, which needs no formatter.
pub fn write_ip(address: IpAddr, text: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => {
            for (at, part) in address.octets().into_iter().enumerate() {
                if at > 0 {
                    text.push(b'.');
                }
                text.extend_from_slice(itoa::Buffer::new().format(part).as_bytes());
            }
        }
        IpAddr::V6(address) => write!(text, "{address}").expect("a vector takes all that is written"),
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
    fn a_location_is_an_address_or_a_name_and_a_port() {
        for text in ["10.0.0.1:8080", "[::1]:80", "unix:/run/app.sock"] {
            assert_eq!(text.parse(), Ok(Location::At(text.parse().unwrap())));
        }
        for text in ["localhost:80", "app_1.example-x.com:65535", "a.b.:1"] {
            let Ok(Location::Named(name)) = text.parse() else { panic!("{text}") };
            assert_eq!(name.to_string(), text);
        }
        let check = |text: &str, expected: AddressError| assert_eq!(text.parse::<Location>(), Err(expected), "{text}");
        let long = format!("{}.a:80", "x".repeat(64));
        for text in
            ["localhost", "a:b:80", "-:x", "a..b:80", "10.0.0:80", "256.1.1.1:80", "a.0x7f:80", ":80", "a b:80", &long]
        {
            check(text, AddressError::Location);
        }
        check("localhost:0", AddressError::Port0);
        check("10.0.0.1:0", AddressError::Port0);
        check("unix:a", AddressError::Relative);
    }

    #[test]
    fn only_port_0_is_shared_by_two() {
        let collide = |text: &str| text.parse::<Address>().unwrap().collides_with(&text.parse().unwrap());
        assert!(collide("127.0.0.1:80") && collide("unix:/a") && !collide("127.0.0.1:0"));
    }
}
