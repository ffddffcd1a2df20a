//! What can go wrong with checkpoints.

use std::path::PathBuf;

/// A checkpoint that no training can go on from, or not this one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// There is none.
    #[error("{}: checkpoint to go on from: expected a file, found none", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file is damaged, or of another kind or version.
    #[error("{}: cannot be gone on from: {source}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<crate::Error>,
    },
    /// An entry is missing, or not what the configuration makes of it.
    #[error("checkpoint: {what}: expected {expected}, found {found}")]
    Content {
        /// Which.
        what: String,
        /// What belongs there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// Going on would give another result than a run that was never interrupted.
    #[error("the training that goes on differs from the one that began:\n  {}", differences.join("\n  "))]
    Changed {
        /// One line for each thing: what it began with, and what was found.
        differences: Vec<String>,
    },
}
