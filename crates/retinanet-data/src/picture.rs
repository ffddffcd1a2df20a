//! Pictures in memory: bytes as decoded, and floats for callers who have them.

use retinanet_anchors::ImageSize;

/// A decoded picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Columns and rows, in the displayed frame.
    pub size: ImageSize,
    /// RGB bytes, `[H, W, 3]`.
    pub pixels: Vec<u8>,
}

/// A picture of floats.
#[derive(Clone, Debug, PartialEq)]
pub struct FloatImage {
    /// Columns and rows.
    pub size: ImageSize,
    /// RGB in 0..=1, `[H, W, 3]`.
    pub pixels: Vec<f32>,
}

/// A borrowed picture of either kind: what [`Preprocessing::batch`](crate::Preprocessing::batch) reads.
#[derive(Clone, Copy, Debug)]
pub struct ImageView<'a> {
    /// Columns and rows.
    pub size: ImageSize,
    /// The pixels, `[H, W, 3]`.
    pub pixels: Pixels<'a>,
}

/// RGB values, three a pixel, rows from the top.
#[derive(Clone, Copy, Debug)]
pub enum Pixels<'a> {
    /// 0..=255.
    Bytes(&'a [u8]),
    /// 0..=1.
    Floats(&'a [f32]),
}

impl Pixels<'_> {
    /// How many values there are: three times the pixels.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::Bytes(values) => values.len(),
            Self::Floats(values) => values.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Image {
    /// The picture, borrowed.
    #[must_use]
    pub fn view(&self) -> ImageView<'_> {
        ImageView { size: self.size, pixels: Pixels::Bytes(&self.pixels) }
    }

    /// Whether there are pixels, three values for each.
    pub(crate) fn is_whole(&self) -> bool {
        let values = self.size.width.checked_mul(self.size.height).and_then(|pixels| pixels.checked_mul(3));
        !self.pixels.is_empty() && values == Some(self.pixels.len())
    }
}

impl FloatImage {
    /// The picture, borrowed.
    #[must_use]
    pub fn view(&self) -> ImageView<'_> {
        ImageView { size: self.size, pixels: Pixels::Floats(&self.pixels) }
    }
}

impl<'a> From<&'a Image> for ImageView<'a> {
    fn from(image: &'a Image) -> Self {
        image.view()
    }
}

impl<'a> From<&'a FloatImage> for ImageView<'a> {
    fn from(image: &'a FloatImage) -> Self {
        image.view()
    }
}
