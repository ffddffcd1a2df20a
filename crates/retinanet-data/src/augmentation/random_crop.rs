//! Cut-outs that keep objects in sight.

use rand::Rng;
use rand::seq::IndexedRandom;
use retinanet_anchors::{BBox, ImageSize};
use serde::{Deserialize, Serialize};

use super::boxes::{Border, visible};
use super::placement::Window;
use super::ranges::{check_range, check_share, draw};
use crate::{ConfigError, Sample};

/// Cuts out a part of the picture, of a size, shape and place drawn anew until it keeps what it must; the whole picture stays
/// where none is found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandomCrop {
    /// Chance that it happens, 0..=1. Default 0.5.
    pub probability: f64,
    /// The shares of width and of height that are cut out are drawn evenly from `[least, most]`, each, within 0.05..=1. Default
    /// 0.3 to 1.
    pub scale: [f64; 2],
    /// Share of width over share of height, within 0.1..=10. Default 0.5 to 2.
    pub aspect: [f64; 2],
    /// Least overlap (IoU) of the cut-out with the box that it covers best, one of these drawn each time; 1 leaves the picture
    /// whole, 0 asks for nothing. Default none: any cut-out that keeps a box is good. SSD's are 0, .1, .3, .5, .7, .9, 1.
    ///
    /// Source: Liu et al. 2016 (SSD), as torchvision's `RandomIoUCrop`. There, a box stays whose centre does, and shares of
    /// sides are held against the aspect in pixels.
    pub min_iou: Vec<f64>,
    /// Whether all boxes of a picture may be lost. Default false.
    pub may_lose_all: bool,
}

impl Default for RandomCrop {
    fn default() -> Self {
        Self { probability: 0.5, scale: [0.3, 1.0], aspect: [0.5, 2.0], min_iou: Vec::new(), may_lose_all: false }
    }
}

/// Cut-outs that are looked at before an overlap is drawn anew; torchvision's number.
const TRIALS: usize = 40;

/// Overlaps that are drawn before the picture stays whole.
const ROUNDS: usize = 5;

impl RandomCrop {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        check_share("augmentation.crop.probability", self.probability)?;
        check_range("augmentation.crop.scale", self.scale, 0.05..=1.0, "[least, most] within 0.05..=1")?;
        check_range("augmentation.crop.aspect", self.aspect, 0.1..=10.0, "[least, most] within 0.1..=10")?;
        self.min_iou.iter().try_for_each(|&iou| check_share("augmentation.crop.min_iou", iou))
    }

    /// What to cut out; none to leave the picture whole.
    pub(super) fn window(&self, sample: &Sample, rng: &mut impl Rng, border: Border) -> Option<Window> {
        for _ in 0..ROUNDS {
            let min_iou = self.min_iou.choose(rng).copied().unwrap_or(0.0);
            if min_iou >= 1.0 {
                return None;
            }
            for _ in 0..TRIALS {
                let (width, height) = (draw(self.scale, rng), draw(self.scale, rng));
                let (left, top) = (draw([0.0, 1.0], rng), draw([0.0, 1.0], rng));
                if !(self.aspect[0]..=self.aspect[1]).contains(&(width / height)) {
                    continue;
                }
                let window = part(sample.image.size, [width, height], [left, top]);
                if self.keeps(sample, window, min_iou, border) {
                    return Some(window);
                }
            }
        }
        None
    }

    fn keeps(&self, sample: &Sample, window: Window, min_iou: f64, border: Border) -> bool {
        if sample.boxes.is_empty() {
            return true;
        }
        let region = window.region();
        let kept = |bbox: &&BBox| visible(**bbox, &region, border.min_visible).is_some();
        let best = sample.boxes.iter().filter(kept).map(|bbox| f64::from(bbox.iou(&region))).reduce(f64::max);
        best.map_or(self.may_lose_all && min_iou <= 0.0, |best| best >= min_iou)
    }
}

/// The window with these shares of the sides, at these shares of what is left of them.
fn part(picture: ImageSize, sides: [f64; 2], place: [f64; 2]) -> Window {
    let side = |picture: usize, share: f64| ((picture as f64 * share).round() as usize).clamp(1, picture);
    let size = ImageSize::new(side(picture.width, sides[0]), side(picture.height, sides[1]));
    let offset = |picture: usize, side: usize, share: f64| ((picture - side) as f64 * share).round() as isize;
    Window {
        left: offset(picture.width, size.width, place[0]),
        top: offset(picture.height, size.height, place[1]),
        size,
    }
}
