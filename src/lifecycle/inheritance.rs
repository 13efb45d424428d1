//! What a program gets from the one before it, or from its service manager: listening sockets, and the word that they are its own.
use crate::lifecycle::handoff;
use crate::lifecycle::handoff::Doorway;
use crate::lifecycle::handoff::Role;
use crate::lifecycle::upgrade;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longest time for the running program to answer: it has nothing else to do for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sockets that are there already, and from whom.
#[derive(Debug, Default)]
pub struct Inheritance {
    doorways: Vec<Doorway>,
    giver: Option<Giver>,
}

/// The program that runs, until it has heard that this one is ready.
#[derive(Debug)]
struct Giver {
    stream: UnixStream,
    is_ready: bool,
}

impl Inheritance {
    /// From whoever started this program: the one before it, or a service manager; else nothing.
    ///
    /// # Errors
    /// When what was said of it makes no sense.
    pub fn from_parent() -> io::Result<Self> {
        let parent = std::os::unix::process::parent_id().to_string();
        if std::env::var(upgrade::FROM).is_ok_and(|from| from == parent) {
            let stream = UnixStream::from(rustix::stdio::stdin().as_fd().try_clone_to_owned()?);
            rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
            return Self::from_program(stream);
        }
        Ok(Self { doorways: handoff::activated()?, giver: None })
    }

    /// From the program that listens at the path of `server.upgrade_socket`.
    ///
    /// # Errors
    /// When nobody listens there, or hands nothing over.
    pub fn from_socket(path: &Path) -> io::Result<Self> {
        Self::from_program(UnixStream::connect(path)?)
    }

    fn from_program(stream: UnixStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let goods = handoff::receive(&stream)?;
        Ok(Self { doorways: goods.doorways, giver: Some(Giver { stream, is_ready: goods.is_ready }) })
    }

    /// The sockets for an address, if they are there: by address and name, by address, and by name alone what a service manager
    /// named.
    pub fn take(&mut self, role: Role, name: &str, address: &str) -> Option<Vec<OwnedFd>> {
        let place = |fits: &dyn Fn(&Doorway) -> bool| {
            self.doorways.iter().position(|doorway| [role, Role::Any].contains(&doorway.role) && fits(doorway))
        };
        let found = place(&|doorway| doorway.address == address && doorway.name == name)
            .or_else(|| place(&|doorway| doorway.address == address))
            .or_else(|| place(&|doorway| doorway.role == Role::Any && doorway.name == name))?;
        Some(self.doorways.swap_remove(found).sockets)
    }

    /// Names of what nobody took; it is closed.
    pub fn close_rest(&mut self) -> Vec<String> {
        self.doorways.drain(..).map(|doorway| format!("{} {}", doorway.name, doorway.address)).collect()
    }

    /// Whether this program should be ready for requests before it says so: the one that runs is.
    pub fn should_be_ready(&self) -> bool {
        self.giver.as_ref().is_some_and(|giver| giver.is_ready)
    }

    /// Tells the running program that this one can take over, and waits for its word. At once when there is none.
    ///
    /// # Errors
    /// When it has gone or given up: then this program is not wanted.
    pub async fn claim(&mut self) -> io::Result<()> {
        let Some(giver) = self.giver.take() else { return Ok(()) };
        tokio::task::spawn_blocking(move || {
            (&giver.stream).write_all(upgrade::READY)?;
            let mut said = [0; upgrade::YOURS.len()];
            (&giver.stream).read_exact(&mut said)?;
            if said == upgrade::YOURS { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
        })
        .await
        .map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(role: Role, name: &str, address: &str) -> Doorway {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap().into();
        Doorway { role, name: name.into(), address: address.into(), sockets: vec![socket] }
    }

    #[test]
    fn an_address_gets_its_own_socket() {
        let doorways = vec![
            some(Role::Admin, "", "127.0.0.1:0"),
            some(Role::Listener, "a", "127.0.0.1:0"),
            some(Role::Listener, "b", "127.0.0.1:0"),
            some(Role::Listener, "c", "10.0.0.1:80"),
            some(Role::Any, "web", "[::]:443"),
        ];
        let mut inheritance = Inheritance { doorways, giver: None };
        assert!(inheritance.take(Role::Listener, "b", "127.0.0.1:0").is_some());
        // A new name for an old address is the same place; an old name for a new address is not, unless a manager gave it.
        assert!(inheritance.take(Role::Listener, "new", "10.0.0.1:80").is_some());
        assert!(inheritance.take(Role::Listener, "a", "10.0.0.9:80").is_none());
        assert!(inheritance.take(Role::Listener, "web", "0.0.0.0:443").is_some());
        assert!(inheritance.take(Role::Listener, "web", "0.0.0.0:443").is_none());
        assert!(inheritance.take(Role::Admin, "admin", "127.0.0.1:0").is_some());
        assert_eq!(inheritance.close_rest(), ["a 127.0.0.1:0"]);
    }
}
