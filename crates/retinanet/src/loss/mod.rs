//! The detector's loss: a class loss over all anchors and a box loss over the foreground, normalised as the references do.

mod boxes;
mod dual;

pub use boxes::{BoxLoss, ForegroundAnchor};

use crate::error::Result;
use crate::train::NamedState;
use crate::{Predictions, Targets};
use candle_core::{DType, Tensor};
use retinanet_anchors::{BBox, BoxCoder, Pyramid};
use retinanet_focal::{ClassLoss, Example};
use serde::{Deserialize, Serialize};

/// What both losses are divided by.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Normalizer {
    /// max(1, foreground anchors) of each image, then the mean over the images: torchvision.
    PerImage,
    /// max(1, foreground anchors) of the batch: the paper, MMDetection.
    Batch,
    /// A moving average of the batch's foreground anchors: Detectron2 (100, .9).
    MovingAverage {
        /// Where the average starts.
        start: f64,
        /// Share of the old average in the new one.
        momentum: f64,
    },
}

/// Both losses and their weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossConfig {
    /// Over every anchor that is not ignored.
    pub class: ClassLoss,
    /// Over foreground anchors.
    pub r#box: BoxLoss,
    /// What both are divided by.
    pub normalizer: Normalizer,
    /// The box loss counts this much beside the class loss; 1 in the references.
    pub box_weight: f64,
}

/// The two losses of a batch, each a scalar with its graph.
#[derive(Clone, Debug)]
pub struct Losses {
    /// Classification.
    pub class: Tensor,
    /// Box regression, before its weight.
    pub r#box: Tensor,
    /// What the optimiser descends: class + box_weight * box.
    pub total: Tensor,
}

/// The loss with its running normaliser.
#[derive(Clone, Debug)]
pub struct DetectionLoss {
    config: LossConfig,
    coder: BoxCoder,
    /// State of [`Normalizer::MovingAverage`].
    average: f64,
}

/// Entry of a checkpoint.
const AVERAGE: &str = "loss.average";

impl DetectionLoss {
    /// A loss at the start of a training.
    pub fn new(config: LossConfig, coder: BoxCoder) -> Self {
        let average = if let Normalizer::MovingAverage { start, .. } = config.normalizer { start } else { 0.0 };
        Self { config, coder, average }
    }

    /// Puts in what the next step depends on.
    pub(crate) fn keep(&self, state: &mut NamedState) {
        state.put_number(AVERAGE, self.average);
    }

    /// Takes out what [`keep`](Self::keep) put in.
    ///
    /// # Errors
    /// It is not there.
    pub(crate) fn restore(&mut self, state: &mut NamedState) -> Result<()> {
        self.average = state.take_number(AVERAGE)?;
        Ok(())
    }

    /// The state of [`Normalizer::MovingAverage`].
    #[cfg(feature = "cuda")]
    pub(crate) fn average(&self) -> f64 {
        self.average
    }

    /// Sets the state of [`Normalizer::MovingAverage`].
    #[cfg(feature = "cuda")]
    pub(crate) fn set_average(&mut self, average: f64) {
        self.average = average;
    }

    /// Losses of a batch. `step` seeds the class losses that draw anchors; hard examples are suppressed by the IoU of `anchors`.
    ///
    /// # Errors
    /// Predictions and targets do not fit each other.
    pub fn forward(
        &mut self,
        predictions: &Predictions,
        targets: &Targets,
        anchors: &Pyramid<Vec<BBox>>,
        step: u64,
    ) -> Result<Losses> {
        let weights = self.image_weights(&targets.num_foreground);
        self.weighted(predictions, targets, anchors, &weights, step)
    }

    /// The part of a batch's losses that some of its images have, each with its [weight](Self::image_weights) in the batch.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub(crate) fn weighted(
        &self,
        predictions: &Predictions,
        targets: &Targets,
        anchors: &Pyramid<Vec<BBox>>,
        weights: &[f64],
        step: u64,
    ) -> Result<Losses> {
        let device = &candle_core::Device::Cpu;
        // Losses are f32 whatever the logits are, but f64 for f64.
        let dtype = if predictions.class_logits.values()[0].dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        let weight_tensor = Tensor::new(weights, device)?.to_dtype(dtype)?;

        let levels: Vec<(&Tensor, &Tensor)> =
            predictions.class_logits.values().iter().zip(targets.classes.values()).collect();
        let anchor = |example: &Example| &anchors.values()[example.level_idx][example.anchor_idx];
        let limit =
            if let ClassLoss::HardExamples(loss) = &self.config.class { loss.nms_iou_threshold as f32 } else { 1.0 };
        let is_apart = |_: usize, accepted: &[Example], candidate: &Example| {
            accepted.iter().all(|other| anchor(other).iou(anchor(candidate)) <= limit)
        };
        let classes = self.config.class.select(&levels, step, Some(&is_apart))?;
        let mut class = Tensor::zeros((), dtype, device)?;
        for (logits, classes) in predictions.class_logits.values().iter().zip(&classes) {
            class = (class + (self.config.class.sum(logits, classes)? * &weight_tensor)?.sum_all()?)?;
        }
        let mut boxes = Tensor::zeros((), dtype, device)?;
        for (deltas, foreground) in predictions.box_deltas.values().iter().zip(targets.foreground.values()) {
            boxes = (boxes + self.config.r#box.sum(deltas, &self.coder, foreground, weights)?)?;
        }
        let total = (&class + (&boxes * self.config.box_weight)?)?;
        Ok(Losses { class, r#box: boxes, total })
    }

    /// What the sums of each image of a batch are multiplied by; a moving average moves.
    pub(crate) fn image_weights(&mut self, num_foreground: &[usize]) -> Vec<f64> {
        let images = num_foreground.len();
        let batch = num_foreground.iter().sum::<usize>().max(1) as f64;
        match self.config.normalizer {
            Normalizer::PerImage => num_foreground.iter().map(|&n| 1.0 / (n.max(1) * images) as f64).collect(),
            Normalizer::Batch => vec![1.0 / batch; images],
            Normalizer::MovingAverage { momentum, .. } => {
                self.average = momentum * self.average + (1.0 - momentum) * batch;
                vec![1.0 / self.average; images]
            }
        }
    }
}
