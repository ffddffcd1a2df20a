//! What a training leaves behind, written as it happens.

use super::curves;
use super::error::{RunError, io_error};
use super::folder::{Existing, RunFolder};
use super::machine::{Machine, peak_resident_bytes, resident_bytes};
use super::metrics::{EpochMetrics, Metric, MetricsFile, StepMetrics};
use super::pictures::{self, Drawn};
use super::reading::Run;
use super::record::{DataSource, RunRecord, RunStatus, SplitRecord, SplitRole};
use super::report;
use super::tensorboard::{EncodedPicture, EventFile};
use super::time::Timestamp;
use crate::error::Result;
use crate::evaluate::Evaluation;
use crate::plan::InferenceOptions;
use crate::train::{EpochSummary, Event, Outcome, Step, Training};
use retinanet_data::{Dataset, Preprocessing};
use retinanet_draw::DrawError;
use retinanet_eval::ClassMetrics;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Lines of steps that a whole training writes, about: enough for any curve, and bounded however long it is.
const STEP_LINES: usize = 2000;

/// What only the caller knows of a run.
#[derive(Clone, Debug, Default)]
pub struct RunDescription {
    /// The program and its arguments.
    pub command_line: Vec<String>,
    /// Where the data came from that is learned from.
    pub train: DataSource,
    /// Where the data came from that is scored.
    pub validation: DataSource,
    /// What was said when it began, such as where weights come from.
    pub notes: Vec<String>,
}

/// Writes the run folder of a training, event by event: configuration, record, metrics, TensorBoard's events, pictures
/// and the report. Checkpoints are the training's own.
///
/// Once it is made, nothing that it cannot write stops a training: [`warnings`](Self::take_warnings) say so, once a file.
///
/// ```no_run
/// # use retinanet::run::{Existing, RunDescription, RunRecorder};
/// # use std::ops::ControlFlow;
/// # fn example(training: retinanet::Training, model: retinanet::Model) -> Result<(), retinanet::Error> {
/// let mut recorder = RunRecorder::create(&training, RunDescription::default(), Existing::Keep)?;
/// let outcome = training.run(model, &mut |event| {
///     recorder.observe(&event);
///     ControlFlow::Continue(())
/// });
/// recorder.finish(&outcome);
/// # outcome.map(|_| ())
/// # }
/// ```
pub struct RunRecorder {
    folder: RunFolder,
    record: RunRecord,
    metrics: MetricsFile,
    events: EventFile,
    preprocessing: Preprocessing,
    epochs: usize,
    train: Arc<dyn Dataset>,
    validation: Option<Arc<dyn Dataset>>,
    /// Steps between two lines.
    interval: usize,
    steps: StepSums,
    /// Steps of the optimiser done.
    step: usize,
    /// Scores of the epoch that is about to end.
    classes: Vec<ClassMetrics>,
    best_ap: Option<f64>,
    /// Files that a warning was given for.
    warned: BTreeSet<PathBuf>,
    warnings: Vec<String>,
}

/// Sums over the steps since the line before.
#[derive(Default)]
struct StepSums {
    steps: usize,
    images: usize,
    class_loss: f64,
    box_loss: f64,
    gradient_norm: f64,
    num_foreground: usize,
    duration: Duration,
    waited: Duration,
    last: Option<Step>,
}

impl RunRecorder {
    /// Makes the folder ready and writes what is known before the first step.
    ///
    /// # Errors
    /// The folder holds a run that is to be kept, or a file cannot be written.
    pub fn create(training: &Training, description: RunDescription, existing: Existing) -> Result<Self> {
        let folder = RunFolder::new(&training.output);
        folder.prepare(existing)?;
        folder.write(&folder.config(), training.config.to_toml()?.as_bytes())?;
        let metrics = MetricsFile::create(&folder.metrics()).map_err(io_error(folder.metrics()))?;
        let events = EventFile::create(&folder)?;

        let mut data = vec![SplitRecord::new(SplitRole::Train, &description.train, &*training.train)];
        data.extend(
            training
                .validation
                .iter()
                .map(|dataset| SplitRecord::new(SplitRole::Validation, &description.validation, &**dataset)),
        );
        let now = Timestamp::now();
        let record = RunRecord {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            command_line: description.command_line,
            started: now,
            updated: now,
            seed: training.config.train.seed,
            classes: training.train.classes().to_vec(),
            data,
            machine: Machine::detect(),
            notes: description.notes,
            ..RunRecord::default()
        };
        folder.write_record(&record)?;
        Ok(Self::new(training, folder, record, metrics, events, None))
    }

    /// Of a folder whose files are ready to grow; `best_ap` is the best of the scores that are in it.
    pub(super) fn new(
        training: &Training,
        folder: RunFolder,
        record: RunRecord,
        metrics: MetricsFile,
        events: EventFile,
        best_ap: Option<f64>,
    ) -> Self {
        Self {
            folder,
            record,
            metrics,
            events,
            preprocessing: training.config.preprocessing,
            epochs: training.config.train.epochs,
            train: Arc::clone(&training.train),
            validation: training.validation.clone(),
            interval: 1,
            steps: StepSums::default(),
            step: 0,
            classes: Vec::new(),
            best_ap,
            warned: BTreeSet::new(),
            warnings: Vec::new(),
        }
    }

    /// The folder that is written to.
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// What could not be written since this was asked last.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Writes down what happened.
    pub fn observe(&mut self, event: &Event<'_>) {
        match event {
            Event::Start { steps_per_epoch, state, .. } => {
                self.record.steps_per_epoch = *steps_per_epoch;
                self.step = state.step;
                self.interval = (steps_per_epoch * self.epochs).div_ceil(STEP_LINES).max(1);
            }
            Event::FirstBatch { batch, anchors, targets } => {
                let classes = &self.record.classes;
                match pictures::first_batch(batch, anchors, targets, &self.preprocessing, classes) {
                    Ok((drawn, record)) => {
                        self.record.first_batch = Some(record);
                        self.keep_picture(self.folder.first_batch(), "first_batch", drawn);
                    }
                    Err(error) => self.warn(self.folder.first_batch(), &error.to_string()),
                }
                self.publish();
            }
            Event::Failure(failure) => self.record.failures.push(failure.to_string()),
            Event::Step(step) => {
                self.steps.add(step);
                self.step = step.step + 1;
                if self.step.is_multiple_of(self.interval) {
                    self.write_steps();
                }
            }
            Event::Diverging(divergence) => self.record.notes.push(format!("warning: {divergence}")),
            Event::Checkpoint(_) => self.settle(),
            Event::Validating { .. } => {}
            Event::Validation { evaluation, .. } => self.validated(evaluation),
            Event::Epoch(summary) => self.epoch(summary),
        }
    }

    /// Writes down how it ended.
    pub fn finish(&mut self, result: &Result<Outcome>) {
        self.write_steps();
        self.record.status = match result {
            Ok(outcome) if outcome.interrupted => RunStatus::Interrupted,
            Ok(_) => RunStatus::Finished,
            Err(error) => RunStatus::Failed { error: error.to_string() },
        };
        if let (Ok(outcome), None, RunStatus::Finished) = (result, &self.validation, &self.record.status) {
            let train = Arc::clone(&self.train);
            let drawn = outcome.detector.plan(&InferenceOptions::default()).and_then(|plan| {
                pictures::beside_ground_truth(&*train, &outcome.detector.classes, |_, image| plan.detect(image))
            });
            self.keep_detections(drawn);
        }
        self.publish();
    }

    /// Brings all that happened by now to the disk.
    fn settle(&mut self) {
        self.write_steps();
        if let Err(error) = self.metrics.sync() {
            self.warn(self.folder.metrics(), &error.to_string());
        }
        let settled = self.events.sync().and_then(|()| self.folder.write_record(&self.record));
        if let Err(error) = settled {
            self.warn_of(&error);
        }
    }

    fn validated(&mut self, evaluation: &Evaluation) {
        self.classes.clone_from(&evaluation.metrics.per_class);
        let ap = evaluation.metrics.summary.ap;
        let is_best = self.best_ap.is_none_or(|best| ap > best);
        if let (true, Some(validation)) = (is_best, self.validation.clone()) {
            self.best_ap = Some(ap);
            let drawn = pictures::beside_ground_truth(&*validation, validation.classes(), |index, _| {
                Ok(pictures::scored_detections(evaluation, &*validation, index))
            });
            self.keep_detections(drawn);
        }
    }

    fn epoch(&mut self, summary: &EpochSummary) {
        self.write_steps();
        let classes = std::mem::take(&mut self.classes);
        let metrics = EpochMetrics {
            epoch: summary.epoch,
            step: summary.step,
            class_loss: summary.class_loss,
            box_loss: summary.box_loss,
            gradient_norm: summary.gradient_norm,
            learning_rate: summary.learning_rate,
            images: summary.images,
            seconds: summary.duration.as_secs_f64(),
            loading: (&summary.loading).into(),
            validation_seconds: summary.validation.as_secs_f64(),
            peak_memory_bytes: peak_resident_bytes(),
            score: summary.score,
            classes: if summary.score.is_some() { classes } else { Vec::new() },
        };
        let mut scalars = vec![
            ("epoch/class_loss".to_owned(), metrics.class_loss),
            ("epoch/box_loss".to_owned(), metrics.box_loss),
            ("epoch/images_per_second".to_owned(), metrics.images_per_second()),
        ];
        let entries = metrics.score.iter().flat_map(|score| score.entries());
        scalars.extend(entries.map(|(name, value)| (format!("score/{name}"), value)));
        scalars.extend(metrics.classes.iter().map(|class| (format!("class_AP/{}", class.name), class.ap)));
        // -1 stands for nothing to find, and is no point of a curve.
        scalars.retain(|(_, value)| *value >= 0.0);
        self.write_scalars(summary.step, scalars);
        self.write_metric(&Metric::Epoch(metrics));
        self.publish();
    }

    /// A line of the steps since the one before.
    fn write_steps(&mut self) {
        let Some(metrics) = std::mem::take(&mut self.steps).mean(self.record.steps_per_epoch) else { return };
        let mut scalars = vec![
            ("loss/class", metrics.class_loss),
            ("loss/box", metrics.box_loss),
            ("optimizer/learning_rate", metrics.learning_rate),
            ("optimizer/gradient_norm", metrics.gradient_norm),
            ("speed/images_per_second", metrics.images_per_second),
            ("speed/waited", metrics.waited),
        ];
        scalars.extend(metrics.memory_bytes.map(|bytes| ("memory/resident_mib", bytes as f64 / f64::from(1 << 20))));
        self.write_scalars(metrics.step, scalars);
        self.write_metric(&Metric::Step(metrics));
    }

    fn write_metric(&mut self, metric: &Metric) {
        if let Err(error) = self.metrics.append(metric) {
            self.warn(self.folder.metrics(), &error.to_string());
        }
    }

    fn write_scalars<T: Into<String>>(&mut self, step: usize, scalars: Vec<(T, f64)>) {
        if let Err(error) = self.events.scalars(step, scalars) {
            self.warn_of(&error);
        }
    }

    fn keep_detections(&mut self, drawn: Result<Result<Drawn, DrawError>>) {
        let path = self.folder.detections();
        match drawn {
            Ok(drawn) => self.keep_picture(path, "detections", drawn),
            Err(error) => self.warn(path, &error.to_string()),
        }
    }

    fn keep_picture(&mut self, path: PathBuf, tag: &str, drawn: Result<Drawn, DrawError>) {
        let Drawn { picture, png } = match drawn {
            Ok(drawn) => drawn,
            Err(error) => return self.warn(path, &error.to_string()),
        };
        if let Err(error) = self.folder.write(&path, &png) {
            self.warn_of(&error);
        }
        let (width, height) = picture.dimensions();
        let encoded = EncodedPicture { width, height, png: &png };
        if let Err(error) = self.events.picture(self.step, tag, encoded) {
            self.warn_of(&error);
        }
    }

    /// Writes the record, and what is made of all files: curves and report.
    fn publish(&mut self) {
        self.record.updated = Timestamp::now();
        if let Err(error) = self.folder.write_record(&self.record).and_then(|()| self.write_pages()) {
            self.warn_of(&error);
        }
    }

    fn write_pages(&self) -> Result<(), RunError> {
        let run = Run::read(self.folder.path())?;
        let path = self.folder.curves();
        let curves = curves::picture(&curves::of_run(&run.metrics));
        let curves = curves.map_err(|source| RunError::Draw { path: path.clone(), source: source.into() })?;
        self.folder.write(&path, &curves.png)?;
        self.folder.write(&self.folder.report(), report::page(&run).as_bytes())
    }

    fn warn_of(&mut self, error: &RunError) {
        let path = match error {
            RunError::Io { path, .. } | RunError::Draw { path, .. } => path.clone(),
            _ => self.folder.path().to_owned(),
        };
        let text = error.to_string();
        self.warn(path.clone(), text.strip_prefix(&format!("{}: ", path.display())).unwrap_or(&text));
    }

    /// Says once of each file that it could not be written.
    fn warn(&mut self, path: PathBuf, what: &str) {
        let message = format!("{}: not written: {what}; the training goes on", path.display());
        if self.warned.insert(path) {
            self.record.warnings.push(message.clone());
            self.warnings.push(message);
        }
    }
}

impl Drop for RunRecorder {
    /// A panic ends a run as any other error does.
    fn drop(&mut self) {
        if std::thread::panicking() && self.record.status == RunStatus::Running {
            self.record.status =
                RunStatus::Failed { error: "the program panicked; its standard error says where".to_owned() };
            self.record.updated = Timestamp::now();
            // There is nobody left to be told.
            let _ = self.folder.write_record(&self.record);
        }
    }
}

impl StepSums {
    fn add(&mut self, step: &Step) {
        self.steps += 1;
        self.images += step.images;
        self.class_loss += f64::from(step.class_loss);
        self.box_loss += f64::from(step.box_loss);
        self.gradient_norm += step.gradient_norm;
        self.num_foreground += step.num_foreground;
        self.duration += step.duration;
        self.waited += step.waited;
        self.last = Some(*step);
    }

    fn mean(self, steps_per_epoch: usize) -> Option<StepMetrics> {
        let (last, steps) = (self.last?, self.steps as f64);
        let seconds = self.duration.as_secs_f64().max(1e-9);
        Some(StepMetrics {
            step: last.step + 1,
            epoch: (last.step + 1) as f64 / steps_per_epoch.max(1) as f64,
            class_loss: self.class_loss / steps,
            box_loss: self.box_loss / steps,
            gradient_norm: self.gradient_norm / steps,
            learning_rate: last.learning_rate,
            foreground_anchors_per_image: self.num_foreground as f64 / self.images.max(1) as f64,
            images_per_second: self.images as f64 / seconds,
            waited: self.waited.as_secs_f64() / seconds,
            memory_bytes: resident_bytes(),
        })
    }
}
