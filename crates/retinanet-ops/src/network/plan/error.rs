//! Why there is no plan.

use crate::kernels::ShapeError;
use std::fmt;

/// A network that cannot be planned, or images that a plan cannot take.
#[derive(Debug)]
#[non_exhaustive]
pub enum PlanError {
    /// Sizes do not fit.
    Shape {
        /// The layer or operation.
        place: String,
        /// What is wrong.
        source: ShapeError,
    },
    /// A parameter is missing, or is no f32 tensor on the CPU.
    Parameters(candle_core::Error),
    /// The feature maps of the images are more than memory has addresses for.
    TooLarge,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape { place, source } => write!(f, "{place}: {source}"),
            Self::Parameters(source) => source.fmt(f),
            Self::TooLarge => f.write_str("images: expected feature maps that fit in memory, found larger ones"),
        }
    }
}

impl std::error::Error for PlanError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Shape { source, .. } => Some(source),
            Self::Parameters(source) => Some(source),
            Self::TooLarge => None,
        }
    }
}

impl From<candle_core::Error> for PlanError {
    fn from(error: candle_core::Error) -> Self {
        Self::Parameters(error)
    }
}
