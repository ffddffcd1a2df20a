//! Training: data, model and configuration to checkpoints, and on from a checkpoint as if nothing had happened.
//!
//! A training is a [`Learner`](learner::Learner) that a [`Session`](session::Session) gives batches to. All that the next step
//! depends on is in the learner and in the [`TrainingState`], and a [`Checkpoint`] is both in one file.

mod checkpoint;
mod data_digest;
#[cfg(feature = "cuda")]
mod device;
mod divergence;
mod error;
mod event;
mod learner;
mod named_state;
mod not_finite;
mod passes;
mod session;
mod state;

pub use checkpoint::Checkpoint;
#[cfg(feature = "cuda")]
pub use device::DeviceTrainingStep;
pub use divergence::Divergence;
pub use error::CheckpointError;
pub use event::{EpochSummary, Event, Outcome, Step};
pub use not_finite::NotFinite;
pub use state::TrainingState;

pub(crate) use checkpoint::TRAINING_FORMAT;
pub(crate) use named_state::NamedState;

use crate::compute_device::ComputeDevice;
use crate::config::{Config, ConfigError};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::run::configuration_differences;
use data_digest::DataDigest;
use learner::Learner;
use retinanet_annotations::Class;
use retinanet_data::{Dataset, Loader, LoaderConfig};
use session::Session;
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
    /// The folder of the run: the training writes `last.safetensors` and `best.safetensors`, the models, and
    /// `state.safetensors`, its [`Checkpoint`]; all else is a [`RunRecorder`](crate::run::RunRecorder)'s.
    pub output: PathBuf,
    /// Where the network is trained; scoring runs there too.
    pub device: ComputeDevice,
    /// Threads that read pictures ahead.
    pub workers: usize,
    /// When a checkpoint is written, beside the one after each epoch.
    pub checkpoint_every: CheckpointInterval,
}

/// When a checkpoint is written within an epoch. After the epoch there is one in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CheckpointInterval {
    /// Never.
    #[default]
    Epoch,
    /// After so many steps of the optimiser.
    Steps(usize),
    /// After so much time.
    Time(Duration),
}

impl Training {
    /// Trains the model. `on_event` sees all that happens; when it breaks, the step is finished, the weights are saved and
    /// the training ends.
    ///
    /// From before the first step on, the folder has a checkpoint that [`resume`](Self::resume) goes on from. Checkpoints are
    /// written whole or not at all, so that a run that fails or is killed keeps its last one.
    ///
    /// # Errors
    /// There is nothing to train on, or nothing to score where early stopping waits for it; a checkpoint cannot be written; or
    /// the loss is not finite.
    pub fn run(&self, model: Model, on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>) -> Result<Outcome> {
        let learner = Learner::new(&self.config, self.train.classes().to_vec(), model, &self.device)?;
        self.session(learner, TrainingState::default(), self.data_digest(), on_event)?.run()
    }

    /// Goes on from a checkpoint, to the same weights, bit for bit, as of a training that was never interrupted.
    ///
    /// The configuration may ask for more epochs where this changes no learning rate of the steps before, as with a
    /// [constant](crate::Decay::Constant) one: the weights are then those of a training that had this many from the beginning.
    /// Threads, workers, the interval of checkpoints and what is recomputed change nothing.
    ///
    /// # Errors
    /// As of [`run`](Self::run); the checkpoint holds something else; or configuration, classes or data are not those that the
    /// training began with.
    pub fn resume(
        &self,
        checkpoint: Checkpoint,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Outcome> {
        self.check(&checkpoint)?;
        let Checkpoint { path, classes, state, data, parts, .. } = checkpoint;
        let unusable = |source: Error| CheckpointError::Unusable { path, source: Box::new(source) };
        let learner = Learner::restore(&self.config, classes, parts, &self.device).map_err(unusable)?;
        self.session(learner, state, data, on_event)?.run()
    }

    /// Whether this is the training of a checkpoint, so that [`resume`](Self::resume) gives what it promises.
    ///
    /// # Errors
    /// Configuration, classes or data are not those that the training began with: all differences are named.
    pub fn check(&self, checkpoint: &Checkpoint) -> Result<()> {
        let differences = self.differences(checkpoint, &self.data_digest(), self.loader()?.num_batches());
        if differences.is_empty() { Ok(()) } else { Err(CheckpointError::Changed { differences }.into()) }
    }

    fn session<'a>(
        &'a self,
        learner: Learner,
        state: TrainingState,
        data: DataDigest,
        on_event: &'a mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Session<'a>> {
        if self.train.is_empty() {
            return Err(Error::Data("expected at least 1 image to train on, found 0".to_owned()));
        }
        if self.config.train.early_stopping.is_some() && self.validation.is_none() {
            let expected = "a validation split, whose score it waits for";
            ConfigError::require(false, "train.early_stopping", expected, &"none")?;
        }
        fs::create_dir_all(&self.output).map_err(|source| Error::Io { path: self.output.clone(), source })?;
        let (loader, saved) = (self.loader()?, Instant::now());
        Ok(Session { training: self, loader, learner, state, data, on_event, interrupted: false, saved })
    }

    fn loader(&self) -> Result<Loader> {
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
        Ok(Loader::new(Arc::clone(&self.train), self.config.preprocessing, train.augmentation.clone(), order)?)
    }

    fn data_digest(&self) -> DataDigest {
        DataDigest::new(&*self.train, self.validation.as_deref())
    }

    /// One line for each thing that would make it another training than the one of the checkpoint.
    fn differences(&self, checkpoint: &Checkpoint, data: &DataDigest, steps_per_epoch: usize) -> Vec<String> {
        let mut expected = checkpoint.config.clone();
        let (then, now) = (checkpoint.config.train.epochs, self.config.train.epochs);
        let is_same_schedule = || {
            let (then, now) = (then * steps_per_epoch, now * steps_per_epoch);
            self.config.train.schedule.agrees(then, now)
        };
        if now > then && is_same_schedule() {
            expected.train.epochs = now;
        }
        // It changes no bit.
        expected.train.recompute_stages = self.config.train.recompute_stages;
        let mut lines: Vec<String> = configuration_differences(&expected, &self.config)
            .into_iter()
            .map(|difference| {
                let why = match difference.key.as_str() {
                    "train.epochs" if now > then => ", and the learning rate of every step depends on it",
                    _ => "",
                };
                format!("{}: expected {}, found {}{why}", difference.key, difference.text(0), difference.text(1))
            })
            .collect();
        let names = |classes: &[Class]| {
            let named = classes.iter().map(|class| format!("{} ({})", class.name, class.category_id));
            named.collect::<Vec<_>>().join(", ")
        };
        let classes = self.train.classes();
        if checkpoint.classes != classes {
            lines.push(format!("classes: expected {}, found {}", names(&checkpoint.classes), names(classes)));
        }
        lines.extend(checkpoint.data.differences(data));
        lines
    }
}

impl std::fmt::Debug for Training {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let output: &Path = &self.output;
        f.debug_struct("Training").field("images", &self.train.len()).field("output", &output).finish_non_exhaustive()
    }
}
