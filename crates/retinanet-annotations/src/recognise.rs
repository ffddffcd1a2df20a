//! Which format a path is in, told by looking.

use std::path::{Path, PathBuf};

use crate::coco::folder::{CocoFolder, is_json};
use crate::file::{folders, has_extension, list, name_of};
use crate::voc::VocFolder;
use crate::yolo::YoloFolder;
use crate::{AnnotationError, AnnotationSet, ImageSizeProbe, split};

/// A data set that was found.
#[derive(Debug)]
pub(crate) enum Found {
    Coco(CocoFolder),
    Voc(VocFolder),
    Yolo(YoloFolder),
}

/// How many folders are looked into, at most, before it is no data set.
const MAX_FOLDERS: usize = 256;

const LOOKED_FOR: &str = "COCO (annotations/*.json, <split>/_annotations.coco.json or a .json file), Pascal VOC \
    (Annotations/*.xml or <split>/*.xml) or YOLO (data.yaml, or images and labels)";

impl Found {
    pub(crate) fn splits(&self) -> Vec<String> {
        match self {
            Self::Coco(folder) => folder.splits(),
            Self::Voc(folder) => folder.splits(),
            Self::Yolo(folder) => folder.splits(),
        }
    }

    pub(crate) fn read(
        &self,
        path: &Path,
        split: Option<&str>,
        image_size: &ImageSizeProbe,
    ) -> Result<AnnotationSet, AnnotationError> {
        let request = split::parts(path, split)?;
        match self {
            Self::Coco(folder) => folder.read(request.as_deref()),
            Self::Voc(folder) => folder.read(request.as_deref()),
            Self::Yolo(folder) => folder.read(request.as_deref(), image_size),
        }
    }
}

/// Looks at a file or folder, and where the folder itself is none, at the folders in it and in those.
pub(crate) fn recognise(path: &Path) -> Result<Found, AnnotationError> {
    if path.is_file() {
        return recognise_file(path);
    }
    if !path.is_dir() {
        return Err(AnnotationError::NotFound { path: path.to_owned() });
    }
    let mut level = vec![path.to_owned()];
    for _ in 0..3 {
        let mut found: Vec<(PathBuf, Found)> = Vec::new();
        for folder in level.iter().take(MAX_FOLDERS) {
            if let Some(set) = recognise_folder(folder)? {
                found.push((folder.clone(), set));
            }
        }
        match found.len() {
            0 => level = level.iter().take(MAX_FOLDERS).flat_map(|folder| folders(folder)).collect(),
            1 => return Ok(found.remove(0).1),
            _ => {
                let names: Vec<String> = found.iter().map(|(folder, _)| folder.display().to_string()).collect();
                return Err(unknown(path, "one data set", names.join(", ")));
            }
        }
    }
    let entries: Vec<String> = list(path)?.iter().take(8).map(|entry| name_of(entry)).collect();
    let entries = if entries.is_empty() { "an empty folder".to_owned() } else { entries.join(", ") };
    Err(unknown(path, LOOKED_FOR, entries))
}

fn recognise_file(path: &Path) -> Result<Found, AnnotationError> {
    if is_json(path) {
        Ok(Found::Coco(CocoFolder::file(path)))
    } else if has_extension(path, "yaml") || has_extension(path, "yml") {
        Ok(Found::Yolo(YoloFolder::file(path)?))
    } else {
        Err(unknown(path, "a folder, a .json file (COCO) or a .yaml file (YOLO)", "another file".to_owned()))
    }
}

fn recognise_folder(folder: &Path) -> Result<Option<Found>, AnnotationError> {
    if let Some(coco) = CocoFolder::find(folder) {
        return Ok(Some(Found::Coco(coco)));
    }
    if let Some(voc) = VocFolder::find(folder) {
        return Ok(Some(Found::Voc(voc)));
    }
    Ok(YoloFolder::find(folder)?.map(Found::Yolo))
}

fn unknown(path: &Path, expected: &str, found: String) -> AnnotationError {
    AnnotationError::UnknownFormat { path: path.to_owned(), expected: expected.to_owned(), found }
}
