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
    /// A class was asked for by a name that the set does not have.
    #[error(
        "classes: name: expected one of {}, found {name:?}{}",
        quoted_list(classes),
        nearest.as_ref().map_or(String::new(), |nearest| format!("; did you mean {nearest:?}?"))
    )]
    UnknownClass {
        /// What was asked for.
        name: String,
        /// The most similar name, where one is similar.
        nearest: Option<String>,
        /// The names that there are.
        classes: Vec<String>,
    },
    /// A class should get two names.
    #[error("classes: new name of {name:?}: expected one, found {:?} and {:?}", names[0], names[1])]
    RenamedTwice {
        /// Whose.
        name: String,
        /// Both names.
        names: [String; 2],
    },
    /// Every class is left out.
    #[error("classes: selection: expected at least one of {} to be left, found none", quoted_list(classes))]
    NoClassLeft {
        /// The names that there were.
        classes: Vec<String>,
    },
    /// A part of a set is drawn that is none.
    #[error("val fraction: expected more than 0 and less than 1, found {found}")]
    ValFraction {
        /// What was asked for.
        found: f64,
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
        [] => "train or val, which are drawn as the set is not divided, or all".to_owned(),
        [only] => only.clone(),
        _ => format!("one of {}", splits.join(", ")),
    }
}

/// The names of thousands of classes are no help.
fn quoted_list(names: &[String]) -> String {
    const SHOWN: usize = 30;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("{name:?}")).collect();
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}
