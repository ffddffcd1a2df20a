//! Boxes as deltas from anchors, and back.

use serde::{Deserialize, Serialize};

use crate::BBox;

/// Turns a box into four numbers relative to an anchor, the box deltas, and back; centre form.
///
/// With centre (x, y), width w and height h of the box, and (xa, ya), wa, ha of the anchor:
///
/// dx = (x - xa) / wa,  dy = (y - ya) / ha,  dw = ln(w / wa),  dh = ln(h / ha),  each times its weight
///
/// Source: Girshick et al. 2014, appendix C; torchvision's `models/detection/_utils.py`.
///
/// ```
/// use retinanet_anchors::{BBox, BoxCoder};
///
/// let anchor = BBox::new(0.0, 0.0, 10.0, 20.0);
/// let deltas = BoxCoder::default().encode(&BBox::new(5.0, 0.0, 15.0, 20.0), &anchor);
/// assert_eq!(deltas, [0.5, 0.0, 0.0, 0.0]);
/// assert_eq!(BoxCoder::default().decode(deltas, &anchor), BBox::new(5.0, 0.0, 15.0, 20.0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BoxCoder {
    /// Factors of `(dx, dy, dw, dh)`, positive; 1 in every RetinaNet.
    pub weights: [f32; 4],
    /// The most that decoding lets `dw` and `dh` be, once divided by their weights; ln(1000 / 16) in the references.
    pub clamp: f32,
}

impl Default for BoxCoder {
    fn default() -> Self {
        // An anchor of 16 pixels can grow to 1000, about the longest image side at the time, and no further: the
        // exponential of an untrained network's output stays finite.
        Self { weights: [1.0; 4], clamp: (1000.0f32 / 16.0).ln() }
    }
}

impl BoxCoder {
    /// The deltas `(dx, dy, dw, dh)` that lead from the anchor to the ground truth.
    ///
    /// # Numerics
    /// Finite for every finite ground truth of an anchor with positive sides, within the range of f32. A ground truth
    /// side that is not positive has no logarithm; it counts as `f32::MIN_POSITIVE` of the anchor's, so its delta is
    /// about -87 rather than NaN or infinite (such a box never matches an anchor). A NaN or infinite coordinate, or an
    /// anchor without sides, gives deltas that are not finite.
    #[must_use]
    pub fn encode(&self, ground_truth: &BBox, anchor: &BBox) -> [f32; 4] {
        let [wx, wy, ww, wh] = self.weights;
        let (x, y) = ground_truth.center();
        let (anchor_x, anchor_y) = anchor.center();
        [
            wx * (x - anchor_x) / anchor.width(),
            wy * (y - anchor_y) / anchor.height(),
            ww * positive(ground_truth.width() / anchor.width()).ln(),
            wh * positive(ground_truth.height() / anchor.height()).ln(),
        ]
    }

    /// The box that the deltas lead to from the anchor; not clipped to any image.
    ///
    /// `dw` and `dh` are clamped from above only: a box may shrink without limit.
    ///
    /// # Numerics
    /// `decode(encode(b))` is `b` up to rounding for every box with positive sides at most exp(clamp) times the
    /// anchor's. Infinite `dw` or `dh` are finite by the clamp (or give a side of 0); NaN deltas and infinite `dx` or
    /// `dy` give a box that is not finite, which [`BBox::is_finite`] tells and
    /// [`class_wise_nms`](crate::class_wise_nms) drops.
    #[must_use]
    pub fn decode(&self, deltas: [f32; 4], anchor: &BBox) -> BBox {
        let [wx, wy, ww, wh] = self.weights;
        let [dx, dy, dw, dh] = deltas;
        let (anchor_x, anchor_y) = anchor.center();
        let x = dx / wx * anchor.width() + anchor_x;
        let y = dy / wy * anchor.height() + anchor_y;
        let half_width = 0.5 * (self.clamped(dw / ww).exp() * anchor.width());
        let half_height = 0.5 * (self.clamped(dh / wh).exp() * anchor.height());
        BBox::new(x - half_width, y - half_height, x + half_width, y + half_height)
    }

    fn clamped(&self, log_ratio: f32) -> f32 {
        // Not `f32::min`, which would turn NaN into the clamp and hide a diverged network.
        if log_ratio > self.clamp { self.clamp } else { log_ratio }
    }
}

fn positive(ratio: f32) -> f32 {
    // Not `f32::max`, which would hide NaN.
    if ratio < f32::MIN_POSITIVE { f32::MIN_POSITIVE } else { ratio }
}
