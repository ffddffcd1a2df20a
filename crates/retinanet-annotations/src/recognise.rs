//! Which format a path is in, told by looking.

use std::path::{Path, PathBuf};

use crate::coco::folder::{CocoFolder, is_json};
use crate::csv::CsvFolder;
use crate::file::{first_bytes, folders, has_extension, list, name_of, refuse_utf16};
use crate::open_images::{OpenImagesFolder, is_csv};
use crate::voc::VocFolder;
use crate::yolo::YoloFolder;
use crate::{AnnotationError, AnnotationSet, Format, ImageSizeProbe};

/// A data set that was found.
#[derive(Debug)]
pub(crate) enum Found {
    Coco(CocoFolder),
    Voc(VocFolder),
    Yolo(YoloFolder),
    Csv(CsvFolder),
    OpenImages(OpenImagesFolder),
}

/// How a set is read.
pub(crate) struct Reading<'a> {
    /// Tells sizes where boxes are relative to them.
    pub(crate) image_size: &'a ImageSizeProbe<'a>,
    /// Whether details are kept.
    pub(crate) details: bool,
    /// Whether a box is one of each kind above its own, too.
    pub(crate) expand_hierarchy: bool,
}

/// How many folders are looked into, at most, before it is no data set.
const MAX_FOLDERS: usize = 256;

const LOOKED_FOR: &str = "COCO (annotations/*.json, <split>/_annotations.coco.json or a .json file), Pascal VOC \
    (Annotations/*.xml or <split>/*.xml), YOLO (data.yaml, or images and labels), Open Images (a table of ImageID and \
    LabelName) or CSV (a table of path,x1,y1,x2,y2,class)";

impl Found {
    pub(crate) fn splits(&self) -> Vec<String> {
        match self {
            Self::Coco(folder) => folder.splits(),
            Self::Voc(folder) => folder.splits(),
            Self::Yolo(folder) => folder.splits(),
            Self::Csv(folder) => folder.splits(),
            Self::OpenImages(folder) => folder.splits(),
        }
    }

    pub(crate) fn format(&self) -> Format {
        match self {
            Self::Coco(_) => Format::Coco,
            Self::Voc(_) => Format::Voc,
            Self::Yolo(_) => Format::Yolo,
            Self::Csv(_) => Format::Csv,
            Self::OpenImages(_) => Format::OpenImages,
        }
    }

    /// Reads splits by their names, or every image where none are asked for.
    pub(crate) fn read(&self, splits: Option<&[&str]>, reading: &Reading) -> Result<AnnotationSet, AnnotationError> {
        match self {
            Self::Coco(folder) => folder.read(splits, reading),
            Self::Voc(folder) => folder.read(splits, reading),
            Self::Yolo(folder) => folder.read(splits, reading),
            Self::Csv(folder) => folder.read(splits, reading),
            Self::OpenImages(folder) => folder.read(splits, reading),
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
    // Tables last: they lie about in sets of other formats, too.
    for look in [recognise_folder, |folder: &Path| Ok(CsvFolder::find(folder).map(Found::Csv))] {
        if let Some(found) = look_down(path, look)? {
            return Ok(found);
        }
    }
    let entries: Vec<String> = list(path)?.iter().take(8).map(|entry| name_of(entry)).collect();
    let entries = if entries.is_empty() { "an empty folder".to_owned() } else { entries.join(", ") };
    Err(unknown(path, LOOKED_FOR, entries))
}

/// Looks into a folder, into the folders in it, and into those in them.
fn look_down(
    path: &Path,
    look: impl Fn(&Path) -> Result<Option<Found>, AnnotationError>,
) -> Result<Option<Found>, AnnotationError> {
    let mut level = vec![path.to_owned()];
    for _ in 0..3 {
        let mut found: Vec<(PathBuf, Found)> = Vec::new();
        for folder in level.iter().take(MAX_FOLDERS) {
            if let Some(set) = look(folder)? {
                found.push((folder.clone(), set));
            }
        }
        match found.len() {
            0 => level = level.iter().take(MAX_FOLDERS).flat_map(|folder| folders(folder)).collect(),
            1 => return Ok(Some(found.remove(0).1)),
            _ => {
                let names: Vec<String> = found.iter().map(|(folder, _)| folder.display().to_string()).collect();
                return Err(unknown(path, "one data set", names.join(", ")));
            }
        }
    }
    Ok(None)
}

fn recognise_file(path: &Path) -> Result<Found, AnnotationError> {
    if is_json(path) {
        Ok(Found::Coco(CocoFolder::file(path)))
    } else if has_extension(path, "yaml") || has_extension(path, "yml") {
        Ok(Found::Yolo(YoloFolder::file(path)?))
    } else if is_csv(path) {
        refuse_utf16(path, &first_bytes(path))?;
        let table =
            OpenImagesFolder::file(path).map(Found::OpenImages).or_else(|| CsvFolder::file(path).map(Found::Csv));
        let expected =
            "rows of path,x1,y1,x2,y2,class, or a header with the names of such columns, or Open Images' header";
        table.ok_or_else(|| unknown(path, expected, "another table".to_owned()))
    } else {
        let expected = "a folder, a .json file (COCO), a .yaml file (YOLO) or a .csv file (CSV, Open Images)";
        Err(unknown(path, expected, "another file".to_owned()))
    }
}

fn recognise_folder(folder: &Path) -> Result<Option<Found>, AnnotationError> {
    if let Some(coco) = CocoFolder::find(folder) {
        return Ok(Some(Found::Coco(coco)));
    }
    if let Some(voc) = VocFolder::find(folder) {
        return Ok(Some(Found::Voc(voc)));
    }
    if let Some(yolo) = YoloFolder::find(folder)? {
        return Ok(Some(Found::Yolo(yolo)));
    }
    Ok(OpenImagesFolder::find(folder).map(Found::OpenImages))
}

fn unknown(path: &Path, expected: &str, found: String) -> AnnotationError {
    AnnotationError::UnknownFormat { path: path.to_owned(), expected: expected.to_owned(), found }
}
