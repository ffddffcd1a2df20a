//! Training: data, model and configuration to checkpoints.

use crate::config::Config;
use crate::detector::{Detector, batch_tensor};
use crate::error::{Error, Result};
use crate::evaluate::{Evaluation, evaluate};
use crate::loss::DetectionLoss;
use crate::model::Model;
use crate::optim::{Optimizer, clip_gradients, gradient_norm};
use crate::plan::InferenceOptions;
use crate::run::RunFolder;
use crate::targets::{GroundTruth, Targets};
use retinanet_anchors::{BBox, Pyramid};
use retinanet_annotations::Class;
use retinanet_data::{Batch, Dataset, Loader, LoaderConfig, LoaderStatistics, SampleError};
use retinanet_eval::CocoSummary;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a training is made of but the model.
pub struct Training {
    /// All numbers.
    pub config: Config,
    /// What is learned from.
    pub train: Arc<dyn Dataset>,
    /// What is scored while training.
    pub validation: Option<Arc<dyn Dataset>>,
    /// The folder of the run: the training writes its checkpoints, `last.safetensors` and `best.safetensors`; all else is a
    /// [`RunRecorder`](crate::run::RunRecorder)'s.
    pub output: PathBuf,
    /// Threads that read pictures ahead.
    pub workers: usize,
}

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
    /// A sample could not be used; the epoch goes on without it.
    Failure(&'a SampleError),
    /// After each step.
    Step(Step),
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
    /// After each epoch, its checkpoint written.
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

/// One epoch.
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
    /// The detector with the last weights.
    pub detector: Detector,
    /// Whether it was interrupted.
    pub interrupted: bool,
    /// Samples that could not be used, in the first epoch that met them.
    pub failures: usize,
    /// The best AP on the validation split and its epoch; none where it is not scored, or has no objects to find.
    pub best: Option<(f64, usize)>,
}

/// Reports each; whether the training is to end.
fn report_failures(failures: &[SampleError], on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>) -> bool {
    failures.iter().fold(false, |is_break, failure| on_event(Event::Failure(failure)).is_break() | is_break)
}

/// Sums over the steps of an epoch.
#[derive(Default)]
struct Sums {
    steps: usize,
    images: usize,
    class_loss: f64,
    box_loss: f64,
    gradient_norm: f64,
    learning_rate: f64,
    duration: Duration,
}

impl Training {
    /// Trains the model. `on_event` sees all that happens; when it breaks, the step is finished, the weights are saved and
    /// the training ends.
    ///
    /// Checkpoints are written whole or not at all, so that a run that fails or is killed keeps its last one.
    ///
    /// # Errors
    /// There is nothing to train on, a checkpoint cannot be written, or the loss is not finite.
    pub fn run(&self, model: Model, on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>) -> Result<Outcome> {
        let classes: Vec<Class> = self.train.classes().to_vec();
        if self.train.is_empty() {
            return Err(Error::Data("expected at least 1 image to train on, found 0".to_owned()));
        }
        fs::create_dir_all(&self.output).map_err(|source| Error::Io { path: self.output.clone(), source })?;
        let folder = RunFolder::new(&self.output);

        let train = &self.config.train;
        // Each epoch in an order of its own: batches of neighbours, the same in every epoch, would be learned as such.
        let order = LoaderConfig {
            batch: train.batch,
            shuffle: true,
            seed: train.seed,
            workers: self.workers,
            class_balance: train.class_balance,
            ..LoaderConfig::default()
        };
        let loader =
            Loader::new(Arc::clone(&self.train), self.config.preprocessing, train.augmentation.clone(), order)?;
        let steps_per_epoch = loader.num_batches();
        let total_steps = steps_per_epoch * train.epochs;
        let base_rate = train.scaled_learning_rate();
        let detector = Detector::new(self.config.clone(), classes, model);
        let mut optimizer = Optimizer::with_rates(train.optimizer, &train.rates, &detector.model.network.parameters());
        let mut loss = DetectionLoss::new(self.config.loss.clone(), self.config.box_coder);
        let mut failures = 0;
        let mut best: Option<(f64, usize)> = None;

        let mut interrupted = on_event(Event::Start { steps_per_epoch, learning_rate: base_rate }).is_break();
        let mut step = 0;
        for epoch in 0..train.epochs {
            let mut sums = Sums::default();
            let mut batches = loader.epoch(epoch);
            while !interrupted {
                let (begin, waited_before) = (Instant::now(), batches.waited());
                let Some(loaded) = batches.next() else { break };
                if epoch == 0 {
                    failures += loaded.failures.len();
                    interrupted |= report_failures(&loaded.failures, on_event);
                }
                if loaded.batch.images.is_empty() {
                    continue;
                }
                let learning_rate = base_rate * train.schedule.factor(step, total_steps);
                let mut report = self.step(
                    &detector.model,
                    &mut optimizer,
                    &mut loss,
                    &loaded.batch,
                    (epoch, step),
                    learning_rate,
                    on_event,
                )?;
                report.waited = batches.waited() - waited_before;
                report.duration = begin.elapsed();
                sums.add(&report);
                step += 1;
                interrupted |= on_event(Event::Step(report)).is_break();
            }
            if epoch == 0 {
                // Those after the last batch.
                let rest = batches.take_failures();
                failures += rest.len();
                interrupted |= report_failures(&rest, on_event);
            }
            let loading = batches.statistics();
            drop(batches);
            detector.save(folder.last())?;
            if interrupted {
                break;
            }

            let is_due = (epoch + 1) % train.validate_every == 0 || epoch + 1 == train.epochs;
            let mut score = None;
            let begin = Instant::now();
            if let Some(validation) = self.validation.as_ref().filter(|_| is_due) {
                let plan = detector.plan(&InferenceOptions::default())?;
                let evaluation = evaluate(&plan, &**validation, &mut |images| on_event(Event::Validating { images }))?;
                interrupted |= evaluation.is_none();
                if let Some(evaluation) = evaluation {
                    score = Some(evaluation.metrics.summary);
                    let ap = evaluation.metrics.summary.ap;
                    // Negative where there is nothing to score, which is no best.
                    if ap >= 0.0 && best.is_none_or(|(best, _)| ap > best) {
                        best = Some((ap, epoch + 1));
                        detector.save(folder.best())?;
                    }
                    interrupted |= on_event(Event::Validation { epoch: epoch + 1, evaluation: &evaluation }).is_break();
                }
            }
            let summary =
                EpochSummary { epoch: epoch + 1, step, loading, validation: begin.elapsed(), score, ..sums.means() };
            interrupted |= on_event(Event::Epoch(&summary)).is_break();
            if interrupted {
                break;
            }
        }
        Ok(Outcome { detector, interrupted, failures, best })
    }

    fn step(
        &self,
        model: &Model,
        optimizer: &mut Optimizer,
        loss: &mut DetectionLoss,
        batch: &Batch,
        (epoch, step): (usize, usize),
        learning_rate: f64,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Step> {
        let (predictions, engine) = model.predict_for_training(&batch_tensor(batch)?)?;
        let anchors = model.network.anchors(batch.padded, &predictions.grids)?;
        let objects = |image: &retinanet_data::BatchImage| GroundTruth {
            boxes: image.boxes.clone(),
            classes: image.classes.clone(),
        };
        let ground_truth: Vec<GroundTruth> = batch.images.iter().map(objects).collect();
        let targets =
            Targets::new(&self.config.matcher, &anchors, model.network.anchors_per_location(), &ground_truth)?;
        if step == 0 {
            // Whoever breaks here is asked again after the step.
            let _ = on_event(Event::FirstBatch { batch, anchors: &anchors, targets: &targets });
        }
        let losses = loss.forward(&predictions, &targets, &anchors, step as u64)?;
        let (class_loss, box_loss) = (losses.class.to_scalar::<f32>()?, losses.r#box.to_scalar::<f32>()?);

        let mut gradients = losses.total.backward()?;
        let norm = match self.config.train.clip_norm {
            Some(limit) => clip_gradients(&model.parameters, &mut gradients, limit)?,
            None => gradient_norm(&model.parameters, &gradients)?,
        };
        if !(class_loss.is_finite() && box_loss.is_finite() && norm.is_finite()) {
            let images = &self.train.annotations().images;
            let names: Vec<&str> = batch
                .images
                .iter()
                .filter_map(|image| images.get(image.index))
                .map(|image| image.file_name.as_str())
                .collect();
            return Err(Error::LossNotFinite { step, class: class_loss, boxes: box_loss, images: names.join(", ") });
        }
        optimizer.step(&model.parameters, &gradients, learning_rate)?;
        engine.update_running_statistics()?;
        Ok(Step {
            epoch,
            step,
            images: batch.images.len(),
            class_loss,
            box_loss,
            gradient_norm: norm,
            learning_rate,
            num_foreground: targets.num_foreground.iter().sum(),
            duration: Duration::ZERO,
            waited: Duration::ZERO,
        })
    }
}

impl Sums {
    fn add(&mut self, step: &Step) {
        self.steps += 1;
        self.images += step.images;
        self.class_loss += f64::from(step.class_loss);
        self.box_loss += f64::from(step.box_loss);
        self.gradient_norm += step.gradient_norm;
        self.learning_rate = step.learning_rate;
        self.duration += step.duration;
    }

    /// What the steps alone tell of the epoch.
    fn means(&self) -> EpochSummary {
        let steps = self.steps.max(1) as f64;
        EpochSummary {
            epoch: 0,
            step: 0,
            images: self.images,
            class_loss: self.class_loss / steps,
            box_loss: self.box_loss / steps,
            gradient_norm: self.gradient_norm / steps,
            learning_rate: self.learning_rate,
            duration: self.duration,
            loading: LoaderStatistics::default(),
            validation: Duration::ZERO,
            score: None,
        }
    }
}

impl std::fmt::Debug for Training {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let output: &Path = &self.output;
        f.debug_struct("Training").field("images", &self.train.len()).field("output", &output).finish_non_exhaustive()
    }
}
