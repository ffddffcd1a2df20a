//! A run folder whose training goes on.

use super::error::RunError;
use super::folder::RunFolder;
use super::known::Known;
use super::metrics::{Metrics, MetricsFile};
use super::record::{Resumption, RunStatus};
use super::recorder::RunRecorder;
use super::tensorboard::EventFile;
use super::time::Timestamp;
use crate::error::Result;
use crate::train::{Checkpoint, Training};

impl RunRecorder {
    /// Makes the folder of a run ready to be gone on with from its checkpoint.
    ///
    /// What was written after the checkpoint is taken back, since it happens again: metrics and events read as those of one
    /// run. The record keeps its beginning and says when it was resumed.
    ///
    /// # Errors
    /// The training is [another one](Training::check), and nothing is changed; the folder has no record of a run; or a file
    /// cannot be written.
    pub fn resume(training: &Training, checkpoint: &Checkpoint, command_line: Vec<String>) -> Result<Self> {
        training.check(checkpoint)?;
        let folder = RunFolder::new(&training.output);
        let mut record = folder.read_record()?;
        folder.remove_abandoned();
        let state = &checkpoint.state;
        let known = Known::of(state);
        let metrics = MetricsFile::resume(&folder.metrics(), |metric| known.has_metric(metric))?;
        let events = EventFile::resume(&folder, |value| known.has_value(value))?;
        folder.write(&folder.config(), training.config.to_toml().map_err(RunError::from)?.as_bytes())?;

        let resumed = Timestamp::now();
        record.resumptions.push(Resumption { command_line, step: state.step, stopped: record.updated, resumed });
        record.failures.truncate(state.failed.len());
        (record.status, record.updated) = (RunStatus::Running, resumed);
        folder.write_record(&record)?;
        let epochs = Metrics::read(&folder.metrics())?.epochs;
        let best_ap = epochs.iter().filter_map(|epoch| Some(epoch.score?.ap)).reduce(f64::max);
        Ok(Self::new(training, folder, record, metrics, events, best_ap))
    }
}
