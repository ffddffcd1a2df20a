//! What a training tells while it runs, and when it has ended.

use super::{Divergence, TrainingState};
use crate::detector::Detector;
use crate::evaluate::Evaluation;
use crate::targets::Targets;
use retinanet_anchors::{BBox, Pyramid};
use retinanet_data::{Batch, LoaderStatistics, SampleError};
use retinanet_eval::CocoSummary;
use std::time::Duration;

/// What happens while training, in the order it happens.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Before the first step.
    Start {
        /// Steps of an epoch.
        steps_per_epoch: usize,
        /// The learning rate after warm-up, scaled to the batch.
        learning_rate: f64,
        /// Where it goes on; at the very beginning, unless it is resumed.
        state: &'a TrainingState,
    },
    /// Before the first step: what it learns from. The training ends no sooner than after that step.
    FirstBatch {
        /// The images as augmented and resized.
        batch: &'a Batch,
        /// The anchors, the same for every image.
        anchors: &'a Pyramid<Vec<BBox>>,
        /// What each anchor is trained toward.
        targets: &'a Targets,
    },
    /// A sample could not be used; the epoch goes on without it. Told once, however often it fails.
    Failure(&'a SampleError),
    /// After each step.
    Step(Step),
    /// After a step: the loss is far beyond that of the first steps. Told once.
    Diverging(&'a Divergence),
    /// Before a checkpoint is written: whatever is kept of what was told by now is to be on the disk first, so that no
    /// resumed run is ahead of it.
    Checkpoint(&'a TrainingState),
    /// After each image of the validation split; breaking leaves the rest out, and the epoch without a score.
    Validating {
        /// Images done.
        images: usize,
    },
    /// After each scoring of the validation split.
    Validation {
        /// Epochs done.
        epoch: usize,
        /// The score.
        evaluation: &'a Evaluation,
    },
    /// After each epoch, its model written.
    Epoch(&'a EpochSummary),
}

/// One step of the optimiser.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Step of the training, from 0.
    pub step: usize,
    /// Images of the batch.
    pub images: usize,
    /// Class loss.
    pub class_loss: f32,
    /// Box loss.
    pub box_loss: f32,
    /// Norm of the gradients before clipping.
    pub gradient_norm: f64,
    /// The rate that was used.
    pub learning_rate: f64,
    /// Foreground anchors of the batch.
    pub num_foreground: usize,
    /// How long it took, with the wait for its pictures.
    pub duration: Duration,
    /// How long it waited for its pictures.
    pub waited: Duration,
}

/// One epoch; of one that a resumed run finished, the parts before and after.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EpochSummary {
    /// Epochs done.
    pub epoch: usize,
    /// Steps of the optimiser done.
    pub step: usize,
    /// Images learned from.
    pub images: usize,
    /// Mean over its steps.
    pub class_loss: f64,
    /// Mean over its steps.
    pub box_loss: f64,
    /// Mean over its steps, of the norm before clipping.
    pub gradient_norm: f64,
    /// The rate of its last step.
    pub learning_rate: f64,
    /// How long its steps took.
    pub duration: Duration,
    /// What loading did meanwhile, and how long the steps waited for it.
    pub loading: LoaderStatistics,
    /// How long scoring took.
    pub validation: Duration,
    /// COCO's numbers on the validation split, where it was scored; -1 where it has no objects to find.
    pub score: Option<CocoSummary>,
}

/// How a training ended.
#[derive(Debug)]
pub struct Outcome {
    /// The detector with the last weights, or with their running average.
    pub detector: Detector,
    /// Whether it was interrupted.
    pub interrupted: bool,
    /// The epochs that it took, if it ended early because it got no better.
    pub stopped_early: Option<usize>,
    /// Samples that could not be used, each counted once.
    pub failures: usize,
    /// The best AP on the validation split and its epoch; none where it is not scored, or has no objects to find.
    pub best: Option<(f64, usize)>,
}
