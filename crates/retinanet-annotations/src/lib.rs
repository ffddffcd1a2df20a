//! What is known of images: classes, category ids, boxes as read, and the file formats that hold them; no pixels, no tensors.

use std::path::Path;

use retinanet_anchors::ImageSize;

mod atomic;
pub mod coco;
mod error;
mod problem;
mod set;

pub use atomic::write_atomically;
pub use error::AnnotationError;
pub use problem::{Effect, Place, Problem};
pub use set::{AnnotatedImage, Annotation, AnnotationSet, Class, DetectionRecord};

/// Tells the size of an image file in its displayed frame, or why it cannot.
///
/// Only formats with relative boxes (YOLO) ask; the crate itself reads no pixels.
pub type ImageSizeProbe<'a> = dyn Fn(&Path) -> Result<ImageSize, String> + Sync + 'a;

/// Stub.
pub fn read(
    _path: &Path,
    _split: Option<&str>,
    _image_size: &ImageSizeProbe,
) -> Result<AnnotationSet, AnnotationError> {
    todo!()
}
