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

    let mut order: Vec<usize> = (0..boxes.len()).filter(|&idx| !scores[idx].is_nan()).collect();
    // The sort is stable, which settles ties; without NaN every pair of scores has an order.
    order.sort_by(|&a, &b| scores[b].partial_cmp(&scores[a]).unwrap_or(Ordering::Equal));

    let mut classes = HashMap::new();
    let mut suppression = Suppression::new(iou_threshold);
    order.retain(|&idx| {
        // Labels may be any numbers; a class is the position of its first box.
        let next = classes.len();
        suppression.keeps(&boxes[idx], *classes.entry(labels[idx]).or_insert(next))
    });
    order
}

/// Suppression box by box, from the best score down: what [`class_wise_nms`] does, for those who make boxes as they go and
/// stop when they have enough.
///
/// ```
/// use retinanet_anchors::{BBox, Suppression};
///
/// let mut suppression = Suppression::new(0.5);
/// assert!(suppression.keeps(&BBox::new(0.0, 0.0, 10.0, 10.0), 0));
/// assert!(!suppression.keeps(&BBox::new(0.0, 0.0, 9.0, 9.0), 0));
/// assert!(suppression.keeps(&BBox::new(0.0, 0.0, 9.0, 9.0), 1));
/// ```
#[derive(Clone, Debug)]
pub struct Suppression {
    iou_threshold: f32,
    /// The boxes kept of each class.
    kept: Vec<Kept>,
}

impl Suppression {
    /// Nothing kept yet; a box goes if its IoU with one of its class kept before is greater than the threshold.
    #[must_use]
    pub const fn new(iou_threshold: f32) -> Self {
        Self { iou_threshold, kept: Vec::new() }
    }

    /// Whether the box stays, which the later ones of its class are then held against.
    ///
    /// # Numerics
    /// A box that is not finite goes; an empty one overlaps nothing and stays. Memory is proportional to the boxes kept and
    /// the highest class.
    pub fn keeps(&mut self, bbox: &BBox, class: usize) -> bool {
        if !bbox.is_finite() {
            return false;
        }
        if class >= self.kept.len() {
            self.kept.resize_with(class + 1, Kept::default);
        }
        let kept = &mut self.kept[class];
        let is_kept = !kept.suppress(bbox, self.iou_threshold);
        if is_kept {
            kept.push(*bbox);
        }
        is_kept
    }

    /// Forgets all boxes and keeps the memory.
    pub fn clear(&mut self) {
        for kept in &mut self.kept {
            kept.len = 0;
            kept.blocks.clear();
        }
    }
}

/// Boxes compared at once.
const LANES: usize = 8;

/// The boxes kept of one class, in blocks of [`LANES`], the unused rest empty.
#[derive(Clone, Debug, Default)]
struct Kept {
    len: usize,
    blocks: Vec<Block>,
}

/// Each coordinate on its own, as vector instructions want it.
#[derive(Clone, Debug, Default)]
struct Block {
    x0: [f32; LANES],
    y0: [f32; LANES],
    x1: [f32; LANES],
    y1: [f32; LANES],
    area: [f32; LANES],
}

impl Kept {
    fn suppress(&self, bbox: &BBox, iou_threshold: f32) -> bool {
        let area = bbox.area();
        self.blocks.iter().any(|block| {
            // Most boxes of a picture do not touch, which four comparisons tell and no division has to.
            let mut touches = false;
            for i in 0..LANES {
                touches |= (block.x0[i] < bbox.x1)
                    & (bbox.x0 < block.x1[i])
                    & (block.y0[i] < bbox.y1)
                    & (bbox.y0 < block.y1[i]);
            }
            touches && block.suppresses(bbox, area, iou_threshold)
        })
    }

    fn push(&mut self, bbox: BBox) {
        let lane = self.len % LANES;
        if lane == 0 {
            self.blocks.push(Block::default());
        }
        if let Some(block) = self.blocks.last_mut() {
            [block.x0[lane], block.y0[lane], block.x1[lane], block.y1[lane]] = bbox.to_array();
            block.area[lane] = bbox.area();
        }
        self.len += 1;
    }
}

impl Block {
    fn suppresses(&self, bbox: &BBox, area: f32, iou_threshold: f32) -> bool {
        let mut suppresses = false;
        for i in 0..LANES {
            let other = BBox::new(self.x0[i], self.y0[i], self.x1[i], self.y1[i]);
            let iou = iou_or_nan(bbox, area, &other, self.area[i]);
            // An overlap of nothing never suppresses, even below a negative threshold.
            suppresses |= (iou > 0.0) & (iou > iou_threshold);
        }
        suppresses
    }
}
