//! What a step changes: weights, optimiser, loss.

use super::event::Event;
use super::named_state::NamedState;
use super::not_finite::NotFinite;
use crate::config::Config;
use crate::detector::Detector;
use crate::ema::AveragedWeights;
use crate::error::{Error, Result};
use crate::loss::DetectionLoss;
use crate::model::Model;
use crate::optim::{Optimizer, clip_gradients, gradient_norm, gradient_norms};
use crate::targets::{GroundTruth, Targets};
use crate::training_step::TrainingStep;
use retinanet_anchors::{BBox, ImageSize, Pyramid};
use retinanet_annotations::Class;
use retinanet_data::{Batch, BatchImage};
use std::ops::ControlFlow;
use std::path::Path;

/// Before the names of the weights in a checkpoint.
const MODEL: &str = "model.";

/// Bits of a seed that the parts of a batch have for themselves.
const SEED_BITS: u32 = 16;

/// What a step changes.
pub(super) struct Learner {
    pub(super) detector: Detector,
    /// The detector's network with the memory of its steps.
    network: TrainingStep,
    optimizer: Optimizer,
    loss: DetectionLoss,
    /// The running average of the weights, where one is kept.
    average: Option<AveragedWeights>,
}

/// What came of a step.
pub(super) struct Learned {
    pub(super) class_loss: f32,
    pub(super) box_loss: f32,
    /// Before clipping.
    pub(super) gradient_norm: f64,
    pub(super) num_foreground: usize,
}

impl Learner {
    /// At the start of a training.
    ///
    /// # Errors
    /// There is no memory for the average of the weights, or the dtype is not one to train in.
    pub(super) fn new(config: &Config, classes: Vec<Class>, model: Model) -> Result<Self> {
        let optimizer = Optimizer::with_rates(config.train.optimizer, &config.train.rates, &model.network.parameters());
        let loss = DetectionLoss::new(config.loss.clone(), config.box_coder);
        let average = config.train.ema.map(|ema| AveragedWeights::new(ema, &model.parameters)).transpose()?;
        let network = TrainingStep::new(&model.network, &model.network.training_options(&config.train))?;
        Ok(Self { detector: Detector::new(config.clone(), classes, model), network, optimizer, loss, average })
    }

    /// As it was when it was [kept](Self::parts).
    ///
    /// # Errors
    /// An entry is missing, of another shape, or of something else.
    pub(super) fn restore(config: &Config, classes: Vec<Class>, mut parts: NamedState) -> Result<Self> {
        let model = Model::with_tensors(config, classes.len(), parts.take_tensors(MODEL))?;
        let mut learner = Self::new(config, classes, model)?;
        learner.optimizer.restore(&mut parts)?;
        learner.loss.restore(&mut parts)?;
        if let Some(average) = &mut learner.average {
            average.restore(&mut parts)?;
        }
        parts.finish()?;
        Ok(learner)
    }

    /// All that the next step depends on.
    ///
    /// # Errors
    /// candle cannot hold a list.
    pub(super) fn parts(&self) -> Result<NamedState> {
        let mut parts = NamedState::default();
        parts.put_tensors(MODEL, self.detector.tensors());
        self.optimizer.keep(&mut parts)?;
        self.loss.keep(&mut parts);
        if let Some(average) = &self.average {
            average.keep(&mut parts);
        }
        Ok(parts)
    }

    /// The detector that is scored and written: the one that learns, or the average of it. It shares their memory.
    pub(super) fn result(&self) -> Detector {
        let mut result = self.detector.clone();
        if let Some(average) = &self.average {
            result.model.parameters = average.parameters().clone();
        }
        result
    }

    /// Writes the model that detects.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn save_model(&self, path: &Path) -> Result<()> {
        self.result().save(path)
    }

    /// The first tensor of the model that has a value that is no finite number.
    pub(super) fn first_not_finite(&self) -> Result<Option<&str>> {
        for (name, variable) in self.detector.model.parameters.iter() {
            let values = variable.as_detached_tensor().flatten_all()?.to_vec1::<f32>()?;
            if values.iter().any(|value| !value.is_finite()) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// One step of the optimiser; `step` seeds the losses that draw anchors.
    ///
    /// # Errors
    /// The loss or a gradient is not finite, and nothing has changed; or a tensor operation fails.
    pub(super) fn step(
        &mut self,
        batch: &Batch,
        step: usize,
        learning_rate: f64,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Learned> {
        let Self { detector: Detector { config, model, .. }, network, optimizer, loss, average } = self;
        let part_len = config.train.micro_batch.unwrap_or(batch.images.len()).max(1);
        let image_len = batch.pixels.len() / batch.images.len().max(1);
        let (mut class_loss, mut box_loss) = (0.0, 0.0);
        // What the size of the feature maps decides, known when the first part has run.
        let mut shared: Option<Shared> = None;
        network.begin();
        for first in (0..batch.images.len()).step_by(part_len) {
            let images = first..batch.images.len().min(first + part_len);
            let pixels = &batch.pixels[images.start * image_len..images.end * image_len];
            let predictions = network.forward(model, pixels, images.len(), batch.padded)?;
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
            let (targets, weights) = (targets.of_images(images.clone())?, &weights[images]);
            // The first part draws as the whole batch would.
            let seed = step as u64 ^ (first as u64).rotate_right(SEED_BITS);
            let losses = loss.weighted(&predictions, &targets, anchors, weights, seed)?;
            class_loss += losses.class.to_scalar::<f32>()?;
            box_loss += losses.r#box.to_scalar::<f32>()?;
            network.backward(model, predictions, losses)?;
        }
        let num_foreground = shared.map_or(0, |shared| shared.targets.num_foreground.iter().sum());

        let gradients = network.gradients_mut();
        let norm = match config.train.clip_norm {
            Some(limit) => clip_gradients(&model.parameters, gradients, limit)?,
            None => gradient_norm(&model.parameters, gradients)?,
        };
        if !(class_loss.is_finite() && box_loss.is_finite() && norm.is_finite()) {
            let norms = gradient_norms(&model.parameters, gradients)?;
            let losses = [class_loss, box_loss];
            let found = NotFinite::new(step, losses, norms, learning_rate, &config.train, batch);
            return Err(Error::LossNotFinite(Box::new(found)));
        }
        optimizer.step(&model.parameters, gradients, learning_rate)?;
        network.update_running_statistics(model)?;
        if let Some(average) = average {
            average.update(&model.parameters)?;
        }
        Ok(Learned { class_loss, box_loss, gradient_norm: norm, num_foreground })
    }
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
        let objects = |image: &BatchImage| GroundTruth { boxes: image.boxes.clone(), classes: image.classes.clone() };
        let ground_truth: Vec<GroundTruth> = batch.images.iter().map(objects).collect();
        let targets = Targets::new(&config.matcher, &anchors, model.network.anchors_per_location(), &ground_truth)?;
        let weights = loss.image_weights(&targets.num_foreground);
        Ok(Self { anchors, targets, weights })
    }
}
