//! Many boxes on a picture, as thin lines.

use image::RgbImage;
use retinanet_anchors::BBox;

use crate::Color;
use crate::canvas::{PixelRect, frame};
use crate::detections::to_pixels;

/// A box to draw as a line of one pixel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outline {
    /// Where, in pixels of the picture.
    pub bbox: BBox,
    /// Of the line.
    pub color: Color,
    /// How much of what is below the line hides, 0 to 1.
    pub opacity: f32,
}

/// Draws boxes as thin lines, in their order: what there are hundreds of, such as anchors.
///
/// Boxes are clipped to the picture. One with a NaN, or with nothing inside the picture, is left out.
///
/// ```
/// use retinanet_anchors::BBox;
/// use retinanet_draw::{Color, Outline, RgbImage, draw_outlines};
///
/// let mut picture = RgbImage::new(8, 8);
/// let outline = Outline { bbox: BBox::new(1.0, 1.0, 6.0, 6.0), color: Color::WHITE, opacity: 1.0 };
/// draw_outlines(&mut picture, &[outline]);
/// assert_eq!((picture.get_pixel(1, 3).0, picture.get_pixel(3, 3).0), ([255; 3], [0; 3]));
/// ```
pub fn draw_outlines(picture: &mut RgbImage, outlines: &[Outline]) {
    let bounds = PixelRect::of(picture);
    for outline in outlines {
        if let Some(rect) = to_pixels(&outline.bbox, &bounds) {
            frame(picture, rect, 1, outline.color, outline.opacity);
        }
    }
}
