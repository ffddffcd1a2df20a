//! Names of files: the same name in another spelling, and names that lead elsewhere.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use unicode_normalization::UnicodeNormalization;

use crate::file::{list, name_of};

/// The text with each accented letter as one character, as most systems write it; macOS writes two.
pub(crate) fn composed(text: &str) -> String {
    if text.is_ascii() { text.to_owned() } else { text.nfc().collect() }
}

/// The same for names that differ by case or composition only.
pub(crate) fn folded(name: &str) -> String {
    composed(name).to_lowercase()
}

/// The last part of a name with folders, whichever way they are separated.
pub(crate) fn bare(name: &str) -> &str {
    name.rsplit(['/', '\\']).next().unwrap_or(name)
}

/// Whether a name leads out of the folder it is meant for, or could: it is absolute or has `..` in it.
pub(crate) fn leads_out(name: &str) -> bool {
    let forward = name.replace('\\', "/");
    let has_drive = forward.as_bytes().get(1) == Some(&b':') && forward.as_bytes()[0].is_ascii_alphabetic();
    has_drive || Path::new(&forward).components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir))
}

/// Files of some folders by folded name, listed when the first exact look fails.
#[derive(Debug, Default)]
pub(crate) struct FoldedNames {
    by_folder: HashMap<PathBuf, HashMap<String, Option<PathBuf>>>,
}

impl FoldedNames {
    /// The file of this name in another case or composition, where it is the only one.
    pub(crate) fn find(&mut self, folder: &Path, name: &str) -> Option<PathBuf> {
        if !self.by_folder.contains_key(folder) {
            let mut by_name: HashMap<String, Option<PathBuf>> = HashMap::new();
            for path in list(folder).unwrap_or_default() {
                by_name.entry(folded(&name_of(&path))).and_modify(|known| *known = None).or_insert(Some(path));
            }
            self.by_folder.insert(folder.to_owned(), by_name);
        }
        self.by_folder[folder].get(&folded(name)).cloned().flatten().filter(|path| path.is_file())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_out() {
        for name in ["/a", "../a", "a/../../b", "C:\\a", "c:/a", "..\\a", "\\\\server\\a", "a/.."] {
            assert!(leads_out(name), "{name}");
        }
        for name in ["a", "a/b", "./a", "a..b", "..a", "a\\b", "é", ":a", ""] {
            assert!(!leads_out(name), "{name}");
        }
    }

    #[test]
    fn the_only_file_of_another_spelling_is_found() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["u\u{308}.JPG", "b.jpg", "B.JPG"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let mut names = FoldedNames::default();
        assert_eq!(names.find(folder.path(), "\u{fc}.jpg"), Some(folder.path().join("u\u{308}.JPG")));
        // Which of the two is meant, nobody knows.
        assert_eq!(names.find(folder.path(), "b.JPG"), None);
        assert_eq!(names.find(folder.path(), "c.jpg"), None);
        assert_eq!(names.find(&folder.path().join("none"), "c.jpg"), None);
    }
}
