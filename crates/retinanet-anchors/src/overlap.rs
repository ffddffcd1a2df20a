//! The IoU of one box with many anchors, laid out for vector instructions.

use crate::BBox;
use crate::bbox::iou_or_nan;

/// Anchors worked on at once: their seven arrays stay in the first-level cache, and the hull of so many neighbours is
/// still small beside an image.
pub(crate) const BLOCK: usize = 512;

/// Up to [`BLOCK`] anchors, each coordinate on its own. The unused rest is empty and overlaps nothing.
pub(crate) struct AnchorBlock {
    x0: [f32; BLOCK],
    y0: [f32; BLOCK],
    x1: [f32; BLOCK],
    y1: [f32; BLOCK],
    area: [f32; BLOCK],
    /// Holds every anchor of the block.
    hull: BBox,
}

impl AnchorBlock {
    /// The block of these anchors; those past [`BLOCK`] are left out.
    pub(crate) fn new(anchors: &[BBox]) -> Self {
        let mut block = Self {
            x0: [0.0; BLOCK],
            y0: [0.0; BLOCK],
            x1: [0.0; BLOCK],
            y1: [0.0; BLOCK],
            area: [0.0; BLOCK],
            hull: BBox::new(f32::INFINITY, f32::INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY),
        };
        for (idx, anchor) in anchors.iter().take(BLOCK).enumerate() {
            block.x0[idx] = anchor.x0;
            block.y0[idx] = anchor.y0;
            block.x1[idx] = anchor.x1;
            block.y1[idx] = anchor.y1;
            block.area[idx] = anchor.area();
            // `min` and `max` pass over NaN, as they should: such an anchor overlaps nothing.
            let hull = &mut block.hull;
            *hull = BBox::new(
                hull.x0.min(anchor.x0),
                hull.y0.min(anchor.y0),
                hull.x1.max(anchor.x1),
                hull.y1.max(anchor.y1),
            );
        }
        block
    }
}

/// Writes the IoU of `bbox` with each anchor, 0 for those that overlap nothing, and returns the best.
///
/// Where the best is 0, `ious` may be left as it was.
pub(crate) fn block_overlaps(block: &AnchorBlock, bbox: &BBox, ious: &mut [f32; BLOCK]) -> f32 {
    let area = bbox.area();
    let hull = &block.hull;
    // A block is far smaller than an image, so most boxes miss it. NaN is outside.
    let inside = bbox.x0 < hull.x1 && hull.x0 < bbox.x1 && bbox.y0 < hull.y1 && hull.y0 < bbox.y1;
    if !inside {
        return 0.0;
    }
    // Non-negative floats are ordered as their bits are, and unlike a maximum of floats one of integers vectorises.
    let mut best_bits = 0i32;
    for idx in 0..BLOCK {
        let anchor = BBox::new(block.x0[idx], block.y0[idx], block.x1[idx], block.y1[idx]);
        let iou = iou_or_nan(&anchor, block.area[idx], bbox, area);
        let iou = if iou > 0.0 { iou } else { 0.0 };
        ious[idx] = iou;
        best_bits = best_bits.max(iou.to_bits() as i32);
    }
    f32::from_bits(best_bits as u32)
}
