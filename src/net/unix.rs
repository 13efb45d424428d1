//! Listening at a path: what a dead program left there goes, what a living one holds stays, and our own file goes with us.
use crate::net::socket::BACKLOG;
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The file of a socket that we listen at. Dropping it removes the file, unless another one has taken its place.
#[derive(Debug)]
pub struct SocketFile {
    path: Arc<Path>,
    /// Device and inode, which stay ours as long as the socket is open.
    made: (u64, u64),
    /// Whether it goes with us; another program may have the socket, too.
    is_ours: AtomicBool,
}

impl SocketFile {
    /// Its path.
    pub fn path(&self) -> &Arc<Path> {
        &self.path
    }

    /// Says whether the file goes with us from now on.
    pub fn set_ours(&self, is_ours: bool) {
        self.is_ours.store(is_ours, Ordering::Release);
    }

    /// Removes the file, if it goes with us. Repeating it changes nothing.
    pub fn remove(&self) {
        let is_same = || fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.made);
        let is_ours = self.is_ours.load(Ordering::Acquire) && is_same();
        // Several workers may do so at once: the first one did it.
        let is_fault = |error: &io::Error| error.kind() != io::ErrorKind::NotFound;
        if is_ours && let Some(error) = fs::remove_file(&self.path).err().filter(is_fault) {
            tracing::warn!(path = %self.path.display(), %error, "A unix socket's file could not be removed.");
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Listens at `path`; the file gets `mode` before anybody can connect.
///
/// # Errors
/// When a program listens there, when something that is no socket lies there, or when the system refuses.
pub(super) fn bind(path: &Arc<Path>, mode: u32) -> io::Result<(Arc<SocketFile>, UnixListener)> {
    // Two programs that start at once must not each take the other's new file for a dead one.
    let folder = File::open(path.parent().unwrap_or(Path::new("/")))?;
    if folder.try_lock().is_err() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another program is about to listen in this folder"));
    }
    remove_dead(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let made = fs::symlink_metadata(path)?;
    let made = (made.dev(), made.ino());
    let file = Arc::new(SocketFile { path: path.clone(), made, is_ours: AtomicBool::new(true) });
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    Ok((file, socket.into()))
}

/// The file of a socket that another program made. It is not ours yet.
///
/// # Errors
/// When no socket's file is there: nobody could connect.
pub(super) fn adopt(path: &Arc<Path>) -> io::Result<Arc<SocketFile>> {
    let found = fs::symlink_metadata(path)?;
    if !found.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the socket's file is gone"));
    }
    let made = (found.dev(), found.ino());
    Ok(Arc::new(SocketFile { path: path.clone(), made, is_ours: AtomicBool::new(false) }))
}

/// Removes a socket's file that nobody listens at.
fn remove_dead(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(file) if file.file_type().is_socket() => {}
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file is there that is no socket")),
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // A full queue belongs to somebody as well.
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn folder() -> (tempfile::TempDir, Arc<Path>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s").into();
        (folder, path)
    }

    #[test]
    fn the_file_has_its_mode_and_goes_with_us() {
        let (_folder, path) = folder();
        let (file, _listener) = bind(&path, 0o620).unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o777, 0o620);
        UnixStream::connect(&path).unwrap();
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn a_dead_socket_is_replaced_and_a_living_one_is_not() {
        let (_folder, path) = folder();
        // A listener of the standard library leaves its file behind, as a program does that was killed.
        let living = UnixListener::bind(&path).unwrap();
        assert_eq!(bind(&path, 0o600).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(living);
        assert!(path.exists());
        let (_file, _listener) = bind(&path, 0o600).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_file_of_another_program_stays_until_it_is_ours() {
        let (_folder, path) = folder();
        let (theirs, _listener) = bind(&path, 0o600).unwrap();
        let ours = adopt(&path).unwrap();
        ours.remove();
        assert!(path.exists());
        theirs.set_ours(false);
        drop(theirs);
        assert!(path.exists());
        ours.set_ours(true);
        drop(ours);
        assert!(!path.exists() && adopt(&path).is_err());
    }

    #[test]
    fn what_is_no_socket_stays() {
        let (_folder, path) = folder();
        fs::write(&path, "precious").unwrap();
        assert_eq!(bind(&path, 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_file_that_took_our_place_stays() {
        let (_folder, path) = folder();
        let (file, _listener) = bind(&path, 0o600).unwrap();
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(file);
        assert!(path.exists());
    }
}
