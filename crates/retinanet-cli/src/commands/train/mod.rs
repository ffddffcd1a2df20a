//! `retinanet train`: a data set to a run folder.

use crate::args::TrainArgs;
use crate::data::Cache;
use crate::interrupt::Interrupt;
use crate::zoo::{self, Wanted};
use crate::{Status, data, summary, training};
use retinanet::run::{DataSource, Run, RunDescription, RunFolder};
use retinanet::{Config, InitialWeights, Training, start};
use std::path::{Path, PathBuf};

/// Threads that read pictures ahead; two keep up with a network on a laptop.
const WORKERS: usize = 2;

pub(crate) fn run(args: &TrainArgs) -> anyhow::Result<Status> {
    let config = configuration(args)?;
    let folder = RunFolder::new(&args.output);
    args.run.check(&folder)?;
    let interrupt = Interrupt::listen(zoo::INTERRUPTED)?;
    let Some(weights) = initial_weights(args, &interrupt)? else { return Ok(Status::DoneWithFailures) };
    interrupt.announce("interrupted: finishing this step and saving; once more to stop at once");
    let cache = Cache::open(&args.cache)?;
    let request = args.data.request()?;
    let train = cache.over(data::open_to_train(&request, &args.split, &config)?);
    let validation = match &args.val_split {
        Some(split) => Some(cache.over(data::open(&request, split)?)),
        None => None,
    };
    let start = start(&config, train.classes(), &weights)?;
    start.notes.iter().for_each(|note| eprintln!("{note}"));

    let dropped = data::num_dropped_images(&*train) + validation.as_deref().map_or(0, data::num_dropped_images);
    let description = RunDescription {
        command_line: crate::command_line(),
        train: source(&args.data.paths, &args.split),
        validation: source(&args.data.paths, args.val_split.as_deref().unwrap_or_default()),
        notes: start.notes,
    };
    let checkpoint_every = args.run.checkpoint_every;
    let training =
        Training { config, train, validation, output: args.output.clone(), workers: WORKERS, checkpoint_every };
    let outcome = training::run(&training, start.model, &interrupt, &args.run, description)?;

    crate::out!("{}\n", summary::summary(&Run::read(&args.output)?))?;
    crate::out!("next: {} detect --model {} IMAGE...", crate::program(), summary::model(&folder).display())?;
    let failures = outcome.failures + dropped;
    if failures > 0 {
        eprintln!("images that could not be used, named above: {failures}");
    }
    Ok(if outcome.interrupted || failures > 0 { Status::DoneWithFailures } else { Status::Done })
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
    let options =
        [("epochs", args.epochs.map(|n| n as u64)), ("batch", args.batch.map(|n| n as u64)), ("seed", args.seed)];
    let assigned = options.iter().filter_map(|(key, value)| value.map(|value| format!("train.{key}={value}")));
    args.configuration.read(assigned)
}
