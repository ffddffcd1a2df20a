//! Axis-aligned boxes in continuous pixels.

use serde::{Deserialize, Serialize};

use crate::ImageSize;

/// An axis-aligned box by two corners, in continuous pixels, half-open: a box over the first pixel alone is
/// `(0, 0, 1, 1)`, and a width is `x1 - x0` with nothing added.
///
/// Any four numbers are a box. One with a side that is not positive is empty: its area, and its intersection with
/// anything, is 0. x grows to the right, y grows downwards.
///
/// ```
/// use retinanet_anchors::BBox;
///
/// let a = BBox::new(0.0, 0.0, 4.0, 2.0);
/// let b = BBox::new(2.0, 0.0, 6.0, 2.0);
/// assert_eq!(a.area(), 8.0);
/// assert_eq!(a.intersection(&b), 4.0);
/// assert_eq!(a.iou(&b), 4.0 / 12.0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BBox {
    /// Left edge, in pixels.
    pub x0: f32,
    /// Top edge, in pixels.
    pub y0: f32,
    /// Right edge, in pixels; the first position outside.
    pub x1: f32,
    /// Bottom edge, in pixels; the first position outside.
    pub y1: f32,
}

impl BBox {
    /// The box with these corners, taken as they are.
    #[must_use]
    pub const fn new(x0: f32, y0: f32, x1: f32, y1: f32) -> Self {
        Self { x0, y0, x1, y1 }
    }

    /// `x1 - x0`; negative where the corners are the wrong way round.
    #[must_use]
    pub const fn width(&self) -> f32 {
        self.x1 - self.x0
    }

    /// `y1 - y0`; negative where the corners are the wrong way round.
    #[must_use]
    pub const fn height(&self) -> f32 {
        self.y1 - self.y0
    }

    /// Width times height in square pixels; 0 where the box is empty, even if both sides are negative.
    ///
    /// Unless a side is empty, infinite where a coordinate is or the product passes the range of f32, and NaN where a
    /// coordinate is.
    #[must_use]
    pub const fn area(&self) -> f32 {
        let (width, height) = (self.width(), self.height());
        if width <= 0.0 || height <= 0.0 { 0.0 } else { width * height }
    }

    /// The centre, `(x, y)`.
    #[must_use]
    pub const fn center(&self) -> (f32, f32) {
        (self.x0 + 0.5 * self.width(), self.y0 + 0.5 * self.height())
    }

    /// The area that both boxes cover, in square pixels; 0 where they only touch, or one is empty or not finite.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> f32 {
        if self.is_finite() && other.is_finite() { raw_intersection(self, other) } else { 0.0 }
    }

    /// Intersection over union.
    ///
    /// iou(a, b) = |a and b| / (|a| + |b| - |a and b|)
    ///
    /// In `0..=1` and symmetric. 0 where the union has no area, a coordinate is not finite, or an area passes the range
    /// of f32 (a side over 1e19 pixels).
    #[must_use]
    pub fn iou(&self, other: &Self) -> f32 {
        let iou = iou_or_nan(self, self.area(), other, other.area());
        if iou > 0.0 { iou } else { 0.0 }
    }

    /// The part inside an image; empty (with both edges on the same border) where the box lies outside.
    ///
    /// A NaN coordinate stays NaN.
    #[must_use]
    pub const fn clip(&self, image: ImageSize) -> Self {
        let (width, height) = (image.width as f32, image.height as f32);
        Self::new(
            self.x0.clamp(0.0, width),
            self.y0.clamp(0.0, height),
            self.x1.clamp(0.0, width),
            self.y1.clamp(0.0, height),
        )
    }

    /// The box in an image that was resized by `sx` across and `sy` down.
    #[must_use]
    pub const fn scale(&self, sx: f32, sy: f32) -> Self {
        Self::new(self.x0 * sx, self.y0 * sy, self.x1 * sx, self.y1 * sy)
    }

    /// The box in an image of this width that was mirrored left to right.
    #[must_use]
    pub const fn flip_horizontal(&self, width: f32) -> Self {
        Self::new(width - self.x1, self.y0, width - self.x0, self.y1)
    }

    /// The box in an image of this height that was mirrored top to bottom.
    #[must_use]
    pub const fn flip_vertical(&self, height: f32) -> Self {
        Self::new(self.x0, height - self.y1, self.x1, height - self.y0)
    }

    /// Whether no coordinate is infinite or NaN.
    #[must_use]
    pub const fn is_finite(&self) -> bool {
        self.x0.is_finite() && self.y0.is_finite() && self.x1.is_finite() && self.y1.is_finite()
    }

    /// `[x0, y0, x1, y1]`.
    #[must_use]
    pub const fn to_array(&self) -> [f32; 4] {
        [self.x0, self.y0, self.x1, self.y1]
    }
}

impl From<[f32; 4]> for BBox {
    fn from([x0, y0, x1, y1]: [f32; 4]) -> Self {
        Self::new(x0, y0, x1, y1)
    }
}

impl From<BBox> for [f32; 4] {
    fn from(bbox: BBox) -> Self {
        bbox.to_array()
    }
}

/// Intersection over union from areas worked out before; NaN where the union has no area. The single definition that
/// suppression and matching share, so that equal boxes have equal bits.
///
/// Never positive for a box that is not finite: unless a side is empty its area is infinite or NaN, and so is the union.
#[inline(always)]
pub(crate) fn iou_or_nan(a: &BBox, area_a: f32, b: &BBox, area_b: f32) -> f32 {
    let intersection = raw_intersection(a, b);
    intersection / (area_a + area_b - intersection)
}

/// Not specified for NaN. Comparisons, because `f32::max` orders NaN too, which costs vector instructions.
#[inline(always)]
fn raw_intersection(a: &BBox, b: &BBox) -> f32 {
    let left = if a.x0 > b.x0 { a.x0 } else { b.x0 };
    let top = if a.y0 > b.y0 { a.y0 } else { b.y0 };
    let right = if a.x1 < b.x1 { a.x1 } else { b.x1 };
    let bottom = if a.y1 < b.y1 { a.y1 } else { b.y1 };
    let (width, height) = (right - left, bottom - top);
    let width = if width > 0.0 { width } else { 0.0 };
    let height = if height > 0.0 { height } else { 0.0 };
    width * height
}
