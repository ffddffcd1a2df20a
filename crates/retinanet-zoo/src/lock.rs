//! One process at a time.

use crate::error::ZooError;
use std::fs::{File, OpenOptions, TryLockError};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

/// A locked file. The lock belongs to the open file, so that it goes with the process however that ends, and no stale one
/// can stay; the file itself stays, as removing it would let two processes lock two files of one name.
pub(crate) struct Lock {
    _file: File,
}

/// How often it is looked whether another process is done.
const PAUSE: Duration = Duration::from_millis(50);

impl Lock {
    /// Waits until no other process holds the lock, and asks `on_wait` at every look whether to go on waiting; `None` where
    /// it said no.
    pub(crate) fn acquire(path: &Path, mut on_wait: impl FnMut() -> ControlFlow<()>) -> Result<Option<Self>, ZooError> {
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .open(path)
            .map_err(ZooError::io(path, "cannot open the lock"))?;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {}
                // Some network file systems have no locks. Two processes may then fetch at once; that the file has the
                // right digest is seen in any case.
                Err(TryLockError::Error(_)) => break,
            }
            if on_wait().is_break() {
                return Ok(None);
            }
            std::thread::sleep(PAUSE);
        }
        Ok(Some(Self { _file: file }))
    }
}
