//! Non-maximum suppression.

use std::cmp::Ordering;
use std::collections::HashMap;

use crate::BBox;
use crate::bbox::iou_or_nan;

/// Greedy non-maximum suppression within each class: the indices of the boxes kept, by descending score, those of equal
/// score in the order given.
///
/// From the best score down, a box is kept unless its IoU with a box of its class kept before is greater than
/// `iou_threshold`; equal to it is kept. Boxes of different classes never suppress each other.
///
/// Source: torchvision's `ops/boxes.py`, `batched_nms`; Lin et al. 2017, section 4.1, has a threshold of 0.5.
///
/// # Shapes
/// - `boxes`, `scores`, `labels`: as long as each other
///
/// # Numerics
/// A box that has a NaN score, or is not finite, is dropped; an empty one overlaps nothing and is kept. Memory is
/// proportional to the number of boxes, time to its product with the number kept of a class.
///
/// # Panics
/// The three slices differ in length.
///
/// ```
/// use retinanet_anchors::{BBox, class_wise_nms};
///
/// let boxes = [BBox::new(0.0, 0.0, 9.0, 9.0), BBox::new(0.0, 0.0, 10.0, 10.0), BBox::new(0.0, 0.0, 10.0, 10.0)];
/// assert_eq!(class_wise_nms(&boxes, &[0.6, 0.9, 0.7], &[0, 0, 1], 0.5), [1, 2]);
/// ```
#[must_use]
pub fn class_wise_nms(boxes: &[BBox], scores: &[f32], labels: &[usize], iou_threshold: f32) -> Vec<usize> {
    assert_eq!(boxes.len(), scores.len(), "one score a box");
    assert_eq!(boxes.len(), labels.len(), "one label a box");

    let mut candidates: Vec<usize> =
        (0..boxes.len()).filter(|&idx| !scores[idx].is_nan() && boxes[idx].is_finite()).collect();
    // The sort is stable, which settles ties; without NaN every pair of scores has an order.
    candidates.sort_by(|&a, &b| scores[b].partial_cmp(&scores[a]).unwrap_or(Ordering::Equal));

    let mut kept_by_label: HashMap<usize, Vec<(BBox, f32)>> = HashMap::new();
    candidates.retain(|&idx| {
        let (bbox, area) = (boxes[idx], boxes[idx].area());
        let kept = kept_by_label.entry(labels[idx]).or_default();
        let suppressed = kept.iter().any(|(other, other_area)| {
            let iou = iou_or_nan(&bbox, area, other, *other_area);
            // An overlap of nothing never suppresses, even below a negative threshold.
            iou > 0.0 && iou > iou_threshold
        });
        if !suppressed {
            kept.push((bbox, area));
        }
        !suppressed
    });
    candidates
}
