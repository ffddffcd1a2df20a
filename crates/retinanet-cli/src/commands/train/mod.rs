//! `retinanet train`: a data set to a run folder, from the beginning or on from where a run stopped.

mod checks;
mod resume;

use crate::args::TrainArgs;
use crate::data::Cache;
use crate::interrupt::Interrupt;
use crate::training::Beginning;
use crate::zoo::{self, Wanted};
use crate::{Status, data, summary, training};
use anyhow::Context;
use retinanet::run::{DataSource, Run, RunDescription, RunFolder};
use retinanet::{ComputeDevice, Config, Error, InitialWeights, Training, start};
use std::path::{Path, PathBuf};

/// Threads that read pictures ahead; two keep up with a network on a laptop.
const WORKERS: usize = 2;

const INTERRUPTED: &str = "interrupted: finishing this step and saving; once more to stop at once";

pub(crate) fn run(args: &TrainArgs) -> anyhow::Result<Status> {
    match &args.resume {
        Some(folder) => resume::run(args, &RunFolder::new(folder)),
        None => begin(args),
    }
}

fn begin(args: &TrainArgs) -> anyhow::Result<Status> {
    let config = configuration(args)?;
    let output = args.output.as_ref().context("--output: expected a folder, found none")?;
    args.run.check(&RunFolder::new(output))?;
    let device = args.engine.place.open()?;
    let interrupt = Interrupt::listen(zoo::INTERRUPTED)?;
    let Some(weights) = initial_weights(args, &interrupt)? else { return Ok(Status::DoneWithFailures) };
    interrupt.announce(INTERRUPTED);
    let training = open(args, &args.data.paths, config, output, device)?;
    let notes = checks::notes(&training)?;
    let start = start(&training.config, training.train.classes(), &weights)?;
    let notes = [notes, start.notes].concat();
    notes.iter().for_each(|note| eprintln!("{note}"));
    let description = RunDescription {
        command_line: crate::command_line(),
        train: source(&args.data.paths, &args.split),
        validation: source(&args.data.paths, args.val_split.as_deref().unwrap_or_default()),
        notes,
    };
    finish(&training, Beginning::New(Box::new(start.model), description), &interrupt, args)
}

/// The data sets that these arguments choose, at these paths.
fn open(
    args: &TrainArgs,
    paths: &[PathBuf],
    config: Config,
    output: &Path,
    device: ComputeDevice,
) -> anyhow::Result<Training> {
    let cache = Cache::open(&args.cache)?;
    let request = args.data.selection.request(paths)?;
    let train = cache.over(data::open_to_train(&request, &args.split, &config)?);
    let validation = match &args.val_split {
        Some(split) => Some(cache.over(data::open(&request, split)?)),
        None => None,
    };
    let checkpoint_every = args.run.checkpoint_every;
    Ok(Training { config, train, validation, output: output.to_owned(), workers: WORKERS, checkpoint_every, device })
}

/// Trains, and says what came of it.
fn finish(
    training: &Training,
    beginning: Beginning,
    interrupt: &Interrupt,
    args: &TrainArgs,
) -> anyhow::Result<Status> {
    let (program, folder) = (crate::program(), RunFolder::new(&training.output));
    let outcome = training::run(training, beginning, interrupt, &args.run)
        .inspect_err(|error| what_to_do(error, &folder).iter().for_each(|line| eprintln!("{line}")))?;
    crate::out!("{}\n", summary::summary(&Run::read(folder.path())?))?;
    if outcome.interrupted {
        crate::out!("to go on: {program} train --resume {}", folder.path().display())?;
    }
    crate::out!("next: {program} detect --model {} IMAGE...", summary::model(&folder).display())?;
    let dropped =
        data::num_dropped_images(&*training.train) + training.validation.as_deref().map_or(0, data::num_dropped_images);
    let failures = outcome.failures + dropped;
    if failures > 0 {
        eprintln!("images that could not be used, named above: {failures}");
    }
    Ok(if outcome.interrupted || failures > 0 { Status::DoneWithFailures } else { Status::Done })
}

/// How a training that failed is gone on with.
fn what_to_do(error: &Error, folder: &RunFolder) -> Option<String> {
    let path = |path: PathBuf| path.display().to_string();
    match error {
        // To go on would be the same again, bit for bit.
        Error::LossNotFinite(_) | Error::WeightsNotFinite { .. } => {
            let last = folder.last().is_file().then(|| path(folder.last()))?;
            Some(format!("kept: {last}, of the last checkpoint; a new run with --weights {last} starts from it"))
        }
        // What was refused has changed nothing.
        Error::Checkpoint(_) | Error::Run(_) | Error::Config(_) => None,
        _ if folder.state().is_file() => {
            let program = crate::program();
            Some(format!("once that is mended: {program} train --resume {}", path(folder.path().to_owned())))
        }
        _ => None,
    }
}

/// Where a split came from, however the folders were named.
fn source(data: &[PathBuf], split: &str) -> DataSource {
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    DataSource { paths: data.iter().map(absolute).collect(), split: split.to_owned() }
}

/// Where the weights come from, fetched if they are named; `None` if Ctrl-C came in between.
fn initial_weights(args: &TrainArgs, interrupt: &Interrupt) -> anyhow::Result<Option<InitialWeights>> {
    let resolve = |model: &Path, wanted| zoo::resolve(model, wanted, &args.zoo, interrupt);
    Ok(match (&args.weights, &args.backbone_weights) {
        (Some(model), _) => resolve(model, Wanted::Detector)?.map(InitialWeights::Detector),
        (None, Some(model)) => resolve(model, Wanted::Backbone)?.map(InitialWeights::Backbone),
        (None, None) => Some(InitialWeights::New),
    })
}

/// The preset or file with the arguments merged in.
fn configuration(args: &TrainArgs) -> anyhow::Result<Config> {
    args.configuration.read(assigned(args))
}

/// What arguments of their own set.
fn assigned(args: &TrainArgs) -> impl Iterator<Item = String> {
    let options =
        [("epochs", args.epochs.map(|n| n as u64)), ("batch", args.batch.map(|n| n as u64)), ("seed", args.seed)];
    let numbers = options.into_iter().filter_map(|(key, value)| value.map(|value| format!("train.{key}={value}")));
    numbers.chain(args.dtype.iter().map(|dtype| format!("train.dtype={dtype}")))
}
