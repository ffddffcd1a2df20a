//! Image files by the names that annotation files give them.
//!
//! What is read stays in the folders of the set, but for names that say otherwise and are right: an absolute path, or one
//! with `..`, whose file is there is taken, since such sets are common, and noted. Where it is not there, only its last
//! part is looked for.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::file::{has_image_extension, list, quoted, stem_of};
use crate::names::{FoldedNames, bare, folded, leads_out};

/// Where an image is, or would most likely be.
pub(crate) struct Located {
    pub(crate) path: PathBuf,
    /// What is to be said of the name.
    pub(crate) note: Option<String>,
}

/// Finds files by name, in the folders where they usually lie.
pub(crate) struct ImagesByName {
    folders: Vec<PathBuf>,
    /// Position of the folder that had the last image: it most likely has the next, too.
    last: usize,
    folded: FoldedNames,
}

impl ImagesByName {
    /// Looks into those of the candidates that are there; `root` stands for them where none is.
    pub(crate) fn new(root: &Path, candidates: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut folders: Vec<PathBuf> = Vec::new();
        for folder in candidates {
            if !folders.contains(&folder) && folder.is_dir() {
                folders.push(folder);
            }
        }
        if folders.is_empty() {
            folders.push(root.to_owned());
        }
        Self { folders, last: 0, folded: FoldedNames::default() }
    }

    pub(crate) fn locate(&mut self, name: &str) -> Located {
        let forward = name.replace('\\', "/");
        let bare = bare(name);
        if leads_out(name) {
            let found = self.find(name).or_else(|| self.find(&forward));
            let found = found.or_else(|| self.find(bare));
            let path = found.unwrap_or_else(|| self.folders[self.last].join(bare));
            let note = format!(
                "name leads out of the set: expected one below its folder, found {}; {} is taken",
                quoted(name),
                path.display()
            );
            return Located { path, note: Some(note) };
        }
        // Sets made on Windows separate folders by backslashes; others name folders that were not handed on.
        let names = [name, forward.as_str(), bare];
        let found = names.iter().find_map(|name| self.find(name)).or_else(|| self.find_folded(&forward));
        Located { path: found.unwrap_or_else(|| self.folders[self.last].join(name)), note: None }
    }

    fn find(&mut self, name: &str) -> Option<PathBuf> {
        if name.is_empty() {
            return None;
        }
        let is_there = |folder: &PathBuf| {
            let path = folder.join(name);
            path.is_file().then_some(path)
        };
        if let Some(path) = is_there(&self.folders[self.last]) {
            return Some(path);
        }
        let (idx, path) = self.folders.iter().enumerate().find_map(|(idx, folder)| Some((idx, is_there(folder)?)))?;
        self.last = idx;
        Some(path)
    }

    /// The same name in another case or composition, with its folders or without.
    fn find_folded(&mut self, forward: &str) -> Option<PathBuf> {
        let inner = Path::new(forward).parent().unwrap_or(Path::new(""));
        let bare = bare(forward);
        self.folders.iter().find_map(|folder| {
            let in_place = self.folded.find(&folder.join(inner), bare);
            in_place.or_else(|| self.folded.find(folder, bare))
        })
    }
}

/// Finds image files by their names without extension.
pub(crate) struct ImagesByStem {
    folders: Vec<PathBuf>,
    by_stem: Vec<HashMap<String, PathBuf>>,
}

impl ImagesByStem {
    /// Lists the images of these folders, where they are there.
    pub(crate) fn new(folders: impl IntoIterator<Item = PathBuf>) -> Self {
        let folders: Vec<PathBuf> = folders.into_iter().filter(|folder| folder.is_dir()).collect();
        let by_stem = |folder: &PathBuf| {
            let images: Vec<PathBuf> =
                list(folder).unwrap_or_default().into_iter().filter(|p| has_image_extension(p)).collect();
            let mut by_stem = HashMap::with_capacity(images.len());
            for path in &images {
                by_stem.entry(stem_of(path)).or_insert_with(|| path.clone());
            }
            // Behind the exact names, so that none of them is hidden.
            for path in images {
                by_stem.entry(folded(&stem_of(&path))).or_insert(path);
            }
            by_stem
        };
        let by_stem = folders.iter().map(by_stem).collect();
        Self { folders, by_stem }
    }

    /// The image of this name in the first folder that has one, `first` before the others.
    pub(crate) fn find(&self, first: Option<&Path>, stem: &str) -> Option<&PathBuf> {
        let folded = folded(stem);
        let position = first.and_then(|first| self.folders.iter().position(|folder| folder == first));
        let order = position.into_iter().chain(0..self.by_stem.len());
        order.map(|idx| &self.by_stem[idx]).find_map(|names| names.get(stem).or_else(|| names.get(&folded)))
    }

    /// The folder where an image would lie that is not found.
    pub(crate) fn first_folder(&self) -> Option<&Path> {
        self.folders.first().map(PathBuf::as_path)
    }

    /// Whether no folder has any image.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_stem.iter().all(HashMap::is_empty)
    }
}
