//! Reading a file that somebody names: of a size that makes sense, and never for ever.
use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// Most of a file of keys, certificates or authorities.
pub const MAX_PEM: u64 = 16 << 20;
/// Most of a file that holds one word.
pub const MAX_WORD: u64 = 4 << 10;

/// The contents of a file of at most `max` bytes.
///
/// # Errors
/// When it cannot be read, is larger (as `/dev/zero` is), or is a pipe, whose end nobody can promise.
pub fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.file_type().is_fifo() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a pipe, not a file"));
    }
    read_all(path, max)
}

/// As [`read`], for text.
///
/// # Errors
/// Also when it is not UTF-8.
pub fn read_text(path: &Path, max: u64) -> io::Result<String> {
    String::from_utf8(read(path, max)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// As [`read_text`], of a pipe as well: for what is read once, at the start, from whoever started the program.
///
/// # Errors
/// When it cannot be read, is larger, or is not UTF-8.
pub fn read_text_of_any(path: &Path, max: u64) -> io::Result<String> {
    String::from_utf8(read_all(path, max)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn read_all(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(max + 1).read_to_end(&mut content)?;
    if content.len() as u64 > max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {max} bytes")));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_end_is_not_read_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, "word").unwrap();
        assert_eq!(read_text(&path, 4).unwrap(), "word");
        assert_eq!(read(&path, 3).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read(Path::new("/dev/zero"), MAX_WORD).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert!(read(folder.path(), 9).is_err() && read(&folder.path().join("none"), 9).is_err());
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert_eq!(read(&pipe, 9).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
