//! A run as its folder tells.

use super::error::{RunError, io_error};
use super::folder::RunFolder;
use super::metrics::Metrics;
use super::record::{RunRecord, RunStatus};
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

/// A run as its folder tells, as far as its files go.
#[derive(Clone, Debug)]
pub struct Run {
    /// Where it lies.
    pub folder: RunFolder,
    /// `run.json`; none where it cannot be read.
    pub record: Option<RunRecord>,
    /// `config.toml`, as it is written: it may be of another version. None where it cannot be read.
    pub config: Option<toml::Table>,
    /// `metrics.jsonl`; empty where it cannot be read.
    pub metrics: Metrics,
    /// What is missing or unfinished, a sentence each.
    pub notes: Vec<String>,
}

impl Run {
    /// Reads a run folder. A file that is missing or cannot be read is noted.
    ///
    /// # Errors
    /// There is no folder, or it has none of the files of a run.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, RunError> {
        let folder = RunFolder::new(path.as_ref());
        let files = [folder.record(), folder.config(), folder.metrics()];
        if !folder.path().is_dir() || !files.iter().any(|file| file.is_file()) {
            let found = match fs::metadata(folder.path()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => "nothing there".to_owned(),
                Err(error) => error.to_string(),
                Ok(metadata) if metadata.is_dir() => "a folder without them".to_owned(),
                Ok(_) => "a file".to_owned(),
            };
            let expected = "a folder with run.json, config.toml or metrics.jsonl".to_owned();
            return Err(RunError::NotARun { path: folder.path().to_owned(), expected, found });
        }

        let mut notes = Vec::new();
        let record = noted(folder.read_record(), &mut notes);
        let config = noted(read_config(&folder), &mut notes);
        let metrics = noted(Metrics::read(&folder.metrics()), &mut notes).unwrap_or_default();
        let mut run = Self { folder, record, config, metrics, notes };
        run.notes.extend(run.state());
        Ok(run)
    }

    /// The name of its folder.
    pub fn name(&self) -> String {
        let path = self.folder.path();
        let named = path.file_name().map(|name| name.to_string_lossy().into_owned());
        // `runs/a/.` and `..` name no folder themselves.
        let resolved = || path.canonicalize().ok()?.file_name().map(|name| name.to_string_lossy().into_owned());
        named.or_else(resolved).unwrap_or_else(|| path.display().to_string())
    }

    /// How it is going, or how it ended, in words.
    pub fn status(&self) -> String {
        match self.record.as_ref().map(|record| &record.status) {
            None => "unknown".to_owned(),
            Some(RunStatus::Failed { error }) => format!("failed: {error}"),
            Some(status) => status.word().to_owned(),
        }
    }

    /// Time from its beginning to what was written last, without the pauses before it was resumed.
    pub fn duration(&self) -> Option<Duration> {
        let record = self.record.as_ref()?;
        let pauses = record.resumptions.iter().map(|resumption| resumption.resumed.since(resumption.stopped));
        Some(record.updated.since(record.started).saturating_sub(pauses.sum()))
    }

    /// What is to be known of how far it went.
    fn state(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(record) = &self.record {
            let epochs = table_usize(self.config.as_ref(), &["train", "epochs"]);
            let done = self.metrics.epochs.last().map_or(0, |epoch| epoch.epoch);
            let of = epochs.map_or(String::new(), |epochs| format!(" of {epochs}"));
            match &record.status {
                RunStatus::Finished if epochs.is_some_and(|epochs| done < epochs) => {
                    notes.push(format!("ended early, after {done}{of} epochs: the score got no better"));
                }
                RunStatus::Finished => {}
                RunStatus::Running => {
                    notes.push(format!(
                        "not finished: it goes on or was killed; {done}{of} epochs by {}",
                        record.updated
                    ));
                }
                RunStatus::Interrupted => notes.push(format!("interrupted after {done}{of} epochs")),
                RunStatus::Failed { error } => notes.push(format!("failed after {done}{of} epochs: {error}")),
            }
        }
        match self.metrics.unreadable_lines {
            0 => {}
            1 => notes.push("metrics.jsonl: 1 line cannot be read and is left out".to_owned()),
            count => notes.push(format!("metrics.jsonl: {count} lines cannot be read and are left out")),
        }
        notes
    }
}

/// A whole number of a configuration, at the end of these keys.
pub(super) fn table_usize(table: Option<&toml::Table>, keys: &[&str]) -> Option<usize> {
    let (last, parents) = keys.split_last()?;
    let table = parents.iter().try_fold(table?, |table, key| table.get(*key)?.as_table())?;
    usize::try_from(table.get(*last)?.as_integer()?).ok()
}

fn read_config(folder: &RunFolder) -> Result<toml::Table, RunError> {
    let path = folder.config();
    let text = fs::read_to_string(&path).map_err(io_error(&path))?;
    toml::from_str(&text).map_err(|error| io_error(path)(io::Error::new(io::ErrorKind::InvalidData, error)))
}

fn noted<T>(result: Result<T, RunError>, notes: &mut Vec<String>) -> Option<T> {
    result.map_err(|error| notes.push(format!("not read: {error}"))).ok()
}
