//! The scene larger or smaller.

use rand::Rng;
use retinanet_anchors::ImageSize;
use serde::{Deserialize, Serialize};

use super::boxes::Border;
use super::placement::{Window, frame};
use super::ranges::{check_range, check_share, draw};
use crate::{ConfigError, Sample};

/// Shows the scene larger or smaller by a factor: a cut-out of 1 / factor times the picture's sides where it is above 1, the
/// shrunk picture on a ground of one colour where it is below, each in a random place. The resize to `min_size` that follows
/// makes the difference.
///
/// Source: torchvision's `ScaleJitter` with `FixedSizeCrop`, and Detectron2's `ResizeScale` with `FixedSizeCrop` (large scale
/// jitter: Ghiasi et al. 2021). With `square` and `preprocessing.min_size` and `max_size` at the target's side it is theirs, but
/// that a small picture lies in a random place, not always left and up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScaleJitter {
    /// Chance that it happens, 0..=1. Default 1.
    pub probability: f64,
    /// The factor is drawn evenly from `[least, most]`, within 0.05..=16. Default 0.1 to 2, large scale jitter; 0.8 to 1.25
    /// is the standard one.
    pub range: [f64; 2],
    /// Whether what is shown is square, with the picture's longer side over the factor; else it has the picture's shape.
    /// Default false.
    pub square: bool,
}

impl Default for ScaleJitter {
    fn default() -> Self {
        Self { probability: 1.0, range: [0.1, 2.0], square: false }
    }
}

impl ScaleJitter {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        check_share("augmentation.scale_jitter.probability", self.probability)?;
        check_range("augmentation.scale_jitter.range", self.range, 0.05..=16.0, "[least, most] within 0.05..=16")
    }

    pub(super) fn apply(&self, sample: &Sample, rng: &mut impl Rng, border: Border) -> Sample {
        let factor = draw(self.range, rng);
        let place = [draw([0.0, 1.0], rng), draw([0.0, 1.0], rng)];
        let picture = sample.image.size;
        let longer = picture.width.max(picture.height);
        let base = if self.square { ImageSize::new(longer, longer) } else { picture };
        scale(sample, factor, base, place, border)
    }
}

/// The sample with its scene larger by `factor` in relation to the frame: what is shown has `base / factor` of its pixels.
///
/// `place` says where, across and down, 0..=1: of what is shown in the picture, or of the picture in what is shown. A factor
/// above 1 cuts out and resizes nothing; below 1 the picture is shrunk onto a ground as large as `base`, so that no factor
/// takes memory.
#[must_use]
pub fn scale(sample: &Sample, factor: f64, base: ImageSize, place: [f64; 2], border: Border) -> Sample {
    let scaled = |size: ImageSize, factor: f64| {
        let side = |side: usize| ((side as f64 * factor).round() as usize).max(1);
        ImageSize::new(side(size.width), side(size.height))
    };
    let (shown, picture) = if factor > 1.0 {
        (scaled(base, 1.0 / factor), sample.image.size)
    } else {
        (base, scaled(sample.image.size, factor))
    };
    let offset = |shown: usize, picture: usize, place: f64| ((shown as f64 - picture as f64) * place).round() as isize;
    let left = offset(shown.width, picture.width, place[0]);
    let top = offset(shown.height, picture.height, place[1]);
    frame(sample, Window { left, top, size: picture }, shown, border)
}
