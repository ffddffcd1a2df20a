//! Passes of a network forward and back, with the losses between them.

use super::event::Event;
use crate::config::Config;
use crate::error::Result;
use crate::loss::{DetectionLoss, Losses};
use crate::model::{Model, Predictions};
use crate::targets::{GroundTruth, Targets};
use crate::training_step::TrainingStep;
use retinanet_anchors::{BBox, ImageSize, Pyramid};
use retinanet_data::{Batch, BatchImage};
use std::ops::{ControlFlow, Range};

/// Bits of a seed that the parts of a batch have for themselves.
const SEED_BITS: u32 = 16;

/// A network whose losses are computed on the processor.
pub(super) trait Passes {
    /// Begins a step: what the passes from here on give adds up.
    fn begin(&mut self) -> Result<()>;

    /// Logits and deltas of images, each a variable.
    fn forward(&mut self, model: &Model, pixels: &[f32], images: usize, padded: ImageSize) -> Result<Predictions>;

    /// Adds the gradients of all trained parameters by the losses of the last predictions.
    fn backward(&mut self, model: &Model, predictions: Predictions, losses: Losses) -> Result<()>;
}

impl Passes for TrainingStep {
    fn begin(&mut self) -> Result<()> {
        self.begin();
        Ok(())
    }

    fn forward(&mut self, model: &Model, pixels: &[f32], images: usize, padded: ImageSize) -> Result<Predictions> {
        self.forward(model, pixels, images, padded)
    }

    fn backward(&mut self, model: &Model, predictions: Predictions, losses: Losses) -> Result<()> {
        self.backward(model, predictions, losses)
    }
}

/// What the passes of a step come to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Passed {
    pub(super) class_loss: f32,
    pub(super) box_loss: f32,
    pub(super) num_foreground: usize,
}

/// A batch in parts that are run one after another: their images, and where in the batch their pixels lie.
pub(super) fn parts(config: &Config, batch: &Batch) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let num_images = batch.images.len();
    let part_len = config.train.micro_batch.unwrap_or(num_images).max(1);
    let image_len = batch.pixels.len() / num_images.max(1);
    (0..num_images).step_by(part_len).map(move |first| {
        let images = first..num_images.min(first + part_len);
        (images.clone(), images.start * image_len..images.end * image_len)
    })
}

/// Runs a batch forward and back; `step` seeds the losses that draw anchors.
pub(super) fn run(
    passes: &mut impl Passes,
    (config, model): (&Config, &Model),
    loss: &mut DetectionLoss,
    batch: &Batch,
    step: usize,
    on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<Passed> {
    let mut passed = Passed::default();
    // What the size of the feature maps decides, known when the first part has run.
    let mut shared: Option<Shared> = None;
    passes.begin()?;
    for (images, pixels) in parts(config, batch) {
        let predictions = passes.forward(model, &batch.pixels[pixels], images.len(), batch.padded)?;
        let Shared { anchors, targets, weights } = match &mut shared {
            Some(shared) => shared,
            None => {
                let found = Shared::new(config, model, &predictions.grids, batch, loss)?;
                if step == 0 {
                    // Whoever breaks here is asked again after the step.
                    let event = Event::FirstBatch { batch, anchors: &found.anchors, targets: &found.targets };
                    let _ = on_event(event);
                }
                shared.insert(found)
            }
        };
        // The first part draws as the whole batch would.
        let seed = step as u64 ^ (images.start as u64).rotate_right(SEED_BITS);
        let (targets, weights) = (targets.of_images(images.clone())?, &weights[images]);
        let losses = loss.weighted(&predictions, &targets, anchors, weights, seed)?;
        passed.class_loss += losses.class.to_scalar::<f32>()?;
        passed.box_loss += losses.r#box.to_scalar::<f32>()?;
        passes.backward(model, predictions, losses)?;
    }
    passed.num_foreground = shared.map_or(0, |shared| shared.targets.num_foreground.iter().sum());
    Ok(passed)
}

/// What all parts of a batch share.
struct Shared {
    anchors: Pyramid<Vec<BBox>>,
    /// Of all images.
    targets: Targets,
    /// Of each image in the losses.
    weights: Vec<f64>,
}

impl Shared {
    fn new(
        config: &Config,
        model: &Model,
        grids: &Pyramid<ImageSize>,
        batch: &Batch,
        loss: &mut DetectionLoss,
    ) -> Result<Self> {
        let anchors = model.network.anchors(batch.padded, grids)?;
        let targets = targets(config, model, &anchors, batch)?;
        let weights = loss.image_weights(&targets.num_foreground);
        Ok(Self { anchors, targets, weights })
    }
}

/// What the anchors of a batch are trained toward.
pub(super) fn targets(
    config: &Config,
    model: &Model,
    anchors: &Pyramid<Vec<BBox>>,
    batch: &Batch,
) -> candle_core::Result<Targets> {
    let objects = |image: &BatchImage| GroundTruth { boxes: image.boxes.clone(), classes: image.classes.clone() };
    let ground_truth: Vec<GroundTruth> = batch.images.iter().map(objects).collect();
    Targets::new(&config.matcher, anchors, model.network.anchors_per_location(), &ground_truth)
}
