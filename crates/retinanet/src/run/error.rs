//! What can go wrong with run folders.

use std::path::PathBuf;

/// A run folder that cannot be made or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The folder holds a run already.
    #[error("{}: folder of a new run: expected none of a run's files, found {found}", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
        /// The run that is there.
        found: String,
    },
    /// There is no run to read.
    #[error("{}: run folder: expected {expected}, found {found}", path.display())]
    NotARun {
        /// The path that was given.
        path: PathBuf,
        /// What a run folder has.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A file or folder cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A picture cannot be made.
    #[error("{}: {source}", path.display())]
    Draw {
        /// The picture's file.
        path: PathBuf,
        /// Why.
        source: Box<retinanet_draw::DrawError>,
    },
    /// The configuration cannot be written down.
    #[error(transparent)]
    Config(#[from] crate::ConfigError),
}

/// Names the file or folder of a system's error.
pub(super) fn io_error(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> RunError {
    let path = path.into();
    move |source| RunError::Io { path, source }
}
