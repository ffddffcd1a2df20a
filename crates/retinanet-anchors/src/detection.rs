//! What a detector found.

use serde::{Deserialize, Serialize};

use crate::BBox;

/// One object found in an image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    /// Where it is, in pixels of the image it was asked about.
    pub bbox: BBox,
    /// Its class index, `0..K`: foreground only, no index stands for background.
    pub label: usize,
    /// How likely it is, in `0..=1`.
    pub score: f32,
}
