//! What can be wrong with a weight file.

use super::check::Mismatch;
use std::io;
use std::path::{Path, PathBuf};

/// Weights that cannot be read, written or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The operating system refused.
    #[error("{}: {source}", file.display())]
    Io {
        /// Where.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is of no known format, cut, or contradicts itself.
    #[error("{}: {what}: expected {expected}, found {found}", file.display())]
    Malformed {
        /// Where.
        file: PathBuf,
        /// The part of the file.
        what: String,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The file asks for a function that loading tensors does not need. It was not called.
    #[error(
        "{}: {what}: refuses to call {function}: expected tensors and plain values as a state_dict() has them, \
         found a call",
        file.display()
    )]
    ForeignCall {
        /// Where.
        file: PathBuf,
        /// The part of the file.
        what: String,
        /// The function's module and name, as the file says.
        function: String,
    },
    /// The file was written by torch before 1.6 or with its old format asked for.
    #[error(
        "{}: format: expected the zip archive of torch 1.6 and newer, found torch's older format; \
         write it again in Python: \
         torch.save(torch.load(\"old.pth\", map_location=\"cpu\", weights_only=True), \"new.pth\")",
        file.display()
    )]
    OldTorchFormat {
        /// Where.
        file: PathBuf,
    },
    /// Names or shapes do not describe a RetinaNet.
    #[error("weights: {what}: expected {expected}, found {found}")]
    Layout {
        /// The tensor, or what was to be derived.
        what: String,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// Tensors are missing, unexpected or of another shape than the configuration says.
    #[error("weights: {0}")]
    Mismatch(Box<Mismatch>),
    /// A tensor cannot be built or read out.
    #[error("weights: {name}: {source}")]
    Tensor {
        /// The tensor's name.
        name: String,
        /// Why.
        source: candle_core::Error,
    },
}

/// An error in a file whose path the caller knows.
#[derive(Debug)]
pub(super) enum Fault {
    Io(io::Error),
    Malformed { what: String, expected: String, found: String },
    ForeignCall { what: String, function: String },
    OldTorchFormat,
    Tensor { name: String, source: candle_core::Error },
}

impl Fault {
    pub(super) fn malformed(what: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Malformed { what: what.into(), expected: expected.into(), found: found.into() }
    }

    pub(super) fn in_file(self, path: &Path) -> WeightsError {
        let file = path.to_owned();
        match self {
            Self::Io(source) => WeightsError::Io { file, source },
            Self::Malformed { what, expected, found } => WeightsError::Malformed { file, what, expected, found },
            Self::ForeignCall { what, function } => WeightsError::ForeignCall { file, what, function },
            Self::OldTorchFormat => WeightsError::OldTorchFormat { file },
            Self::Tensor { name, source } => WeightsError::Tensor { name, source },
        }
    }
}

impl From<io::Error> for Fault {
    fn from(source: io::Error) -> Self {
        Self::Io(source)
    }
}

/// A name as a message shows it: from a file, so bounded and without control characters.
pub(super) fn shown(name: &str) -> String {
    const LONGEST: usize = 120;
    let mut text: String = name.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if name.chars().nth(LONGEST).is_some() {
        text.push_str("...");
    }
    text
}
