//! Files that are whole or not there.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Writes a file so that a reader sees the old content or all of the new, whatever happens in between.
///
/// The bytes go into a temporary file beside it, which is synchronised to the disk and renamed. Nothing is left behind on
/// an error, nor when `write` panics.
///
/// # Errors
/// The folder cannot be written to, or `write` fails.
///
/// ```
/// let path = std::env::temp_dir().join(format!("write_atomically_{}", std::process::id()));
/// retinanet_annotations::write_atomically(&path, |file| writeln!(file, "whole"))?;
/// assert_eq!(std::fs::read_to_string(&path)?, "whole\n");
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let (temporary, file) = create_beside(path)?;
    let guard = RemoveOnDrop(temporary);
    let mut buffered = BufWriter::with_capacity(1 << 16, file);
    write(&mut buffered)?;
    let file = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&guard.0, path)?;
    // The temporary name is gone: nothing to remove.
    std::mem::forget(guard);
    Ok(())
}

/// Two writers of one process, or of two, never share a temporary file: the name has both numbers, and it must be new.
fn create_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
    loop {
        let mut temporary_name = OsString::from(".");
        temporary_name.push(name);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        temporary_name.push(format!(".{}-{number}.tmp", std::process::id()));
        let temporary = path.with_file_name(temporary_name);
        match OpenOptions::new().write(true).create_new(true).open(&temporary) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(file) => return Ok((temporary, file)),
        }
    }
}

struct RemoveOnDrop(PathBuf);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        // An error is on its way to the caller already; a second one could not be told.
        let _ = fs::remove_file(&self.0);
    }
}
