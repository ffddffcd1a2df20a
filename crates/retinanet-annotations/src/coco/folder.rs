//! Which JSON file holds a split, and where its images lie.

use std::path::{Path, PathBuf};

use crate::file::{first_bytes, folders, has_extension, name_of, stem_of, with_extension, without_mark};
use crate::images::ImagesByName;
use crate::recognise::Reading;
use crate::split::{self, spellings, words};
use crate::{AnnotationError, AnnotationSet};

/// A folder of COCO files, or one such file.
#[derive(Debug)]
pub(crate) struct CocoFolder {
    path: PathBuf,
    root: PathBuf,
    /// Name of the split and its file.
    files: Vec<(String, PathBuf)>,
}

impl CocoFolder {
    /// A single file, which is one split.
    pub(crate) fn file(path: &Path) -> Self {
        let folder = path.parent().unwrap_or(Path::new(""));
        let is_annotations = name_of(folder).eq_ignore_ascii_case("annotations");
        let root = if is_annotations { folder.parent().unwrap_or(folder) } else { folder };
        Self { path: path.to_owned(), root: root.to_owned(), files: vec![(split_name(path), path.to_owned())] }
    }

    /// What lies in a folder: `annotations/*.json`, `<split>/_annotations.coco.json` or `*.json`.
    pub(crate) fn find(root: &Path) -> Option<Self> {
        let subfolders = folders(root);
        let is_annotations = |folder: &&PathBuf| name_of(folder).eq_ignore_ascii_case("annotations");
        let below = |folder: &PathBuf| with_extension(folder, "json");
        let groups: [Vec<PathBuf>; 3] = [
            subfolders.iter().filter(is_annotations).flat_map(below).collect(),
            subfolders.iter().flat_map(below).filter(|path| has_usual_name(path)).collect(),
            with_extension(root, "json"),
        ];
        let files = groups.into_iter().map(|mut files| {
            files.retain(|path| looks_like_ground_truth(path));
            keep_boxes(files)
        });
        let files = files.into_iter().find(|files| !files.is_empty())?;
        let files = files.into_iter().map(|file| (split_name(&file), file)).collect();
        Some(Self { path: root.to_owned(), root: root.to_owned(), files })
    }

    pub(crate) fn splits(&self) -> Vec<String> {
        self.files.iter().map(|(name, _)| name.clone()).collect()
    }

    pub(crate) fn read(&self, request: Option<&[&str]>, reading: &Reading) -> Result<AnnotationSet, AnnotationError> {
        let mut set: Option<AnnotationSet> = None;
        for idx in split::choose(&self.path, request, &self.splits())? {
            let (name, file) = &self.files[idx];
            let mut images = images_of(&self.root, file, name);
            let part = super::ground_truth::read(file, reading.details, &mut |file_name| images.locate(file_name))?;
            match &mut set {
                None => set = Some(part),
                Some(set) => set.append(part)?,
            }
        }
        Ok(set.unwrap_or_default())
    }
}

/// Roboflow names a split by its folder; elsewhere the file's name has it.
fn split_name(file: &Path) -> String {
    let stem = stem_of(file);
    let folder = file.parent().map(name_of).unwrap_or_default();
    let is_general = words(&stem).all(|word| ["annotations", "coco", "instances", "labels", "default"].contains(&word));
    if is_general && !folder.is_empty() && !folder.eq_ignore_ascii_case("annotations") {
        return folder;
    }
    stem.strip_prefix("instances_").unwrap_or(&stem).to_owned()
}

fn has_usual_name(path: &Path) -> bool {
    words(&stem_of(path)).any(|word| ["annotations", "coco", "instances", "labels"].contains(&word))
}

/// An object with one of the format's lists near its beginning; tables of detections and other JSON are no ground truth.
fn looks_like_ground_truth(path: &Path) -> bool {
    let bytes = first_bytes(path);
    let bytes = without_mark(&bytes).trim_ascii_start();
    let keys: [&[u8]; 5] = [b"\"images\"", b"\"annotations\"", b"\"categories\"", b"\"info\"", b"\"licenses\""];
    bytes.first() == Some(&b'{') && keys.iter().any(|key| bytes.windows(key.len()).any(|window| window == *key))
}

/// Captions, keypoints and the like lie beside the boxes in COCO's own folder.
fn keep_boxes(files: Vec<PathBuf>) -> Vec<PathBuf> {
    const OTHERS: [&str; 6] = ["captions_", "person_keypoints_", "panoptic_", "stuff_", "image_info_", "densepose_"];
    let is_boxes = |path: &&PathBuf| !OTHERS.iter().any(|prefix| name_of(path).starts_with(prefix));
    let boxes: Vec<PathBuf> = files.iter().filter(is_boxes).cloned().collect();
    if boxes.is_empty() { files } else { boxes }
}

/// Finds image files in the folders where they usually lie.
fn images_of(root: &Path, file: &Path, split: &str) -> ImagesByName {
    let mut candidates = Vec::new();
    if let Some(beside) = file.parent() {
        candidates.push(beside.to_owned());
    }
    for base in [root.join("images"), root.to_owned(), root.join("JPEGImages"), root.join("data")] {
        for name in std::iter::once(split).chain(words(split)).flat_map(spellings) {
            candidates.push(base.join(name));
        }
        candidates.push(base);
    }
    ImagesByName::new(root, candidates)
}

/// Whether a file's name is that of JSON.
pub(crate) fn is_json(path: &Path) -> bool {
    has_extension(path, "json")
}
