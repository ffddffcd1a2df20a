//! What cannot be scored.

/// Ground truth or detections that have no score.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// A detection of an image that the ground truth lacks: most likely the two are of different sets.
    #[error(
        "detection {detection_idx}: image id: expected one of the {num_images} of the ground truth, found {image_id}"
    )]
    UnknownImage {
        /// Position in the list of detections.
        detection_idx: usize,
        /// What it says.
        image_id: i64,
        /// How many there are.
        num_images: usize,
    },
    /// NaN, infinity, or a box so large that its area is.
    #[error("{place}: {what}: expected finite numbers, found {found}")]
    NotFinite {
        /// Which detection or annotation.
        place: String,
        /// Which of its numbers.
        what: &'static str,
        /// The numbers.
        found: String,
    },
    /// Two images or classes have the same id.
    #[error("ground truth: {what}: expected ids that differ, found {id} twice")]
    DuplicateId {
        /// Ids of what.
        what: &'static str,
        /// Which.
        id: i64,
    },
    /// An annotation of no class.
    #[error("{place}: class index: expected less than {num_classes}, found {class_idx}")]
    UnknownClass {
        /// Which annotation.
        place: String,
        /// What it says.
        class_idx: usize,
        /// How many there are.
        num_classes: usize,
    },
}
