//! Decoded images in files, kept between runs and shared by processes.

mod entry;
mod ledger;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::{CacheStatistics, DecodeError, DecodeLimits, ReducedImage};
use entry::{Key, Read};
use ledger::Ledger;

/// Free space that is left to others, in bytes: room for the checkpoints of a training, and then some.
const KEPT_FREE: u64 = 1 << 30;

/// What a process leaves that is killed while it writes an entry is removed when it is this old.
const ABANDONED: Duration = Duration::from_secs(3600);

/// A folder of decoded images, as many as its limit has room for.
///
/// An entry belongs to a file's path, length and time of change, and to this decoder: a file that changes, or a new version
/// that might give other pixels, is decoded anew. Every entry has a checksum; a damaged one is decoded anew and replaced,
/// never used. Entries are written beside and renamed, so that processes can share the folder, and their bytes are counted
/// in it under a lock, so that they share the limit too. Nothing that this process uses is evicted: an epoch visits each
/// image once, so what was used last is needed last. What was there before and has not been asked for goes first, the oldest
/// before others, when there is no room.
///
/// Nothing that goes wrong stops a run: it is said once, and images are decoded as if there were no cache.
pub struct DiskCache {
    folder: PathBuf,
    limit: u64,
    ledger: Ledger,
    state: Mutex<State>,
    /// False after an error: what is there is still read.
    is_writing: AtomicBool,
    warn: Box<dyn Fn(&str) + Send + Sync>,
    write: Write,
    hits: AtomicU64,
    misses: AtomicU64,
    damaged: AtomicU64,
    held: AtomicU64,
}

/// Writes a file whole or not at all: `folder`, path in it, its parts.
type Write = fn(&Path, &Path, &[&[u8]]) -> io::Result<()>;

#[derive(Default)]
struct State {
    /// Entries that were there when the cache was opened, with their bytes, the most recent first.
    older: Vec<(PathBuf, u64)>,
    /// Entries that this process has read or written.
    used: HashSet<PathBuf>,
}

impl DiskCache {
    /// Opens the folder or makes it; `warn` is told what goes wrong later.
    ///
    /// # Errors
    /// The folder cannot be made, read or locked.
    pub fn open(folder: &Path, limit_bytes: u64, warn: impl Fn(&str) + Send + Sync + 'static) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut older = Vec::new();
        let ledger = Ledger::join(folder, || {
            let mut total = 0;
            for file in fs::read_dir(folder)?.filter_map(Result::ok) {
                let (path, Ok(metadata)) = (file.path(), file.metadata()) else { continue };
                let changed = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                if entry::is_temporary(&path) {
                    let is_abandoned = changed.elapsed().is_ok_and(|age| age > ABANDONED);
                    if is_abandoned && fs::remove_file(&path).is_ok() {
                        continue;
                    }
                } else if entry::is_entry(&path) {
                    older.push((changed, path, metadata.len()));
                } else {
                    continue;
                }
                total += metadata.len();
            }
            Ok(total)
        })?;
        let held = ledger.update(|held| Ok(*held))?;
        older.sort_by(|a, b| b.cmp(a));
        let older = older.into_iter().map(|(_, path, bytes)| (path, bytes)).collect();
        Ok(Self {
            folder: folder.to_owned(),
            limit: limit_bytes,
            ledger,
            state: Mutex::new(State { older, used: HashSet::new() }),
            is_writing: AtomicBool::new(true),
            warn: Box::new(warn),
            write: entry::write,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
            held: AtomicU64::new(held),
        })
    }

    /// What it did since it was opened.
    #[must_use]
    pub fn statistics(&self) -> CacheStatistics {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheStatistics {
            hits: count(&self.hits),
            misses: count(&self.misses),
            damaged: count(&self.damaged),
            held_bytes: count(&self.held),
        }
    }

    /// The image of a file: of the cache, or decoded and kept. `min_side` is what [`crate::decode_at_least`] was or will be
    /// given; none for a whole picture.
    pub(crate) fn decode(
        &self,
        path: &Path,
        min_side: Option<usize>,
        limits: &DecodeLimits,
        decode: impl FnOnce() -> Result<ReducedImage, DecodeError>,
    ) -> Result<ReducedImage, DecodeError> {
        // A file that cannot be looked at has no entry; the decoder says what is wrong with it.
        let Ok(key) = Key::new(path, min_side) else {
            self.misses.fetch_add(1, Ordering::Relaxed);
            return decode();
        };
        let entry = self.folder.join(key.file_name());
        let found = entry::read(&entry, &key, limits);
        if let Read::Whole(image) = found {
            self.hits.fetch_add(1, Ordering::Relaxed);
            self.lock().used.insert(entry);
            return Ok(image);
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        if let Read::Damaged(bytes) = found {
            self.damaged.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = self.update(|held| {
                remove(&entry, bytes, held);
                Ok(())
            }) {
                self.stop(&error.to_string());
            }
        }
        let image = decode()?;
        if self.is_writing.load(Ordering::Relaxed)
            && let Err(error) = self.keep(&entry, &key, &image)
        {
            self.stop(&error.to_string());
        }
        Ok(image)
    }

    fn keep(&self, entry: &Path, key: &Key, image: &ReducedImage) -> io::Result<()> {
        let header = entry::header(key, image);
        let bytes = (header.len() + image.image.pixels.len()) as u64;
        if bytes > self.limit {
            return Ok(());
        }
        let free = fs4::available_space(&self.folder)?;
        if free < bytes + KEPT_FREE {
            let message = format!("free space: expected at least {} bytes, found {free}", bytes + KEPT_FREE);
            return Err(io::Error::new(io::ErrorKind::StorageFull, message));
        }
        if !self.reserve(entry, bytes)? {
            return Ok(());
        }
        let written = (self.write)(&self.folder, entry, &[&header, &image.image.pixels]);
        if written.is_err() {
            self.update(|held| {
                *held = held.saturating_sub(bytes);
                Ok(())
            })?;
        }
        written
    }

    /// Counts the bytes of a new entry, once older ones have made room; whether there is room.
    fn reserve(&self, entry: &Path, bytes: u64) -> io::Result<bool> {
        let mut state = self.lock();
        let State { older, used } = &mut *state;
        let is_reserved = self.update(|held| {
            // Another process may have been faster.
            if entry.exists() {
                return Ok(false);
            }
            while held.saturating_add(bytes) > self.limit {
                let Some((path, freed)) = older.pop() else { return Ok(false) };
                if !used.contains(&path) {
                    remove(&path, freed, held);
                }
            }
            *held += bytes;
            Ok(true)
        })?;
        if is_reserved {
            used.insert(entry.to_owned());
        }
        Ok(is_reserved)
    }

    fn update<T>(&self, change: impl FnOnce(&mut u64) -> io::Result<T>) -> io::Result<T> {
        self.ledger.update(|held| {
            let result = change(held);
            self.held.store(*held, Ordering::Relaxed);
            result
        })
    }

    /// Writes no more, and says why, once.
    fn stop(&self, why: &str) {
        if self.is_writing.swap(false, Ordering::Relaxed) {
            (self.warn)(&format!("{}: cache: {why}; no further images are kept", self.folder.display()));
        }
    }

    /// The state is whole between any two statements that hold it.
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes a file of so many bytes, if nobody else has.
fn remove(path: &Path, bytes: u64, held: &mut u64) {
    if fs::remove_file(path).is_ok() {
        *held = held.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests;
