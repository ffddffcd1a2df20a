//! YOLO: one text file an image, with boxes relative to its size.
//!
//! Lines are `class cx cy width height`, or `class x y x y x y ...` for a polygon, of which the bounding box is taken.
//! Sizes come from the image files. An empty label file is an image with no objects; so is a missing one, which is
//! reported. Folders that `data.yaml` names wrongly are looked for nearby, and what was found is noted.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::file::{name_of, read_text, stem_of, with_extension};
use crate::names::{FoldedNames, folded};
use crate::recognise::Reading;
use crate::{AnnotatedImage, AnnotationError, AnnotationSet, Class, Effect, Place, Problem, Problems, split};

mod config;
mod folder;
mod labels;
mod write;

pub(crate) use folder::YoloFolder;
pub(crate) use write::{polygon, write};

impl YoloFolder {
    pub(crate) fn read(&self, request: Option<&[&str]>, reading: &Reading) -> Result<AnnotationSet, AnnotationError> {
        let mut problems = self.problems.clone();
        let path = self.config_path.as_deref().unwrap_or(&self.root);
        let chosen = if self.splits().is_empty() {
            (0..self.splits.len()).collect()
        } else {
            split::choose(path, request, &self.splits())?
        };
        let mut images: Vec<PathBuf> = Vec::new();
        let mut seen = HashSet::new();
        for idx in chosen {
            let split = &self.splits[idx];
            if let Some(missing) = &split.missing {
                return Err(AnnotationError::content(
                    path,
                    &split.name,
                    "a folder that is there",
                    format!("{missing:?}"),
                ));
            }
            for place in &split.places {
                let listed = self.images(place, &mut problems)?;
                images.extend(listed.into_iter().filter(|image| seen.insert(image.clone())));
            }
        }
        let label_folders = self.label_folders(&images)?;
        let classes = self.classes(&label_folders);
        let positions: HashMap<i64, usize> =
            classes.iter().enumerate().map(|(idx, class)| (class.category_id, idx)).collect();
        let mut set = AnnotationSet { classes, ..AnnotationSet::default() };
        let mut folded = FoldedNames::default();
        for image in &images {
            let labels = image.parent().and_then(|folder| label_folders.get(folder));
            let Some(labels) = labels else { continue };
            let name = format!("{}.txt", stem_of(image));
            let exact = labels.join(&name);
            let label = if exact.is_file() { None } else { folded.find(labels, &name) }.unwrap_or(exact);
            let id = set.images.len() as i64 + 1;
            if let Some(image) = read_image(id, image, &label, reading, &positions, &mut problems) {
                set.images.push(image);
            }
        }
        report_labels_without_image(&images, &label_folders, &mut problems);
        set.problems = problems;
        Ok(set)
    }

    /// The folder of labels for each folder of images.
    fn label_folders(&self, images: &[PathBuf]) -> Result<HashMap<PathBuf, PathBuf>, AnnotationError> {
        let mut label_folders: HashMap<PathBuf, PathBuf> = HashMap::new();
        for folder in images.iter().filter_map(|image| image.parent()) {
            if !label_folders.contains_key(folder) {
                let labels = self.label_folder(folder).ok_or_else(|| {
                    AnnotationError::content(folder, "labels", "a folder labels in place of images", "nothing")
                })?;
                label_folders.insert(folder.to_owned(), labels);
            }
        }
        Ok(label_folders)
    }

    /// The classes of the YAML; without one those of `classes.txt`, else a number for each class in use.
    fn classes(&self, label_folders: &HashMap<PathBuf, PathBuf>) -> Vec<Class> {
        if self.config_path.is_some() {
            return self.config.classes.clone();
        }
        let lists = ["classes.txt", "obj.names", "labels/classes.txt"].map(|name| self.root.join(name));
        if let Some(text) = lists.iter().filter(|path| path.is_file()).find_map(|path| read_text(path).ok()) {
            let names = text.lines().map(str::trim).filter(|name| !name.is_empty());
            return names.zip(0..).map(|(name, category_id)| Class { category_id, name: name.to_owned() }).collect();
        }
        // Every split counts, so that all have the same classes.
        let mut folders: BTreeSet<PathBuf> = label_folders.values().cloned().collect();
        for split in &self.splits {
            folders.extend(split.places.iter().filter_map(|place| self.label_folder(place)));
        }
        let mut numbers: BTreeSet<i64> = BTreeSet::new();
        for label in folders.iter().flat_map(|folder| with_extension(folder, "txt")) {
            if let Ok(text) = read_text(&label) {
                numbers.extend(labels::class_numbers(&text).filter(|&number| number >= 0));
            }
        }
        numbers.into_iter().map(|category_id| Class { category_id, name: category_id.to_string() }).collect()
    }
}

/// Left, top, right and bottom of a polygon, whose corners are pairs in a row.
fn extent(points: &[f64]) -> [f64; 4] {
    let along = |offset: usize| {
        let along = points.iter().skip(offset).step_by(2);
        along.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &v| (low.min(v), high.max(v)))
    };
    let ((left, right), (top, bottom)) = (along(0), along(1));
    [left, top, right, bottom]
}

/// The corners of a box in the order in which they are written among polygons.
fn corners([left, top, right, bottom]: [f64; 4]) -> [f64; 8] {
    [left, top, right, top, right, bottom, left, bottom]
}

fn read_image(
    id: i64,
    path: &Path,
    label: &Path,
    reading: &Reading,
    positions: &HashMap<i64, usize>,
    problems: &mut Problems,
) -> Option<AnnotatedImage> {
    let mut report = |path: &Path, what: String, effect| {
        problems.push(Problem { path: path.into(), place: Place::File, what, effect });
    };
    let size = match (reading.image_size)(path) {
        Ok(size) if size.width > 0 && size.height > 0 => size,
        Ok(size) => {
            report(path, format!("image size: expected more than 0 pixels, found {size}"), Effect::ImageDropped);
            return None;
        }
        Err(reason) => {
            report(path, format!("image size: expected a readable image, found {reason}"), Effect::ImageDropped);
            return None;
        }
    };
    let mut annotations = Vec::new();
    if label.is_file() {
        match read_text(label) {
            Ok(text) => {
                let (boxes, found) = labels::parse(label, &text, size, positions, reading.details);
                annotations = boxes;
                problems.append(found);
            }
            Err(error) => {
                // Without its boxes the image would teach that its objects are background.
                report(path, format!("labels cannot be read: {error}"), Effect::ImageDropped);
                return None;
            }
        }
    } else {
        let what = format!("labels: expected {}, found nothing", label.display());
        report(path, what, Effect::Noted);
    }
    Some(AnnotatedImage {
        id,
        path: path.to_owned(),
        file_name: name_of(path),
        size: Some(size),
        annotations,
        details: None,
    })
}

fn report_labels_without_image(images: &[PathBuf], label_folders: &HashMap<PathBuf, PathBuf>, problems: &mut Problems) {
    let stems: HashSet<(Option<&PathBuf>, String)> = images
        .iter()
        .map(|image| (image.parent().and_then(|folder| label_folders.get(folder)), folded(&stem_of(image))))
        .collect();
    let folders: BTreeSet<&PathBuf> = label_folders.values().collect();
    for folder in folders {
        for label in with_extension(folder, "txt") {
            let stem = stem_of(&label);
            let is_other = ["classes", "readme", "labels", "notes"].iter().any(|name| stem.eq_ignore_ascii_case(name));
            if !is_other && !stems.contains(&(Some(folder), folded(&stem))) {
                let what = "image: expected one of this name, found nothing".to_owned();
                problems.push(Problem { path: label.into(), place: Place::File, what, effect: Effect::Noted });
            }
        }
    }
}
