//! The loop: epochs of steps, scoring, checkpoints.

use super::checkpoint::Checkpoint;
use super::data_digest::DataDigest;
use super::event::{Event, Outcome, Step};
use super::learner::{Launched, Learned, Learner};
use super::not_finite::{NotFinite, causes};
use super::{CheckpointInterval, Divergence, Training, TrainingState};
use crate::error::{Error, Result};
use crate::evaluate::evaluate;
use crate::plan::InferenceOptions;
use crate::run::RunFolder;
use retinanet_data::{Batch, Loader, SampleError};
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// A training while it runs.
pub(super) struct Session<'a> {
    pub(super) training: &'a Training,
    pub(super) loader: Loader,
    pub(super) learner: Learner,
    pub(super) state: TrainingState,
    pub(super) data: DataDigest,
    pub(super) on_event: &'a mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    /// Whether somebody broke off.
    pub(super) interrupted: bool,
    /// When the last checkpoint was written.
    pub(super) saved: Instant,
}

impl Session<'_> {
    /// Goes on to the end, or until it is interrupted.
    pub(super) fn run(mut self) -> Result<Outcome> {
        let learning_rate = self.training.config.train.scaled_learning_rate();
        let (steps_per_epoch, state) = (self.loader.num_batches(), &self.state);
        self.interrupted |= (self.on_event)(Event::Start { steps_per_epoch, learning_rate, state }).is_break();
        if self.state == TrainingState::default() {
            // From here on, whatever happens, it can go on.
            if self.interrupted { self.save()? } else { self.save_state()? }
        }
        while !self.interrupted && self.state.epoch < self.training.config.train.epochs && !self.has_stopped() {
            self.learn()?;
            if self.interrupted {
                self.save()?;
            } else {
                self.end_epoch()?;
            }
        }
        let stopped_early = self.has_stopped().then_some(self.state.epoch);
        let Self { mut learner, state, interrupted, .. } = self;
        let (detector, failures) = (learner.result()?, state.failed.len());
        Ok(Outcome { detector, interrupted, stopped_early, failures, best: state.best })
    }

    /// Whether it has got no better for too long.
    fn has_stopped(&self) -> bool {
        self.training.config.train.early_stopping.is_some_and(|stopping| self.state.progress.has_ended(&stopping))
    }

    fn tell(&mut self, event: Event<'_>) {
        self.interrupted |= (self.on_event)(event).is_break();
    }

    /// The batches of the epoch that are not done yet, or those until it is interrupted.
    ///
    /// Where a device learns, a step is asked for before the one before it is waited for, so that the device always has work.
    fn learn(&mut self) -> Result<()> {
        let mut batches = self.loader.epoch_from(self.state.epoch, self.state.batch);
        let loaded_before = self.state.sums.loading;
        let mut launched = VecDeque::new();
        let mut begin = Instant::now();
        while !self.interrupted {
            let waited_before = batches.waited();
            let next = batches.next();
            let is_last = next.is_none();
            if let Some(loaded) = next {
                self.fail(&loaded.failures);
                let waited = batches.waited() - waited_before;
                launched.push_back(self.launch(loaded.batch, launched.len(), (batches.position(), waited))?);
            }
            let is_due = self.is_checkpoint_due(&launched);
            let ahead = if is_last || is_due { 0 } else { self.learner.steps_ahead() };
            while launched.len() > ahead
                && let Some(step) = launched.pop_front()
            {
                self.finish(step, &mut begin)?;
                self.state.sums.loading = loaded_before + batches.statistics();
            }
            if is_last {
                self.fail(&batches.take_failures());
                self.state.batch = self.loader.num_batches();
                break;
            }
            if is_due && !self.interrupted {
                self.save()?;
                begin = Instant::now();
            }
        }
        // Whoever breaks off keeps what was asked for.
        launched.into_iter().try_for_each(|step| self.finish(step, &mut begin))
    }

    /// Tells of samples that could not be had, of each once.
    fn fail(&mut self, failures: &[SampleError]) {
        for failure in failures {
            if self.state.failed.insert(failure.index) {
                self.tell(Event::Failure(failure));
            }
        }
    }

    /// Asks for a step, beside so many that are not finished yet.
    fn launch(
        &mut self,
        mut batch: Batch,
        unfinished: usize,
        (position, waited): (usize, Duration),
    ) -> Result<LaunchedStep> {
        let Self { training, loader, learner, state, .. } = self;
        let train = &training.config.train;
        let (step, total_steps) = (state.step + unfinished, loader.num_batches() * train.epochs);
        let learning_rate = train.scaled_learning_rate() * train.schedule.factor(step, total_steps);
        let launched = learner.launch(&batch, step, learning_rate, self.on_event)?;
        // Of the batch, only what is known of its images is still wanted.
        batch.pixels = Vec::new();
        Ok(LaunchedStep { launched, batch, step, learning_rate, position, waited })
    }

    /// Waits for a step, and takes it along. `begin` is when the one before was done, and becomes when this one is.
    fn finish(&mut self, launched: LaunchedStep, begin: &mut Instant) -> Result<()> {
        let LaunchedStep { launched, batch, step, learning_rate, position, waited } = launched;
        let Learned { class_loss, box_loss, gradient_norm, num_foreground, not_finite } = launched.finish()?;
        let train = &self.training.config.train;
        if let Some(norms) = not_finite {
            let seen = (&batch, names(self.training, &batch));
            let found = NotFinite::new(step, [class_loss, box_loss], norms, learning_rate, train, seen);
            return Err(Error::LossNotFinite(Box::new(found)));
        }
        let done = Instant::now();
        let step = Step {
            epoch: self.state.epoch,
            step,
            images: batch.images.len(),
            class_loss,
            box_loss,
            gradient_norm,
            learning_rate,
            num_foreground,
            duration: done - *begin,
            waited,
        };
        *begin = done;
        self.state.advance(&step, position);
        self.tell(Event::Step(step));
        let loss = class_loss + box_loss;
        if let Some(first_loss) = self.state.watch.take(loss, num_foreground) {
            let causes = causes(learning_rate, train, &batch);
            self.tell(Event::Diverging(&Divergence { step: step.step, loss, first_loss, causes }));
        }
        Ok(())
    }

    /// Scores the epoch where it is to be scored, and goes to the next.
    fn end_epoch(&mut self) -> Result<()> {
        let train = &self.training.config.train;
        let epoch = self.state.epoch + 1;
        if self.state.sums.is_empty() {
            let images = self.training.train.len();
            let message = format!("epoch {epoch}: expected at least 1 image that can be read, found none of {images}");
            return Err(Error::Data(message));
        }
        let is_due = epoch.is_multiple_of(train.validate_every) || epoch == train.epochs;
        let validation = self.training.validation.clone().filter(|_| is_due);
        // Scoring takes its time: what was learned is safe before it begins.
        if validation.is_some() {
            self.save()?
        } else {
            self.save_last()?
        }

        let begin = Instant::now();
        let mut summary = self.state.summary();
        if let Some(validation) = validation {
            let device = self.training.device.clone();
            let plan = self.learner.result()?.plan(&InferenceOptions { device, ..InferenceOptions::default() })?;
            let scored = evaluate(&plan, &*validation, &mut |images| (self.on_event)(Event::Validating { images }))?;
            self.interrupted |= scored.is_none();
            if let Some(evaluation) = &scored {
                summary.score = Some(evaluation.metrics.summary);
                if let Some(stopping) = &train.early_stopping {
                    self.state.progress.take(stopping, evaluation.metrics.summary.ap);
                }
                if self.state.is_best(evaluation.metrics.summary.ap) {
                    self.learner.save_model(&RunFolder::new(&self.training.output).best())?;
                }
                self.tell(Event::Validation { epoch, evaluation });
            }
            summary.validation = begin.elapsed();
            if scored.is_none() {
                // Resumed, it is scored again.
                self.tell(Event::Epoch(&summary));
                return Ok(());
            }
        }
        self.tell(Event::Epoch(&summary));
        self.state.end_epoch();
        self.save_state()
    }

    /// Whether a checkpoint is to be written within an epoch, after the steps that are not finished yet.
    fn is_checkpoint_due(&self, launched: &VecDeque<LaunchedStep>) -> bool {
        // The end of an epoch has one of its own.
        launched.back().is_some_and(|last| last.position < self.loader.num_batches())
            && match self.training.checkpoint_every {
                CheckpointInterval::Epoch => false,
                CheckpointInterval::Steps(steps) => (self.state.step + launched.len()).is_multiple_of(steps.max(1)),
                CheckpointInterval::Time(time) => self.saved.elapsed() >= time,
            }
    }

    /// Writes the model, then the state: the checkpoint counts from when the state is there.
    fn save(&mut self) -> Result<()> {
        self.save_last()?;
        self.save_state()
    }

    /// Writes the model, unless it is ruined: the one before is better than that.
    fn save_last(&mut self) -> Result<()> {
        if let Some(name) = self.learner.first_not_finite()? {
            return Err(Error::WeightsNotFinite { step: self.state.step, name: name.to_owned() });
        }
        self.learner.save_model(&RunFolder::new(&self.training.output).last())
    }

    fn save_state(&mut self) -> Result<()> {
        self.interrupted |= (self.on_event)(Event::Checkpoint(&self.state)).is_break();
        let checkpoint = Checkpoint {
            path: RunFolder::new(&self.training.output).state(),
            config: self.training.config.clone(),
            classes: self.learner.detector.classes.clone(),
            state: self.state.clone(),
            data: self.data.clone(),
            parts: self.learner.parts()?,
        };
        checkpoint.write()?;
        self.saved = Instant::now();
        Ok(())
    }
}

/// A step that was asked for, and what will be told of it.
struct LaunchedStep {
    launched: Launched,
    /// Without its pixels.
    batch: Batch,
    step: usize,
    learning_rate: f64,
    /// Where the epoch goes on after it.
    position: usize,
    /// For its batch.
    waited: Duration,
}

/// What the images of a batch are called.
fn names(training: &Training, batch: &Batch) -> Vec<String> {
    let images = &training.train.annotations().images;
    let of_batch = batch.images.iter().filter_map(|image| images.get(image.index));
    of_batch.map(|image| image.file_name.clone()).collect()
}
