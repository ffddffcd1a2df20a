//! Run folders from end to end: every file of a run by its content, however the run ends, and runs beside each other.

mod squares;

use retinanet::run::{
    Comparison, DataSource, Existing, Metrics, Run, RunDescription, RunFolder, RunRecorder, RunStatus, SplitRole,
    read_events,
};
use retinanet::{CheckpointInterval, ComputeDevice, Config, Detector, Event, InitialWeights, Outcome, Training, start};
use retinanet_data::{Dataset, DecodeLimits, decode_file};
use squares::{Squares, tiny};
use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// A name that means something to HTML, to terminals and to TensorBoard's tags.
const HOSTILE: &str = "<script>alert(1)</script>&\"'/\u{1b}[31m";

/// The four squares of three images, the last image with none.
fn squares() -> Squares {
    let mut squares = Squares::new(&[&[(8, 8, 24, 0), (36, 34, 20, 1)], &[(30, 4, 28, 1), (2, 40, 16, 0)], &[]]);
    squares.set.classes[1].name = HOSTILE.to_owned();
    squares
}

fn training(config: Config, output: &Path) -> Training {
    let validation: Option<Arc<dyn Dataset>> = Some(Arc::new(squares()));
    Training {
        config,
        train: Arc::new(squares()),
        validation,
        output: output.to_owned(),
        workers: 1,
        checkpoint_every: CheckpointInterval::Epoch,
        device: ComputeDevice::Cpu,
    }
}

fn description() -> RunDescription {
    let source = |split: &str| DataSource { paths: vec!["/data/squares".into()], split: split.to_owned() };
    RunDescription {
        command_line: vec!["retinanet".to_owned(), "train".to_owned()],
        train: source("train"),
        validation: source("val"),
        notes: vec!["weights: new".to_owned()],
    }
}

/// Trains and records; `control` sees every event and may break.
fn record(
    training: &Training,
    existing: Existing,
    mut control: impl FnMut(&Event<'_>) -> ControlFlow<()>,
) -> (Result<Outcome, retinanet::Error>, Vec<String>) {
    let model = start(&training.config, training.train.classes(), &InitialWeights::New).expect("a model").model;
    let mut recorder = RunRecorder::create(training, description(), existing).expect("a folder");
    let outcome = training.run(model, &mut |event| {
        recorder.observe(&event);
        control(&event)
    });
    recorder.finish(&outcome);
    (outcome, recorder.take_warnings())
}

fn go_on(_: &Event<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// The report of a run: a whole page that loads nothing and runs nothing.
#[track_caller]
fn check_report(folder: &RunFolder, parts: &[&str]) {
    let page = fs::read_to_string(folder.report()).expect("a report");
    assert!(page.to_lowercase().starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
    for part in parts {
        assert!(page.contains(part), "expected {part:?} in {page}");
    }
    for forbidden in ["<script>alert", "src=\"http", "href=\"http", "url(http", "<link"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
}

#[test]
fn every_file_of_a_run_says_what_it_should() -> Result<(), Box<dyn std::error::Error>> {
    let temporary = tempfile::tempdir()?;
    let config = tiny(&["train.epochs=2", "train.validate_every=1", "train.seed=5"]);
    let training = training(config.clone(), &temporary.path().join("run"));
    let (outcome, warnings) = record(&training, Existing::Keep, go_on);
    let outcome = outcome?;
    assert_eq!(warnings, Vec::<String>::new());
    let folder = RunFolder::new(&training.output);
    assert_eq!(Config::parse(&fs::read_to_string(folder.config())?, &[])?, config);

    let record = folder.read_record()?;
    assert_eq!((&record.status, record.seed, record.steps_per_epoch), (&RunStatus::Finished, 5, 2));
    assert_eq!((record.version.as_str(), record.command_line.len()), (env!("CARGO_PKG_VERSION"), 2));
    assert_eq!(record.classes[1].name, HOSTILE);
    assert!(record.machine.cores > 0 && record.started <= record.updated);
    let [train, validation] = record.data.as_slice() else { panic!("two splits: {:?}", record.data) };
    assert_eq!((train.role, validation.role), (SplitRole::Train, SplitRole::Validation));
    assert_eq!((train.split.as_str(), validation.split.as_str()), ("train", "val"));
    assert_eq!((train.images, train.images_without_boxes, train.boxes), (3, 1, 4));
    assert_eq!(train.boxes_per_class, [2, 2]);
    let batch = record.first_batch.ok_or("a first batch")?;
    assert_eq!((batch.images, batch.boxes_without_anchor), (2, 0));
    assert!(batch.boxes >= 2 && batch.foreground_anchors >= batch.boxes && batch.ignored_anchors > 0, "{batch:?}");

    let metrics = Metrics::read(&folder.metrics())?;
    assert_eq!(metrics.unreadable_lines, 0);
    let steps: Vec<(usize, f64)> = metrics.steps.iter().map(|step| (step.step, step.epoch)).collect();
    assert_eq!(steps, [(1, 0.5), (2, 1.0), (3, 1.5), (4, 2.0)]);
    for step in &metrics.steps {
        assert!(step.class_loss > 0.0 && step.gradient_norm > 0.0 && step.learning_rate > 0.0, "{step:?}");
        assert!(step.images_per_second > 0.0 && (0.0..=1.0).contains(&step.waited), "{step:?}");
    }
    let epochs: Vec<(usize, usize, usize)> = metrics.epochs.iter().map(|e| (e.epoch, e.step, e.images)).collect();
    assert_eq!(epochs, [(1, 2, 3), (2, 4, 3)]);
    let last = metrics.epochs.last().ok_or("an epoch")?;
    let mean = (metrics.steps[2].class_loss + metrics.steps[3].class_loss) / 2.0;
    assert!((last.class_loss - mean).abs() < 1e-9 && last.score.is_some() && last.classes[1].name == HOSTILE);
    assert_eq!(metrics.best().and_then(|epoch| epoch.ap()), outcome.best.map(|(ap, _)| ap));

    let [events] = folder.events().try_into().map_err(|_| "one event file")?;
    let values = read_events(&events)?;
    let of = |tag: &str| -> Vec<(usize, Option<f32>)> {
        values.iter().filter(|value| value.tag == tag).map(|value| (value.step, value.scalar)).collect()
    };
    let losses: Vec<_> = metrics.steps.iter().map(|step| (step.step, Some(step.class_loss as f32))).collect();
    assert_eq!(of("loss/class"), losses);
    assert_eq!(of("score/AP").iter().map(|(step, _)| *step).collect::<Vec<_>>(), [2, 4]);
    assert_eq!(of(&format!("class_AP/{HOSTILE}")).len(), 2);
    for tag in
        ["loss/box", "optimizer/learning_rate", "optimizer/gradient_norm", "speed/images_per_second", "speed/waited"]
    {
        assert_eq!(of(tag).len(), 4, "{tag}");
    }
    assert_eq!((of("first_batch"), of("detections").is_empty()), (vec![(0, None)], false));

    for picture in [folder.curves(), folder.first_batch(), folder.detections()] {
        let image = decode_file(&picture, &DecodeLimits::default())?;
        let first = &image.pixels[..3];
        assert!(image.size.width > 500 && image.pixels.chunks(3).any(|pixel| pixel != first), "{}", picture.display());
    }
    for checkpoint in [folder.last(), folder.best()] {
        assert_eq!(Detector::load(checkpoint)?.classes[1].name, HOSTILE);
    }
    let ap = format!("{:.3}", last.ap().unwrap_or(0.0));
    check_report(&folder, &["&lt;script&gt;", "finished", "data:image/jpeg;base64,", "gamma", "/data/squares", &ap]);
    let names: Vec<_> =
        fs::read_dir(folder.path())?.map(|entry| entry.map(|e| e.file_name())).collect::<Result<_, _>>()?;
    assert_eq!(names.len(), folder.files().len(), "nothing else is left behind: {names:?}");
    Ok(())
}

#[test]
fn a_run_is_not_overwritten_by_a_slip() -> Result<(), Box<dyn std::error::Error>> {
    let temporary = tempfile::tempdir()?;
    let mut training = training(tiny(&["train.epochs=1"]), temporary.path());
    record(&training, Existing::Keep, go_on).0?;
    let folder = RunFolder::new(&training.output);
    let before = fs::read(folder.last())?;
    let error = RunRecorder::create(&training, description(), Existing::Keep).err().ok_or("a run is there")?;
    assert!(error.to_string().contains("found a run (finished, started "), "{error}");
    assert_eq!(fs::read(folder.last())?, before);

    // Nothing of the old run is left beside the new one, which is not scored.
    training.validation = None;
    record(&training, Existing::Overwrite, go_on).0?;
    assert!(!folder.best().exists() && folder.detections().is_file());
    assert_eq!((folder.events().len(), folder.read_record()?.data.len()), (1, 1));
    Ok(())
}

#[test]
fn an_interrupted_run_says_so_and_keeps_its_steps() -> Result<(), Box<dyn std::error::Error>> {
    let temporary = tempfile::tempdir()?;
    let training = training(tiny(&["train.epochs=2000"]), temporary.path());
    let (outcome, _) = record(&training, Existing::Keep, |event| match event {
        Event::Step(step) if step.step == 2 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    assert!(outcome?.interrupted);
    let run = Run::read(temporary.path())?;
    assert_eq!(run.status(), "interrupted");
    // 4000 steps are a line each two: the third step alone is written at the end.
    let steps: Vec<usize> = run.metrics.steps.iter().map(|step| step.step).collect();
    assert_eq!(steps, [2, 3]);
    assert_eq!(run.notes, ["interrupted after 1 of 2000 epochs"]);
    check_report(&run.folder, &["interrupted after 1 of 2000 epochs"]);
    Ok(())
}

#[test]
fn a_failed_run_keeps_its_last_checkpoint_and_says_why() -> Result<(), Box<dyn std::error::Error>> {
    let temporary = tempfile::tempdir()?;
    // The rate leaps in the second half.
    let config = tiny(&["train.epochs=2", "train.schedule.decay={ step = { milestones = [0.5], factor = 1e32 } }"]);
    let training = training(config, temporary.path());
    let (outcome, _) = record(&training, Existing::Keep, go_on);
    assert!(matches!(outcome, Err(retinanet::Error::LossNotFinite { .. })), "{outcome:?}");
    let run = Run::read(temporary.path())?;
    let Some(RunStatus::Failed { error }) = run.record.as_ref().map(|record| record.status.clone()) else {
        panic!("{:?}", run.record)
    };
    assert!(error.contains("expected a finite number"), "{error}");
    assert_eq!(run.metrics.epochs.len(), 1);
    Detector::load(run.folder.last())?;
    check_report(&run.folder, &["failed after 1 of 2 epochs", "expected a finite number"]);
    Ok(())
}

#[test]
fn what_cannot_be_written_is_said_once_and_stops_nothing() -> Result<(), Box<dyn std::error::Error>> {
    let temporary = tempfile::tempdir()?;
    let training = training(tiny(&["train.epochs=2", "train.validate_every=1"]), temporary.path());
    let folder = RunFolder::new(temporary.path());
    let (outcome, warnings) = record(&training, Existing::Keep, |event| {
        if let Event::Start { .. } = event {
            // Folders that no file can replace.
            for path in [folder.report(), folder.first_batch()] {
                fs::create_dir_all(path.join("in the way")).expect("a folder");
            }
        }
        ControlFlow::Continue(())
    });
    assert!(!outcome?.interrupted);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].contains("first_batch.png: not written: ") && warnings[1].contains("report.html: not written: ")
    );
    assert!(warnings.iter().all(|warning| warning.ends_with("; the training goes on")), "{warnings:?}");
    let record = folder.read_record()?;
    assert_eq!((record.status, record.warnings.count), (RunStatus::Finished, 2));
    Ok(())
}

#[test]
fn runs_are_compared_as_far_as_they_go() -> Result<(), Box<dyn std::error::Error>> {
    let temporary = tempfile::tempdir()?;
    let path = |name: &str| temporary.path().join(name);
    for (name, assignment) in [("a", "loss.class.focal.gamma=2.0"), ("b", "loss.class.focal.gamma=1.5")] {
        let config = tiny(&["train.epochs=2", "train.validate_every=1", assignment]);
        record(&training(config, &path(name)), Existing::Keep, go_on).0?;
    }
    // The second was killed in the middle of a line; of the third only the numbers are left.
    let text = fs::read(path("b").join("metrics.jsonl"))?;
    fs::write(path("b").join("metrics.jsonl"), &text[..text.len() - 9])?;
    let mut record = RunFolder::new(path("b")).read_record()?;
    (record.status, record.version) = (RunStatus::Running, "9.9.9".to_owned());
    fs::write(path("b").join("run.json"), serde_json::to_string(&record)?)?;
    fs::create_dir(path("c"))?;
    fs::copy(path("a").join("metrics.jsonl"), path("c").join("metrics.jsonl"))?;
    fs::OpenOptions::new().append(true).open(path("c").join("metrics.jsonl"))?.write_all(b"no JSON\n")?;

    let runs = ["a", "b", "c"].map(|name| Run::read(path(name))).into_iter().collect::<Result<Vec<_>, _>>()?;
    let comparison = Comparison::new(&runs);
    let keys: Vec<&str> = comparison.configuration.iter().map(|row| row.key.as_str()).collect();
    assert_eq!(keys, ["loss.class.focal.gamma"]);
    assert_eq!([0, 1, 2].map(|run| comparison.configuration[0].text(run)), ["2.0", "1.5", "-"]);
    assert!(comparison.data.is_empty(), "{:?}", comparison.data);
    assert_eq!(comparison.machine.iter().map(|row| row.key.as_str()).collect::<Vec<_>>(), ["version"]);

    let quantity = |name: &str| comparison.results.iter().find(|quantity| quantity.name == name).expect("a result");
    assert_eq!(quantity("epochs").values, [Some(2.0), Some(1.0), Some(2.0)]);
    assert_eq!(quantity("best AP").values[0], runs[0].metrics.best().and_then(|epoch| epoch.ap()));
    assert_eq!(quantity("best AP").values[0], quantity("best AP").values[2]);
    assert!(quantity("time").values[0].is_some() && quantity("time").values[2].is_none());
    assert_eq!(comparison.classes.len(), 2);
    assert!(comparison.runs[0].notes.is_empty());
    let notes = |run: usize| comparison.runs[run].notes.join("\n");
    assert!(
        notes(1).contains("goes on or was killed; 1 of 2 epochs") && notes(1).contains("1 line cannot be read"),
        "{}",
        notes(1)
    );
    assert!(
        notes(2).contains("run.json") && notes(2).contains("config.toml") && notes(2).contains("1 line"),
        "{}",
        notes(2)
    );

    assert_eq!(&comparison.curves()?[1..4], b"PNG");
    let page = comparison.page();
    assert!(
        page.contains("loss.class.focal.gamma") && page.contains("&lt;script&gt;") && !page.contains("<script>alert")
    );
    let json = serde_json::to_value(&comparison)?;
    assert_eq!(json["configuration"][0]["values"], serde_json::json!([2.0, 1.5, null]));
    Ok(())
}

#[test]
fn what_is_no_run_is_refused() -> Result<(), Box<dyn std::error::Error>> {
    let temporary = tempfile::tempdir()?;
    let file = temporary.path().join("last.safetensors");
    fs::write(&file, "weights")?;
    for (path, found) in [
        (temporary.path().to_owned(), "found a folder without them"),
        (
            file,
            "last.safetensors: run folder: expected a folder with run.json, config.toml or metrics.jsonl, found a file",
        ),
        (
            temporary.path().join("nowhere"),
            "nowhere: run folder: expected a folder with run.json, config.toml or metrics.jsonl, found nothing there",
        ),
    ] {
        let message = Run::read(&path).expect_err("no run").to_string();
        assert!(message.contains(found), "{message}");
    }
    Ok(())
}
