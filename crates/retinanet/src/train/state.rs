//! Where a training stands between two steps.

use super::divergence::LossWatch;
use super::event::{EpochSummary, Step};
use crate::early_stopping::Progress;
use retinanet_data::LoaderStatistics;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

/// Where a training stands between two steps, but for what its parts keep: weights, optimiser, loss.
///
/// Order, augmentation and the anchors that a loss draws are functions of the seed, the epoch, the image and the step, so that
/// these numbers stand for every stream of random numbers too.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainingState {
    /// Steps of the optimiser that are done.
    pub step: usize,
    /// Epochs that are done, with their scoring.
    pub epoch: usize,
    /// Batches of the next epoch that are done; all of them where only the scoring is left.
    pub batch: usize,
    /// The best AP on the validation split and its epoch, counted from 1.
    pub best: Option<(f64, usize)>,
    /// How long it has got no better, as early stopping counts it.
    pub progress: Progress,
    /// Samples that could not be used.
    pub failed: BTreeSet<usize>,
    /// Whether the loss grows.
    pub(crate) watch: LossWatch,
    /// What the epoch that goes on has done.
    pub(crate) sums: EpochSums,
}

/// Sums over the steps of an epoch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct EpochSums {
    steps: usize,
    images: usize,
    class_loss: f64,
    box_loss: f64,
    gradient_norm: f64,
    learning_rate: f64,
    duration: Duration,
    pub(super) loading: LoaderStatistics,
}

impl TrainingState {
    /// Takes a step along that was taken with batch number `batch` of its epoch, counted from 1.
    pub(super) fn advance(&mut self, step: &Step, batch: usize) {
        self.step += 1;
        self.batch = batch;
        self.sums.add(step);
    }

    /// Goes to the beginning of the next epoch.
    pub(super) fn end_epoch(&mut self) {
        self.epoch += 1;
        self.batch = 0;
        self.sums = EpochSums::default();
    }

    /// Takes a score of the epoch that ends along; whether it is the best by now.
    pub(super) fn is_best(&mut self, ap: f64) -> bool {
        // Negative where there is nothing to score, which is no best.
        let is_best = ap >= 0.0 && self.best.is_none_or(|(best, _)| ap > best);
        if is_best {
            self.best = Some((ap, self.epoch + 1));
        }
        is_best
    }

    /// What the steps alone tell of the epoch that ends.
    pub(super) fn summary(&self) -> EpochSummary {
        let sums = &self.sums;
        let steps = sums.steps.max(1) as f64;
        EpochSummary {
            epoch: self.epoch + 1,
            step: self.step,
            images: sums.images,
            class_loss: sums.class_loss / steps,
            box_loss: sums.box_loss / steps,
            gradient_norm: sums.gradient_norm / steps,
            learning_rate: sums.learning_rate,
            duration: sums.duration,
            loading: sums.loading,
            validation: Duration::ZERO,
            score: None,
        }
    }
}

impl EpochSums {
    /// Whether there was no step.
    pub(super) fn is_empty(&self) -> bool {
        self.steps == 0
    }

    fn add(&mut self, step: &Step) {
        self.steps += 1;
        self.images += step.images;
        self.class_loss += f64::from(step.class_loss);
        self.box_loss += f64::from(step.box_loss);
        self.gradient_norm += step.gradient_norm;
        self.learning_rate = step.learning_rate;
        self.duration += step.duration;
    }
}
