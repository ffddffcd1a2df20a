//! How many bytes a folder of the cache holds, agreed on by all processes that use it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// A file with one number, changed under a lock.
pub(super) struct Ledger {
    path: PathBuf,
    /// Locked together with all others who use the folder, for as long as they do.
    users: File,
}

impl Ledger {
    /// Joins those who use the folder; `count` says what is in it.
    ///
    /// The number becomes that only where nobody else is: what they have reserved is not in the folder yet. What a process
    /// had reserved that was killed is given back so by the first one after all have gone.
    pub(super) fn join(folder: &Path, count: impl FnOnce() -> io::Result<u64>) -> io::Result<Self> {
        let users = open(&folder.join("users"))?;
        let is_alone = match users.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Error(error)) => return Err(error),
        };
        let ledger = Self { path: folder.join("held-bytes"), users };
        let counted = count()?;
        if is_alone {
            ledger.update(|held| {
                *held = counted;
                Ok(())
            })?;
            // Nothing is reserved yet that another one, coming in between, could forget.
            ledger.users.unlock()?;
        }
        ledger.users.lock_shared()?;
        Ok(ledger)
    }

    /// Lets `change` see and set the number while nobody else does; it begins with 0.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut u64) -> io::Result<T>) -> io::Result<T> {
        let mut file = open(&self.path)?;
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

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
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
