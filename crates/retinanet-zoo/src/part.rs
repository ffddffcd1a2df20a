//! A file on its way: what has come so far, and how to know that the rest belongs to it.

use crate::digest::{Digests, Hasher};
use crate::error::ZooError;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// What a server calls this state of a file, so that a later part can be asked of the same state only.
///
/// Source: RFC 9110, section 13.1.5: `If-Range` takes a strong entity tag, or a date.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Validator {
    Etag(String),
    LastModified(String),
}

impl Validator {
    /// The better of the two headers; none where the tag is weak and there is no date.
    pub(crate) fn of(etag: Option<&str>, last_modified: Option<&str>) -> Option<Self> {
        let strong = etag.filter(|tag| tag.starts_with('"'));
        let tag = strong.map(|tag| Self::Etag(tag.to_owned()));
        tag.or_else(|| last_modified.map(|date| Self::LastModified(date.to_owned())))
    }

    /// As `If-Range` takes it.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Etag(text) | Self::LastModified(text) => text,
        }
    }
}

/// What is remembered beside a part.
#[derive(Serialize, Deserialize)]
struct Origin {
    url: String,
    validator: Option<Validator>,
}

/// `FILE.part`, with `FILE.part.toml` beside it.
pub(crate) struct Part {
    path: PathBuf,
    file: File,
    url: String,
    validator: Option<Validator>,
    hasher: Hasher,
    len: u64,
    /// How many answers it was put together from; what an earlier process left counts as one.
    num_pieces: usize,
}

impl Part {
    /// Opens what an earlier attempt has left of this address, or begins a new one.
    pub(crate) fn open(target: &Path, url: &str) -> Result<Self, ZooError> {
        let path = part_path(target);
        let cannot_write = |source| ZooError::Io { path: path.clone(), doing: "cannot write", source };
        let mut file =
            OpenOptions::new().create(true).read(true).write(true).truncate(false).open(&path).map_err(cannot_write)?;
        let origin = fs::read_to_string(beside(&path, ".toml")).ok();
        let origin = origin.and_then(|text| toml::from_str::<Origin>(&text).ok()).filter(|origin| origin.url == url);
        let mut hasher = Hasher::default();
        let mut len = 0;
        // Without a note of where they come from, the bytes are of no use.
        if origin.is_some() {
            len = hasher.update_from(&mut file).map_err(cannot_write)?;
        }
        let validator = origin.and_then(|origin| origin.validator);
        Ok(Self { path, file, url: url.to_owned(), validator, hasher, len, num_pieces: usize::from(len > 0) })
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// What the rest can be asked with.
    pub(crate) fn validator(&self) -> Option<&Validator> {
        self.validator.as_ref()
    }

    /// Whether the bytes come from several answers, and so may not belong together.
    pub(crate) fn is_pieced(&self) -> bool {
        self.num_pieces > 1
    }

    /// Begins anew, with a file in this state.
    pub(crate) fn restart(&mut self, validator: Option<Validator>) -> Result<(), ZooError> {
        self.cut().map_err(ZooError::io(&self.path, "cannot write"))?;
        (self.hasher, self.len, self.num_pieces) = (Hasher::default(), 0, 1);
        let origin = Origin { url: self.url.clone(), validator: validator.clone() };
        self.validator = validator;
        let text = toml::to_string(&origin).expect("strings have a form in TOML");
        // Torn by a crash, it is as good as missing, and the part begins anew.
        let note = beside(&self.path, ".toml");
        fs::write(&note, text).map_err(ZooError::io(note, "cannot write"))
    }

    fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0)).map(|_| ())
    }

    /// The next answer goes on where the last one ended.
    pub(crate) fn resume(&mut self) {
        self.num_pieces += 1;
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), ZooError> {
        // At the end of what is counted, whatever a write that failed half-way has left behind it.
        let written = self.file.seek(SeekFrom::Start(self.len)).and_then(|_| self.file.write_all(bytes));
        written.map_err(ZooError::io(&self.path, "cannot write"))?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    pub(crate) fn digests(&self) -> Digests {
        self.hasher.clone().finish()
    }

    /// The part is whole, and becomes the file.
    pub(crate) fn finish(self, target: &Path) -> Result<(), ZooError> {
        let synced = self.file.set_len(self.len).and_then(|()| self.file.sync_all());
        synced.map_err(ZooError::io(&self.path, "cannot write"))?;
        fs::rename(&self.path, target).map_err(ZooError::io(target, "cannot move the file here"))?;
        // Without its part the note says nothing; that it stays does no harm.
        let _ = fs::remove_file(beside(&self.path, ".toml"));
        Ok(())
    }

    /// Removes what has come.
    pub(crate) fn remove(self) -> Result<(), ZooError> {
        let _ = fs::remove_file(beside(&self.path, ".toml"));
        fs::remove_file(&self.path).map_err(ZooError::io(&self.path, "cannot remove"))
    }
}

/// Where the part of a file lies.
pub(crate) fn part_path(target: &Path) -> PathBuf {
    beside(target, ".part")
}

/// The path with this behind its name.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    PathBuf::from(name)
}
