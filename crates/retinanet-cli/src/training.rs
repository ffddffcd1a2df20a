//! A training that is shown while it runs and recorded in its folder.

use crate::args::RunArgs;
use crate::interrupt::Interrupt;
use crate::progress::{Mode, TrainingProgress};
use crate::table;
use retinanet::run::{Existing, RunDescription, RunFolder, RunRecorder};
use retinanet::{Event, Model, Outcome, TrainConfig, Training};

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
    model: Model,
    interrupt: &Interrupt,
    args: &RunArgs,
    description: RunDescription,
) -> anyhow::Result<Outcome> {
    let config = &training.config.train;
    let mut recorder = RunRecorder::create(training, description, args.existing())?;
    let validation_images = training.validation.as_ref().map(|dataset| dataset.len());
    let mut progress = TrainingProgress::new(Mode::of_stderr(args.progress), config, validation_images);
    let outcome = training.run(model, &mut |event| {
        if let Event::Start { steps_per_epoch, learning_rate, .. } = event {
            progress.say(&first_line(training.train.len(), config, steps_per_epoch, learning_rate));
        }
        progress.observe(&event);
        recorder.observe(&event);
        recorder.take_warnings().iter().for_each(|warning| progress.say(&format!("warning: {warning}")));
        interrupt.flow()
    });
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
    Ok(outcome?)
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
