//! What a training leaves behind: the run folder, written while it runs and read back to be looked at and compared.
//!
//! | file | holds |
//! |---|---|
//! | `config.toml` | the resolved configuration |
//! | `run.json` | a [`RunRecord`]: command line, version, data, machine, how it ended |
//! | `metrics.jsonl` | a [`Metric`] a line: losses, rates and scores over the steps and epochs |
//! | `events.out.tfevents.*` | the same and the pictures, for TensorBoard |
//! | `state.safetensors` | what a training goes on from: a [`Checkpoint`](crate::Checkpoint) |
//! | `last.safetensors`, `best.safetensors` | the detector after the last step, and of the epoch with the best AP |
//! | `curves.png`, `first_batch.png`, `detections.png` | losses and scores; what is learned from; what is found |
//! | `report.html` | all of it on one page that needs no network |
//!
//! ```no_run
//! use retinanet::run::Run;
//!
//! let run = Run::read("runs/mine")?;
//! if let Some(best) = run.metrics.best() {
//!     println!("{} of {}: AP {:.3} at epoch {}", run.name(), run.status(), best.ap().unwrap_or(0.0), best.epoch);
//! }
//! # Ok::<(), retinanet::run::RunError>(())
//! ```

mod advice;
mod append;
mod comparison;
mod curves;
mod error;
mod folder;
mod known;
mod machine;
mod metrics;
mod pictures;
mod reading;
mod record;
mod recorder;
mod report;
mod resuming;
mod tensorboard;
mod time;
mod unit;

pub(crate) use comparison::configuration_differences;
pub use comparison::{ComparedRun, Comparison, Difference, Quantity};
pub use error::RunError;
pub use folder::{Existing, RunFolder};
pub use machine::{Machine, peak_resident_bytes, resident_bytes};
pub use metrics::{EpochMetrics, LoadingMetrics, Metric, Metrics, StepMetrics};
pub use reading::Run;
pub use record::{DataSource, FirstBatchRecord, Messages, Resumption, RunRecord, RunStatus, SplitRecord, SplitRole};
pub use recorder::{RunDescription, RunRecorder};
pub use tensorboard::{EncodedPicture, EventFile, LoggedValue, read_events};
pub use time::Timestamp;
pub use unit::Unit;
