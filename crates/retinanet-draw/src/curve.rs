//! Antialiased curves.

use image::RgbImage;

use crate::Color;
use crate::canvas::{PixelRect, blend};

/// How much of each pixel of a rectangle one curve covers.
///
/// Parts of a curve that meet are joined by the larger coverage, not laid over each other, so joints do not show.
pub(crate) struct Curve {
    area: PixelRect,
    coverage: Vec<f32>,
    half_width: f32,
}

impl Curve {
    /// An empty curve whose line is `width` pixels wide, inside an area.
    pub(crate) fn new(area: PixelRect, width: f32) -> Self {
        let pixels = usize::try_from(area.area()).unwrap_or(0);
        Self { area, coverage: vec![0.0; pixels], half_width: 0.5 * width }
    }

    /// A straight piece with round ends; a dot where both are the same. Positions are in pixels of the picture.
    pub(crate) fn segment(&mut self, start: (f32, f32), end: (f32, f32)) {
        let reach = self.half_width + 1.0;
        let bounds = PixelRect::new(
            (start.0.min(end.0) - reach).floor() as i64,
            (start.1.min(end.1) - reach).floor() as i64,
            (start.0.max(end.0) + reach).ceil() as i64,
            (start.1.max(end.1) + reach).ceil() as i64,
        )
        .clipped(&self.area);
        for y in bounds.y0..bounds.y1 {
            for x in bounds.x0..bounds.x1 {
                let distance = distance_to_segment((x as f32 + 0.5, y as f32 + 0.5), start, end);
                let covered = (self.half_width + 0.5 - distance).clamp(0.0, 1.0);
                // The bounds are clipped to the area, so neither difference is negative.
                let idx = ((y - self.area.y0) * self.area.width() + x - self.area.x0) as usize;
                self.coverage[idx] = self.coverage[idx].max(covered);
            }
        }
    }

    /// A dot, wider than the line.
    pub(crate) fn dot(&mut self, at: (f32, f32)) {
        let line = self.half_width;
        self.half_width = 3.0 * line;
        self.segment(at, at);
        self.half_width = line;
    }

    /// Lays the curve on a picture.
    pub(crate) fn paint(&self, picture: &mut RgbImage, color: Color) {
        let mut coverage = self.coverage.iter();
        for y in self.area.y0..self.area.y1 {
            for x in self.area.x0..self.area.x1 {
                match coverage.next() {
                    Some(covered) if *covered > 0.0 => blend(picture, x, y, color, *covered),
                    _ => {}
                }
            }
        }
    }
}

/// Distance of a point from a segment, in pixels.
fn distance_to_segment(point: (f32, f32), start: (f32, f32), end: (f32, f32)) -> f32 {
    let along = (end.0 - start.0, end.1 - start.1);
    let to_point = (point.0 - start.0, point.1 - start.1);
    let length_squared = along.0 * along.0 + along.1 * along.1;
    let share = if length_squared > 0.0 {
        ((to_point.0 * along.0 + to_point.1 * along.1) / length_squared).clamp(0.0, 1.0)
    } else {
        0.0
    };
    (to_point.0 - share * along.0).hypot(to_point.1 - share * along.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance_to_segment((1.0, 2.0), (0.0, 0.0), (4.0, 0.0)), 2.0);
        assert_eq!(distance_to_segment((7.0, 4.0), (0.0, 0.0), (4.0, 0.0)), 5.0);
        assert_eq!(distance_to_segment((3.0, 4.0), (0.0, 0.0), (0.0, 0.0)), 5.0);
    }

    #[test]
    fn a_line_between_two_rows_covers_half_of_each() {
        let mut picture = RgbImage::from_pixel(10, 4, image::Rgb([255; 3]));
        let mut curve = Curve::new(PixelRect::of(&picture), 1.0);
        curve.segment((0.0, 2.0), (10.0, 2.0));
        // The same piece again changes nothing.
        curve.segment((0.0, 2.0), (10.0, 2.0));
        curve.paint(&mut picture, Color::BLACK);
        let column: Vec<u8> = (0..4).map(|y| picture.get_pixel(5, y).0[0]).collect();
        assert_eq!(column, [255, 128, 128, 255]);
    }
}
