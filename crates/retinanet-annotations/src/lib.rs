//! What is known of images: classes, category ids, boxes as read, and the file formats that hold them; no pixels, no
//! tensors.
//!
//! [`read()`] recognises COCO JSON, Pascal VOC, YOLO, CSV and Open Images by looking, [`DataRequest`] joins sets and selects
//! classes, [`Conversion`] writes them in any of these formats. Boxes stay in f64 as left, top, width and height, as
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
mod classes;
pub mod coco;
mod convert;
mod csv;
mod details;
mod division;
mod error;
mod file;
mod format;
mod geometry;
mod images;
mod join;
mod names;
mod open_images;
mod problem;
mod problems;
mod recognise;
mod request;
mod set;
mod split;
mod table;
mod voc;
mod yolo;

pub use atomic::{remove_abandoned, write_atomically};
pub use classes::ClassSelection;
pub use convert::{Conversion, Converted, ConvertedSplit, ImageTransfer, Loss, Losses};
pub use details::{Details, Fields, ImageDetails, Outline, SetDetails};
pub use division::Division;
pub use error::AnnotationError;
pub use file::has_image_extension;
pub use format::Format;
pub use problem::{Effect, Place, Problem};
pub use problems::{ProblemKind, Problems};
pub use request::DataRequest;
pub use set::{AnnotatedImage, Annotation, AnnotationSet, Class, DetectionRecord};

/// Tells the size of an image file in its displayed frame, or why it cannot.
///
/// Only formats with relative boxes (YOLO, Open Images) ask; the crate itself reads no pixels.
pub type ImageSizeProbe<'a> = dyn Fn(&Path) -> Result<ImageSize, String> + Sync + 'a;

/// Reads a split of a data set, in whichever of the formats it is.
///
/// | format | what is looked for |
/// |---|---|
/// | COCO | a `.json` file; `annotations/*.json`; `<split>/_annotations.coco.json`; `*.json` |
/// | Pascal VOC | `Annotations/*.xml` with `ImageSets/Main/<split>.txt`; `<split>/*.xml` |
/// | YOLO | a `.yaml` file; `data.yaml`; `images` and `labels`; `<split>/images` and `<split>/labels` |
/// | Open Images | a `.csv` file, `*.csv` or `annotations/*.csv` with `ImageID`, `LabelName` and `XMin` in its header |
/// | CSV | a `.csv` file, `*.csv` or `<split>/*.csv`, with rows of `path,x1,y1,x2,y2,class` or such a header |
///
/// A set may lie up to two folders deeper than `path`. `split` is a name such as `train`, or several as `train+val`;
/// `val`, `valid` and `validation` mean the same, and `train` finds `instances_train2017.json`. Without it, or as `all`,
/// every image of the set is read. Sets that are not divided have `train` and `val` drawn by [`Division`], which is noted;
/// [`DataRequest`] says how, and reads several sets as one.
///
/// Classes are the same for all splits of a set: COCO's sorted by category id, Pascal VOC's names of all XML files sorted,
/// YOLO's in the order of their numbers, Open Images' in the order of their descriptions, CSV's by the ids of the class file
/// or, without one, the names of all tables sorted.
///
/// # Errors
/// Nothing is there, no format or several sets fit, the split is not among those found, or a file that the whole set
/// depends on cannot be read.
pub fn read(path: &Path, split: Option<&str>, image_size: &ImageSizeProbe) -> Result<AnnotationSet, AnnotationError> {
    DataRequest::new([path]).read(split, image_size)
}

/// The names of the splits that a set itself has; none where it is not divided.
///
/// # Errors
/// Nothing is there, or no format or several sets fit.
pub fn splits(path: &Path) -> Result<Vec<String>, AnnotationError> {
    Ok(recognise::recognise(path)?.splits())
}
