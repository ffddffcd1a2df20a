//! Names of image files in a set that is written: bare, unique, and harmless wherever the set goes.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::AnnotatedImage;
use crate::file::stem_of;
use crate::names::{bare, folded};

/// Gives the images of each folder their names.
#[derive(Default)]
pub(super) struct Names {
    folder: String,
    /// Folders and folded stems that are taken: formats with a file for each image call it by the stem.
    taken: HashSet<(String, String)>,
    /// The names of images that an earlier split has in the same folder.
    known: HashMap<(String, PathBuf), String>,
    /// The same of the split at hand, whose images never share a name.
    current: Vec<(PathBuf, String)>,
    pub(super) renamed: Vec<(PathBuf, String)>,
}

/// The last part of a name, without what no file system or list of names can hold; `otherwise` where nothing is left.
pub(super) fn safe(name: &str, otherwise: &str) -> String {
    let kept = |c: char| if c.is_control() || "<>:\"|?*".contains(c) { '_' } else { c };
    let name: String = bare(name.trim_end_matches(['/', '\\'])).chars().map(kept).collect();
    // Lists are read without the blanks around their lines, and a name of dots is a folder.
    let name = name.trim().trim_start_matches('.').trim_end_matches('.').trim();
    if name.is_empty() { otherwise.to_owned() } else { name.to_owned() }
}

impl Names {
    /// Goes on to the next split, whose images lie in this folder.
    pub(super) fn begin(&mut self, folder: String) {
        let last = std::mem::replace(&mut self.folder, folder);
        for (path, name) in self.current.drain(..) {
            self.known.entry((last.clone(), path)).or_insert(name);
        }
    }

    /// Replaces the name of an image's file by that which it gets.
    pub(super) fn give(&mut self, image: &mut AnnotatedImage) {
        // The file's own name, whose case and extension are right.
        let own = image.path.file_name().map_or(image.file_name.clone(), |name| name.to_string_lossy().into_owned());
        if let Some(name) = self.known.get(&(self.folder.clone(), image.path.clone())) {
            image.file_name = name.clone();
            return;
        }
        let wanted = safe(&own, "image");
        let (stem, extension) = (stem_of(Path::new(&wanted)), Path::new(&wanted).extension());
        let extension = extension.map_or(String::new(), |extension| format!(".{}", extension.to_string_lossy()));
        let mut name = wanted.clone();
        let mut number = 2;
        while !self.taken.insert((self.folder.clone(), folded(&stem_of(Path::new(&name))))) {
            name = format!("{stem}-{number}{extension}");
            number += 1;
        }
        if name != bare(&image.file_name) {
            self.renamed.push((image.path.clone(), name.clone()));
        }
        self.current.push((image.path.clone(), name.clone()));
        image.file_name = name;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_harmless() {
        for (name, expected) in [
            ("a b.JPG", "a b.JPG"),
            ("../../etc/passwd", "passwd"),
            ("C:\\x\\ü.png", "ü.png"),
            ("/", "image"),
            ("..", "image"),
            (" a\nb\u{0}.jpg ", "a_b_.jpg"),
            (".hidden.jpg", "hidden.jpg"),
            ("a?.jpg", "a_.jpg"),
        ] {
            assert_eq!(safe(name, "image"), expected, "{name:?}");
        }
    }

    #[test]
    fn names_of_one_folder_differ_by_their_stems() {
        let mut names = Names::default();
        let give = |names: &mut Names, path: &str| {
            let mut image = AnnotatedImage { path: path.into(), file_name: path.into(), ..AnnotatedImage::default() };
            names.give(&mut image);
            image.file_name
        };
        names.begin("images".into());
        assert_eq!(
            ["x/a.jpg", "y/a.jpg", "y/A.PNG", "y/a-2.jpg"].map(|path| give(&mut names, path)),
            ["a.jpg", "a-2.jpg", "A-3.PNG", "a-2-2.jpg"]
        );
        // The same file of another split is the same image in the same folder.
        names.begin("images".into());
        assert_eq!(give(&mut names, "y/a.jpg"), "a-2.jpg");
        names.begin("other".into());
        assert_eq!(give(&mut names, "y/a.jpg"), "a.jpg");
        assert_eq!(names.renamed.len(), 3);
    }
}
