//! A file that grows by whole pieces.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

/// A file of whole pieces: what a full disk cuts short is taken back, so that later pieces can be read.
#[derive(Debug)]
pub(super) struct AppendedFile {
    file: File,
    length: u64,
}

impl AppendedFile {
    /// An empty file in the place of any other.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = File::create(path)?;
        claim(&file)?;
        Ok(Self { file, length: 0 })
    }

    /// The file at this path, which nobody else is to write, cut to its first `length` bytes; an empty one where there is none.
    pub(super) fn resume(path: &Path, length: u64) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        claim(&file)?;
        file.set_len(length)?;
        file.seek(SeekFrom::Start(length))?;
        Ok(Self { file, length })
    }

    /// Waits until all pieces are on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Adds a piece at the end, in one go.
    pub(super) fn append(&mut self, piece: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(piece);
        match written {
            Ok(()) => self.length += piece.len() as u64,
            Err(_) => self.take_back(),
        }
        written
    }

    /// Cuts the file to its last whole piece.
    fn take_back(&mut self) {
        // Where this fails too, the reader meets half of a piece, which it is made for.
        let _ = self.file.set_len(self.length);
        let _ = self.file.seek(SeekFrom::Start(self.length));
    }
}

impl Drop for AppendedFile {
    fn drop(&mut self) {
        // Closing it would leave the lock to a program that this process is just starting, until that runs.
        let _ = self.file.unlock();
    }
}

/// Locks the file until it is closed, however the process ends, so that a run is not gone on with while it goes on.
///
/// Where the file system has no locks, nothing is refused.
fn claim(file: &File) -> io::Result<()> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            let what = "expected no other process that writes this run, found one";
            Err(io::Error::new(io::ErrorKind::ResourceBusy, what))
        }
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_a_piece_is_taken_back() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("pieces");
        let mut file = AppendedFile::create(&path)?;
        file.append(b"one ")?;
        // What a write leaves that runs out of space.
        file.file.write_all(b"tw")?;
        file.take_back();
        file.append(b"three")?;
        assert_eq!(std::fs::read(&path)?, b"one three");
        Ok(())
    }

    #[test]
    fn a_file_grows_on_from_a_length() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("pieces");
        AppendedFile::resume(&path, 0)?.append(b"one two")?;
        let mut file = AppendedFile::resume(&path, 4)?;
        file.append(b"three")?;
        file.sync()?;
        let error = AppendedFile::resume(&path, 0).expect_err("it is being written");
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
        assert_eq!(std::fs::read(&path)?, b"one three");
        Ok(())
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_an_error_each_time() -> io::Result<()> {
        let mut file = AppendedFile::create(Path::new("/dev/full"))?;
        for _ in 0..2 {
            assert_eq!(file.append(b"piece").expect_err("no space").kind(), io::ErrorKind::StorageFull);
            assert_eq!(file.length, 0);
        }
        Ok(())
    }
}
