//! Images, categories and annotations of one JSON file.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use retinanet_anchors::ImageSize;
use serde::Deserialize;

use super::field::{BoxField, Scalar};
use super::syntax_error;
use crate::file::{JSON_LIMIT, quoted, read_bytes, without_mark};
use crate::geometry::{defect, outside};
use crate::problem::ProblemLog;
use crate::set::UnusedIds;
use crate::{AnnotatedImage, Annotation, AnnotationError, AnnotationSet, Class, Effect, Place};

#[derive(Deserialize)]
struct File {
    images: Option<Vec<ImageEntry>>,
    annotations: Option<Vec<AnnotationEntry>>,
    categories: Option<Vec<CategoryEntry>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ImageEntry {
    id: Scalar,
    file_name: Scalar,
    width: Scalar,
    height: Scalar,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AnnotationEntry {
    id: Scalar,
    image_id: Scalar,
    category_id: Scalar,
    bbox: BoxField,
    area: Scalar,
    iscrowd: Scalar,
    difficult: Scalar,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CategoryEntry {
    id: Scalar,
    name: Scalar,
}

/// Reads one file; `locate` says which file an image's name means.
pub(super) fn read(path: &Path, locate: &mut dyn FnMut(&str) -> PathBuf) -> Result<AnnotationSet, AnnotationError> {
    let bytes = read_bytes(path, JSON_LIMIT)?;
    parse(path, &bytes, locate)
}

pub(super) fn parse(
    path: &Path,
    bytes: &[u8],
    locate: &mut dyn FnMut(&str) -> PathBuf,
) -> Result<AnnotationSet, AnnotationError> {
    let bytes = without_mark(bytes);
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err(AnnotationError::content(
            path,
            "ground truth",
            "an object with images, annotations and categories",
            "a list, as detections are written",
        ));
    }
    let file: File = serde_json::from_slice(bytes).map_err(|error| syntax_error(path, &error))?;
    let Some(image_entries) = file.images else {
        return Err(AnnotationError::content(path, "images", "a list", "nothing"));
    };
    let mut log = ProblemLog::new(path);
    let classes = read_categories(file.categories.unwrap_or_default(), &mut log);
    let (mut images, positions) = read_images(image_entries, locate, &mut log);
    let context = Context {
        class_positions: classes.iter().enumerate().map(|(idx, class)| (class.category_id, idx)).collect(),
        image_positions: positions,
    };
    context.read_annotations(file.annotations.unwrap_or_default(), &mut images, &mut log);
    Ok(AnnotationSet { classes, images, problems: log.problems })
}

/// Sorted by id; the ids may have gaps.
fn read_categories(entries: Vec<CategoryEntry>, log: &mut ProblemLog) -> Vec<Class> {
    let mut classes = Vec::new();
    let mut used = HashSet::new();
    for entry in entries {
        let Some(category_id) = entry.id.integer() else {
            log.push(Place::File, Effect::Noted, format!("category left out: expected an id, found {}", entry.id));
            continue;
        };
        if !used.insert(category_id) {
            log.push(
                Place::Category(category_id),
                Effect::Noted,
                "id is used again, the first is kept: expected ids that differ, found the same",
            );
            continue;
        }
        let name = entry.name.text().unwrap_or_else(|| category_id.to_string());
        classes.push(Class { category_id, name });
    }
    classes.sort_by_key(|class| class.category_id);
    classes
}

/// Where each image's annotations belong, by the two kinds of id.
#[derive(Default)]
struct ImagePositions {
    by_number: HashMap<i64, usize>,
    by_text: HashMap<String, usize>,
}

impl ImagePositions {
    fn find(&self, id: &Scalar) -> Option<usize> {
        match (id.integer(), id) {
            (Some(number), _) => self.by_number.get(&number).copied(),
            (None, Scalar::Text(text)) => self.by_text.get(text).copied(),
            _ => None,
        }
    }
}

fn read_images(
    entries: Vec<ImageEntry>,
    locate: &mut dyn FnMut(&str) -> PathBuf,
    log: &mut ProblemLog,
) -> (Vec<AnnotatedImage>, ImagePositions) {
    let mut unused = UnusedIds::above(entries.iter().filter_map(|entry| entry.id.integer()));
    let mut positions = ImagePositions::default();
    let mut images: Vec<AnnotatedImage> = Vec::with_capacity(entries.len());
    for (idx, entry) in entries.into_iter().enumerate() {
        let id = match (entry.id.integer(), &entry.id) {
            (Some(id), _) => id,
            (None, Scalar::Text(text)) if !positions.by_text.contains_key(text) => {
                let id = unused.next();
                positions.by_text.insert(text.clone(), images.len());
                id
            }
            (None, Scalar::Text(text)) => {
                log.push(
                    Place::ImageAt(idx),
                    Effect::ImageDropped,
                    format!("id is used again, the first is kept: expected ids that differ, found {}", quoted(text)),
                );
                continue;
            }
            (None, other) => {
                log.push(
                    Place::ImageAt(idx),
                    Effect::ImageDropped,
                    format!("id: expected a whole number or text, found {other}"),
                );
                continue;
            }
        };
        if positions.by_number.contains_key(&id) {
            log.push(
                Place::Image(id),
                Effect::ImageDropped,
                "id is used again, the first is kept: expected ids that differ, found the same",
            );
            continue;
        }
        let file_name = entry.file_name.text().unwrap_or_else(|| {
            log.push(Place::Image(id), Effect::Noted, format!("file_name: expected text, found {}", entry.file_name));
            id.to_string()
        });
        positions.by_number.insert(id, images.len());
        images.push(AnnotatedImage {
            id,
            path: locate(&file_name),
            file_name,
            size: size(&entry.width, &entry.height),
            annotations: Vec::new(),
        });
    }
    (images, positions)
}

fn size(width: &Scalar, height: &Scalar) -> Option<ImageSize> {
    let side = |value: &Scalar| {
        let side = u32::try_from(value.integer()?).ok()?;
        (side > 0).then_some(side as usize)
    };
    Some(ImageSize::new(side(width)?, side(height)?))
}

struct Context {
    class_positions: HashMap<i64, usize>,
    image_positions: ImagePositions,
}

impl Context {
    fn read_annotations(&self, entries: Vec<AnnotationEntry>, images: &mut [AnnotatedImage], log: &mut ProblemLog) {
        let mut used = HashSet::new();
        for (idx, entry) in entries.into_iter().enumerate() {
            let id = entry.id.integer();
            let place = id.map_or(Place::AnnotationAt(idx), Place::Annotation);
            if id.is_some_and(|id| !used.insert(id)) {
                log.push(
                    Place::AnnotationAt(idx),
                    Effect::Noted,
                    format!("id is used again: expected ids that differ, found {} again", entry.id),
                );
            }
            match self.read_annotation(&entry) {
                Err(what) => log.push(place, Effect::BoxDropped, what),
                Ok((image_idx, annotation)) => {
                    let image = &mut images[image_idx];
                    // Scoring counts such boxes as objects that are never found, as the reference does, so they stay.
                    if let Some(what) = defect(annotation.xywh).or_else(|| outside(annotation.xywh, image.size)) {
                        log.push(place, Effect::Noted, format!("{what} (kept for scoring)"));
                    }
                    image.annotations.push(annotation);
                }
            }
        }
    }

    fn read_annotation(&self, entry: &AnnotationEntry) -> Result<(usize, Annotation), String> {
        let image_idx = self
            .image_positions
            .find(&entry.image_id)
            .ok_or_else(|| format!("image_id: expected the id of an image, found {}", entry.image_id))?;
        let class_idx = entry.category_id.integer().and_then(|id| self.class_positions.get(&id).copied());
        let class_idx = class_idx
            .ok_or_else(|| format!("category_id: expected the id of a category, found {}", entry.category_id))?;
        let xywh = entry.bbox.0.as_ref().map_err(|found| format!("bbox: expected four numbers, found {found}"))?;
        let annotation = Annotation {
            class_idx,
            xywh: *xywh,
            area: entry.area.number().unwrap_or(xywh[2] * xywh[3]),
            is_crowd: entry.iscrowd.is_set(),
            is_difficult: entry.difficult.is_set(),
        };
        Ok((image_idx, annotation))
    }
}
