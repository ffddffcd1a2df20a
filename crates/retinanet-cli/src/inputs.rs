//! The images that a command is given: files, folders, patterns, lists.

use crate::table;
use anyhow::{Context, ensure};
use retinanet_annotations::has_image_extension;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The longest list that is read: millions of paths.
const LIST_LIMIT: u64 = 1 << 30;

/// How deep folders may be nested.
const MAX_DEPTH: usize = 32;

/// An input that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ErrorEntry {
    pub(crate) path: String,
    pub(crate) error: String,
}

impl ErrorEntry {
    fn new(path: &Path, error: impl std::fmt::Display) -> Self {
        Self { path: path.display().to_string(), error: format!("{}: {error}", path.display()) }
    }
}

/// The images that inputs stand for, in order; an input that stands for none is an error at its place.
///
/// A folder's images come sorted by name, as do those of a pattern.
pub(crate) fn expand(inputs: &[PathBuf], recursive: bool) -> Vec<Result<PathBuf, ErrorEntry>> {
    let mut items = Vec::new();
    for input in inputs {
        if input.is_dir() {
            folder(input, recursive, &mut items);
        } else if input.exists() {
            items.push(Ok(input.clone()));
        } else if is_pattern(input) {
            pattern(input, &mut items);
        } else {
            items.push(Err(ErrorEntry::new(input, "expected an image, a folder or a pattern, found nothing there")));
        }
    }
    items
}

/// The images and the errors of [`expand`] apart, for commands to which order is nothing.
pub(crate) fn partition(items: Vec<Result<PathBuf, ErrorEntry>>) -> (Vec<PathBuf>, Vec<String>) {
    let (mut paths, mut errors) = (Vec::new(), Vec::new());
    for item in items {
        match item {
            Ok(path) => paths.push(path),
            Err(error) => errors.push(error.error),
        }
    }
    (paths, errors)
}

/// The paths in a text file, one a line, or between zero bytes as `find -print0` writes them; `-` is standard input.
pub(crate) fn read_list(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let is_stdin = path == Path::new("-");
    let name = if is_stdin { "standard input".to_owned() } else { path.display().to_string() };
    let mut bytes = Vec::new();
    let read = if is_stdin {
        std::io::stdin().lock().take(LIST_LIMIT + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(LIST_LIMIT + 1).read_to_end(&mut bytes))
    };
    read.with_context(|| format!("{name}: cannot read the list of images"))?;
    ensure!(
        bytes.len() as u64 <= LIST_LIMIT,
        "{name}: list of images: expected at most {LIST_LIMIT} bytes, found more"
    );
    let separator = if bytes.contains(&0) { '\0' } else { '\n' };
    let text = String::from_utf8(bytes);
    let text = text.map_err(|_| {
        anyhow::anyhow!(
            "{name}: list of images: expected paths in UTF-8, one a line, found other bytes (is it an image itself?)"
        )
    })?;
    let lines = text.trim_start_matches('\u{feff}').split(separator).map(|line| line.trim_end_matches('\r'));
    let paths: Vec<PathBuf> = lines.filter(|line| !line.trim().is_empty()).map(PathBuf::from).collect();
    ensure!(!paths.is_empty(), "{name}: list of images: expected paths, one a line, found none");
    Ok(paths)
}

/// Whether it is taken where a folder or a pattern names many; a file named by itself may have any name.
fn is_image_path(path: &Path) -> bool {
    has_image_extension(path) && path.is_file()
}

fn is_pattern(input: &Path) -> bool {
    input.to_str().is_some_and(|text| text.contains(['*', '?', '[']))
}

fn folder(root: &Path, recursive: bool, items: &mut Vec<Result<PathBuf, ErrorEntry>>) {
    let (mut found, mut has_folders) = (BTreeSet::new(), false);
    let mut pending = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = pending.pop() {
        let entries = std::fs::read_dir(&folder)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>());
        match entries {
            Err(error) => items.push(Err(ErrorEntry::new(&folder, error))),
            Ok(entries) => {
                for path in entries {
                    if is_image_path(&path) {
                        found.insert(path);
                    } else if path.is_dir() {
                        has_folders = true;
                        // A link may lead back up; what it shows has a path of its own.
                        if recursive && depth < MAX_DEPTH && !path.is_symlink() {
                            pending.push((path, depth + 1));
                        }
                    }
                }
            }
        }
    }
    if found.is_empty() {
        let hint = if has_folders && !recursive { "; its subfolders are searched with --recursive" } else { "" };
        items.push(Err(ErrorEntry::new(root, format!("expected images, found none in this folder{hint}"))));
    }
    items.extend(found.into_iter().map(Ok));
}

fn pattern(input: &Path, items: &mut Vec<Result<PathBuf, ErrorEntry>>) {
    let text = input.to_string_lossy();
    let paths = match glob::glob(&text) {
        Ok(paths) => paths,
        Err(error) => return items.push(Err(ErrorEntry::new(input, format!("pattern: {}", error.msg)))),
    };
    let (mut images, mut others) = (Vec::new(), 0);
    for path in paths {
        match path {
            Ok(path) if is_image_path(&path) => images.push(Ok(path)),
            Ok(_) => others += 1,
            Err(error) => images.push(Err(ErrorEntry::new(error.path(), error.error()))),
        }
    }
    if images.is_empty() {
        let found = if others > 0 {
            format!("{} of another kind", table::count(others, "file", "files"))
        } else {
            "none".to_owned()
        };
        images.push(Err(ErrorEntry::new(input, format!("pattern: expected images that it fits, found {found}"))));
    }
    items.append(&mut images);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(items: &[Result<PathBuf, ErrorEntry>], root: &Path) -> Vec<String> {
        let name = |path: &Path| path.strip_prefix(root).unwrap_or(path).display().to_string();
        let name = |item: &Result<PathBuf, ErrorEntry>| match item {
            Ok(path) => name(path),
            Err(error) => format!("error {}", name(Path::new(&error.path))),
        };
        items.iter().map(name).collect()
    }

    #[test]
    fn inputs_keep_their_order() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path();
        for name in ["b/2.JPG", "b/1.png", "b/notes.txt", "b/deep/3.jpg", "a.jpg", "odd", "x[1].jpg"] {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, name).expect("a file");
        }
        let expand = |inputs: &[&str], recursive| {
            let inputs: Vec<PathBuf> = inputs.iter().map(|input| root.join(input)).collect();
            names(&super::expand(&inputs, recursive), root)
        };
        assert_eq!(
            expand(&["odd", "b", "gone.jpg", "a.jpg"], false),
            ["odd", "b/1.png", "b/2.JPG", "error gone.jpg", "a.jpg"]
        );
        assert_eq!(expand(&["b"], true), ["b/1.png", "b/2.JPG", "b/deep/3.jpg"]);
        assert_eq!(expand(&["*.jpg", "b/*"], false), ["a.jpg", "x[1].jpg", "b/1.png", "b/2.JPG"]);
        assert_eq!(expand(&["**/*.jpg"], false), ["a.jpg", "b/deep/3.jpg", "x[1].jpg"]);
        // A file that is there is itself, whatever its name would mean as a pattern.
        assert_eq!(expand(&["x[1].jpg"], false), ["x[1].jpg"]);
        assert_eq!(expand(&["*.gif", "a[.jpg"], false), ["error *.gif", "error a[.jpg"]);
    }

    #[test]
    fn lists_are_lines_or_between_zero_bytes() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("list.txt");
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("a file");
            read_list(&path).map(|paths| paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>())
        };
        assert_eq!(read(b"\xef\xbb\xbfa b.jpg\r\n\r\nc.jpg").expect("a list"), ["a b.jpg", "c.jpg"]);
        assert_eq!(read(b"a\nb.jpg\0c.jpg\0").expect("a list"), ["a\nb.jpg", "c.jpg"]);
        assert!(read(b"\n \n").expect_err("an error").to_string().contains("found none"));
        assert!(read(b"\xff\xd8\xff\xe0").expect_err("an error").to_string().contains("UTF-8"));
    }
}
