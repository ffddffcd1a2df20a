//! Non-maximum suppression.

use crate::BBox;

/// Greedy suppression within each class: kept indices, by descending score.
#[must_use]
pub fn class_wise_nms(
    boxes: &[BBox],
    scores: &[f32],
    labels: &[usize],
    iou_threshold: f32,
) -> Vec<usize> {
    let _ = (boxes, scores, labels, iou_threshold);
    unimplemented!()
}
