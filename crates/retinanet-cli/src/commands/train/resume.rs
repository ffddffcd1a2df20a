//! `retinanet train --resume`: on with a run from its folder alone.

use super::{INTERRUPTED, assigned, finish, open};
use crate::args::{Cli, Command, TrainArgs};
use crate::interrupt::Interrupt;
use crate::training::Beginning;
use crate::{Status, summary};
use anyhow::{Context, bail};
use clap::Parser;
use retinanet::run::{Run, RunFolder, RunRecord, RunStatus, SplitRole};
use retinanet::{Checkpoint, CheckpointError, Config, Error};
use std::path::PathBuf;

/// What is said to any checkpoint that cannot be used.
const BEGIN_ANEW: &str = "the command in its run.json begins it anew, with --overwrite";

/// What is said beside that where a model is left.
fn start_from(folder: &RunFolder) -> String {
    let last = folder.last();
    if last.is_file() {
        format!("; a new run with --weights {} starts from its model", last.display())
    } else {
        String::new()
    }
}

pub(super) fn run(args: &TrainArgs, folder: &RunFolder) -> anyhow::Result<Status> {
    let record = folder.read_record().with_context(|| {
        format!("--resume: expected the folder of a run of train, found {} without its record", folder.path().display())
    })?;
    let first = first_arguments(&record, folder)?;
    let checkpoint = Checkpoint::read(folder.state()).map_err(|error| with_hint(error, folder))?;
    let assignments: Vec<String> = args.configuration.set.iter().cloned().chain(assigned(args)).collect();
    let config = Config::parse(&checkpoint.config.to_toml()?, &assignments)?;
    let state = &checkpoint.state;
    let ended_early = config.train.early_stopping.is_some_and(|stopping| state.progress.has_ended(&stopping));
    let is_done = (state.epoch >= config.train.epochs || ended_early) && record.status == RunStatus::Finished;
    if is_done && config == checkpoint.config {
        let (epochs, of) = (checkpoint.state.epoch, config.train.epochs);
        eprintln!("{}: finished already: {epochs} of {of} epochs are done", folder.path().display());
        crate::out!("{}", summary::summary(&Run::read(folder.path())?))?;
        return Ok(Status::Done);
    }

    let place = if args.engine.place.device.is_some() { &args.engine.place } else { &first.engine.place };
    if place.asked() != first.engine.place.asked() {
        let (now, before) = (place.asked().name(), first.engine.place.asked().name());
        eprintln!(
            "{now}: the run began on {before}; from here on it goes as it would have there within rounding, not to the bit"
        );
    }
    let device = place.open()?;
    let interrupt = Interrupt::listen(INTERRUPTED)?;
    // The run's own arguments, but for what may be different now.
    let cache = if args.cache.is_open() { first.cache.clone() } else { args.cache.clone() };
    let first = TrainArgs { cache, run: args.run.clone(), ..first };
    let is_moved = !args.data.paths.is_empty();
    let paths = if is_moved { args.data.paths.clone() } else { recorded_paths(&record) };
    let training = open(&first, &paths, config, folder.path(), device).map_err(|error| match is_moved {
        true => error,
        false => error.context("the data of the run cannot be read; --data says where it lies now"),
    })?;
    finish(&training, Beginning::Resumed(Box::new(checkpoint)), &interrupt, &first)
}

/// The arguments that the run began with.
fn first_arguments(record: &RunRecord, folder: &RunFolder) -> anyhow::Result<TrainArgs> {
    let path = folder.record();
    let cli = Cli::try_parse_from(&record.command_line).map_err(|error| {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        anyhow::anyhow!("{}: command line: expected one that this version knows, found: {first}", path.display())
    })?;
    match cli.command {
        Command::Train(args) => Ok(args),
        _ => bail!(
            "{}: command line: expected one of train, found {:?}",
            path.display(),
            record.command_line.get(1).map_or("none", String::as_str)
        ),
    }
}

/// Where the data lay when the run began, however its folders were named then.
fn recorded_paths(record: &RunRecord) -> Vec<PathBuf> {
    let train = record.data.iter().find(|split| split.role == SplitRole::Train);
    train.map(|split| split.paths.iter().map(PathBuf::from).collect()).unwrap_or_default()
}

/// Says what to do about a checkpoint that cannot be used.
fn with_hint(error: Error, folder: &RunFolder) -> anyhow::Error {
    match &error {
        Error::Checkpoint(CheckpointError::Missing { .. }) => {
            anyhow::anyhow!("{error}: the run ended before its first checkpoint; {BEGIN_ANEW}")
        }
        Error::Checkpoint(CheckpointError::Unusable { .. }) => {
            anyhow::anyhow!("{error}; {BEGIN_ANEW}{}", start_from(folder))
        }
        _ => error.into(),
    }
}
