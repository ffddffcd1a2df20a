//! What is known of images: classes, category ids, boxes as read, and the file formats that hold them; no pixels, no
//! tensors.
//!
//! [`read()`] recognises COCO JSON, Pascal VOC and YOLO by looking. Boxes stay in f64 as left, top, width and height, as
//! the format gives them. What is wrong with a single box or image is a [`Problem`]: it is counted and told, and the
//! rest is read. What makes a whole set unreadable is an [`AnnotationError`].
//!
//! ```
//! use retinanet_annotations::{coco, DetectionRecord};
//!
//! let path = std::env::temp_dir().join(format!("detections-{}.json", std::process::id()));
//! let dog = DetectionRecord { image_id: 42, category_id: 18, xywh: [258.15, 41.29, 348.26, 243.78], score: 0.236 };
//! coco::write_detections(&path, &[dog])?;
//! assert_eq!(coco::read_detections(&path)?, [dog]);
//! # std::fs::remove_file(&path)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::path::Path;

use retinanet_anchors::ImageSize;

mod atomic;
pub mod coco;
mod error;
mod file;
mod geometry;
mod problem;
mod recognise;
mod set;
mod split;
mod voc;
mod yolo;

pub use atomic::{remove_abandoned, write_atomically};
pub use error::AnnotationError;
pub use problem::{Effect, Place, Problem};
pub use set::{AnnotatedImage, Annotation, AnnotationSet, Class, DetectionRecord};

/// Tells the size of an image file in its displayed frame, or why it cannot.
///
/// Only formats with relative boxes (YOLO) ask; the crate itself reads no pixels.
pub type ImageSizeProbe<'a> = dyn Fn(&Path) -> Result<ImageSize, String> + Sync + 'a;

/// Reads a split of a data set, in whichever of the three formats it is.
///
/// | format | what is looked for |
/// |---|---|
/// | COCO | a `.json` file; `annotations/*.json`; `<split>/_annotations.coco.json`; `*.json` |
/// | Pascal VOC | `Annotations/*.xml` with `ImageSets/Main/<split>.txt`; `<split>/*.xml` |
/// | YOLO | a `.yaml` file; `data.yaml`; `images` and `labels`; `<split>/images` and `<split>/labels` |
///
/// A set may lie up to two folders deeper than `path`. `split` is a name such as `train`, or several as `train+val`;
/// `val`, `valid` and `validation` mean the same, and `train` finds `instances_train2017.json`. Without it, all images of
/// the set are read. Where a Pascal VOC set has no lists, every split is all of it, which is noted.
///
/// Classes are the same for all splits of a set: COCO's sorted by category id, Pascal VOC's names of all XML files sorted,
/// YOLO's in the order of their numbers.
///
/// # Errors
/// Nothing is there, no format or several sets fit, the split is not among those found, or a file that the whole set
/// depends on cannot be read.
pub fn read(path: &Path, split: Option<&str>, image_size: &ImageSizeProbe) -> Result<AnnotationSet, AnnotationError> {
    recognise::recognise(path)?.read(path, split, image_size)
}

/// The names of the splits that [`read()`] would find; none where the set is not divided.
///
/// # Errors
/// Nothing is there, or no format or several sets fit.
pub fn splits(path: &Path) -> Result<Vec<String>, AnnotationError> {
    Ok(recognise::recognise(path)?.splits())
}
