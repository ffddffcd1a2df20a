//! What a loss can refuse.

use crate::{BACKGROUND, IGNORE};

/// Why a loss, or a selection of examples, was not computed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LossError {
    /// A tensor or slice has another extent than the others ask for.
    #[error("class loss: shape of {argument}: expected {expected}, found {found}")]
    Shape {
        /// Which argument.
        argument: &'static str,
        /// The extent, as a shape or a length.
        expected: String,
        /// What was given.
        found: String,
    },

    /// A tensor has an element type that the loss has no kernel for.
    #[error("class loss: dtype of {argument}: expected {expected}, found {found}")]
    DType {
        /// Which argument.
        argument: &'static str,
        /// The element types there are kernels for.
        expected: &'static str,
        /// What was given.
        found: &'static str,
    },

    /// An anchor's class is none of the codes and no class of the logits.
    #[error(
        "class loss: class of anchor {anchor} of image {image}: expected {IGNORE} (ignore), {BACKGROUND} (background) \
         or 0..{num_classes}, found {found}"
    )]
    Class {
        /// Index of the image in the batch.
        image: usize,
        /// Index of the anchor in the image, or in the level where levels are given one by one.
        anchor: usize,
        /// K.
        num_classes: usize,
        /// What was given.
        found: i64,
    },

    /// A hyper-parameter is out of its range.
    #[error("class loss: {name}: expected {expected}, found {found}")]
    Parameter {
        /// The field.
        name: &'static str,
        /// Its range.
        expected: String,
        /// What was given.
        found: String,
    },

    /// candle failed, for one because the tensors lie on a device that has no kernel.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// So that `?` works in functions that return candle's `Result`.
impl From<LossError> for candle_core::Error {
    fn from(error: LossError) -> Self {
        match error {
            LossError::Candle(error) => error,
            other => candle_core::Error::wrap(other),
        }
    }
}
