//! A training that was stopped at any moment goes on to the same bits, in any number of threads, and refuses to go on as
//! another one.

mod squares;

use retinanet::run::{Existing, Metrics, Run, RunDescription, RunFolder, RunRecorder, read_events};
use retinanet::{
    Checkpoint, CheckpointInterval, ComputeDevice, Config, Error, Event, InitialWeights, Outcome, Training, start,
};
use retinanet_annotations::AnnotationSet;
use retinanet_data::{Dataset, Sample, SampleError};
use squares::{Squares, tiny};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Squares of which one picture cannot be had.
struct Flawed(Squares);

impl Dataset for Flawed {
    fn sample(&self, index: usize) -> Result<Sample, SampleError> {
        match index {
            3 => Err(SampleError { index, what: "squares-3: torn".to_owned() }),
            _ => self.0.sample(index),
        }
    }

    fn annotations(&self) -> &AnnotationSet {
        self.0.annotations()
    }
}

fn squares() -> Squares {
    Squares::new(&[
        &[(8, 8, 24, 0), (36, 34, 20, 1)],
        &[(30, 4, 28, 1)],
        &[],
        &[(2, 2, 30, 0)],
        &[(4, 30, 26, 1), (40, 6, 18, 0)],
        &[(20, 20, 24, 0)],
    ])
}

/// Everything that has a state of its own: running statistics, a running normaliser, draws, an optimiser's moments.
const STATEFUL: [&str; 6] = [
    "train.epochs=3",
    "train.validate_every=1",
    "backbone.norm={ batch = { epsilon = 1e-5, momentum = 0.1 } }",
    "loss.normalizer={ moving_average = { start = 100.0, momentum = 0.9 } }",
    "train.augmentation={ horizontal_flip = 0.5, vertical_flip = 0.5, mosaic = { probability = 0.5 } }",
    "train.learning_rate=0.01",
];
const ADAMW: &str = "train.optimizer={ adamw = { weight_decay = 0.05, norm_weight_decay = 0.0 } }";

fn config(more: &[&str]) -> Config {
    tiny(&[&STATEFUL, more].concat())
}

fn training(config: Config, output: &Path) -> Training {
    Training {
        config,
        train: Arc::new(Flawed(squares())),
        validation: Some(Arc::new(squares())),
        output: output.to_owned(),
        workers: 2,
        checkpoint_every: CheckpointInterval::Epoch,
        device: ComputeDevice::Cpu,
    }
}

type Control<'a> = &'a mut dyn FnMut(&Event<'_>) -> ControlFlow<()>;

fn go_on(_: &Event<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn begin(training: &Training, control: Control) -> Result<Outcome, Error> {
    let model = start(&training.config, training.train.classes(), &InitialWeights::New)?.model;
    let mut recorder = RunRecorder::create(training, RunDescription::default(), Existing::Keep)?;
    let outcome = training.run(model, &mut |event| {
        recorder.observe(&event);
        control(&event)
    });
    recorder.finish(&outcome);
    assert_eq!(recorder.take_warnings(), [""; 0]);
    outcome
}

fn resume(training: &Training, control: Control) -> Result<Outcome, Error> {
    let checkpoint = Checkpoint::read(RunFolder::new(&training.output).state())?;
    let mut recorder = RunRecorder::resume(training, &checkpoint, Vec::new())?;
    let outcome = training.resume(checkpoint, &mut |event| {
        recorder.observe(&event);
        control(&event)
    });
    recorder.finish(&outcome);
    assert_eq!(recorder.take_warnings(), [""; 0]);
    outcome
}

/// What a run has come to, without what time and machine decide.
#[derive(Debug, PartialEq)]
struct Course {
    losses: Vec<(usize, [u64; 4])>,
    epochs: Vec<(usize, usize, usize, Option<u64>)>,
    events: Vec<(usize, String)>,
    failures: Vec<String>,
    files: Vec<String>,
}

fn course(folder: &Path) -> Course {
    let run = Run::read(folder).expect("a run");
    let Metrics { steps, epochs, unreadable_lines } = run.metrics;
    assert_eq!(unreadable_lines, 0);
    let [events] = run.folder.events().try_into().expect("one event file");
    let values = read_events(&events).expect("events").into_iter().map(|value| (value.step, value.tag));
    let mut files: Vec<String> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with("events"))
        .collect();
    files.sort();
    let bits = |step: &retinanet::run::StepMetrics| {
        [step.class_loss, step.box_loss, step.gradient_norm, step.learning_rate].map(f64::to_bits)
    };
    Course {
        losses: steps.iter().map(|step| (step.step, bits(step))).collect(),
        epochs: epochs.iter().map(|e| (e.epoch, e.step, e.images, e.score.map(|score| score.ap.to_bits()))).collect(),
        events: values.collect(),
        failures: run.record.expect("a record").failures.first,
        files,
    }
}

/// The model after the last step, the best one, and all that the training would go on with.
fn files(folder: &Path) -> [Vec<u8>; 3] {
    let folder = RunFolder::new(folder);
    [folder.last(), folder.best(), folder.state()].map(|file| fs::read(&file).unwrap_or_default())
}

#[track_caller]
fn check_same(folder: &Path, expected: &Path, when: &str) {
    for (name, (found, expected)) in ["last", "best", "state"].iter().zip(files(folder).iter().zip(files(expected))) {
        assert!(!found.is_empty() && *found == expected, "{when}: {name} differs");
    }
    assert_eq!(course(folder), course(expected), "{when}");
}

/// Copies what a run would leave that is killed now.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("a copy");
    }
    // Half of a file that was being written.
    fs::write(to.join(".state.safetensors.4000000-1.tmp"), "half").expect("a file");
}

#[test]
fn a_run_that_is_killed_at_any_moment_goes_on_to_the_same_bits() -> Result<(), Box<dyn std::error::Error>> {
    let sgd = "train.optimizer={ sgd = { momentum = 0.9, weight_decay = 1e-4, norm_weight_decay = 0.0 } }";
    for (optimizer, interval, every) in [(sgd, CheckpointInterval::Epoch, 1), (ADAMW, CheckpointInterval::Steps(2), 3)]
    {
        let temporary = tempfile::tempdir()?;
        let whole = temporary.path().join("whole");
        let config = config(&["train.epochs=2", optimizer]);
        let of = |output: &Path| Training { checkpoint_every: interval, ..training(config.clone(), output) };
        let mut kills: Vec<(String, PathBuf)> = Vec::new();
        let outcome = begin(&of(&whole), &mut |event| {
            let what = match event {
                // The first checkpoint is not there yet.
                Event::Start { .. } => return ControlFlow::Continue(()),
                Event::Checkpoint(state) if state.step == 0 => return ControlFlow::Continue(()),
                Event::Step(step) => format!("step {}", step.step),
                Event::Validating { images: 2 } => "scoring".to_owned(),
                Event::Validating { .. } => return ControlFlow::Continue(()),
                Event::Checkpoint(state) => format!("checkpoint at step {}", state.step),
                other => format!("{:.12}", format!("{other:?}")),
            };
            let copied = temporary.path().join(kills.len().to_string());
            copy(&whole, &copied);
            kills.push((what, copied));
            ControlFlow::Continue(())
        })?;
        assert_eq!((outcome.failures, course(&whole).failures), (1, vec!["squares-3: torn".to_owned()]));
        assert!(kills.len() > 15, "{}", kills.len());
        for (when, folder) in kills.iter().step_by(every) {
            let outcome = resume(&of(folder), &mut go_on)?;
            assert_eq!((outcome.interrupted, outcome.failures), (false, 1));
            check_same(folder, &whole, when);
        }
    }
    Ok(())
}

#[test]
fn a_run_that_is_interrupted_after_every_step_goes_on_to_the_same_bits() -> Result<(), Box<dyn std::error::Error>> {
    let temporary = tempfile::tempdir()?;
    let (whole, pieces) = (temporary.path().join("whole"), temporary.path().join("pieces"));
    // Alike in when checkpoints are written, which ends a line of the metrics.
    let of =
        |output: &Path| Training { checkpoint_every: CheckpointInterval::Steps(1), ..training(config(&[]), output) };
    begin(&of(&whole), &mut go_on)?;
    let mut stop = |event: &Event<'_>| match event {
        Event::Step(_) | Event::Validating { images: 4 } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let mut interrupted = begin(&of(&pieces), &mut stop)?.interrupted;
    let mut times = 0;
    while interrupted {
        times += 1;
        // Scoring is interrupted once an epoch, and would be for ever.
        let is_scoring = Checkpoint::read(RunFolder::new(&pieces).state())?.state.batch == 3;
        let control: Control = if is_scoring && times % 2 == 0 { &mut go_on_to_the_next_epoch() } else { &mut stop };
        interrupted = resume(&of(&pieces), control)?.interrupted;
        assert!(times < 50, "it comes to no end");
    }
    check_same(&pieces, &whole, "all of them");
    let run = Run::read(&pieces)?;
    assert_eq!(run.record.map(|record| record.resumptions.len()), Some(times));
    Ok(())
}

/// Stops after the first step that follows a scoring.
fn go_on_to_the_next_epoch() -> impl FnMut(&Event<'_>) -> ControlFlow<()> {
    |event| if matches!(event, Event::Step(_)) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

#[test]
fn threads_workers_and_checkpoints_change_no_bit() -> Result<(), Box<dyn std::error::Error>> {
    let temporary = tempfile::tempdir()?;
    let mut first: Option<[Vec<u8>; 3]> = None;
    for (threads, workers, every) in [(1, 1, 1), (2, 3, 100), (3, 2, 2), (1, 1, 1)] {
        let folder = temporary.path().join(format!("{threads}-{workers}-{every}"));
        let checkpoint_every = CheckpointInterval::Steps(every);
        let training = Training { workers, checkpoint_every, ..training(config(&[ADAMW]), &folder) };
        let model = start(&training.config, training.train.classes(), &InitialWeights::New)?.model;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        pool.install(|| training.run(model, &mut |_| ControlFlow::Continue(())))?;
        let found = files(&folder);
        assert!(first.get_or_insert_with(|| found.clone()) == &found, "{threads} threads, {workers} workers differ");
        fs::remove_dir_all(folder)?;
    }
    Ok(())
}

#[test]
fn what_is_recomputed_changes_no_bit_and_may_be_another_share() -> Result<(), Box<dyn std::error::Error>> {
    let temporary = tempfile::tempdir()?;
    let (whole, parts) = (temporary.path().join("whole"), temporary.path().join("parts"));
    begin(&training(config(&[]), &whole), &mut go_on)?;
    begin(&training(config(&["train.recompute_stages=4"]), &parts), &mut go_on_to_the_next_epoch())?;
    resume(&training(config(&["train.recompute_stages=1"]), &parts), &mut go_on_to_the_next_epoch())?;
    resume(&training(config(&[]), &parts), &mut go_on)?;
    check_same(&parts, &whole, "with stages recomputed");
    Ok(())
}

#[test]
fn a_finished_run_grows_where_the_rate_is_constant() -> Result<(), Box<dyn std::error::Error>> {
    let temporary = tempfile::tempdir()?;
    // A warm-up that is no longer than half of either.
    let constant = "train.schedule={ warmup = { steps = 3, factor = 0.1 }, decay = \"constant\" }";
    let (long, short) = (temporary.path().join("long"), temporary.path().join("short"));
    begin(&training(config(&[constant, "train.epochs=4"]), &long), &mut go_on)?;
    begin(&training(config(&[constant]), &short), &mut go_on)?;
    let before = files(&short);
    let outcome = resume(&training(config(&[constant]), &short), &mut |event| match event {
        Event::Start { .. } => ControlFlow::Continue(()),
        other => panic!("a finished run does nothing: {other:?}"),
    })?;
    assert!(!outcome.interrupted && files(&short) == before);
    resume(&training(config(&[constant, "train.epochs=4"]), &short), &mut go_on)?;
    // The best model may be of before, when there were three to come.
    let ([last, _, state], [long_last, _, long_state]) = (files(&short), files(&long));
    assert!(last == long_last && state == long_state);
    assert_eq!(course(&short), course(&long));
    Ok(())
}

#[test]
fn another_training_is_refused() -> Result<(), Box<dyn std::error::Error>> {
    let temporary = tempfile::tempdir()?;
    let folder = RunFolder::new(temporary.path().join("run"));
    begin(&training(config(&["train.epochs=1"]), folder.path()), &mut go_on)?;
    let before = files(folder.path());
    let check = |training: &Training, parts: &[&str]| {
        let checkpoint = Checkpoint::read(folder.state()).expect("a checkpoint");
        let error = training.resume(checkpoint, &mut |_| ControlFlow::Continue(())).expect_err("another training");
        for part in parts {
            assert!(error.to_string().contains(part), "expected {part:?} in {error}");
        }
    };
    let with = |more: &[&str]| training(config(&[&["train.epochs=1"], more].concat()), folder.path());
    check(&with(&["train.batch=3"]), &["differs from the one that began:\n  train.batch: expected 2, found 3"]);
    check(
        &with(&["train.seed=7", "loss.class.focal.gamma=1.0"]),
        &["loss.class.focal.gamma: expected 2.0, found 1.0", "train.seed: expected 0, found 7"],
    );
    check(
        &with(&["train.epochs=2"]),
        &["train.epochs: expected 1, found 2, and the learning rate of every step depends"],
    );

    let mut other = squares();
    other.set.classes.swap(0, 1);
    check(
        &Training { train: Arc::new(other), ..with(&[]) },
        &["classes: expected light (10), dark (11), found dark (11), light (10)"],
    );
    let mut other = squares();
    other.set.images[0].annotations[0].xywh[0] += 1.0;
    other.set.images[5].file_name = "new".to_owned();
    check(
        &Training { train: Arc::new(other), ..with(&[]) },
        &["train data: images: expected 6, found 6 others", "train data: boxes: expected 7, found 7 others"],
    );
    check(&Training { validation: None, ..with(&[]) }, &["validation data: expected a split, found none"]);
    assert!(files(folder.path()) == before, "nothing is written by what is refused");
    Ok(())
}

#[test]
fn a_damaged_checkpoint_is_named() -> Result<(), Box<dyn std::error::Error>> {
    let temporary = tempfile::tempdir()?;
    let folder = RunFolder::new(temporary.path());
    let missing = Checkpoint::read(folder.state()).expect_err("no checkpoint").to_string();
    assert!(missing.contains("state.safetensors: checkpoint to go on from: expected a file, found none"), "{missing}");
    begin(&training(config(&["train.epochs=1"]), folder.path()), &mut go_on)?;

    let bytes = fs::read(folder.state())?;
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into()?) as usize;
    for length in [0, 5, header - 1, header, bytes.len() - 1] {
        fs::write(folder.state(), &bytes[..length])?;
        let message = Checkpoint::read(folder.state()).expect_err("cut short").to_string();
        assert!(message.contains("state.safetensors: cannot be gone on from: "), "{length}: {message}");
    }
    // A bit of the weights, and a figure of what is said of them.
    let (before, text) = (r#"{\"step\":"#.as_bytes(), &bytes[..header]);
    let place = text.windows(before.len()).position(|part| part == before).expect("the state is in the header");
    let figure = place + before.len();
    for (at, bit) in [(bytes.len() - 1, 1), (header + 4000, 0x80), (figure, 1)] {
        let mut damaged = bytes.clone();
        damaged[at] ^= bit;
        fs::write(folder.state(), damaged)?;
        let message = Checkpoint::read(folder.state()).expect_err("a bit is wrong").to_string();
        assert!(message.contains("metadata sha256: expected ") && message.contains("as it was written"), "{message}");
    }
    // Files of another kind.
    fs::copy(folder.last(), folder.state())?;
    let message = Checkpoint::read(folder.state()).expect_err("a model").to_string();
    assert!(message.contains("metadata format: expected retinanet training 2, found retinanet"), "{message}");
    fs::write(folder.last(), &bytes)?;
    let message = retinanet::Detector::load(folder.last()).expect_err("a state").to_string();
    assert!(message.contains("found the state of a training; its model is last.safetensors"), "{message}");
    Ok(())
}
