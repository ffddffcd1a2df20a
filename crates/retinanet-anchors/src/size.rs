//! Sizes of images and feature grids.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Width and height, in pixels of an image or cells of a feature grid.
///
/// ```
/// use retinanet_anchors::ImageSize;
///
/// assert_eq!(ImageSize::new(640, 480).to_string(), "640x480");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImageSize {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl ImageSize {
    /// The size with these sides; a side may be 0.
    #[must_use]
    pub const fn new(width: usize, height: usize) -> Self {
        Self { width, height }
    }
}

impl fmt::Display for ImageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}
