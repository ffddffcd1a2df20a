//! Images of rare classes, seen more often.

use rand::RngExt;
use rand::seq::SliceRandom;
use retinanet_annotations::{AnnotatedImage, AnnotationSet};
use serde::{Deserialize, Serialize};

use crate::ConfigError;
use crate::random::{Purpose, stream};

/// Repeat-factor sampling: an epoch shows an image the more often, the rarer its rarest class.
///
/// r = max over the image's classes of max(1, sqrt(threshold / f)), f = the share of the images that have the class
///
/// Source: Gupta, Dollar & Girshick 2019, "LVIS: A Dataset for Large Vocabulary Instance Segmentation", section 5. Detectron2
/// draws the fraction of each r apart; here an epoch has the same number of samples each time, the sum of all r, rounded.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassBalance {
    /// Classes in a smaller share of the images are balanced, above 0 up to 1; .001 for LVIS, of 1,200 classes. With 1, every
    /// class that is not in all images is.
    pub threshold: f64,
}

impl ClassBalance {
    /// Looks at every field.
    ///
    /// # Errors
    /// The first field that is out of its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.threshold > 0.0 && self.threshold <= 1.0 {
            return Ok(());
        }
        let found = self.threshold.to_string();
        Err(ConfigError { field: "class_balance.threshold", expected: "a number above 0, at most 1", found })
    }

    /// How often an epoch shows each image, on the mean over epochs; 1 for one without boxes to learn.
    ///
    /// ```
    /// use retinanet_data::ClassBalance;
    /// use retinanet_data::retinanet_annotations::{AnnotatedImage, Annotation, AnnotationSet};
    ///
    /// let image = |class_idx| AnnotatedImage {
    ///     annotations: vec![Annotation::new(class_idx, [0.0, 0.0, 8.0, 8.0])],
    ///     ..AnnotatedImage::default()
    /// };
    /// // Class 1 is in a quarter of the images: sqrt(.5 / .25). Class 0 is in three quarters, more than half.
    /// let set = AnnotationSet { images: vec![image(0), image(1), image(0), image(0)], ..AnnotationSet::default() };
    /// assert_eq!(ClassBalance { threshold: 0.5 }.repeats(&set), [1.0, 2f64.sqrt(), 1.0, 1.0]);
    /// ```
    #[must_use]
    pub fn repeats(&self, annotations: &AnnotationSet) -> Vec<f64> {
        let images = &annotations.images;
        let mut counts = Vec::new();
        for class_idx in images.iter().flat_map(classes) {
            if counts.len() <= class_idx {
                counts.resize(class_idx + 1, 0usize);
            }
            counts[class_idx] += 1;
        }
        let repeat = |class_idx: usize| {
            let share = counts[class_idx] as f64 / images.len() as f64;
            (self.threshold / share).sqrt()
        };
        images.iter().map(|image| classes(image).into_iter().map(repeat).fold(1.0, f64::max)).collect()
    }
}

/// The classes that an image teaches, each once.
fn classes(image: &AnnotatedImage) -> Vec<usize> {
    let learned = image.annotations.iter().filter(|annotation| !annotation.is_crowd && annotation.has_extent());
    let mut classes: Vec<usize> = learned.map(|annotation| annotation.class_idx).collect();
    classes.sort_unstable();
    classes.dedup();
    classes
}

/// What an epoch is drawn from: how often each image is shown for sure, and the chance of once more.
pub(crate) struct Repeats {
    whole: Vec<usize>,
    /// Scaled so that the sum is a whole number.
    chance: Vec<f64>,
    extra: usize,
}

impl Repeats {
    pub(crate) fn new(repeats: &[f64]) -> Self {
        let whole: Vec<usize> = repeats.iter().map(|repeat| *repeat as usize).collect();
        let fractions = repeats.iter().map(|repeat| repeat.fract());
        let sum: f64 = fractions.clone().sum();
        let extra = sum.round() as usize;
        let scale = if sum > 0.0 { extra as f64 / sum } else { 0.0 };
        Self { whole, chance: fractions.map(|fraction| fraction * scale).collect(), extra }
    }

    /// Samples of an epoch.
    pub(crate) fn len(&self) -> usize {
        self.whole.iter().sum::<usize>() + self.extra
    }

    /// The images of an epoch, ascending, each as often as it is shown.
    pub(crate) fn draw(&self, seed: u64, epoch: u64) -> Vec<usize> {
        let rng = &mut stream(seed, Purpose::Repeats, epoch, 0);
        let mut shown = self.whole.clone();
        // Systematic sampling: marks one apart, from a random place on, over the chances laid end to end in a random order.
        // Each image is hit with its chance, and the number of hits is always the same.
        let mut images: Vec<usize> = (0..shown.len()).collect();
        images.shuffle(rng);
        let offset: f64 = rng.random();
        let (mut end, mut hits) = (0.0, 0);
        let last = images.len().saturating_sub(1);
        for (position, &index) in images.iter().enumerate() {
            end += self.chance[index];
            // The last one gets what rounding has left.
            let reached = if position == last { self.extra } else { (end + offset).floor() as usize };
            let reached = reached.clamp(hits, self.extra);
            shown[index] += reached - hits;
            hits = reached;
        }
        shown.into_iter().enumerate().flat_map(|(index, times)| std::iter::repeat_n(index, times)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_has_the_same_length_and_the_mean_is_the_factor() {
        let factors = [1.0, 2.5, 1.25, 1.0, 3.0, 1.25, 1.5];
        let repeats = Repeats::new(&factors);
        // 1 + 2 + 1 + 1 + 3 + 1 + 1 and .5 + .25 + .25 + .5 = 1.5, rounded to 2: chances of 2/3 and 1/3.
        assert_eq!(repeats.len(), 12);
        let mut shown = [0usize; 7];
        let epochs = 3000;
        for epoch in 0..epochs {
            let drawn = repeats.draw(7, epoch);
            assert_eq!(drawn.len(), 12);
            assert!(drawn.is_sorted());
            drawn.iter().for_each(|&index| shown[index] += 1);
        }
        let expected = [1.0, 2.0 + 2.0 / 3.0, 1.0 + 1.0 / 3.0, 1.0, 3.0, 1.0 + 1.0 / 3.0, 1.0 + 2.0 / 3.0];
        for (shown, expected) in shown.iter().zip(expected) {
            let mean = *shown as f64 / epochs as f64;
            // Six standard deviations of a mean of 3,000 draws.
            assert!((mean - expected).abs() < 6.0 * 0.5 / (epochs as f64).sqrt(), "{mean} is not {expected}");
        }
        assert_eq!(repeats.draw(7, 3), repeats.draw(7, 3));
        assert!((0..9).any(|epoch| repeats.draw(7, epoch) != repeats.draw(7, epoch + 1)));
        assert!((0..9).any(|epoch| repeats.draw(7, epoch) != repeats.draw(8, epoch)));
    }

    #[test]
    fn no_images_and_no_fractions() {
        assert_eq!((Repeats::new(&[]).len(), Repeats::new(&[]).draw(0, 0)), (0, vec![]));
        assert_eq!(Repeats::new(&[1.0, 2.0]).draw(0, 0), [0, 1, 1]);
    }
}
