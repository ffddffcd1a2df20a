//! `retinanet train`: a data set to a run folder.

use crate::args::TrainArgs;
use crate::interrupt::Interrupt;
use crate::{Status, data, pictures, progress, table};
use anyhow::Context;
use indicatif::ProgressBar;
use retinanet::{Config, Event, InferenceOptions, InitialWeights, Outcome, Step, Training, start};
use retinanet_anchors::ImageSize;
use retinanet_draw::{Plot, Series, line_plot};
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Threads that read pictures ahead; two keep up with a network on a laptop.
const WORKERS: usize = 2;

pub(crate) fn run(args: &TrainArgs) -> anyhow::Result<Status> {
    let config = configuration(args)?;
    data::make_folder(&args.output)?;
    let interrupt = Interrupt::listen("interrupted: finishing this step and saving; once more to stop at once")?;
    let train = data::cached(data::open(&args.data, &args.split)?);
    let validation = match &args.val_split {
        Some(split) => Some(data::cached(data::open(&args.data, split)?)),
        None => None,
    };
    let weights = match (&args.weights, &args.backbone_weights) {
        (Some(path), _) => InitialWeights::Detector(path.clone()),
        (None, Some(path)) => InitialWeights::Backbone(path.clone()),
        (None, None) => InitialWeights::New,
    };
    let start = start(&config, train.classes(), &weights)?;
    start.notes.iter().for_each(|note| eprintln!("{note}"));

    let dropped = data::num_dropped_images(&*train) + validation.as_deref().map_or(0, data::num_dropped_images);
    let shown = validation.clone().unwrap_or_else(|| Arc::clone(&train));
    let training = Training { config, train, validation, output: args.output.clone(), workers: WORKERS };
    let outcome = watch(&training, start.model, &interrupt)?;
    let sheet = args.output.join("detections.png");
    if !outcome.interrupted {
        let plan = outcome.detector.into_plan(&InferenceOptions::default())?;
        pictures::write(&sheet, &pictures::contact_sheet(&plan, &*shown, 9, 0.3)?)?;
    }
    let model = args.output.join("last.safetensors");
    crate::out!("model: {}", model.display())?;
    if !outcome.interrupted {
        crate::out!("pictures: {}, {}", sheet.display(), args.output.join("curves.png").display())?;
    }
    crate::out!("next: {} detect --model {} IMAGE...", crate::program(), model.display())?;
    let failures = outcome.failures + dropped;
    if failures > 0 {
        eprintln!("images that could not be used, named above: {failures}");
    }
    Ok(if outcome.interrupted || failures > 0 { Status::DoneWithFailures } else { Status::Done })
}

/// The preset or file with the arguments merged in.
fn configuration(args: &TrainArgs) -> anyhow::Result<Config> {
    let mut assignments = args.set.clone();
    let options =
        [("epochs", args.epochs.map(|n| n as u64)), ("batch", args.batch.map(|n| n as u64)), ("seed", args.seed)];
    assignments.extend(options.iter().filter_map(|(key, value)| value.map(|value| format!("train.{key}={value}"))));
    read_configuration(&args.preset, args.config.as_deref(), &assignments)
}

/// The file, or the preset where there is none, with assignments merged in.
pub(crate) fn read_configuration(preset: &str, file: Option<&Path>, assignments: &[String]) -> anyhow::Result<Config> {
    let text = match file {
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("{}: cannot read", path.display()))?,
        None => Config::preset_text(preset)?.to_owned(),
    };
    let source = file.map_or_else(|| preset.to_owned(), |path| path.display().to_string());
    Config::parse(&text, assignments).with_context(|| source)
}

/// Runs the training with a progress bar, or a line an epoch where there is no terminal, and draws its curves.
pub(crate) fn watch(training: &Training, model: retinanet::Model, interrupt: &Interrupt) -> anyhow::Result<Outcome> {
    let config = &training.config.train;
    let epochs = config.epochs;
    let mut bar: Option<ProgressBar> = None;
    let mut curves = Curves::default();
    let mut epoch_start = Instant::now();
    let is_terminal = std::io::stderr().is_terminal();
    let outcome = training.run(model, &mut |event| {
        match event {
            Event::Start { steps_per_epoch, learning_rate } => {
                let scaled = if config.batch == config.reference_batch {
                    String::new()
                } else {
                    format!(" ({} at batch {}, scaled)", config.learning_rate, config.reference_batch)
                };
                let (images, batch) = (training.train.len(), config.batch);
                eprintln!("training: {images} images, {epochs} epochs of {steps_per_epoch} steps, batch {batch}, learning rate {learning_rate}{scaled}");
                curves.steps_per_epoch = steps_per_epoch;
                bar = Some(progress::bar(steps_per_epoch * epochs, "steps"));
            }
            Event::Failure(failure) => say(bar.as_ref(), &format!("failed: {failure}")),
            Event::Step(step) => {
                curves.step(&step);
                if let Some(bar) = &bar {
                    bar.set_message(format!("epoch {}/{epochs} class {:.3} box {:.3}", step.epoch + 1, step.class_loss, step.box_loss));
                    bar.inc(1);
                }
            }
            Event::Validating { images } => {
                if let Some(bar) = &bar {
                    bar.set_message(format!("validating, image {images}"));
                }
            }
            Event::Validation { epoch, evaluation } => curves.ap.push((epoch as f64, evaluation.metrics.summary.ap)),
            Event::Epoch(epoch) => {
                let ap = epoch.ap.map_or(String::new(), |ap| format!("  AP {}", table::score(ap)));
                let seconds = epoch_start.elapsed().as_secs_f64();
                epoch_start = Instant::now();
                let text = format!(
                    "epoch {}/{epochs}  class {:.4}  box {:.4}  {seconds:.1} s, {:.1} of them waiting for images{ap}",
                    epoch.epoch, epoch.class_loss, epoch.box_loss, epoch.waited.as_secs_f64()
                );
                if !is_terminal || epoch.ap.is_some() {
                    say(bar.as_ref(), &text);
                }
            }
            _ => {}
        }
        interrupt.flow()
    });
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let outcome = outcome?;
    curves.write(&training.output.join("curves.png"))?;
    if outcome.interrupted {
        eprintln!("interrupted: the weights so far are saved");
    }
    if let Some((ap, epoch)) = outcome.best {
        crate::out!(
            "best AP {} at epoch {epoch}: {}",
            table::score(ap),
            training.output.join("best.safetensors").display()
        )?;
    }
    Ok(outcome)
}

fn say(bar: Option<&ProgressBar>, text: &str) {
    match bar {
        Some(bar) => bar.suspend(|| eprintln!("{text}")),
        None => eprintln!("{text}"),
    }
}

/// What is plotted of a training.
#[derive(Default)]
struct Curves {
    /// One a step.
    class_loss: Vec<f64>,
    /// One a step.
    box_loss: Vec<f64>,
    /// (epoch, AP).
    ap: Vec<(f64, f64)>,
    steps_per_epoch: usize,
}

impl Curves {
    fn step(&mut self, step: &Step) {
        self.class_loss.push(f64::from(step.class_loss));
        self.box_loss.push(f64::from(step.box_loss));
    }

    fn write(self, path: &std::path::Path) -> anyhow::Result<()> {
        let epoch = |step: usize| step as f64 / self.steps_per_epoch.max(1) as f64;
        // Means over a hundredth of the training: single steps hide the course.
        let smooth = |losses: &[f64]| {
            let window = (losses.len() / 100).max(1);
            let mean = |(i, chunk): (usize, &[f64])| {
                (epoch(i * window + chunk.len()), chunk.iter().sum::<f64>() / chunk.len() as f64)
            };
            losses.chunks(window).enumerate().map(mean).collect()
        };
        let mut series = vec![
            Series { name: "class loss".to_owned(), points: smooth(&self.class_loss) },
            Series { name: "box loss".to_owned(), points: smooth(&self.box_loss) },
        ];
        if !self.ap.is_empty() {
            series.push(Series { name: "AP (validation)".to_owned(), points: self.ap });
        }
        let [title, x_label, y_label] = ["Training", "epoch", "loss, AP"].map(str::to_owned);
        let plot = Plot { title, x_label, y_label, series, ..Plot::default() };
        pictures::write(path, &line_plot(&plot, ImageSize::new(960, 540)))
    }
}
