//! A picture put into a frame: moved, cut, resized.

use fast_image_resize::images::{TypedCroppedImageMut, TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use retinanet_anchors::{BBox, ImageSize};

use super::boxes::{Border, carry};
use crate::{Image, Sample};

/// Part of a picture, or more than it: a left or top below 0 lies outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Column of the picture that becomes column 0.
    pub left: isize,
    /// Row of the picture that becomes row 0.
    pub top: isize,
    /// Columns and rows.
    pub size: ImageSize,
}

impl Window {
    pub(super) const fn whole(size: ImageSize) -> Self {
        Self { left: 0, top: 0, size }
    }

    pub(super) const fn region(&self) -> BBox {
        let (left, top) = (self.left as f32, self.top as f32);
        BBox::new(left, top, left + self.size.width as f32, top + self.size.height as f32)
    }

    /// What two have in common; none where that is nothing.
    fn intersection(&self, other: &Self) -> Option<Self> {
        let (left, width) = overlap(self.left, self.size.width, other.left, other.size.width)?;
        let (top, height) = overlap(self.top, self.size.height, other.top, other.size.height)?;
        Some(Self { left, top, size: ImageSize::new(width, height) })
    }
}

fn overlap(a: isize, a_len: usize, b: isize, b_len: usize) -> Option<(isize, usize)> {
    let low = a.max(b);
    let high = a.saturating_add_unsigned(a_len).min(b.saturating_add_unsigned(b_len));
    (high > low).then(|| (low, high.abs_diff(low)))
}

/// The sample seen through a window of at least one pixel.
///
/// Boxes are moved and cut at the window's border, and left out with their classes as the border says. Pixels beyond the
/// picture get its colour.
#[must_use]
pub fn crop(sample: &Sample, window: Window, border: Border) -> Sample {
    let place = Window { left: -window.left, top: -window.top, size: sample.image.size };
    frame(sample, place, window.size, border)
}

/// The sample at another size of at least one pixel: bilinear, averaging where it shrinks.
///
/// Boxes are scaled by the ratios of the sizes.
#[must_use]
pub fn resize(sample: &Sample, size: ImageSize) -> Sample {
    frame(sample, Window::whole(size), size, Border { min_visible: 0.0, fill: [0; 3] })
}

/// The sample in a frame: the picture resized to `place.size`, with its corner at `place.left` and `place.top`.
pub(super) fn frame(sample: &Sample, place: Window, size: ImageSize, border: Border) -> Sample {
    let mut image = canvas(size, border.fill);
    let within = Window::whole(size);
    draw(&sample.image, place, &mut image, within);
    let map = mapping(sample.image.size, place);
    let (boxes, classes) = carry(sample, &within.region(), border.min_visible, map);
    Sample { image, boxes, classes }
}

pub(super) fn canvas(size: ImageSize, fill: [u8; 3]) -> Image {
    Image { size, pixels: fill.repeat(size.width * size.height) }
}

/// What takes boxes of a picture to where it is placed.
pub(super) fn mapping(picture: ImageSize, place: Window) -> impl Fn(&BBox) -> BBox {
    // Times the new side before over the old one: edges of the picture stay on whole pixels.
    let x = move |x: f32| x * place.size.width as f32 / picture.width as f32 + place.left as f32;
    let y = move |y: f32| y * place.size.height as f32 / picture.height as f32 + place.top as f32;
    move |b| BBox::new(x(b.x0), y(b.y0), x(b.x1), y(b.y1))
}

/// Draws a picture at its place on another, no further than `within`; only what is seen is computed.
pub(super) fn draw(picture: &Image, place: Window, onto: &mut Image, within: Window) {
    let bounds = Window::whole(onto.size);
    let Some(seen) = place.intersection(&within).and_then(|seen| seen.intersection(&bounds)) else { return };
    // Not below 0, as `seen` lies in both.
    let (x, y) = (seen.left.unsigned_abs(), seen.top.unsigned_abs());
    let (from_x, from_y) = (seen.left.abs_diff(place.left), seen.top.abs_diff(place.top));
    let ImageSize { width, height } = seen.size;
    if place.size == picture.size {
        let from_rows = picture.pixels.chunks_exact(3 * picture.size.width).skip(from_y).take(height);
        let rows = onto.pixels.chunks_exact_mut(3 * onto.size.width).skip(y);
        for (row, from) in rows.zip(from_rows) {
            row[3 * x..][..3 * width].copy_from_slice(&from[3 * from_x..][..3 * width]);
        }
        return;
    }
    // The part of the picture that is seen, kept inside of it against rounding.
    let part = |from: usize, seen: usize, place: usize, picture: usize| {
        let scale = picture as f64 / place as f64;
        let start = from as f64 * scale;
        (start, (seen as f64 * scale).min(picture as f64 - start))
    };
    let (left, part_width) = part(from_x, width, place.size.width, picture.size.width);
    let (top, part_height) = part(from_y, height, place.size.height, picture.size.height);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).crop(
        left,
        top,
        part_width,
        part_height,
    );
    let side = |side: usize| u32::try_from(side).expect("a side of a picture in memory");
    let [from_width, from_height, onto_width, onto_height] =
        [picture.size.width, picture.size.height, onto.size.width, onto.size.height].map(side);
    let [x, y, width, height] = [x, y, width, height].map(side);
    // Typed, so that code is made for this one kind of pixel and not for all that the library knows.
    let from = TypedImageRef::<U8x3>::from_buffer(from_width, from_height, &picture.pixels).expect("a whole picture");
    let whole = TypedImage::<U8x3>::from_buffer(onto_width, onto_height, &mut onto.pixels).expect("a whole picture");
    let mut target = TypedCroppedImageMut::new(whole, x, y, width, height).expect("a part of the picture");
    Resizer::new().resize_typed(&from, &mut target, &options).expect("a part of the picture");
}
