//! Files that are whole or not there.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Writes a file so that a reader sees the old content or all of the new, whatever happens in between.
///
/// The bytes go into a temporary file beside it, which is synchronised to the disk and renamed. Nothing is left behind on
/// an error, nor when `write` panics; what a process leaves that is killed while it writes, [`remove_abandoned`] removes.
/// A link to a file stays, and the file that it leads to is replaced.
///
/// # Errors
/// The folder cannot be written to, the path is a device, a pipe or a socket, or `write` fails.
///
/// ```
/// let path = std::env::temp_dir().join(format!("write_atomically_{}", std::process::id()));
/// retinanet_annotations::write_atomically(&path, |file| writeln!(file, "whole"))?;
/// assert_eq!(std::fs::read_to_string(&path)?, "whole\n");
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    refuse_special(path)?;
    let target = followed(path);
    let path = target.as_path();
    let (temporary, file) = create_beside(path)?;
    let mut guard = RemoveOnDrop { path: temporary, is_renamed: false };
    let mut buffered = BufWriter::with_capacity(1 << 16, file);
    write(&mut buffered)?;
    let file = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&guard.path, path)?;
    guard.is_renamed = true;
    settle_name(path);
    Ok(())
}

/// Where a link leads to: a rename would put a file in its own place, `/dev/stdout` among them.
fn followed(path: &Path) -> PathBuf {
    // What is not there yet, or leads nowhere, is written where it is named.
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// A rename would put a file in the place of a device such as `/dev/full`, for every program of the machine.
fn refuse_special(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() && !found.is_dir() => {
            let message = "expected a file or a name that is free, found a device, a pipe or a socket";
            Err(io::Error::new(io::ErrorKind::InvalidInput, message))
        }
        // What else is wrong with the path, writing to it says.
        _ => Ok(()),
    }
}

/// Brings the new name to the disk, so that files written one after the other survive a power cut in that order.
fn settle_name(path: &Path) {
    #[cfg(unix)]
    // Where the file system cannot do this, the old content may come back, which is whole too.
    if let Ok(folder) = File::open(folder_of(path)) {
        let _ = folder.sync_all();
    }
    #[cfg(not(unix))]
    let _ = path;
}

/// The folder that a file lies in.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Two writers of one process, or of two, never share a temporary file: the name has both numbers, and it must be new.
fn create_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let prefix = temporary_prefix(path)?;
    loop {
        let mut temporary_name = prefix.clone();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        temporary_name.push(format!("{}-{number}{SUFFIX}", std::process::id()));
        let temporary = path.with_file_name(temporary_name);
        match OpenOptions::new().write(true).create_new(true).open(&temporary) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(file) => {
                // The lock says that the file is being written, and goes with the process however it ends. Where the file
                // system has none, nothing is ever taken for abandoned.
                let _ = file.lock();
                // Between the two lines above it may have been taken for abandoned.
                if temporary.exists() {
                    return Ok((temporary, file));
                }
            }
        }
    }
}

/// Removes temporary files of [`write_atomically`] for this path whose writers were killed, and says how many there were.
///
/// A file that is being written is locked by its writer and stays. What cannot be looked at stays too.
///
/// ```
/// let folder = std::env::temp_dir().join(format!("remove_abandoned_{}", std::process::id()));
/// std::fs::create_dir(&folder)?;
/// std::fs::write(folder.join(".model.99-0.tmp"), "half of a")?;
/// assert_eq!(retinanet_annotations::remove_abandoned(&folder.join("model")), 1);
/// # std::fs::remove_dir(&folder)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn remove_abandoned(path: &Path) -> usize {
    let target = followed(path);
    let Ok(prefix) = temporary_prefix(&target) else { return 0 };
    let Ok(entries) = fs::read_dir(folder_of(&target)) else { return 0 };
    let is_temporary = |name: &OsStr| {
        let rest = name.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes());
        let numbers = rest.and_then(|rest| rest.strip_suffix(SUFFIX.as_bytes()));
        numbers.is_some_and(|numbers| {
            numbers.contains(&b'-') && numbers.iter().all(|byte| byte.is_ascii_digit() || *byte == b'-')
        })
    };
    let candidates = entries.filter_map(Result::ok).filter(|entry| is_temporary(&entry.file_name()));
    candidates.filter(|entry| remove_if_unlocked(&entry.path()).is_ok()).count()
}

fn remove_if_unlocked(temporary: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(temporary)?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let file = OpenOptions::new().write(true).open(temporary)?;
    file.try_lock()?;
    fs::remove_file(temporary)
}

/// How the temporary files of a path begin and end; between are the process and a number.
fn temporary_prefix(path: &Path) -> io::Result<OsString> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    Ok(prefix)
}

const SUFFIX: &str = ".tmp";

struct RemoveOnDrop {
    path: PathBuf,
    is_renamed: bool,
}

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        if !self.is_renamed {
            // An error is on its way to the caller already; a second one could not be told.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn what_is_no_file_is_not_replaced() -> io::Result<()> {
        use std::os::unix::fs::FileTypeExt as _;

        let folder = tempfile::tempdir()?;
        let path = folder.path().join("socket");
        let _socket = std::os::unix::net::UnixListener::bind(&path)?;
        let result = write_atomically(&path, |file| file.write_all(b"whole"));
        assert_eq!(result.map_err(|error| error.kind()), Err(io::ErrorKind::InvalidInput));
        assert!(fs::symlink_metadata(&path)?.file_type().is_socket());
        assert_eq!(fs::read_dir(folder.path())?.count(), 1);
        Ok(())
    }

    #[test]
    #[cfg(unix)]
    fn a_link_stays_and_its_file_is_replaced() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "old")?;
        std::os::unix::fs::symlink(&file, &link)?;
        write_atomically(&link, |file| file.write_all(b"new"))?;
        assert!(fs::symlink_metadata(&link)?.is_symlink());
        assert_eq!(fs::read(&file)?, b"new");
        assert_eq!(fs::read_dir(folder.path())?.count(), 2);
        Ok(())
    }

    #[test]
    fn only_what_nobody_writes_is_removed() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("last.safetensors");
        for name in [
            ".last.safetensors.7-0.tmp",
            ".last.safetensors.4000000-12.tmp",
            ".last.safetensors.tmp",
            ".last.safetensors.7.tmp",
            ".last.safetensors.old.7-0.tmp",
            ".best.safetensors.7-0.tmp",
            "last.safetensors.7-0.tmp",
        ] {
            fs::write(folder.path().join(name), "half of a file")?;
        }
        fs::create_dir(folder.path().join(".last.safetensors.8-0.tmp"))?;
        write_atomically(&path, |file| {
            file.write_all(b"whole")?;
            // This writer's own file stays.
            assert_eq!(remove_abandoned(&path), 2);
            Ok(())
        })?;
        assert_eq!(fs::read(&path)?, b"whole");
        assert_eq!(remove_abandoned(&path), 0);
        assert_eq!(fs::read_dir(folder.path())?.count(), 7);
        assert_eq!(remove_abandoned(Path::new("..")), 0);
        assert_eq!(remove_abandoned(&folder.path().join("nowhere/file")), 0);
        Ok(())
    }
}
