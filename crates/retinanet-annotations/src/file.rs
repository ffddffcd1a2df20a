//! Reading files and folders with bounds.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::AnnotationError;

/// The largest JSON file that is read: COCO's own are below half a gigabyte.
pub(crate) const JSON_LIMIT: u64 = 4 << 30;

/// The largest file of one image, list or configuration.
pub(crate) const TEXT_LIMIT: u64 = 64 << 20;

/// What names of pictures end in, without the point.
const IMAGE_EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "bmp", "gif", "tif", "tiff", "webp"];

/// How deep folders of images may be nested.
const MAX_DEPTH: usize = 8;

/// The bytes of a regular file of at most `limit` bytes.
pub(crate) fn read_bytes(path: &Path, limit: u64) -> Result<Vec<u8>, AnnotationError> {
    let io = |source| match source {
        error if std::io::Error::kind(&error) == std::io::ErrorKind::NotFound => {
            AnnotationError::NotFound { path: path.to_owned() }
        }
        source => AnnotationError::Io { path: path.to_owned(), source },
    };
    // Before opening, which would wait for the other end of a pipe. A device or pipe has no end to trust.
    let metadata = fs::metadata(path).map_err(io)?;
    if !metadata.is_file() {
        return Err(AnnotationError::content(path, "kind", "a file", "something else"));
    }
    let too_long = |length: &dyn std::fmt::Display| {
        AnnotationError::content(path, "length", format!("at most {limit} bytes"), length)
    };
    if metadata.len() > limit {
        return Err(too_long(&metadata.len()));
    }
    let file = File::open(path).map_err(io)?;
    let mut bytes = Vec::with_capacity(metadata.len() as usize + 1);
    file.take(limit + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > limit {
        return Err(too_long(&"more"));
    }
    Ok(bytes)
}

/// The bytes without the mark that some editors put before UTF-8.
pub(crate) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// Refuses what other systems write instead of UTF-8, by its mark.
pub(crate) fn refuse_utf16(path: &Path, bytes: &[u8]) -> Result<(), AnnotationError> {
    let is_utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    if is_utf16 { Err(AnnotationError::content(path, "text", "UTF-8", "UTF-16")) } else { Ok(()) }
}

/// The text of a small file.
pub(crate) fn read_text(path: &Path) -> Result<String, AnnotationError> {
    let bytes = read_bytes(path, TEXT_LIMIT)?;
    refuse_utf16(path, &bytes)?;
    match std::str::from_utf8(without_mark(&bytes)) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => {
            let line = 1 + bytes[..error.valid_up_to()].iter().filter(|&&b| b == b'\n').count();
            Err(AnnotationError::Syntax {
                path: path.to_owned(),
                line,
                column: 0,
                message: "text: expected UTF-8, found other bytes".to_owned(),
            })
        }
    }
}

/// The first bytes of a file, to look what it is; empty where it cannot be read.
pub(crate) fn first_bytes(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    if path.is_file()
        && let Ok(file) = File::open(path)
    {
        // What was read before an error is still a look.
        let _ = file.take(4096).read_to_end(&mut bytes);
    }
    bytes
}

/// The entries of a folder, hidden ones left out, sorted by name so that no order depends on the file system.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>, AnnotationError> {
    let io = |source| AnnotationError::Io { path: folder.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// The files of a folder with this extension, in any case; none where there is no folder.
pub(crate) fn with_extension(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut paths = list(folder).unwrap_or_default();
    paths.retain(|path| has_extension(path, extension) && path.is_file());
    paths
}

/// The folders in a folder; none where there is no folder.
pub(crate) fn folders(folder: &Path) -> Vec<PathBuf> {
    let mut paths = list(folder).unwrap_or_default();
    paths.retain(|path| path.is_dir());
    paths
}

pub(crate) fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

/// Whether a file is taken for a picture where a folder is listed: by the ending of its name alone, in any case.
///
/// ```
/// assert!(retinanet_annotations::has_image_extension("a/photo.JPG".as_ref()));
/// assert!(!retinanet_annotations::has_image_extension("a/photo.txt".as_ref()));
/// ```
#[must_use]
pub fn has_image_extension(path: &Path) -> bool {
    IMAGE_EXTENSIONS.iter().any(|extension| has_extension(path, extension))
}

/// The image files in a folder and the folders in it, sorted. Links are followed, each folder once.
pub(crate) fn images_under(folder: &Path) -> Result<Vec<PathBuf>, AnnotationError> {
    let mut images = Vec::new();
    let mut pending = vec![(folder.to_owned(), 0)];
    let mut seen = HashSet::new();
    while let Some((folder, depth)) = pending.pop() {
        // A link may lead back to where it came from.
        if !folder.canonicalize().is_ok_and(|folder| seen.insert(folder)) && depth > 0 {
            continue;
        }
        for path in list(&folder)? {
            if has_image_extension(&path) && path.is_file() {
                images.push(path);
            } else if depth < MAX_DEPTH && path.is_dir() {
                pending.push((path, depth + 1));
            }
        }
    }
    images.sort();
    Ok(images)
}

/// The last part of a path as text, for messages and names.
pub(crate) fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The name without its extension.
pub(crate) fn stem_of(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Found text in quotes, short enough for one line of a message.
pub(crate) fn quoted(text: &str) -> String {
    let shown = short(text);
    if shown.len() == text.len() { format!("{text:?}") } else { format!("{shown:?}...") }
}

/// The beginning of a text that may be long.
pub(crate) fn short(text: &str) -> &str {
    const LONGEST: usize = 60;
    text.char_indices().nth(LONGEST).map_or(text, |(end, _)| &text[..end])
}
