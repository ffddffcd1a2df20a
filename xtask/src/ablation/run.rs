//! One training and its score, kept beside it so that it is done once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::plan::Variant;
use crate::peers::{Ours, text};
use crate::results::write_whole;

/// A data set, and what its runs are called.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Data {
    pub(super) name: String,
    pub(super) path: PathBuf,
}

impl Data {
    /// `DIR`, or `NAME=DIR`.
    pub(super) fn parse(argument: &str) -> Result<Self> {
        let (name, path) = match argument.split_once('=') {
            Some((name, path)) => (name.to_string(), PathBuf::from(path)),
            None => {
                let path = PathBuf::from(argument);
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
                (name.with_context(|| format!("--data: expected a folder with a name, found {argument}"))?, path)
            }
        };
        let is_plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if !is_plain || name.starts_with('.') {
            bail!("--data: expected letters, digits, - and _ in a name, found {name:?}; NAME=DIR gives it another");
        }
        if !path.is_dir() {
            bail!("--data: expected a folder, found none at {}", path.display());
        }
        Ok(Self { name, path })
    }
}

/// What all runs have in common.
pub(super) struct Campaign {
    pub(super) ours: Ours,
    /// Where the runs are kept.
    pub(super) folder: PathBuf,
    /// None for the preset's.
    pub(super) epochs: Option<usize>,
    /// The split that is scored.
    pub(super) split: String,
    /// The commit that runs are of from now on.
    pub(super) commit: String,
}

/// What came of a training.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    /// AP, AP50 and AP75 in percent.
    Score([f64; 3]),
    /// The loss stopped being a number.
    Diverged(String),
}

/// A run that is done.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Done {
    pub(super) seed: usize,
    pub(super) outcome: Outcome,
    /// The commit that it was trained with.
    pub(super) commit: String,
}

impl Campaign {
    /// The folder of a run.
    pub(super) fn run_folder(&self, data: &Data, variant: &Variant, seed: usize) -> PathBuf {
        self.folder.join(&data.name).join(variant.name).join(seed.to_string())
    }

    /// Trains and scores, unless that was done before with the same arguments.
    pub(super) fn run(&self, data: &Data, variant: &Variant, seed: usize) -> Result<Done> {
        let folder = self.run_folder(data, variant, seed);
        let train = self.train_arguments(data, variant, seed, &folder);
        let result = folder.join("ablation.json");
        if let Some(done) = read(&result, &train, &self.split)? {
            return Ok(done);
        }
        let outcome =
            self.train(&train)?.map_or_else(|| self.score(data, &folder), |error| Ok(Outcome::Diverged(error)))?;
        let done = Done { seed, outcome, commit: self.commit.clone() };
        write_whole(&result, &format!("{:#}\n", to_json(&done, &train, &self.split)))?;
        Ok(done)
    }

    fn train_arguments(&self, data: &Data, variant: &Variant, seed: usize, folder: &Path) -> Vec<String> {
        let path = |path: &Path| path.display().to_string();
        let mut arguments =
            ["train", "--preset", "small_r18", "--split", "train", "--progress", "plain", "--overwrite"]
                .map(str::to_string)
                .to_vec();
        arguments.extend(["--data".to_string(), path(&data.path), "--output".to_string(), path(folder)]);
        arguments.extend(["--seed".to_string(), seed.to_string()]);
        if let Some(epochs) = self.epochs {
            arguments.extend(["--epochs".to_string(), epochs.to_string()]);
        }
        for assignment in variant.assignments {
            arguments.extend(["--set".to_string(), (*assignment).to_string()]);
        }
        arguments
    }

    /// None, or why the loss stopped being a number.
    fn train(&self, arguments: &[String]) -> Result<Option<String>> {
        let mut command = self.ours.retinanet(arguments);
        println!("{}", text(&command));
        let output =
            command.stdout(Stdio::null()).output().with_context(|| format!("{}: could not start", text(&command)))?;
        // 1: some images cannot be used, and were named.
        if matches!(output.status.code(), Some(0 | 1)) {
            return Ok(None);
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        let error = errors.lines().find_map(|line| line.strip_prefix("error: ")).unwrap_or("no message").to_string();
        if error.contains("expected a finite number") || error.contains("expected finite numbers") {
            return Ok(Some(error));
        }
        bail!("{}: {}: {error}", text(&command), output.status)
    }

    fn score(&self, data: &Data, folder: &Path) -> Result<Outcome> {
        let model = folder.join("last.safetensors").display().to_string();
        let data = data.path.display().to_string();
        let score = json_of(self.ours.retinanet(
            &["eval", "--model", &model, "--data", &data, "--split", &self.split, "--json"].map(str::to_string),
        ))?;
        let percent = |key: &str| {
            let value = score[key].as_f64().filter(|value| *value >= 0.0);
            value
                .map(|value| 100.0 * value)
                .with_context(|| format!("eval: {key}: expected a score, found {}", score[key]))
        };
        Ok(Outcome::Score([percent("AP")?, percent("AP50")?, percent("AP75")?]))
    }

    /// The cumulative losses of a model as JSON; the picture is written.
    pub(super) fn losses(&self, data: &Data, folder: &Path, gammas: &[&str], picture: &Path) -> Result<Value> {
        let path = |path: &Path| path.display().to_string();
        let mut arguments = vec!["losses".to_string(), "--model".to_string(), path(&folder.join("last.safetensors"))];
        arguments.extend(["--data".to_string(), path(&data.path), "--split".to_string(), self.split.clone()]);
        arguments.extend(["--json".to_string(), "--output".to_string(), path(picture)]);
        arguments.extend(gammas.iter().flat_map(|gamma| ["--gamma".to_string(), (*gamma).to_string()]));
        json_of(self.ours.retinanet(&arguments))
    }
}

/// What a command prints as JSON; exit code 1 is images that could not be read.
fn json_of(mut command: Command) -> Result<Value> {
    let output = command.output().with_context(|| format!("{}: could not start", text(&command)))?;
    if !matches!(output.status.code(), Some(0 | 1)) {
        let errors = String::from_utf8_lossy(&output.stderr);
        let error = errors.lines().find(|line| line.starts_with("error")).unwrap_or("no message");
        bail!("{}: {}: {error}", text(&command), output.status);
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("{}: not JSON", text(&command)))
}

fn to_json(done: &Done, train: &[String], split: &str) -> Value {
    let mut document = json!({ "train": train, "split": split, "seed": done.seed, "commit": done.commit });
    match &done.outcome {
        Outcome::Score([ap, ap50, ap75]) => document["score"] = json!({ "AP": ap, "AP50": ap50, "AP75": ap75 }),
        Outcome::Diverged(error) => document["diverged"] = error.as_str().into(),
    }
    document
}

/// The run of a file, if it is there and of these arguments.
fn read(path: &Path, train: &[String], split: &str) -> Result<Option<Done>> {
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(path).with_context(|| format!("{}: could not read", path.display()))?;
    let document: Value = serde_json::from_str(&text).with_context(|| format!("{}: not JSON", path.display()))?;
    if document["train"] != json!(train) || document["split"] != split {
        return Ok(None);
    }
    Ok(from_json(&document))
}

fn from_json(document: &Value) -> Option<Done> {
    let outcome = match document["diverged"].as_str() {
        Some(error) => Outcome::Diverged(error.to_string()),
        None => {
            let percent = |key: &str| document["score"][key].as_f64();
            Outcome::Score([percent("AP")?, percent("AP50")?, percent("AP75")?])
        }
    };
    let seed = usize::try_from(document["seed"].as_u64()?).ok()?;
    Some(Done { seed, outcome, commit: document["commit"].as_str()?.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_known_again_by_its_arguments() {
        let words = |text: &str| text.split(' ').map(str::to_string).collect::<Vec<_>>();
        let path = std::env::temp_dir().join(format!("xtask-ablation-{}.json", std::process::id()));
        for outcome in [Outcome::Score([30.0, 50.5, 20.25]), Outcome::Diverged("step 3: loss".to_string())] {
            let done = Done { seed: 2, outcome, commit: "abc".to_string() };
            write_whole(&path, &to_json(&done, &words("train a"), "val").to_string()).expect("written");
            assert_eq!(read(&path, &words("train a"), "val").expect("readable"), Some(done));
            assert_eq!(read(&path, &words("train b"), "val").expect("readable"), None);
            assert_eq!(read(&path, &words("train a"), "test").expect("readable"), None);
        }
        fs::remove_file(&path).expect("removed");
        assert_eq!(read(&path, &words("train a"), "val").expect("nothing"), None);
    }

    #[test]
    fn data_has_the_name_of_its_folder_or_another() {
        let folder = std::env::temp_dir();
        let named = Data::parse(&format!("cells={}", folder.display())).expect("a folder");
        assert_eq!(named, Data { name: "cells".to_string(), path: folder.clone() });
        for (argument, part) in [
            (format!("../x={}", folder.display()), "letters, digits"),
            (format!("{}/nowhere", folder.display()), "found none at"),
            ("..".to_string(), "a folder with a name"),
        ] {
            let message = Data::parse(&argument).expect_err(&argument).to_string();
            assert!(message.contains(part), "{argument}: {message}");
        }
    }
}
