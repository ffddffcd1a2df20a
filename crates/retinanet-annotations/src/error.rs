//! What stops the reading.

use std::path::{Path, PathBuf};

/// A set that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnnotationError {
    /// Nothing is there.
    #[error("{}: expected a file or folder, found nothing", path.display())]
    NotFound {
        /// What was asked for.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// JSON, XML or YAML that is none.
    #[error("{}: line {line}, column {column}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// From 1, or 0 where the parser does not tell.
        line: usize,
        /// From 1, or 0 where the parser does not tell.
        column: usize,
        /// The parser's words.
        message: String,
    },
    /// Well-formed, but not what such a file holds.
    #[error("{}: {what}: expected {expected}, found {found}", path.display())]
    Content {
        /// The file or folder.
        path: PathBuf,
        /// Which part of it.
        what: String,
        /// What should be there.
        expected: String,
        /// What is.
        found: String,
    },
    /// No format fits, or several sets do.
    #[error("{}: annotation format: expected {expected}, found {found}", path.display())]
    UnknownFormat {
        /// The file or folder.
        path: PathBuf,
        /// What was looked for.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The set has no such split.
    #[error("{}: split: expected {}, found {split:?}", path.display(), list(splits))]
    SplitNotFound {
        /// The set.
        path: PathBuf,
        /// What was asked for.
        split: String,
        /// The splits that there are.
        splits: Vec<String>,
    },
    /// Two parts that should make one set name one category differently.
    #[error("category {category_id}: name: expected {:?} in every split, found {:?}", names[0], names[1])]
    ClassConflict {
        /// Whose.
        category_id: i64,
        /// Both names.
        names: [String; 2],
    },
}

impl AnnotationError {
    pub(crate) fn content(path: &Path, what: &str, expected: impl ToString, found: impl ToString) -> Self {
        Self::Content {
            path: path.to_owned(),
            what: what.to_owned(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }
}

fn list(splits: &[String]) -> String {
    match splits {
        [] => "none, as the set is not divided".to_owned(),
        [only] => only.clone(),
        _ => format!("one of {}", splits.join(", ")),
    }
}
