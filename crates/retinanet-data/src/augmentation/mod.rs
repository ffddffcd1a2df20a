//! Random changes to training samples that keep boxes and pictures in step.
//!
//! Each transform is a plain function of a sample and of numbers, in a file of its own; [`Augmentation`] says which of them
//! happen, and draws the numbers.

mod boxes;
mod color;
mod copy_paste;
mod flip;
mod mixup;
mod mosaic;
mod partners;
mod placement;
mod quarter_turn;
mod random_crop;
mod ranges;
mod rotation;
mod scale_jitter;

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

pub use boxes::Border;
pub use color::{ColorChange, adjust_colors};
pub use copy_paste::{CopyPaste, Piece, paste};
pub use flip::{flip_horizontal, flip_vertical};
pub use mixup::{MixUp, mixup};
pub use mosaic::{Mosaic, mosaic};
pub use placement::{Window, crop, resize};
pub use quarter_turn::turn;
pub use random_crop::RandomCrop;
pub use rotation::{RotatedBox, Rotation, rotate};
pub use scale_jitter::{ScaleJitter, scale};

use crate::preprocessing::MAX_SIDE;
use crate::random::{Purpose, stream};
use crate::{ConfigError, Dataset, Sample, SampleError};
use partners::Partners;
use ranges::{check_share, draw};

/// What may happen to a training sample; by default nothing.
///
/// Pictures are put together first (mosaic, copy-paste, mixup), the result changes its scale, is cut, rotated, turned and
/// flipped, and gets other colours last. All draws depend on the [`SampleKey`] alone, and those of one transform on no other's
/// settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augmentation {
    /// Chance of mirroring left to right, 0..=1.
    pub horizontal_flip: f64,
    /// Chance of mirroring top to bottom, 0..=1; for pictures that have no up, such as cells or aerial views.
    pub vertical_flip: f64,
    /// Chance of turning by 90, 180 or 270 degrees, each as likely, 0..=1; for pictures that have no up.
    pub quarter_turn: f64,
    /// Sizes that [`Preprocessing::min_size`](crate::Preprocessing::min_size) is drawn from, one for each batch; empty for
    /// the fixed one. `max_size` stays.
    pub min_sizes: Vec<usize>,
    /// Values are multiplied by a factor drawn from 1 - this to 1 + this, 0..=1; 0.125 in torchvision's
    /// `RandomPhotometricDistort`.
    pub brightness: f64,
    /// Distances from the picture's mean gray are multiplied by a factor drawn from 1 - this to 1 + this, 0..=1; torchvision's 0.5.
    pub contrast: f64,
    /// Distances from each pixel's gray are multiplied by a factor drawn from 1 - this to 1 + this, 0..=1; torchvision's 0.5.
    pub saturation: f64,
    /// The hue moves by a share of the circle drawn from -this to this, 0..=0.5; torchvision's 0.05.
    pub hue: f64,
    /// Chance of each of the four changes above, drawn apart, 0..=1. Default 1; torchvision's 0.5.
    pub color_probability: f64,
    /// Chance of losing all colour, 0..=1.
    pub grayscale: f64,
    /// The scene larger or smaller.
    pub scale_jitter: Option<ScaleJitter>,
    /// A cut-out.
    pub crop: Option<RandomCrop>,
    /// A turn by a small angle.
    pub rotation: Option<Rotation>,
    /// Four pictures in one.
    pub mosaic: Option<Mosaic>,
    /// Two pictures seen through each other.
    pub mixup: Option<MixUp>,
    /// Objects of other pictures.
    pub copy_paste: Option<CopyPaste>,
    /// Epoch, from 0, from which on `mosaic`, `mixup` and `copy_paste` no longer happen, so that a training ends on pictures as
    /// they are. Default none: they always may.
    pub combine_until: Option<u64>,
    /// A box that is cut or hidden stays, as large as what is in sight of it, when that is at least this share of its area, 0..=1.
    /// Default 0.3: what is left of others can hardly be told, and a whole box would claim what is not in sight.
    pub min_visible: f64,
    /// The colour that is seen where no picture is. Default ImageNet's mean, near 0 after normalisation.
    pub fill: [u8; 3],
}

impl Default for Augmentation {
    fn default() -> Self {
        Self {
            horizontal_flip: 0.0,
            vertical_flip: 0.0,
            quarter_turn: 0.0,
            min_sizes: Vec::new(),
            brightness: 0.0,
            contrast: 0.0,
            saturation: 0.0,
            hue: 0.0,
            color_probability: 1.0,
            grayscale: 0.0,
            scale_jitter: None,
            crop: None,
            rotation: None,
            mosaic: None,
            mixup: None,
            copy_paste: None,
            combine_until: None,
            min_visible: 0.3,
            fill: [124, 116, 104],
        }
    }
}

/// Which sample in which epoch of which run: all that its draws depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleKey {
    /// The run's.
    pub seed: u64,
    /// The epoch, from 0.
    pub epoch: u64,
    /// Index in the data set.
    pub index: usize,
}

impl SampleKey {
    fn stream(&self, purpose: Purpose) -> ChaCha8Rng {
        stream(self.seed, purpose, self.epoch, self.index as u64)
    }

    /// The stream of a transform, where it happens.
    fn chance(&self, purpose: Purpose, probability: f64) -> Option<ChaCha8Rng> {
        let mut rng = self.stream(purpose);
        happens(probability, &mut rng).then_some(rng)
    }
}

fn happens(probability: f64, rng: &mut ChaCha8Rng) -> bool {
    rng.random::<f64>() < probability
}

impl Augmentation {
    /// Looks at every field.
    ///
    /// # Errors
    /// The first field that is out of its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (field, share) in [
            ("augmentation.horizontal_flip", self.horizontal_flip),
            ("augmentation.vertical_flip", self.vertical_flip),
            ("augmentation.quarter_turn", self.quarter_turn),
            ("augmentation.brightness", self.brightness),
            ("augmentation.contrast", self.contrast),
            ("augmentation.saturation", self.saturation),
            ("augmentation.color_probability", self.color_probability),
            ("augmentation.grayscale", self.grayscale),
            ("augmentation.min_visible", self.min_visible),
        ] {
            check_share(field, share)?;
        }
        let wrong = |field, expected, found| Err(ConfigError { field, expected, found });
        if !(0.0..=0.5).contains(&self.hue) {
            return wrong("augmentation.hue", "0..=0.5", self.hue.to_string());
        }
        if !self.min_sizes.iter().all(|size| (1..=MAX_SIDE).contains(size)) {
            return wrong("augmentation.min_sizes", "sizes within 1..=8192", format!("{:?}", self.min_sizes));
        }
        self.scale_jitter.as_ref().map_or(Ok(()), ScaleJitter::validate)?;
        self.crop.as_ref().map_or(Ok(()), RandomCrop::validate)?;
        self.rotation.as_ref().map_or(Ok(()), Rotation::validate)?;
        self.mosaic.as_ref().map_or(Ok(()), Mosaic::validate)?;
        self.mixup.as_ref().map_or(Ok(()), MixUp::validate)?;
        self.copy_paste.as_ref().map_or(Ok(()), CopyPaste::validate)
    }

    /// The `min_size` of a batch, `default` where there is no choice.
    #[must_use]
    pub fn min_size(&self, default: usize, seed: u64, epoch: u64, batch: u64) -> usize {
        let mut rng = stream(seed, Purpose::BatchSize, epoch, batch);
        self.min_sizes.choose(&mut rng).copied().unwrap_or(default)
    }

    /// How many times larger than in its whole picture an object may be shown, at least 1: the resolution that pictures are
    /// needed in.
    ///
    /// ```
    /// use retinanet_data::{Augmentation, RandomCrop, ScaleJitter};
    ///
    /// let scale_jitter = Some(ScaleJitter { range: [0.5, 2.0], ..ScaleJitter::default() });
    /// let crop = Some(RandomCrop { scale: [0.25, 1.0], ..RandomCrop::default() });
    /// let augmentation = Augmentation { scale_jitter, crop, ..Augmentation::default() };
    /// assert_eq!(augmentation.max_enlargement(), 8.0);
    /// ```
    #[must_use]
    pub fn max_enlargement(&self) -> f64 {
        let pasted = self.copy_paste.as_ref().map_or(1.0, |paste| paste.scale[1]);
        let tile = self.mosaic.as_ref().map_or(1.0, |mosaic| mosaic.scale[1]);
        let jitter = self.scale_jitter.as_ref().map_or(1.0, |jitter| jitter.range[1]);
        let crop = self.crop.as_ref().map_or(1.0, |crop| 1.0 / crop.scale[0]);
        pasted.max(tile).max(1.0) * jitter.max(1.0) * crop
    }

    /// Changes the sample `key.index` of a data set as the draws of the key say; `dataset` is where other pictures come from.
    ///
    /// The other pictures of a transform differ from this one and from each other. One that cannot be read is added to `failures`, and the
    /// next one that is drawn takes its place; where eight in turn fail or no other is left, the transform does not happen. A
    /// sample whose pixels do not fit its size stays as it is.
    #[must_use]
    pub fn apply(
        &self,
        sample: Sample,
        dataset: &dyn Dataset,
        key: SampleKey,
        failures: &mut Vec<SampleError>,
    ) -> Sample {
        if !sample.image.is_whole() {
            return sample;
        }
        let combined = self.combine(sample, dataset, key, failures);
        let mut sample = self.change_shape(combined, key);
        let change = self.color_change(key);
        adjust_colors(&mut sample.image, &change);
        sample
    }

    fn border(&self) -> Border {
        Border { min_visible: self.min_visible, fill: self.fill }
    }

    /// What takes other pictures.
    fn combine(
        &self,
        mut sample: Sample,
        dataset: &dyn Dataset,
        key: SampleKey,
        failures: &mut Vec<SampleError>,
    ) -> Sample {
        let border = self.border();
        if self.combine_until.is_some_and(|until| key.epoch >= until) {
            return sample;
        }
        if let Some(mosaic) = &self.mosaic
            && let Some(mut rng) = key.chance(Purpose::Mosaic, mosaic.probability)
        {
            sample = mosaic.apply(sample, &mut Partners::new(dataset, key, failures), &mut rng, border);
        }
        if let Some(copy_paste) = &self.copy_paste
            && let Some(mut rng) = key.chance(Purpose::CopyPaste, copy_paste.probability)
        {
            sample = copy_paste.apply(sample, &mut Partners::new(dataset, key, failures), &mut rng, border);
        }
        if let Some(mixup) = &self.mixup
            && let Some(mut rng) = key.chance(Purpose::MixUp, mixup.probability)
        {
            sample = mixup.apply(sample, &mut Partners::new(dataset, key, failures), &mut rng);
        }
        sample
    }

    /// What moves pixels of one picture.
    fn change_shape(&self, mut sample: Sample, key: SampleKey) -> Sample {
        let border = self.border();
        if let Some(jitter) = &self.scale_jitter
            && let Some(mut rng) = key.chance(Purpose::ScaleJitter, jitter.probability)
        {
            sample = jitter.apply(&sample, &mut rng, border);
        }
        if let Some(random_crop) = &self.crop
            && let Some(mut rng) = key.chance(Purpose::Crop, random_crop.probability)
            && let Some(window) = random_crop.window(&sample, &mut rng, border)
        {
            sample = crop(&sample, window, border);
        }
        if let Some(rotation) = &self.rotation
            && let Some(mut rng) = key.chance(Purpose::Rotation, rotation.probability)
        {
            sample = rotate(&sample, draw(rotation.degrees, &mut rng), rotation.boxes, border);
        }
        if let Some(mut rng) = key.chance(Purpose::QuarterTurn, self.quarter_turn) {
            sample = turn(sample, rng.random_range(1..=3));
        }
        if key.chance(Purpose::HorizontalFlip, self.horizontal_flip).is_some() {
            flip_horizontal(&mut sample);
        }
        if key.chance(Purpose::VerticalFlip, self.vertical_flip).is_some() {
            flip_vertical(&mut sample);
        }
        sample
    }

    fn color_change(&self, key: SampleKey) -> ColorChange {
        let mut rng = key.stream(Purpose::Color);
        // Every number is drawn whether it is used or not, so that one setting does not change what another one does.
        let mut reach = |reach: f64| {
            let (does, value) = (happens(self.color_probability, &mut rng), draw([-reach, reach], &mut rng));
            if does { value } else { 0.0 }
        };
        let [brightness, contrast, saturation, hue] =
            [self.brightness, self.contrast, self.saturation, self.hue].map(&mut reach);
        ColorChange {
            brightness: 1.0 + brightness,
            contrast: 1.0 + contrast,
            saturation: 1.0 + saturation,
            hue,
            is_gray: happens(self.grayscale, &mut rng),
        }
    }
}
