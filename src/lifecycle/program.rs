//! Where this program lies: what is started when it is replaced.
use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

/// The path by which this program was started, absolute, links not followed: behind it may lie another program later. To be asked
/// at the start, before that.
///
/// # Errors
/// When the system does not say.
pub fn path() -> io::Result<PathBuf> {
    let running = env::current_exe()?;
    let said = env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let folders = env::var_os("PATH").unwrap_or_default();
    let found = match said.components().count() {
        1 if !said.has_root() => env::split_paths(&folders).map(|folder| folder.join(&said)).find(|path| path.exists()),
        _ => Some(env::current_dir()?.join(&said)),
    };
    // What argv says is anybody's word: it counts if this program lies there.
    Ok(found.filter(|path| is_same(path, &running)).unwrap_or(running))
}

fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino()));
    matches!((identity(one), identity(other)), (Ok(one), Ok(other)) if one == other)
}
