//! How the class loss is shared out among easy and hard examples: the paper's Figure 4 for any model and data.

use crate::detector::{Detector, batch_tensor};
use crate::error::{Error, Result};
use crate::targets::{GroundTruth, Targets};
use retinanet_data::{Dataset, Sample, SampleError};
use retinanet_focal::IGNORE;
use std::ops::ControlFlow;

/// Width of a bin of logits: within one, the focal loss of any gamma up to 5 is near its value in the middle, to .1 %.
const BIN: f64 = 1.0 / 64.0;

/// Logits beyond are counted as these: their loss is nothing, or the logit itself.
const LIMIT: f64 = 48.0;

/// Points of a curve, about.
const POINTS: f64 = 400.0;

/// Examples of a class loss by x_t: the logit where the answer is yes, minus the logit where it is no. The larger, the easier.
#[derive(Clone, Debug, PartialEq)]
pub struct LossExamples {
    /// From the hardest to the easiest.
    bins: Vec<u64>,
}

/// The examples of a data set as a model sees them.
///
/// Foreground are the logits of the own class of every anchor that learns an object, background all other logits of anchors
/// that are not ignored.
///
/// Source: Lin et al. 2017, section 5.1 and figure 4, which samples 1e5 and 1e7 of them; here all are counted, in bins of
/// 1/64 of a logit, so that memory does not grow with the data.
#[derive(Debug)]
pub struct LossDistribution {
    /// What is to be found.
    pub foreground: LossExamples,
    /// What is not.
    pub background: LossExamples,
    /// Images that could not be read.
    pub failures: Vec<SampleError>,
}

impl Default for LossExamples {
    fn default() -> Self {
        Self { bins: vec![0; (2.0 * LIMIT / BIN) as usize] }
    }
}

impl LossExamples {
    fn add(&mut self, x_t: f64) {
        let last = self.bins.len() - 1;
        self.bins[(((x_t + LIMIT) / BIN) as usize).min(last)] += 1;
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.bins.iter().sum()
    }

    /// The count of each bin with the focal loss of one of its examples, from the easiest to the hardest; without alpha, which
    /// is the same for all of them.
    fn losses(&self, gamma: f64) -> impl Iterator<Item = (f64, f64)> {
        let loss = move |bin: usize| {
            let x_t = (bin as f64 + 0.5) * BIN - LIMIT;
            // -ln(p_t), and 1 - p_t = exp(-x_t) p_t without a difference of near numbers.
            let cross_entropy = if x_t > 0.0 { (-x_t).exp().ln_1p() } else { x_t.exp().ln_1p() - x_t };
            (gamma * (-x_t - cross_entropy)).exp() * cross_entropy
        };
        let bins = self.bins.iter().enumerate().rev().filter(|(_, count)| **count > 0);
        bins.map(move |(bin, &count)| (count as f64, loss(bin)))
    }

    /// The cumulative loss: share of the examples, from the easiest on, and the share of the loss that these have, from (0, 0)
    /// to (1, 1); empty without examples.
    #[must_use]
    pub fn cumulative_loss(&self, gamma: f64) -> Vec<(f64, f64)> {
        let examples = self.count() as f64;
        let total: f64 = self.losses(gamma).map(|(count, loss)| count * loss).sum();
        if examples == 0.0 || total <= 0.0 {
            return Vec::new();
        }
        let (mut x, mut y) = (0.0, 0.0);
        let mut points = vec![(0.0, 0.0)];
        for (count, loss) in self.losses(gamma) {
            x += count / examples;
            y += count * loss / total;
            let (last_x, last_y) = points[points.len() - 1];
            if (x - last_x).max(y - last_y) >= 1.0 / POINTS {
                points.push((x, y));
            }
        }
        points.pop();
        points.push((1.0, 1.0));
        points
    }

    /// The share of the loss that the hardest examples have, `share` of all, 0 to 1; none without examples.
    #[must_use]
    pub fn loss_of_hardest(&self, gamma: f64, share: f64) -> Option<f64> {
        let total: f64 = self.losses(gamma).map(|(count, loss)| count * loss).sum();
        let mut easy = self.count() as f64 * (1.0 - share);
        let mut hardest = 0.0;
        for (count, loss) in self.losses(gamma) {
            let left = easy.min(count);
            easy -= left;
            hardest += (count - left) * loss;
        }
        (total > 0.0).then(|| hardest / total)
    }
}

impl LossDistribution {
    /// Runs the detector over a data set; `on_image` is called after each image with how many are done. None if it breaks off.
    ///
    /// # Errors
    /// The data has a class that the detector does not have, or the network cannot run on an image.
    pub fn measure(
        detector: &Detector,
        dataset: &dyn Dataset,
        on_image: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Option<Self>> {
        let classes = class_indices(detector, dataset)?;
        let mut found =
            Self { foreground: LossExamples::default(), background: LossExamples::default(), failures: Vec::new() };
        for index in 0..dataset.len() {
            match dataset.sample(index) {
                Ok(sample) => found.add(detector, &classes, index, sample)?,
                Err(failure) => found.failures.push(failure),
            }
            if on_image(index + 1).is_break() {
                return Ok(None);
            }
        }
        Ok(Some(found))
    }

    fn add(&mut self, detector: &Detector, classes: &[usize], index: usize, mut sample: Sample) -> Result<()> {
        let Detector { config, model, .. } = detector;
        sample.classes.iter_mut().for_each(|class| *class = classes[*class]);
        let batch = config.preprocessing.batch_of_samples(&[(index, sample)])?;
        let predictions = model.predict(&batch_tensor(&batch)?)?;
        let anchors = model.network.anchors(batch.padded, &predictions.grids)?;
        let objects =
            batch.images.iter().map(|image| GroundTruth { boxes: image.boxes.clone(), classes: image.classes.clone() });
        let per_location = model.network.anchors_per_location();
        let targets = Targets::new(&config.matcher, &anchors, per_location, &objects.collect::<Vec<_>>())?;
        let num_classes = model.network.num_classes();
        for (logits, targets) in predictions.class_logits.values().iter().zip(targets.classes.values()) {
            let (logits, targets) = (logits.flatten_all()?.to_vec1::<f32>()?, targets.flatten_all()?.to_vec1::<i64>()?);
            for (logits, target) in logits.chunks(num_classes).zip(targets).filter(|(_, target)| *target != IGNORE) {
                for (class, &logit) in (0i64..).zip(logits) {
                    match class == target {
                        true => self.foreground.add(f64::from(logit)),
                        false => self.background.add(-f64::from(logit)),
                    }
                }
            }
        }
        Ok(())
    }
}

/// The detector's index of each class of the data, by name.
fn class_indices(detector: &Detector, dataset: &dyn Dataset) -> Result<Vec<usize>> {
    let names = || detector.classes.iter().map(|class| class.name.as_str());
    let index = |class: &retinanet_annotations::Class| {
        names().position(|name| name == class.name).ok_or_else(|| {
            let known = names().collect::<Vec<_>>().join(", ");
            Error::Data(format!("classes: expected those of the model ({known}), found {}", class.name))
        })
    };
    dataset.classes().iter().map(index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples(logits: &[f64]) -> LossExamples {
        let mut examples = LossExamples::default();
        logits.iter().for_each(|&x_t| examples.add(x_t));
        examples
    }

    /// (1 - p)^gamma * -ln(p), by its definition.
    fn focal(x_t: f64, gamma: f64) -> f64 {
        let p = 1.0 / (1.0 + (-x_t).exp());
        (1.0 - p).powf(gamma) * -p.ln()
    }

    #[test]
    fn shares_agree_with_the_sorted_losses() {
        // In the middle of their bins.
        let logits: Vec<f64> = (0..200).map(|i| (f64::from(i * 37 % 200) - 60.5) * 4.0 * BIN + BIN / 2.0).collect();
        let examples = examples(&logits);
        assert_eq!(examples.count(), 200);
        for gamma in [0.0, 0.5, 1.0, 2.0, 5.0] {
            let mut losses: Vec<f64> = logits.iter().map(|&x_t| focal(x_t, gamma)).collect();
            losses.sort_by(f64::total_cmp);
            let total: f64 = losses.iter().sum();
            let expected = losses[160..].iter().sum::<f64>() / total;
            let found = examples.loss_of_hardest(gamma, 0.2).expect("examples");
            assert!((found - expected).abs() < 1e-9, "gamma {gamma}: expected {expected}, found {found}");
            let curve = examples.cumulative_loss(gamma);
            assert_eq!((curve[0], curve[curve.len() - 1]), ((0.0, 0.0), (1.0, 1.0)));
            for &(x, y) in &curve {
                let expected = losses[..(x * 200.0).round() as usize].iter().sum::<f64>() / total;
                assert!((y - expected).abs() < 1e-9, "gamma {gamma}: at {x} expected {expected}, found {y}");
            }
        }
    }

    #[test]
    fn no_examples_and_extreme_ones() {
        assert_eq!((examples(&[]).cumulative_loss(2.0), examples(&[]).loss_of_hardest(2.0, 0.5)), (vec![], None));
        let extreme = examples(&[f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e30, 0.0]);
        assert_eq!(extreme.count(), 5);
        let share = extreme.loss_of_hardest(5.0, 0.4).expect("examples");
        assert!((0.99..=1.0).contains(&share), "{share}");
    }

    #[test]
    fn an_example_in_a_bin_is_worth_its_middle() {
        for gamma in [0.0, 2.0, 5.0] {
            // A thousand examples spread over one bin, beside one of a known loss.
            let spread: Vec<f64> = (0..1000).map(|i| 1.0 + (f64::from(i) + 0.5) / 1000.0 * BIN).collect();
            let exact: f64 = spread.iter().map(|&x_t| focal(x_t, gamma)).sum();
            let found: f64 = examples(&spread).losses(gamma).map(|(count, loss)| count * loss).sum();
            assert!((found / exact - 1.0).abs() < 1e-3, "gamma {gamma}: {found} is not {exact}");
        }
    }
}
