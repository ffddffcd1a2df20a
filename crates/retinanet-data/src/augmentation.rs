//! Random changes to training samples that keep boxes and pictures in step.

use rand::RngExt;
use rand::seq::IndexedRandom;
use retinanet_anchors::{BBox, ImageSize};
use serde::{Deserialize, Serialize};

use crate::mirror::mirror_rows;
use crate::preprocessing::MAX_SIDE;
use crate::random::{Purpose, stream};
use crate::{ConfigError, Image, Sample};

/// What may happen to a training sample; by default nothing.
///
/// All draws depend on (seed, epoch, index) alone. The window comes first, then flips, then brightness and contrast.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augmentation {
    /// Chance of mirroring left to right, 0..=1.
    pub horizontal_flip: f64,
    /// Chance of mirroring top to bottom, 0..=1; for pictures that have no up, such as cells or aerial views.
    pub vertical_flip: f64,
    /// Sizes that [`Preprocessing::min_size`](crate::Preprocessing::min_size) is drawn from, one for each batch; empty for
    /// the fixed one. `max_size` stays.
    pub min_sizes: Vec<usize>,
    /// A window that enlarges or shrinks the scene.
    pub zoom: Option<Zoom>,
    /// Pixels are multiplied by a factor drawn from 1 - this to 1 + this, 0..=1.
    pub brightness: f64,
    /// Distances from the picture's mean are multiplied by a factor drawn from 1 - this to 1 + this, 0..=1.
    pub contrast: f64,
}

/// Shows a window of 1 / factor times the picture's sides, in a random place: a cut-out where the factor is above 1, the
/// whole picture on a larger canvas where it is below. The resize to `min_size` that follows makes objects larger or
/// smaller by the factor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Zoom {
    /// Chance that it happens, 0..=1. Default 0.5.
    pub probability: f64,
    /// The factor is drawn from `[least, most]`, evenly in its logarithm; within 0.25..=16. Default 1 to 2.
    pub range: [f64; 2],
    /// A box is cut at the window's border; it is left out when less than this share of its area remains, 0..=1. Default
    /// 0.3: what is left of such an object can hardly be told, and a whole box would claim what is not in sight.
    pub min_visible: f64,
    /// The colour around a picture on a larger canvas. Default ImageNet's mean, near 0 after normalisation.
    pub fill: [u8; 3],
}

impl Default for Zoom {
    fn default() -> Self {
        Self { probability: 0.5, range: [1.0, 2.0], min_visible: 0.3, fill: [124, 116, 104] }
    }
}

impl Augmentation {
    /// Looks at every field.
    ///
    /// # Errors
    /// The first field that is out of its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let zoom = self.zoom.unwrap_or_default();
        for (field, share) in [
            ("augmentation.horizontal_flip", self.horizontal_flip),
            ("augmentation.vertical_flip", self.vertical_flip),
            ("augmentation.brightness", self.brightness),
            ("augmentation.contrast", self.contrast),
            ("augmentation.zoom.probability", zoom.probability),
            ("augmentation.zoom.min_visible", zoom.min_visible),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return Err(ConfigError { field, expected: "0..=1", found: share.to_string() });
            }
        }
        let [least, most] = zoom.range;
        if !(0.25 <= least && least <= most && most <= 16.0) {
            return Err(ConfigError {
                field: "augmentation.zoom.range",
                expected: "[least, most] within 0.25..=16",
                found: format!("{:?}", zoom.range),
            });
        }
        if !self.min_sizes.iter().all(|size| (1..=MAX_SIDE).contains(size)) {
            return Err(ConfigError {
                field: "augmentation.min_sizes",
                expected: "sizes within 1..=8192",
                found: format!("{:?}", self.min_sizes),
            });
        }
        Ok(())
    }

    /// The `min_size` of a batch, `default` where there is no choice.
    #[must_use]
    pub fn min_size(&self, default: usize, seed: u64, epoch: u64, batch: u64) -> usize {
        let mut rng = stream(seed, Purpose::BatchSize, epoch, batch);
        self.min_sizes.choose(&mut rng).copied().unwrap_or(default)
    }

    /// Changes a sample as the draws of (seed, epoch, index) say.
    #[must_use]
    pub fn apply(&self, sample: Sample, seed: u64, epoch: u64, index: u64) -> Sample {
        let mut rng = stream(seed, Purpose::Augmentation, epoch, index);
        let mut sample = sample;
        // Every number is drawn whether it is used or not, so that one setting does not change what another one does.
        let (zooms, factor, left, top) = (rng.random(), rng.random(), rng.random(), rng.random());
        if let Some(zoom) = self.zoom
            && happens(zooms, zoom.probability)
        {
            let window = zoom.window(sample.image.size, factor, left, top);
            sample = crop(&sample, window, zoom.min_visible, zoom.fill);
        }
        if happens(rng.random(), self.horizontal_flip) {
            flip_horizontal(&mut sample);
        }
        if happens(rng.random(), self.vertical_flip) {
            flip_vertical(&mut sample);
        }
        let [brightness, contrast] =
            [self.brightness, self.contrast].map(|reach| 1.0 + reach * (2.0 * rng.random::<f64>() - 1.0));
        if brightness != 1.0 || contrast != 1.0 {
            adjust(&mut sample.image, brightness, contrast);
        }
        sample
    }
}

fn happens(draw: f64, probability: f64) -> bool {
    draw < probability
}

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

impl Zoom {
    /// The window for three draws in 0..1: the factor's place in the range, the window's place across and down.
    fn window(&self, image: ImageSize, factor: f64, left: f64, top: f64) -> Window {
        let [least, most] = self.range;
        let factor = least * (most / least).powf(factor);
        let side = |side: usize| ((side as f64 / factor).round() as usize).max(1);
        let size = ImageSize::new(side(image.width), side(image.height));
        let offset = |image: usize, window: usize, draw: f64| ((image as f64 - window as f64) * draw).round() as isize;
        Window { left: offset(image.width, size.width, left), top: offset(image.height, size.height, top), size }
    }
}

/// The sample seen through a window of at least one pixel.
///
/// Boxes are moved and cut at the window's border; one of which less than `min_visible` of the area remains, or nothing, is
/// left out with its class. Pixels beyond the picture get the colour `fill`.
#[must_use]
pub fn crop(sample: &Sample, window: Window, min_visible: f64, fill: [u8; 3]) -> Sample {
    let Window { left, top, size } = window;
    let from = &sample.image;
    let mut pixels = fill.repeat(size.width * size.height);
    // The columns of the window that lie in the picture.
    let first = (-left).clamp(0, size.width as isize);
    let last = (from.size.width as isize - left).clamp(first, size.width as isize);
    if last > first {
        for (y, row) in pixels.chunks_exact_mut(size.width * 3).enumerate() {
            let source_y = top + y as isize;
            if (0..from.size.height as isize).contains(&source_y) {
                let start = source_y as usize * from.size.width + (left + first) as usize;
                let source = &from.pixels[3 * start..][..3 * (last - first) as usize];
                row[3 * first as usize..3 * last as usize].copy_from_slice(source);
            }
        }
    }
    let (mut boxes, mut classes) = (Vec::new(), Vec::new());
    for (bbox, &class) in sample.boxes.iter().zip(&sample.classes) {
        let (dx, dy) = (left as f32, top as f32);
        let moved = BBox::new(bbox.x0 - dx, bbox.y0 - dy, bbox.x1 - dx, bbox.y1 - dy);
        let visible = moved.clip(size);
        if visible.area() > 0.0 && f64::from(visible.area()) >= min_visible * f64::from(bbox.area()) {
            boxes.push(visible);
            classes.push(class);
        }
    }
    Sample { image: Image { size, pixels }, boxes, classes }
}

/// Mirrors left to right, boxes too.
pub fn flip_horizontal(sample: &mut Sample) {
    let size = sample.image.size;
    mirror_rows(&mut sample.image.pixels, size.width);
    for bbox in &mut sample.boxes {
        *bbox = bbox.flip_horizontal(size.width as f32);
    }
}

/// Mirrors top to bottom, boxes too.
pub fn flip_vertical(sample: &mut Sample) {
    let size = sample.image.size;
    let row_len = 3 * size.width;
    let (upper, lower) = sample.image.pixels.split_at_mut(size.height / 2 * row_len);
    if row_len > 0 {
        let lower = lower.chunks_exact_mut(row_len).rev();
        for (a, b) in upper.chunks_exact_mut(row_len).zip(lower) {
            a.swap_with_slice(b);
        }
    }
    for bbox in &mut sample.boxes {
        *bbox = bbox.flip_vertical(size.height as f32);
    }
}

/// p' = clamp(brightness * (mean + contrast * (p - mean)), 0, 255), with the picture's mean over all channels.
fn adjust(image: &mut Image, brightness: f64, contrast: f64) {
    let sum: u64 = image.pixels.iter().map(|&p| u64::from(p)).sum();
    let mean = sum as f64 / image.pixels.len().max(1) as f64;
    let mut table = [0; 256];
    for (byte, out) in table.iter_mut().enumerate() {
        let value = brightness * (mean + contrast * (byte as f64 - mean));
        // The conversion saturates at 0 and 255.
        *out = value.round() as u8;
    }
    for p in &mut image.pixels {
        *p = table[usize::from(*p)];
    }
}
