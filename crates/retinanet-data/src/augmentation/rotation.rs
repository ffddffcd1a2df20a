//! Turning by small angles.

use retinanet_anchors::BBox;
use serde::{Deserialize, Serialize};

use super::boxes::{Border, carry};
use super::placement::Window;
use super::ranges::{check_range, check_share};
use crate::{ConfigError, Image, Sample};

/// Turns the picture about its centre, within its own frame; pixels are bilinear.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rotation {
    /// Chance that it happens, 0..=1. Default 0.5.
    pub probability: f64,
    /// The angle is drawn evenly from `[least, most]`, in degrees clockwise, within -180..=180. Default -10 to 10.
    pub degrees: [f64; 2],
    /// What is taken for the object inside a box. Default `ellipse`.
    pub boxes: RotatedBox,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { probability: 0.5, degrees: [-10.0, 10.0], boxes: RotatedBox::Ellipse }
    }
}

/// The object that a box is taken to hold, when the picture turns and a new box is put around it. The true outline is not
/// known; it lies somewhere between these two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RotatedBox {
    /// The ellipse that fills the box: exact for round objects, close for most, too small for rectangles.
    ///
    /// Source: Kalra et al. 2021, "Towards Rotation Invariance in Object Detection".
    Ellipse,
    /// The box itself: exact for rectangles, too large for all else.
    Corners,
}

impl Rotation {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        check_share("augmentation.rotation.probability", self.probability)?;
        let expected = "[least, most] within -180..=180";
        check_range("augmentation.rotation.degrees", self.degrees, -180.0..=180.0, expected)
    }
}

/// The sample turned clockwise about the picture's centre, in a picture of the same size.
///
/// Each box becomes the smallest around the turned shape that `boxes` says, cut at the border of the picture; it is left out
/// with its class as the border says, by the share of the turned box. Pixels beyond the picture get the border's colour.
#[must_use]
pub fn rotate(sample: &Sample, degrees: f64, boxes: RotatedBox, border: Border) -> Sample {
    let image = rotate_pixels(&sample.image, degrees, border.fill);
    let size = image.size;
    let (sin, cos) = degrees.to_radians().sin_cos();
    let (center_x, center_y) = (size.width as f64 / 2.0, size.height as f64 / 2.0);
    let map = |bbox: &BBox| {
        let [x0, y0, x1, y1] = bbox.to_array().map(f64::from);
        let (x, y) = ((x0 + x1) / 2.0 - center_x, (y0 + y1) / 2.0 - center_y);
        let (x, y) = (center_x + x * cos - y * sin, center_y + x * sin + y * cos);
        let (a, b) = ((x1 - x0) / 2.0, (y1 - y0) / 2.0);
        let (reach_x, reach_y) = match boxes {
            RotatedBox::Ellipse => ((a * cos).hypot(b * sin), (a * sin).hypot(b * cos)),
            RotatedBox::Corners => ((a * cos).abs() + (b * sin).abs(), (a * sin).abs() + (b * cos).abs()),
        };
        BBox::from([x - reach_x, y - reach_y, x + reach_x, y + reach_y].map(|v| v as f32))
    };
    let (boxes, classes) = carry(sample, &Window::whole(size).region(), border.min_visible, map);
    Sample { image, boxes, classes }
}

/// Fixed-point positions: pixels times 2^32, so that the steps of a whole row add up without an error that shows.
const FRACTION_BITS: u32 = 32;

fn rotate_pixels(image: &Image, degrees: f64, fill: [u8; 3]) -> Image {
    let size = image.size;
    let (sin, cos) = degrees.to_radians().sin_cos();
    let (center_x, center_y) = (size.width as f64 / 2.0, size.height as f64 / 2.0);
    let fixed = |position: f64| (position * f64::from(FRACTION_BITS).exp2()).round() as i64;
    let (step_x, step_y) = (fixed(cos), fixed(-sin));
    let from = Source { pixels: image.pixels.as_chunks::<3>().0, width: size.width, height: size.height, fill };
    let mut pixels = vec![0; image.pixels.len()];
    for (y, row) in pixels.as_chunks_mut::<3>().0.chunks_exact_mut(size.width).enumerate() {
        // Where the centre of the row's first pixel comes from, counted in pixels from the centre of the first.
        let (dx, dy) = (0.5 - center_x, y as f64 + 0.5 - center_y);
        let mut x = fixed(center_x + dx * cos + dy * sin - 0.5);
        let mut y = fixed(center_y - dx * sin + dy * cos - 0.5);
        for out in row {
            *out = from.at(x, y);
            x += step_x;
            y += step_y;
        }
    }
    Image { size, pixels }
}

/// A picture on a ground of one colour.
struct Source<'a> {
    pixels: &'a [[u8; 3]],
    width: usize,
    height: usize,
    fill: [u8; 3],
}

impl Source<'_> {
    /// The mixture of the four pixels around a position.
    #[inline]
    fn at(&self, x: i64, y: i64) -> [u8; 3] {
        let (column, row) = (x >> FRACTION_BITS, y >> FRACTION_BITS);
        // Weights of 8 bits.
        let weight = |position: i64| (position >> (FRACTION_BITS - 8)) as u32 & 255;
        let (right, lower) = (weight(x), weight(y));
        let is_inside = column >= 0 && row >= 0 && column + 1 < self.width as i64 && row + 1 < self.height as i64;
        let four = if is_inside {
            let at = row as usize * self.width + column as usize;
            let (upper, lower) = (&self.pixels[at..at + 2], &self.pixels[at + self.width..at + self.width + 2]);
            [upper[0], upper[1], lower[0], lower[1]]
        } else {
            [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(dx, dy)| self.pixel(column + dx, row + dy))
        };
        let weights = [(256 - right) * (256 - lower), right * (256 - lower), (256 - right) * lower, right * lower];
        std::array::from_fn(|c| {
            let sum: u32 = four.iter().zip(weights).map(|(pixel, weight)| u32::from(pixel[c]) * weight).sum();
            ((sum + (1 << 15)) >> 16) as u8
        })
    }

    fn pixel(&self, column: i64, row: i64) -> [u8; 3] {
        let is_inside = (0..self.width as i64).contains(&column) && (0..self.height as i64).contains(&row);
        if is_inside { self.pixels[row as usize * self.width + column as usize] } else { self.fill }
    }
}
