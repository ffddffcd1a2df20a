//! Rectangles of whole pixels, and how colour is laid on a picture.

use image::RgbImage;

use crate::Color;

/// A rectangle of whole pixels, half-open; empty where a side is not positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PixelRect {
    pub(crate) x0: i64,
    pub(crate) y0: i64,
    pub(crate) x1: i64,
    pub(crate) y1: i64,
}

impl PixelRect {
    pub(crate) const fn new(x0: i64, y0: i64, x1: i64, y1: i64) -> Self {
        Self { x0, y0, x1, y1 }
    }

    /// All of a picture.
    pub(crate) fn of(picture: &RgbImage) -> Self {
        Self::new(0, 0, i64::from(picture.width()), i64::from(picture.height()))
    }

    pub(crate) const fn width(&self) -> i64 {
        self.x1 - self.x0
    }

    pub(crate) const fn height(&self) -> i64 {
        self.y1 - self.y0
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.x1 <= self.x0 || self.y1 <= self.y0
    }

    /// Pixels in it; 0 where empty.
    pub(crate) const fn area(&self) -> i64 {
        if self.is_empty() { 0 } else { self.width() * self.height() }
    }

    /// Larger on every side; smaller with a negative margin.
    pub(crate) const fn grown(&self, margin: i64) -> Self {
        Self::new(self.x0 - margin, self.y0 - margin, self.x1 + margin, self.y1 + margin)
    }

    /// The part inside another one; perhaps empty.
    pub(crate) fn clipped(&self, other: &Self) -> Self {
        Self::new(self.x0.max(other.x0), self.y0.max(other.y0), self.x1.min(other.x1), self.y1.min(other.y1))
    }
}

/// Lays a colour on one pixel; nothing where the pixel is outside the picture.
pub(crate) fn blend(picture: &mut RgbImage, x: i64, y: i64, color: Color, coverage: f32) {
    let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else { return };
    let Some(pixel) = picture.get_pixel_mut_checked(x, y) else { return };
    let coverage = coverage.clamp(0.0, 1.0);
    for (below, above) in pixel.0.iter_mut().zip(color.to_array()) {
        let mixed = f32::from(*below) + coverage * (f32::from(above) - f32::from(*below));
        *below = mixed.round() as u8;
    }
}

/// Fills the part of a rectangle that is inside the picture.
pub(crate) fn fill(picture: &mut RgbImage, rect: PixelRect, color: Color, opacity: f32) {
    let rect = rect.clipped(&PixelRect::of(picture));
    for y in rect.y0..rect.y1 {
        for x in rect.x0..rect.x1 {
            blend(picture, x, y, color, opacity);
        }
    }
}

/// Draws the border of a rectangle: the pixels inside it, up to `thickness` from an edge.
pub(crate) fn frame(picture: &mut RgbImage, rect: PixelRect, thickness: i64, color: Color, opacity: f32) {
    let PixelRect { x0, y0, x1, y1 } = rect;
    let inner = rect.grown(-thickness);
    if inner.is_empty() {
        fill(picture, rect, color, opacity);
        return;
    }
    fill(picture, PixelRect::new(x0, y0, x1, inner.y0), color, opacity);
    fill(picture, PixelRect::new(x0, inner.y1, x1, y1), color, opacity);
    fill(picture, PixelRect::new(x0, inner.y0, inner.x0, inner.y1), color, opacity);
    fill(picture, PixelRect::new(inner.x1, inner.y0, x1, inner.y1), color, opacity);
}
