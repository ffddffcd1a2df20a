//! The folder of a run: which file is where.

use super::error::{RunError, io_error};
use super::record::RunRecord;
use retinanet_annotations::{remove_abandoned, write_atomically};
use std::fs;
use std::path::{Path, PathBuf};

/// How the event files of a run begin and end; TensorBoard looks for the beginning.
pub(super) const EVENTS_PREFIX: &str = "events.out.tfevents.";
pub(super) const EVENTS_SUFFIX: &str = ".retinanet";

/// The names of the files that a run has one of.
const NAMES: [&str; 10] = [
    "run.json",
    "config.toml",
    "metrics.jsonl",
    "last.safetensors",
    "best.safetensors",
    "state.safetensors",
    "curves.png",
    "first_batch.png",
    "detections.png",
    "report.html",
];

/// What becomes of a run that is in the folder already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and the new run is refused.
    #[default]
    Keep,
    /// Its files are removed; other files in the folder stay.
    Overwrite,
}

/// The folder of a run. It need not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// The run folder at this path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The resolved configuration, TOML.
    pub fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// What was run, on which data and machine, and how it ended: a [`RunRecord`], JSON.
    pub fn record(&self) -> PathBuf {
        self.path.join("run.json")
    }

    /// One JSON object a line: see [`Metric`](super::Metric).
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// The detector after the last step.
    pub fn last(&self) -> PathBuf {
        self.path.join("last.safetensors")
    }

    /// The detector of the epoch with the best AP on the validation split.
    pub fn best(&self) -> PathBuf {
        self.path.join("best.safetensors")
    }

    /// What a training goes on from: a [`Checkpoint`](crate::Checkpoint).
    pub fn state(&self) -> PathBuf {
        self.path.join("state.safetensors")
    }

    /// Losses, learning rate and AP as a picture.
    pub fn curves(&self) -> PathBuf {
        self.path.join("curves.png")
    }

    /// The first batch as the network learned from it.
    pub fn first_batch(&self) -> PathBuf {
        self.path.join("first_batch.png")
    }

    /// Ground truth beside detections.
    pub fn detections(&self) -> PathBuf {
        self.path.join("detections.png")
    }

    /// Everything on one page.
    pub fn report(&self) -> PathBuf {
        self.path.join("report.html")
    }

    /// TensorBoard's event files, by name; none where the folder cannot be listed.
    pub fn events(&self) -> Vec<PathBuf> {
        let is_events = |path: &PathBuf| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            name.starts_with(EVENTS_PREFIX) && name.ends_with(EVENTS_SUFFIX)
        };
        let entries = fs::read_dir(&self.path).into_iter().flatten().filter_map(Result::ok);
        let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_events).collect();
        found.sort();
        found
    }

    /// The files of a run that are there.
    pub fn files(&self) -> Vec<PathBuf> {
        let named = NAMES.iter().map(|name| self.path.join(name)).filter(|path| path.exists());
        named.chain(self.events()).collect()
    }

    /// Makes the folder ready for a new run.
    ///
    /// # Errors
    /// It holds files of a run that are to be kept, or it cannot be made or cleared.
    pub fn prepare(&self, existing: Existing) -> Result<(), RunError> {
        self.check(existing)?;
        fs::create_dir_all(&self.path).map_err(io_error(&self.path))?;
        self.remove_abandoned();
        for path in self.files() {
            fs::remove_file(&path).map_err(io_error(&path))?;
        }
        Ok(())
    }

    /// Removes what was half written when a run was killed.
    pub(super) fn remove_abandoned(&self) {
        for name in NAMES {
            remove_abandoned(&self.path.join(name));
        }
    }

    /// Whether [`Self::prepare`] would refuse, with nothing changed: to be asked before data and weights are read.
    ///
    /// # Errors
    /// The path is a file, or the folder holds files of a run that are to be kept.
    pub fn check(&self, existing: Existing) -> Result<(), RunError> {
        if self.path.exists() && !self.path.is_dir() {
            let source = std::io::Error::new(std::io::ErrorKind::NotADirectory, "expected a folder, found a file");
            return Err(RunError::Io { path: self.path.clone(), source });
        }
        let files = self.files();
        if existing == Existing::Overwrite || files.is_empty() {
            return Ok(());
        }
        let found = match self.read_record() {
            Ok(record) => format!("a run ({}, started {})", record.status.word(), record.started),
            Err(_) => {
                let names = files.iter().filter_map(|path| path.file_name()).map(|name| name.to_string_lossy());
                names.collect::<Vec<_>>().join(", ")
            }
        };
        Err(RunError::Exists { path: self.path.clone(), found })
    }

    /// Reads `run.json`.
    ///
    /// # Errors
    /// It cannot be read, or is no record of a run.
    pub fn read_record(&self) -> Result<RunRecord, RunError> {
        let path = self.record();
        let bytes = fs::read(&path).map_err(io_error(&path))?;
        serde_json::from_slice(&bytes).map_err(|error| RunError::Io { path, source: error.into() })
    }

    /// Writes `run.json`, whole or not at all.
    pub(super) fn write_record(&self, record: &RunRecord) -> Result<(), RunError> {
        let text = serde_json::to_string_pretty(record).expect("numbers and strings have a form in JSON");
        self.write(&self.record(), text.as_bytes())
    }

    /// Writes a file, whole or not at all.
    pub(super) fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), RunError> {
        write_atomically(path, |file| file.write_all(bytes)).map_err(io_error(path))
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::RunStatus;
    use super::*;

    #[test]
    fn a_run_is_kept_unless_it_is_to_be_overwritten() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let run = RunFolder::new(folder.path().join("deep/run"));
        run.prepare(Existing::Keep)?;
        run.prepare(Existing::Keep)?;
        for name in ["best.safetensors", "events.out.tfevents.1.2.retinanet", "notes.txt", "events.out.tfevents.other"]
        {
            fs::write(run.path().join(name), name)?;
        }
        let message = run.prepare(Existing::Keep).expect_err("files of a run").to_string();
        assert!(message.contains("best.safetensors") && message.contains("events.out"), "{message}");
        assert!(!message.contains("notes.txt"), "{message}");

        run.write_record(&RunRecord { status: RunStatus::Finished, ..RunRecord::default() })?;
        let message = run.check(Existing::Keep).expect_err("a run").to_string();
        assert!(message.contains("found a run (finished, started "), "{message}");

        run.prepare(Existing::Overwrite)?;
        let mut left: Vec<_> =
            fs::read_dir(run.path())?.map(|entry| entry.map(|e| e.file_name())).collect::<Result<_, _>>()?;
        left.sort();
        assert_eq!(left, ["events.out.tfevents.other", "notes.txt"], "what is not a run's stays");

        let file = RunFolder::new(run.path().join("notes.txt"));
        for existing in [Existing::Keep, Existing::Overwrite] {
            let message = file.check(existing).expect_err("a file").to_string();
            assert!(message.contains("notes.txt: expected a folder, found a file"), "{message}");
        }
        Ok(())
    }
}
