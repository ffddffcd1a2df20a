//! COCO's JSON files: ground truth and detections, read and written.
//!
//! Ground truth is an object with `images`, `annotations` and `categories`; detections are a list of objects with
//! `image_id`, `category_id`, `bbox` and `score`. Boxes are left, top, width, height in pixels.
//!
//! Ground truth is kept as pycocotools sees it: boxes without extent or outside of their image stay, since scoring counts
//! them as objects that are never found; they are reported, and training leaves them out
//! ([`Annotation::has_extent`](crate::Annotation::has_extent)). Left out and reported are annotations whose image or
//! category is not in the file, as pycocotools never looks at them, and those without four numbers for a box, where it
//! fails.

use std::path::Path;

use crate::file::{JSON_LIMIT, read_bytes, refuse_utf16};
use crate::images::ImagesByName;
use crate::{AnnotationError, AnnotationSet, DetectionRecord};

mod detections;
mod entry;
mod field;
pub(crate) mod folder;
mod ground_truth;
mod write;

pub(crate) use write::{annotation_ids, write_splits};

/// Reads one file of ground truth. Images are taken to lie beside it; [`read`](crate::read()) looks for them.
///
/// Category ids may have gaps: classes are sorted by id, and the class index is the position. Annotation ids may start at
/// 0 or be missing. Image ids may be text: a number where it is one, else an id above all others. Segmentations and further
/// fields are skipped; a [`DataRequest`](crate::DataRequest) can keep them. A missing area is width times height.
///
/// # Errors
/// The file cannot be read, is no JSON, or has no list of images. A wrong value of one image or annotation is a
/// [`Problem`](crate::Problem) instead.
pub fn read_ground_truth(path: &Path) -> Result<AnnotationSet, AnnotationError> {
    let beside = path.parent().unwrap_or(Path::new(""));
    let mut images = ImagesByName::new(beside, [beside.to_owned()]);
    ground_truth::read(path, false, &mut |file_name| images.locate(file_name))
}

/// Reads one file of detections: a list, or an object with the list under `annotations`.
///
/// # Errors
/// The file cannot be read or is no JSON, or an entry lacks an id, four numbers for its box, or a score: a detection that
/// is left out silently would change the score of the others.
pub fn read_detections(path: &Path) -> Result<Vec<DetectionRecord>, AnnotationError> {
    let bytes = read_bytes(path, JSON_LIMIT)?;
    refuse_utf16(path, &bytes)?;
    detections::parse(path, &bytes)
}

/// Writes ground truth, whole or not at all; annotation ids count from 1 in the order of the set.
///
/// # Errors
/// A number is not finite, a class index is past the classes, or the folder cannot be written to.
pub fn write_ground_truth(path: &Path, set: &AnnotationSet) -> Result<(), AnnotationError> {
    write::ground_truth(path, set)
}

/// Writes detections as a list, whole or not at all.
///
/// # Errors
/// A number is not finite, or the folder cannot be written to.
pub fn write_detections(path: &Path, detections: &[DetectionRecord]) -> Result<(), AnnotationError> {
    write::detections(path, detections)
}

fn syntax_error(path: &Path, error: &serde_json::Error) -> AnnotationError {
    let message = error.to_string();
    // The parser ends its words with the place, which the error has already.
    let message = message.rfind(" at line ").map_or(message.as_str(), |end| &message[..end]).to_owned();
    AnnotationError::Syntax { path: path.to_owned(), line: error.line(), column: error.column(), message }
}
