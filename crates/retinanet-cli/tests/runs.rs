//! Training as scripts see it: what is printed and where, runs that end early, runs beside each other.

mod flawed;
mod run;
mod window;

use flawed::{SMALL, write_data};
use run::{check, path};
use std::path::{Path, PathBuf};
use std::process::Output;

/// A data set and where runs go.
struct Workshop {
    folder: tempfile::TempDir,
}

impl Workshop {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write_data(folder.path());
        // All images of this set can be read.
        std::fs::remove_file(folder.path().join("images/broken.bmp")).expect("a file");
        let annotations = folder.path().join("annotations/instances_train.json");
        let text = std::fs::read_to_string(&annotations).expect("annotations");
        let mut document: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        document["images"].as_array_mut().expect("a list").retain(|image| image["file_name"] != "broken.bmp");
        document["annotations"].as_array_mut().expect("a list").retain(|a| a["image_id"] != 3 && a["id"] != 3);
        std::fs::write(annotations, document.to_string()).expect("annotations");
        Self { folder }
    }

    fn run(&self, name: &str) -> PathBuf {
        self.folder.path().join("runs").join(name)
    }

    fn arguments(&self, name: &str, more: &[&str]) -> Vec<String> {
        let (data, run) = (self.folder.path(), self.run(name));
        let fixed = ["train", "--data", path(data), "--output", path(&run), "--batch", "2", "--threads", "2"];
        let set = SMALL.iter().flat_map(|assignment| ["--set", assignment]);
        fixed.into_iter().chain(set).chain(more.iter().copied()).map(str::to_owned).collect()
    }

    #[track_caller]
    fn train(&self, name: &str, more: &[&str], code: i32, stderr_part: &str) -> Output {
        let arguments = self.arguments(name, more);
        check(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), code, stderr_part)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
}

#[test]
fn a_run_is_shown_in_plain_lines_and_kept_from_slips() {
    let workshop = Workshop::new();
    let scored = ["--epochs", "2", "--val-split", "train", "--set", "train.validate_every=1"];
    let output =
        workshop.train("a", &scored, 0, "training: 3 images, 2 epochs of 2 steps, batch 2, learning rate 0.0005");
    let stderr = text(&output.stderr);
    let epochs: Vec<&str> = stderr.lines().filter(|line| line.starts_with("epoch ")).collect();
    assert_eq!(epochs.len(), 2, "{stderr}");
    for part in ["epoch 2/2  class 0.", "  box ", "  AP ", "  AP50 ", " images/s", "waiting "] {
        assert!(epochs[1].contains(part), "{part:?} in {}", epochs[1]);
    }
    assert!(!stderr.chars().any(|character| character.is_control() && character != '\n'), "{stderr:?}");
    let stdout = text(&output.stdout);
    for part in ["finished after ", "2 epochs, 4 steps", "best", "last", "window", "report.html", "at most", "next: "] {
        assert!(stdout.contains(part), "{part:?} in {stdout}");
    }
    let record = json(&workshop.run("a").join("run.json"));
    assert_eq!((&record["status"], &record["data"][0]["split"]), (&"finished".into(), &"train".into()));
    assert_eq!(record["command_line"][1], "train");

    let last = workshop.run("a").join("last.safetensors");
    let before = std::fs::read(&last).expect("a checkpoint");
    let refused = workshop.train("a", &scored, 2, "--overwrite");
    assert!(text(&refused.stderr).contains("found a run (finished"), "{}", text(&refused.stderr));
    assert_eq!(std::fs::read(&last).expect("a checkpoint"), before);
    // What cannot start loses nothing either.
    workshop.train("a", &["--overwrite", "--val-split", "vall"], 2, "vall");
    workshop.train("a", &["--overwrite", "--weights", "nowhere.pth"], 2, "nowhere.pth");
    assert_eq!(std::fs::read(&last).expect("a checkpoint"), before);
    let silent = workshop.train("a", &["--overwrite", "--epochs", "1", "--progress", "none"], 0, "");
    assert!(!text(&silent.stderr).contains("epoch 1/1"), "{}", text(&silent.stderr));
    assert!(!workshop.run("a").join("best.safetensors").exists(), "of the run before");
}

#[test]
fn a_run_that_ends_early_and_a_model_of_averages_say_so() {
    let workshop = Workshop::new();
    let recipe =
        ["train.ema={}", "train.early_stopping.patience=1", "train.validate_every=1", "train.learning_rate=1e-9"];
    let recipe = recipe.iter().flat_map(|assignment| ["--set", assignment]);
    let more: Vec<&str> = recipe.chain(["--epochs", "5", "--val-split", "train"]).collect();
    let output = workshop.train("early", &more, 0, "ended after epoch 2 of 5");
    assert!(text(&output.stdout).contains("2 epochs"), "{}", text(&output.stdout));
    let report = std::fs::read_to_string(workshop.run("early").join("report.html")).expect("a report");
    assert!(report.contains("ended early, after 2 of 5 epochs"), "{report}");
    let info = check(&["info", path(&workshop.run("early").join("best.safetensors"))], 0, "");
    assert!(text(&info.stdout).contains("running average of the training's (train.ema)"), "{}", text(&info.stdout));
    workshop.train(
        "early",
        &[&more[..8], &["--overwrite"]].concat(),
        2,
        "train.early_stopping: expected a validation split",
    );
}

#[test]
fn a_run_that_fails_says_why_in_its_folder() {
    let workshop = Workshop::new();
    let hopeless = ["--epochs", "5", "--set", "train.learning_rate=1e9", "--set", "train.schedule.warmup.steps=0"];
    let output = workshop.train("failed", &hopeless, 2, "expected a finite number");
    let stderr = text(&output.stderr);
    for part in
        ["report.html", ".bmp", "largest gradients ", "too high: ", "of train.learning_rate=1000000000 at batch "]
    {
        assert!(stderr.contains(part), "{part:?} in {stderr}");
    }
    assert!(workshop.run("failed").join("state.safetensors").is_file(), "the checkpoint before");
    let record = json(&workshop.run("failed").join("run.json"));
    assert_eq!(record["status"], "failed");
    assert!(record["error"].as_str().is_some_and(|error| error.contains("expected a finite number")), "{record}");
    assert!(workshop.run("failed").join("report.html").is_file());
}

#[test]
#[cfg(unix)]
fn a_run_that_is_interrupted_is_whole() {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};
    let workshop = Workshop::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_retinanet"))
        .args(workshop.arguments("interrupted", &["--epochs", "100000"]))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let metrics = workshop.run("interrupted").join("last.safetensors");
    let begin = Instant::now();
    while !metrics.is_file() && begin.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
    assert!(killed.success() && child.wait().is_ok());
    let output = child.wait_with_output().expect("output");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("interrupted after "), "{}", text(&output.stdout));
    assert_eq!(json(&workshop.run("interrupted").join("run.json"))["status"], "interrupted");
    assert!(workshop.run("interrupted").join("report.html").is_file());
}

#[test]
fn runs_are_compared() {
    let workshop = Workshop::new();
    for (name, gamma) in [("a", "2.0"), ("b", "1.5")] {
        let gamma = format!("loss.class.focal.gamma={gamma}");
        workshop.train(name, &["--epochs", "1", "--val-split", "train", "--set", &gamma], 0, "");
    }
    let (a, b) = (workshop.run("a"), workshop.run("b"));
    let compared = text(&check(&["compare", path(&a), path(&b)], 0, "").stdout);
    let row = compared.lines().find(|line| line.starts_with("loss.class.focal.gamma")).expect("the difference");
    assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["loss.class.focal.gamma", "2.0", "1.5"]);
    assert!(
        !compared.contains("train.seed") && compared.contains("images/s") && compared.contains("window"),
        "{compared}"
    );

    let document: serde_json::Value =
        serde_json::from_slice(&check(&["compare", "--json", path(&a), path(&b)], 0, "").stdout).expect("one document");
    assert_eq!(document["configuration"][0]["key"], "loss.class.focal.gamma");
    assert_eq!(document["runs"][1]["status"], "finished");

    for (name, begin) in [("curves.png", "\u{fffd}PNG"), ("page.html", "<!")] {
        let output = workshop.run(name);
        check(&["compare", path(&a), path(&b), "--output", path(&output)], 0, name);
        let bytes = std::fs::read(output).expect("a file");
        assert!(String::from_utf8_lossy(&bytes).starts_with(begin), "{name}");
    }
    check(&["compare", path(&a), path(&b), "--output", "curves.gif"], 2, ".png or .html, found curves.gif");
    check(&["compare", path(&a), "nowhere"], 2, "nowhere: run folder: expected a folder with run.json");
    check(&["compare", path(&a), path(&a.join("last.safetensors"))], 2, "found a file");
    check(&["compare", path(&a)], 2, "RUN");
}
