//! Runs that are killed for real and gone on with, and what `train --resume` refuses.
//!
//! `RESUME_KILLS=20 cargo test --release --workspace --test kills killed -- --nocapture` kills that often.
#![cfg(unix)]

mod flawed;
mod run;
mod window;

use flawed::{SMALL, write_data};
use run::{check, path};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A data set with an image that cannot be read, and where runs go.
struct Workshop {
    folder: tempfile::TempDir,
}

impl Workshop {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write_data(&folder.path().join("data"));
        Self { folder }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn run(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Arguments of a training whose every step has a checkpoint, so that lines of its metrics end alike in any run.
    fn begin(&self, name: &str, more: &[&str]) -> Vec<String> {
        let (data, run) = (self.data(), self.run(name));
        let fixed = ["train", "--data", path(&data), "--output", path(&run), "--batch", "1", "--checkpoint-every", "1"];
        let set = SMALL.iter().chain(&["train.validate_every=2"]).flat_map(|assignment| ["--set", assignment]);
        let fixed = fixed.into_iter().chain(["--val-split", "train", "--threads", "2"]);
        fixed.chain(set).chain(more.iter().copied()).map(str::to_owned).collect()
    }

    fn resume(&self, name: &str) -> Vec<String> {
        ["train", "--resume", path(&self.run(name)), "--checkpoint-every", "1"].map(str::to_owned).to_vec()
    }
}

fn all(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

fn start(arguments: &[String]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_retinanet"));
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary runs")
}

/// Lines of metrics as what they are of and their losses.
fn lines(run: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
    let shown = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let ap = &line["score"]["AP"];
        format!("{} {} {} {} {} {ap}", line["kind"], line["step"], line["epoch"], line["class_loss"], line["box_loss"])
    };
    text.lines().map(shown).collect()
}

#[track_caller]
fn check_same(found: &Path, expected: &Path) {
    for name in ["last.safetensors", "best.safetensors", "state.safetensors"] {
        let read = |run: &Path| std::fs::read(run.join(name)).expect("a file of the run");
        assert!(read(found) == read(expected), "{name} differs");
    }
    assert_eq!(lines(found), lines(expected));
    let failures = |run: &Path| {
        let record = std::fs::read(run.join("run.json")).expect("a record");
        serde_json::from_slice::<serde_json::Value>(&record).expect("JSON")["failures"].clone()
    };
    assert_eq!(failures(found), failures(expected));
}

#[test]
fn a_run_that_is_killed_again_and_again_ends_in_the_same_files() {
    let kills: u32 = std::env::var("RESUME_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let workshop = Workshop::new();
    // So long that it is killed so often before it is done.
    let epochs = (4 * kills).to_string();
    let epochs = ["--epochs", &epochs];
    let begin = Instant::now();
    // One image cannot be read, which is a failure to report.
    check(&all(&workshop.begin("whole", &epochs)), 1, "named above");
    let whole = begin.elapsed();

    let (run, mut killed, mut moments) = (workshop.run("killed"), 0, Vec::new());
    let state = run.join("state.safetensors");
    while killed < kills {
        let is_there = state.is_file();
        let mut child = start(&if is_there {
            workshop.resume("killed")
        } else {
            workshop.begin("killed", &[&epochs[..], &["--overwrite"]].concat())
        });
        // Any moment of the share of the whole that a kill comes to.
        let random = RandomState::new().build_hasher().finish();
        let moment = (whole / kills).mul_f64((random % 1000) as f64 / 1000.0);
        std::thread::sleep(moment);
        child.kill().expect("it can be killed");
        let status = child.wait().expect("it ends");
        if status.code().is_some() {
            // It was faster, and is done: another one is begun.
            check_same(&run, &workshop.run("whole"));
            std::fs::remove_dir_all(&run).expect("a run");
            continue;
        }
        killed += u32::from(is_there || state.is_file());
        moments.push(moment);
    }
    println!("killed {killed} times, after {moments:?} of a start; the whole takes {whole:?}");
    check(&all(&workshop.resume("killed")), 1, "named above");
    check_same(&run, &workshop.run("whole"));
    let left = std::fs::read_dir(&run).expect("a run").map(|entry| entry.expect("an entry").file_name());
    let left: Vec<_> = left.filter(|name| name.as_encoded_bytes().ends_with(b".tmp")).collect();
    assert!(left.is_empty(), "half-written files of the killed: {left:?}");
}

#[test]
fn a_run_that_is_interrupted_goes_on_from_the_next_batch() {
    let workshop = Workshop::new();
    check(&all(&workshop.begin("whole", &["--epochs", "4"])), 1, "named above");
    let run = workshop.run("stopped");
    let child = start(&workshop.begin("stopped", &["--epochs", "4"]));
    let begin = Instant::now();
    while !run.join("last.safetensors").is_file() && begin.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(2));
    }
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
    assert!(interrupted.success() && child.wait_with_output().is_ok());
    let output = check(&all(&workshop.resume("stopped")), 1, "resumed after ");
    assert!(String::from_utf8_lossy(&output.stdout).contains("finished after "), "{output:?}");
    check_same(&run, &workshop.run("whole"));

    // Done is done, and says so.
    let output = check(&all(&workshop.resume("stopped")), 0, "finished already: 4 of 4 epochs are done");
    assert!(String::from_utf8_lossy(&output.stdout).contains("last.safetensors"));
    check_same(&run, &workshop.run("whole"));
}

#[test]
fn a_finished_run_takes_more_epochs_where_the_rate_is_constant() {
    let workshop = Workshop::new();
    let constant =
        ["--set", "train.schedule={ warmup = { steps = 0, factor = 1.0 }, decay = \"constant\" }", "--epochs"];
    check(&all(&workshop.begin("long", &[&constant[..], &["3"]].concat())), 1, "named above");
    check(&all(&workshop.begin("run", &[&constant[..], &["2"]].concat())), 1, "named above");
    check(&[&all(&workshop.resume("run"))[..], &["--epochs", "3"]].concat(), 1, "epoch 3/3");
    let last = |name: &str| std::fs::read(workshop.run(name).join("last.safetensors")).expect("a model");
    assert!(last("run") == last("long"));
    check(&[&all(&workshop.resume("run"))[..], &["--epochs", "2"]].concat(), 2, "train.epochs: expected 3, found 2");
}

#[test]
fn another_run_is_refused() {
    let workshop = Workshop::new();
    check(&all(&workshop.begin("run", &["--epochs", "1"])), 1, "named above");
    let resume = workshop.resume("run");
    let record = std::fs::read_to_string(workshop.run("run").join("run.json")).expect("a record");
    assert!(record.contains("warning: 4 of 4 images to validate on are learned from too"), "{record}");
    let with = |more: &[&str], part: &str| {
        check(&[&all(&resume)[..], more].concat(), 2, part);
    };
    with(&["--batch", "2"], "train.batch: expected 1, found 2");
    with(&["--set", "loss.class.focal.gamma=1.5"], "loss.class.focal.gamma: expected 2.0, found 1.5");
    with(&["--epochs", "2"], "train.epochs: expected 1, found 2, and the learning rate of every step depends on it");
    with(&["--seed", "5"], "train.seed: expected 0, found 5");
    for option in ["--split", "--val-split", "--preset", "--weights", "--output", "--include-class"] {
        with(&[option, "x"], "cannot be used with");
    }
    check(&["train", "--output", "x"], 2, "--resume");
    check(&["train", "--data", "x"], 2, "--output");

    let state = workshop.run("run").join("state.safetensors");
    check(&["info", path(&state)], 2, "found the state of a training; its model is last.safetensors");
    check(&all(&workshop.begin("other", &["--weights", path(&state)])), 2, "found the state of a training");

    // The same data somewhere else is the same data; other data is not, wherever it lies.
    let moved = workshop.folder.path().join("moved");
    std::fs::rename(workshop.data(), &moved).expect("a folder");
    let more = ["--set", "train.seed=1"];
    with(&more, "the data of the run cannot be read; --data says where it lies now");
    with(&["--data", path(&moved), "--seed", "1"], "began:\n  train.seed: expected 0, found 1\n");
    std::fs::write(moved.join("images/a.bmp"), "other").expect("an image");
    with(
        &["--data", path(&moved), "--seed", "1"],
        "train data: images: expected 4, found 4 others (by name, size or length)",
    );

    let bytes = std::fs::read(&state).expect("a checkpoint");
    std::fs::write(&state, &bytes[..bytes.len() / 2]).expect("half of it");
    with(&[], "state.safetensors: cannot be gone on from: ");
    with(&[], "the command in its run.json begins it anew, with --overwrite");
    std::fs::remove_file(&state).expect("a file");
    with(&[], "state.safetensors: checkpoint to go on from: expected a file, found none: the run ended before");
    check(&["train", "--resume", path(&moved)], 2, "expected the folder of a run of train");
}
