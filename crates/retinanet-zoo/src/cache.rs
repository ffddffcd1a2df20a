//! The folder that holds what was fetched.

use crate::agent::FetchOptions;
use crate::digest::{Digest, Digests, Hasher};
use crate::download::{Event, OnEvent, download};
use crate::error::ZooError;
use crate::lock::Lock;
use crate::model::{Entry, Source};
use crate::part::{beside, part_path};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Where models are kept: `FOLDER/NAME/FILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    folder: PathBuf,
    shipped: Vec<PathBuf>,
}

/// What there is of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing.
    Missing,
    /// Some bytes; the next fetch goes on from there.
    Partial(u64),
    /// The file.
    Here(PathBuf),
}

/// What the digest of a file was compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// All digits of a published one.
    Published,
    /// This many leading digits of a published one.
    Leading(usize),
    /// Nothing was published: with the one that was written down when the file was first seen.
    FirstSeen,
    /// Nothing was published; it was written down just now, to know the file by from here on.
    Noted,
}

/// A file that was looked at, byte by byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The file.
    pub path: PathBuf,
    /// Its SHA-256, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// What that, or the MD5, was compared with.
    pub checked: Checked,
}

impl Cache {
    /// A cache in this folder, which is made when something is fetched.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), shipped: Vec::new() }
    }

    /// The same with folders to look in for the models that ship with the program.
    #[must_use]
    pub fn with_shipped(self, folders: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { shipped: folders.into_iter().collect(), ..self }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the model's file is, or will be.
    pub fn place(&self, entry: &Entry) -> PathBuf {
        match &entry.source {
            Source::Url(_) => self.folder.join(&entry.name).join(&entry.file),
            Source::Shipped(file) => {
                let places = self.shipped.iter().map(|folder| folder.join(file));
                places.clone().find(|place| place.is_file()).or_else(|| places.clone().next()).unwrap_or(file.into())
            }
        }
    }

    /// What there is of a model, without reading it.
    pub fn state(&self, entry: &Entry) -> State {
        let place = self.place(entry);
        if place.is_file() {
            return State::Here(place);
        }
        match fs::metadata(part_path(&place)) {
            Ok(part) if part.len() > 0 => State::Partial(part.len()),
            _ => State::Missing,
        }
    }

    /// Reads a model's file and compares size and digest; `None` if there is no file.
    ///
    /// The digest is written down in `FILE.sha256` beside it, if that can be written.
    ///
    /// # Errors
    /// The file cannot be read, or is not the one that the manifest describes. It is left where it is.
    pub fn verify(&self, entry: &Entry) -> Result<Option<Verified>, ZooError> {
        let path = self.place(entry);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ZooError::io(path, "cannot read")(error)),
        };
        let mut hasher = Hasher::default();
        let bytes = hasher.update_from(file).map_err(ZooError::io(&path, "cannot read"))?;
        let what = path.display().to_string();
        if let Some(size) = entry.size.filter(|size| !size.fits(bytes)) {
            return Err(ZooError::Size { what, expected: size.to_string(), found: bytes });
        }
        let digests = hasher.finish();
        compare(entry, &digests, &what, false)?;
        let noted = noted_sha256(&path);
        let checked = match (&noted, checked(&entry.digest)) {
            (Some(noted), Checked::Noted) if *noted != digests.sha256 => {
                let (expected, found) = (noted.clone(), digests.sha256);
                return Err(ZooError::Digest {
                    what,
                    algorithm: crate::Algorithm::Sha256,
                    expected,
                    found,
                    removed: false,
                });
            }
            (Some(_), Checked::Noted) => Checked::FirstSeen,
            (_, checked) => checked,
        };
        if noted.as_ref() != Some(&digests.sha256) && matches!(entry.source, Source::Url(_)) {
            // A cache that many share may be read-only: the file is good all the same.
            let _ = note_sha256(&path, &digests.sha256);
        }
        Ok(Some(Verified { path, sha256: digests.sha256, checked }))
    }

    /// The model's file, checked: read once, when it is first seen, and known by its `FILE.sha256` from then on.
    fn find(&self, entry: &Entry) -> Result<Option<PathBuf>, ZooError> {
        let path = self.place(entry);
        let Ok(metadata) = fs::metadata(&path) else { return Ok(None) };
        let fits = entry.size.is_none_or(|size| size.fits(metadata.len()));
        let is_known = noted_sha256(&path).is_some_and(|sha256| match &entry.digest {
            Digest::Sha256(digits) => sha256.starts_with(digits),
            Digest::Md5(_) | Digest::Unknown => true,
        });
        if fits && is_known {
            return Ok(Some(path));
        }
        Ok(self.verify(entry)?.map(|verified| verified.path))
    }

    /// The model's file, fetched if it is not there yet.
    ///
    /// Of two processes that want one model, one fetches and the other waits. What has come when the connection breaks,
    /// the process ends or `on_event` says that it is enough is kept, and the next call asks for the rest, if the server
    /// still has the same file. Memory does not grow with the file.
    ///
    /// # Errors
    /// The file cannot be fetched or written, is not the one that the manifest describes (what was fetched is removed
    /// then, what a person put there stays), or `on_event` broke off.
    pub fn fetch(&self, entry: &Entry, options: &FetchOptions, on_event: &mut OnEvent) -> Result<PathBuf, ZooError> {
        if let Some(path) = self.find(entry)? {
            return Ok(path);
        }
        let url = match &entry.source {
            Source::Url(url) => url,
            Source::Shipped(file) => {
                let (name, file, folders) = (entry.name.clone(), file.clone(), self.shipped.clone());
                return Err(ZooError::NotShipped { name, file, folders });
            }
        };
        let folder = self.folder.join(&entry.name);
        fs::create_dir_all(&folder).map_err(ZooError::io(&folder, "cannot make the folder"))?;
        let lock = Lock::acquire(&folder.join(".lock"), || on_event(Event::Waiting { name: &entry.name }))?;
        if lock.is_none() {
            let kept = match self.state(entry) {
                State::Partial(bytes) => bytes,
                State::Missing | State::Here(_) => 0,
            };
            return Err(ZooError::Stopped { name: entry.name.clone(), kept });
        }
        // The process that was waited for may have fetched it.
        if let Some(path) = self.find(entry)? {
            return Ok(path);
        }
        let path = self.place(entry);
        let digests = download(entry, url, &path, options, on_event)?;
        // The file was read while it came; should this fail, it is read again the next time.
        let _ = note_sha256(&path, &digests.sha256);
        let event = Event::Fetched { name: &entry.name, sha256: &digests.sha256, checked: checked(&entry.digest) };
        // It is there in any case.
        let _ = on_event(event);
        Ok(path)
    }
}

/// What a published digest is worth.
fn checked(digest: &Digest) -> Checked {
    match digest.known() {
        Some((algorithm, digits)) if digits.len() == algorithm.num_digits() => Checked::Published,
        Some((_, digits)) => Checked::Leading(digits.len()),
        None => Checked::Noted,
    }
}

/// Whether these are the digests that the manifest knows.
pub(crate) fn compare(entry: &Entry, digests: &Digests, what: &str, removed: bool) -> Result<(), ZooError> {
    match entry.digest.known() {
        Some((algorithm, digits)) if !digests.of(algorithm).starts_with(digits) => Err(ZooError::Digest {
            what: what.to_owned(),
            algorithm,
            expected: digits.to_owned(),
            found: digests.of(algorithm).to_owned(),
            removed,
        }),
        _ => Ok(()),
    }
}

/// The digest that was written down when the file was checked.
fn noted_sha256(path: &Path) -> Option<String> {
    let text = fs::read_to_string(beside(path, ".sha256")).ok()?;
    let digits = text.split_whitespace().next()?;
    let is_whole = digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_whole.then(|| digits.to_lowercase())
}

/// Writes `FILE.sha256`, as `sha256sum -c` reads it.
fn note_sha256(path: &Path, sha256: &str) -> std::io::Result<()> {
    let note = beside(path, ".sha256");
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let part = part_path(&note);
    fs::write(&part, format!("{sha256}  {name}\n"))?;
    fs::rename(part, note)
}
