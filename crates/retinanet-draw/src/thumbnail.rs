//! Parts of pictures at the size of a report.

use image::{RgbImage, imageops};
use retinanet_anchors::BBox;

/// How many times a part is enlarged at most: beyond it there is nothing more to see.
const MAX_ENLARGEMENT: f32 = 8.0;

/// A part of a picture, small enough for a report, and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Thumbnail {
    /// The pixels.
    pub picture: RgbImage,
    /// Left, top, right and bottom of the part, in whole pixels of the picture that it was cut from.
    pub window: BBox,
}

impl Thumbnail {
    /// Cuts a window out of a picture and resizes it so that its longer side is `side` pixels, or 8 times its own where that
    /// is less. The window is widened to whole pixels and cut at the border; one with nothing inside is the whole picture.
    ///
    /// ```
    /// use retinanet_anchors::BBox;
    /// use retinanet_draw::{RgbImage, Thumbnail};
    ///
    /// let picture = RgbImage::new(400, 300);
    /// let thumbnail = Thumbnail::cut(&picture, &BBox::new(100.0, 50.0, 300.0, 150.0), 100);
    /// assert_eq!(thumbnail.picture.dimensions(), (100, 50));
    /// assert_eq!(thumbnail.place(&BBox::new(120.0, 60.0, 140.0, 80.0)), BBox::new(10.0, 5.0, 20.0, 15.0));
    /// ```
    #[must_use]
    pub fn cut(picture: &RgbImage, window: &BBox, side: u32) -> Self {
        let (width, height) = picture.dimensions();
        let span = |low: f32, high: f32, end: u32| {
            let (low, high) = (low.max(0.0).floor(), high.min(end as f32).ceil());
            if low < high { (low as u32, high as u32) } else { (0, end) }
        };
        let is_inside = window.x0 < width as f32 && window.y0 < height as f32 && window.x1 > 0.0 && window.y1 > 0.0;
        let ((left, right), (top, bottom)) = if is_inside && window.area() > 0.0 {
            (span(window.x0, window.x1, width), span(window.y0, window.y1, height))
        } else {
            ((0, width), (0, height))
        };
        let cut = imageops::crop_imm(picture, left, top, right - left, bottom - top);
        let (cut_width, cut_height) = (right - left, bottom - top);
        let scale = (side as f32 / cut_width.max(cut_height).max(1) as f32).min(MAX_ENLARGEMENT);
        let to = |length: u32| ((length as f32 * scale).round() as u32).max(u32::from(length > 0));
        let picture = if scale < 1.0 {
            // The mean of the pixels that fall into one: quick, and without the shimmer of leaving some out.
            imageops::thumbnail(&*cut, to(cut_width), to(cut_height))
        } else {
            imageops::resize(&*cut, to(cut_width), to(cut_height), imageops::FilterType::Triangle)
        };
        Self { picture, window: BBox::new(left as f32, top as f32, right as f32, bottom as f32) }
    }

    /// Makes the whole of a picture as small.
    #[must_use]
    pub fn whole(picture: &RgbImage, side: u32) -> Self {
        Self::cut(picture, &BBox::new(0.0, 0.0, picture.width() as f32, picture.height() as f32), side)
    }

    /// Where a box of the picture that it was cut from lies on it.
    #[must_use]
    pub fn place(&self, bbox: &BBox) -> BBox {
        let sx = self.picture.width() as f32 / self.window.width();
        let sy = self.picture.height() as f32 / self.window.height();
        let (x, y) = (self.window.x0, self.window.y0);
        BBox::new(bbox.x0 - x, bbox.y0 - y, bbox.x1 - x, bbox.y1 - y).scale(sx, sy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(window: [f32; 4], side: u32, size: (u32, u32), cut: [f32; 4]) {
        let thumbnail = Thumbnail::cut(&RgbImage::new(40, 20), &window.into(), side);
        assert_eq!((thumbnail.picture.dimensions(), thumbnail.window), (size, cut.into()));
    }

    #[test]
    fn windows_are_cut_at_the_border() {
        check([0.0, 0.0, 40.0, 20.0], 10, (10, 5), [0.0, 0.0, 40.0, 20.0]);
        check([-9.0, 10.5, 10.0, 99.0], 20, (20, 20), [0.0, 10.0, 10.0, 20.0]);
        // Enlarged at most 8 times.
        check([3.2, 4.0, 4.1, 5.0], 300, (16, 8), [3.0, 4.0, 5.0, 5.0]);
        // A line of pixels keeps one.
        check([0.0, 0.0, 40.0, 1.0], 10, (10, 1), [0.0, 0.0, 40.0, 1.0]);
        for nothing in [[50.0, 0.0, 60.0, 9.0], [5.0, 5.0, 5.0, 9.0], [f32::NAN; 4]] {
            check(nothing, 40, (40, 20), [0.0, 0.0, 40.0, 20.0]);
        }
    }

    #[test]
    fn an_empty_picture_stays_empty() {
        assert_eq!(Thumbnail::whole(&RgbImage::new(0, 0), 9).picture.dimensions(), (0, 0));
    }
}
