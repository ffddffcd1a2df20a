//! Batches: pictures of several sizes on one padded canvas.

use retinanet_anchors::{BBox, ImageSize};

/// Normalised pictures with their boxes, as the network takes them.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// RGB `[N, H, W, 3]`, normalised; 0 right of and below each picture.
    pub pixels: Vec<f32>,
    /// W and H: the largest width and height of the batch, each rounded up to a multiple of
    /// [`pad_to`](crate::Preprocessing::pad_to).
    pub padded: ImageSize,
    /// The N pictures.
    pub images: Vec<BatchImage>,
}

/// What is known of one picture of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchImage {
    /// Index in the data set; position in the slice for pictures that come from none.
    pub index: usize,
    /// Size before the resize (after augmentation, where there is any).
    pub original: ImageSize,
    /// Size after the resize, without padding.
    pub resized: ImageSize,
    /// Ground truth in the resized frame, in pixels.
    pub boxes: Vec<BBox>,
    /// The class index of each box.
    pub classes: Vec<usize>,
}

impl BatchImage {
    /// What takes coordinates from the original to the resized frame, `(across, down)`.
    ///
    /// They differ a little, as both sides were rounded: torchvision's ratios of integer sizes in f32.
    #[must_use]
    pub fn scale(&self) -> (f32, f32) {
        ratios(self.original, self.resized)
    }

    /// A box of the resized frame in pixels of the original, cut at its edges: rounding alone would put a box that ends
    /// at the edge a little past it.
    #[must_use]
    pub fn to_original(&self, bbox: &BBox) -> BBox {
        let (sx, sy) = ratios(self.resized, self.original);
        bbox.scale(sx, sy).clip(self.original)
    }
}

pub(crate) fn ratios(from: ImageSize, to: ImageSize) -> (f32, f32) {
    (to.width as f32 / from.width as f32, to.height as f32 / from.height as f32)
}
