//! A training that is shown while it runs and recorded in its folder.

use crate::args::RunArgs;
use crate::interrupt::Interrupt;
use crate::progress::{Mode, TrainingProgress};
use crate::{nothing_right, table};
use retinanet::run::{Existing, RunDescription, RunFolder, RunRecorder};
use retinanet::{Checkpoint, Event, Model, Outcome, TrainConfig, Training, TrainingState};

/// Where a training starts.
pub(crate) enum Beginning {
    /// At the first step, with this model, in a new folder.
    New(Box<Model>, RunDescription),
    /// Where its folder's checkpoint is.
    Resumed(Box<Checkpoint>),
}

impl RunArgs {
    /// What becomes of a run that is in the folder already.
    pub(crate) fn existing(&self) -> Existing {
        if self.overwrite { Existing::Overwrite } else { Existing::Keep }
    }

    /// Refuses a folder that holds a run, before anything is read.
    pub(crate) fn check(&self, folder: &RunFolder) -> anyhow::Result<()> {
        use anyhow::Context;
        folder.check(self.existing()).context("--output: choose another folder, or replace the run with --overwrite")
    }
}

/// Runs a training to its end, or until it is interrupted.
pub(crate) fn run(
    training: &Training,
    beginning: Beginning,
    interrupt: &Interrupt,
    args: &RunArgs,
) -> retinanet::Result<Outcome> {
    let config = &training.config.train;
    let mut recorder = match &beginning {
        Beginning::New(_, description) => RunRecorder::create(training, description.clone(), args.existing())?,
        Beginning::Resumed(checkpoint) => RunRecorder::resume(training, checkpoint, crate::command_line())?,
    };
    let validation_images = training.validation.as_ref().map(|dataset| dataset.len());
    let mut progress = TrainingProgress::new(Mode::of_stderr(args.progress), config, validation_images);
    let mut on_event = |event: Event<'_>| {
        if let Event::Start { steps_per_epoch, learning_rate, state } = event {
            progress.say(&first_line(training.train.len(), config, steps_per_epoch, learning_rate));
            if *state != TrainingState::default() {
                progress.say(&resumed_line(state, config, steps_per_epoch));
            }
        }
        progress.observe(&event);
        if let (Event::Validation { evaluation, .. }, Some(validation)) = (&event, &training.validation) {
            let (ap50, found) = (evaluation.metrics.summary.ap50, &evaluation.detections);
            let threshold = training.config.post_processing.score_threshold;
            let why = nothing_right::why(ap50, validation.annotations(), found, threshold);
            why.iter().for_each(|why| progress.say(&format!("note: {why}")));
        }
        recorder.observe(&event);
        recorder.take_warnings().iter().for_each(|warning| progress.say(&format!("warning: {warning}")));
        interrupt.flow()
    };
    let outcome = match beginning {
        Beginning::New(model, _) => training.run(*model, &mut on_event),
        Beginning::Resumed(checkpoint) => training.resume(*checkpoint, &mut on_event),
    };
    progress.finish();
    recorder.finish(&outcome);
    recorder.take_warnings().iter().for_each(|warning| eprintln!("warning: {warning}"));
    match &outcome {
        Err(_) => eprintln!("what was done by then: {}", recorder.folder().report().display()),
        Ok(outcome) if outcome.interrupted => eprintln!("interrupted: the weights so far are saved"),
        Ok(outcome) => {
            if let Some(epochs) = outcome.stopped_early {
                eprintln!(
                    "ended after epoch {epochs} of {}: the AP got no better (train.early_stopping)",
                    config.epochs
                );
            }
        }
    }
    outcome
}

/// What will be done, with the learning rate as it is used.
fn first_line(images: usize, config: &TrainConfig, steps_per_epoch: usize, learning_rate: f64) -> String {
    let TrainConfig { epochs, batch, .. } = config;
    let scaled = if config.batch == config.reference_batch {
        String::new()
    } else {
        format!(" ({} at batch {}, scaled)", config.learning_rate, config.reference_batch)
    };
    format!(
        "training: {}, {} of {}, batch {batch}, learning rate {learning_rate}{scaled}",
        table::count(images, "image", "images"),
        table::count(*epochs, "epoch", "epochs"),
        table::count(steps_per_epoch, "step", "steps")
    )
}

/// Where it goes on.
fn resumed_line(state: &TrainingState, config: &TrainConfig, steps_per_epoch: usize) -> String {
    let TrainingState { step, epoch, batch, .. } = state;
    let of = format!("{}/{}", epoch + 1, config.epochs);
    match *batch {
        0 if *epoch == config.epochs => {
            format!("resumed after {}: all is learned", table::count(*step, "step", "steps"))
        }
        0 => format!("resumed after {}: epoch {of}", table::count(*step, "step", "steps")),
        batch if batch == steps_per_epoch => format!("resumed: scoring epoch {of}"),
        batch => format!(
            "resumed after {}: epoch {of} from batch {} of {steps_per_epoch}",
            table::count(*step, "step", "steps"),
            batch + 1
        ),
    }
}
