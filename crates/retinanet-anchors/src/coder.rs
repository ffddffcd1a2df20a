//! Boxes as offsets from anchors, and back.

use serde::{Deserialize, Serialize};

use crate::BBox;

/// Turns a box into four numbers relative to an anchor, and back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BoxCoder {
    /// Factors of `(dx, dy, dw, dh)`.
    pub weights: [f32; 4],
    /// The most that `dw` and `dh` may be, once divided by their weights.
    pub clamp: f32,
}

impl Default for BoxCoder {
    fn default() -> Self {
        Self {
            weights: [1.0; 4],
            clamp: (1000.0f32 / 16.0).ln(),
        }
    }
}

impl BoxCoder {
    /// `(dx, dy, dw, dh)`.
    #[must_use]
    pub fn encode(&self, ground_truth: &BBox, anchor: &BBox) -> [f32; 4] {
        let _ = (ground_truth, anchor);
        unimplemented!()
    }

    /// The box.
    #[must_use]
    pub fn decode(&self, deltas: [f32; 4], anchor: &BBox) -> BBox {
        let _ = (deltas, anchor);
        unimplemented!()
    }
}
