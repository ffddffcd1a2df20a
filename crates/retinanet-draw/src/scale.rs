//! Pictures made larger or smaller.

use image::RgbImage;
use image::imageops::{self, FilterType};

/// The most pixels of a side that a picture is scaled to.
const MAX_SIDE: u32 = 8192;

/// The picture in proportion, its longer side `side` pixels long, and the factor by which it grew; an empty picture stays.
///
/// Sides beyond 8192 pixels are cut to that, and none is less than 1.
///
/// ```
/// use retinanet_draw::{RgbImage, scaled};
///
/// let (picture, factor) = scaled(&RgbImage::new(40, 20), 100);
/// assert_eq!((picture.dimensions(), factor), ((100, 50), 2.5));
/// ```
#[must_use]
pub fn scaled(picture: &RgbImage, side: u32) -> (RgbImage, f32) {
    let longer = picture.width().max(picture.height());
    if longer == 0 || picture.width().min(picture.height()) == 0 {
        return (picture.clone(), 1.0);
    }
    let factor = f64::from(side.clamp(1, MAX_SIDE)) / f64::from(longer);
    let scale = |side: u32| ((f64::from(side) * factor).round() as u32).max(1);
    let (width, height) = (scale(picture.width()), scale(picture.height()));
    let picture = match (width, height) == picture.dimensions() {
        true => picture.clone(),
        false => imageops::resize(picture, width, height, FilterType::Triangle),
    };
    (picture, factor as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(size: (u32, u32), side: u32, expected: (u32, u32), expected_factor: f32) {
        let (picture, factor) = scaled(&RgbImage::new(size.0, size.1), side);
        assert_eq!((picture.dimensions(), factor), (expected, expected_factor));
    }

    #[test]
    fn proportions_are_kept() {
        check((30, 60), 20, (10, 20), 1.0 / 3.0);
        check((64, 64), 64, (64, 64), 1.0);
        check((1000, 1), 10, (10, 1), 0.01);
        check((1, 2), u32::MAX, (4096, 8192), 4096.0);
        check((10, 10), 0, (1, 1), 0.1);
        check((0, 7), 50, (0, 7), 1.0);
    }
}
