//! A folder that is whole or not there.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::conversion::ImageTransfer;
use crate::AnnotationError;

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> AnnotationError {
    let path = path.to_owned();
    move |source| AnnotationError::Io { path, source }
}

fn is_empty_folder(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

/// Refuses what would be overwritten against the will of its owner.
pub(super) fn check_output(output: &Path, overwrite: bool, sources: &[PathBuf]) -> Result<(), AnnotationError> {
    let refuse = |expected: &str, found: &str| Err(AnnotationError::content(output, "output", expected, found));
    if output.file_name().is_none() {
        return refuse("the name of a folder", "none");
    }
    let Ok(metadata) = fs::symlink_metadata(output) else { return Ok(()) };
    if !metadata.is_dir() {
        let found = if metadata.is_symlink() { "a link" } else { "a file" };
        return refuse("a folder that is new or empty", found);
    }
    if !overwrite && !is_empty_folder(output) {
        return refuse("a folder that is new or empty", "one with something in it");
    }
    check_sources(output, sources.iter().map(PathBuf::as_path))?;
    match std::env::current_dir() {
        Ok(current) if is_inside(&current, output) => {
            refuse("a folder that can be replaced", "the one that this runs in")
        }
        _ => Ok(()),
    }
}

/// Refuses to replace what is read.
pub(super) fn check_sources<'a>(output: &Path, sources: impl Iterator<Item = &'a Path>) -> Result<(), AnnotationError> {
    let Ok(output) = output.canonicalize() else { return Ok(()) };
    for source in sources {
        if source.canonicalize().is_ok_and(|source| source.starts_with(&output)) {
            let found = format!("one that holds {}", source.display());
            return Err(AnnotationError::content(
                &output,
                "output",
                "a folder without the data that is converted",
                found,
            ));
        }
    }
    Ok(())
}

fn is_inside(path: &Path, folder: &Path) -> bool {
    path.canonicalize().ok().zip(folder.canonicalize().ok()).is_some_and(|(path, folder)| path.starts_with(folder))
}

/// Copies or links one file; what is to be said where there is none.
pub(super) fn transfer(source: &Path, target: &Path, images: ImageTransfer) -> Result<Option<String>, AnnotationError> {
    // A pipe or a device has no end.
    if !source.is_file() {
        return Ok(Some("image file: expected one to copy or link, found nothing".to_owned()));
    }
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder).map_err(io_error(folder))?;
    }
    if images == ImageTransfer::Link {
        let source = source.canonicalize().map_err(io_error(source))?;
        return link(&source, target).map(|()| None).map_err(io_error(target));
    }
    // The file may be unreadable, which costs itself only; a disk that is full costs everything.
    let mut from = match File::open(source) {
        Ok(file) => file,
        Err(error) => return Ok(Some(format!("image file: expected a readable one, found: {error}"))),
    };
    let mut to = File::create_new(target).map_err(io_error(target))?;
    io::copy(&mut from, &mut to).map_err(io_error(target))?;
    Ok(None)
}

#[cfg(unix)]
fn link(source: &Path, target: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(source, target)
}

#[cfg(windows)]
fn link(source: &Path, target: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(source, target)
}

#[cfg(not(any(unix, windows)))]
fn link(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A hidden folder beside the one that is written, which it becomes in the end. It goes with this value otherwise.
pub(super) struct Staging {
    path: PathBuf,
    /// Locked as long as somebody writes.
    lock: Option<File>,
    /// Whether the folder is in its place: nothing to remove.
    is_renamed: bool,
}

const SUFFIX: &str = ".partial";
const LOCK: &str = ".writing";

impl Staging {
    pub(super) fn new(output: &Path) -> Result<Self, AnnotationError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(io_error(parent))?;
        let mut prefix = OsString::from(".");
        prefix.push(output.file_name().unwrap_or(OsStr::new("set")));
        prefix.push(".");
        remove_abandoned(parent, &prefix);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        prefix.push(format!("{}-{number}{SUFFIX}", std::process::id()));
        let path = parent.join(prefix);
        fs::create_dir(&path).map_err(io_error(&path))?;
        let mut staging = Self { path, lock: None, is_renamed: false };
        let lock = staging.path.join(LOCK);
        let file = File::create_new(&lock).map_err(io_error(&lock))?;
        // Where the file system has no locks, nothing is ever taken for abandoned.
        let _ = file.lock();
        staging.lock = Some(file);
        Ok(staging)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the folder in its place; what was there is removed when the new one is whole.
    pub(super) fn finish(mut self, output: &Path) -> Result<(), AnnotationError> {
        let lock = self.path.join(LOCK);
        fs::remove_file(&lock).map_err(io_error(&lock))?;
        drop(self.lock.take());
        sync(&self.path)?;
        if !output.exists() || is_empty_folder(output) {
            // An empty folder is replaced by some systems only.
            if output.exists() {
                fs::remove_dir(output).map_err(io_error(output))?;
            }
            fs::rename(&self.path, output).map_err(io_error(output))?;
        } else {
            let old = self.path.with_extension("replaced");
            fs::rename(output, &old).map_err(io_error(output))?;
            if let Err(error) = fs::rename(&self.path, output) {
                // An error is on its way already; a second one could not be told.
                let _ = fs::rename(&old, output);
                return Err(io_error(output)(error));
            }
            fs::remove_dir_all(&old).map_err(io_error(&old))?;
        }
        self.is_renamed = true;
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.is_renamed {
            // An error is on its way to the caller already; a second one could not be told.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Waits until all files of a folder are on the disk: together they take little longer than one alone.
fn sync(folder: &Path) -> Result<(), AnnotationError> {
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder).map_err(io_error(&folder))? {
            let entry = entry.map_err(io_error(&folder))?;
            let path = entry.path();
            let kind = entry.file_type().map_err(io_error(&path))?;
            if kind.is_dir() {
                pending.push(path);
            } else if kind.is_file() {
                File::open(&path).and_then(|file| file.sync_all()).map_err(io_error(&path))?;
            }
        }
    }
    Ok(())
}

/// Removes what processes left that were killed while they wrote.
fn remove_abandoned(parent: &Path, prefix: &OsStr) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let rest = name.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes());
        let is_staging = rest.and_then(|rest| rest.strip_suffix(SUFFIX.as_bytes())).is_some_and(|numbers| {
            numbers.contains(&b'-') && numbers.iter().all(|byte| byte.is_ascii_digit() || *byte == b'-')
        });
        let lock = entry.path().join(LOCK);
        let is_abandoned = || OpenOptions::new().write(true).open(&lock).is_ok_and(|file| file.try_lock().is_ok());
        if is_staging && is_abandoned() {
            // What cannot be removed is hidden and does no harm.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
