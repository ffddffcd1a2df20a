//! Four pictures in one.

use rand::Rng;
use retinanet_anchors::ImageSize;
use serde::{Deserialize, Serialize};

use super::boxes::{Border, carry};
use super::partners::Partners;
use super::placement::{Window, canvas, draw as draw_picture, mapping};
use super::ranges::{check_range, check_share, draw};
use crate::{ConfigError, Sample};

/// Four pictures of the set around a point, each at a scale of its own and cut at the lines between them.
///
/// Source: Bochkovskiy et al. 2020 (YOLOv4). Here the result is as large as the first picture.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mosaic {
    /// Chance that it happens, 0..=1. Default 0.5.
    pub probability: f64,
    /// Where the four meet, as shares of width and height drawn evenly from `[least, most]`, within 0..=1. Default 0.3 to 0.7.
    pub center: [f64; 2],
    /// Scale of each picture, drawn evenly from `[least, most]`, within 0.1..=4: 1 fits it into the whole, 0.5 shows all of four
    /// that meet in the middle. Default 0.5 to 1.
    pub scale: [f64; 2],
}

impl Default for Mosaic {
    fn default() -> Self {
        Self { probability: 0.5, center: [0.3, 0.7], scale: [0.5, 1.0] }
    }
}

impl Mosaic {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        check_share("augmentation.mosaic.probability", self.probability)?;
        check_range("augmentation.mosaic.center", self.center, 0.0..=1.0, "[least, most] within 0..=1")?;
        check_range("augmentation.mosaic.scale", self.scale, 0.1..=4.0, "[least, most] within 0.1..=4")
    }

    /// The mosaic that begins with `sample`; the sample as it is where three others cannot be had.
    pub(super) fn apply(
        &self,
        sample: Sample,
        partners: &mut Partners<'_>,
        rng: &mut impl Rng,
        border: Border,
    ) -> Sample {
        let center = [draw(self.center, rng), draw(self.center, rng)];
        let scales = [0; 4].map(|_| draw(self.scale, rng));
        let others = [0; 3].map(|_| partners.draw(rng));
        match &others {
            [Some(b), Some(c), Some(d)] => mosaic([&sample, b, c, d], center, scales, border),
            _ => sample,
        }
    }
}

/// Four samples, upper left, upper right, lower left and lower right of a point, in a picture as large as the first.
///
/// `center` is the point, in shares of width and height. A picture at scale 1 fits into the whole, and one corner of each lies
/// on the point. Boxes are cut at the lines and at the border, and left out with their classes as the border says.
#[must_use]
pub fn mosaic(samples: [&Sample; 4], center: [f64; 2], scales: [f64; 4], border: Border) -> Sample {
    let size = samples[0].image.size;
    let mut image = canvas(size, border.fill);
    let (mut boxes, mut classes) = (Vec::new(), Vec::new());
    let line = |side: usize, share: f64| (side as f64 * share.clamp(0.0, 1.0)).round() as usize;
    let (x, y) = (line(size.width, center[0]), line(size.height, center[1]));
    for (corner, (sample, scale)) in samples.into_iter().zip(scales).enumerate() {
        let (is_right, is_lower) = (corner % 2 == 1, corner / 2 == 1);
        let within = Window {
            left: if is_right { x as isize } else { 0 },
            top: if is_lower { y as isize } else { 0 },
            size: ImageSize::new(if is_right { size.width - x } else { x }, if is_lower { size.height - y } else { y }),
        };
        let placed = fitted(sample.image.size, size, scale);
        let place = Window {
            left: if is_right { x as isize } else { x as isize - placed.width as isize },
            top: if is_lower { y as isize } else { y as isize - placed.height as isize },
            size: placed,
        };
        draw_picture(&sample.image, place, &mut image, within);
        let map = mapping(sample.image.size, place);
        let (kept, kept_classes) = carry(sample, &within.region(), border.min_visible, map);
        boxes.extend(kept);
        classes.extend(kept_classes);
    }
    Sample { image, boxes, classes }
}

/// The size of a picture fitted into another, times `scale`; at least one pixel.
pub(super) fn fitted(picture: ImageSize, into: ImageSize, scale: f64) -> ImageSize {
    let across = into.width as f64 / picture.width as f64;
    let down = into.height as f64 / picture.height as f64;
    let side = |side: usize| ((side as f64 * scale * across.min(down)).round() as usize).max(1);
    ImageSize::new(side(picture.width), side(picture.height))
}
