//! Two pictures seen through each other.

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::boxes::carry;
use super::mosaic::fitted;
use super::partners::Partners;
use super::placement::{Window, canvas, draw as draw_picture, mapping};
use super::ranges::{check_range, check_share, draw};
use crate::{ConfigError, Sample};

/// Blends another picture of the set into this one; the boxes of both stay.
///
/// Source: Zhang et al. 2019, "Bag of Freebies for Training Object Detection Neural Networks". The other picture is fitted into
/// this one here, and the losses are not weighted: `share` keeps both in sight.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MixUp {
    /// Chance that it happens, 0..=1. Default 0.5.
    pub probability: f64,
    /// Share of the other picture in each pixel, drawn evenly from `[least, most]`, within 0..=1. Default 0.35 to 0.65.
    pub share: [f64; 2],
}

impl Default for MixUp {
    fn default() -> Self {
        Self { probability: 0.5, share: [0.35, 0.65] }
    }
}

impl MixUp {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        check_share("augmentation.mixup.probability", self.probability)?;
        check_range("augmentation.mixup.share", self.share, 0.0..=1.0, "[least, most] within 0..=1")
    }

    /// The blend; the sample as it is where no other can be had.
    pub(super) fn apply(&self, sample: Sample, partners: &mut Partners<'_>, rng: &mut impl Rng) -> Sample {
        let share = draw(self.share, rng);
        match partners.draw(rng) {
            Some(other) => mixup(sample, &other, share),
            None => sample,
        }
    }
}

/// The sample with another blended into it by `share`, 0..=1, fitted into the picture and in the middle of it.
///
/// Where the other picture does not reach, pixels stay. All boxes of both stay.
#[must_use]
pub fn mixup(mut sample: Sample, other: &Sample, share: f64) -> Sample {
    let size = sample.image.size;
    let placed = fitted(other.image.size, size, 1.0);
    let (left, top) = ((size.width - placed.width) / 2, (size.height - placed.height) / 2);
    let mut overlay = canvas(placed, [0; 3]);
    draw_picture(&other.image, Window::whole(placed), &mut overlay, Window::whole(placed));
    // 8 bits of weight: 255 * 256 and the half that rounds fit into 16.
    let weight = (share.clamp(0.0, 1.0) * 256.0).round() as u16;
    let rows = sample.image.pixels.chunks_exact_mut(3 * size.width).skip(top);
    for (row, other) in rows.zip(overlay.pixels.chunks_exact(3 * placed.width)) {
        for (value, &other) in row[3 * left..].iter_mut().zip(other) {
            let mixed = u16::from(*value) * (256 - weight) + u16::from(other) * weight;
            *value = ((mixed + 128) >> 8) as u8;
        }
    }
    let place = Window { left: left as isize, top: top as isize, size: placed };
    let (boxes, classes) = carry(other, &Window::whole(size).region(), 0.0, mapping(other.image.size, place));
    sample.boxes.extend(boxes);
    sample.classes.extend(classes);
    sample
}
