//! COCO's JSON files.

use std::path::Path;

use crate::{AnnotationError, AnnotationSet, DetectionRecord};

/// Stub.
pub fn read_ground_truth(_path: &Path) -> Result<AnnotationSet, AnnotationError> {
    todo!()
}
/// Stub.
pub fn read_detections(_path: &Path) -> Result<Vec<DetectionRecord>, AnnotationError> {
    todo!()
}
/// Stub.
pub fn write_ground_truth(_path: &Path, _set: &AnnotationSet) -> Result<(), AnnotationError> {
    todo!()
}
/// Stub.
pub fn write_detections(
    _path: &Path,
    _detections: &[DetectionRecord],
) -> Result<(), AnnotationError> {
    todo!()
}
