//! How many bytes a folder of the cache holds, agreed on by all processes that use it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// A file with one number, changed under a lock.
pub(super) struct Ledger {
    path: PathBuf,
}

impl Ledger {
    pub(super) fn new(folder: &Path) -> Self {
        Self { path: folder.join("held-bytes") }
    }

    /// Lets `change` see and set the number while nobody else does; it begins with 0.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut u64) -> io::Result<T>) -> io::Result<T> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.path)?;
        // The lock goes with the file, however this function ends.
        file.lock()?;
        let before = number(&mut file)?;
        let mut held = before;
        let result = change(&mut held);
        if held != before {
            file.rewind()?;
            file.write_all(&held.to_le_bytes())?;
        }
        result
    }
}

/// The number; 0 in a new file and in one that was cut short.
fn number(file: &mut File) -> io::Result<u64> {
    let mut bytes = [0; 8];
    match file.read_exact(&mut bytes) {
        Ok(()) => Ok(u64::from_le_bytes(bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
        Err(error) => Err(error),
    }
}
