//! Boxes, pyramid levels, anchors, box coding, matching and suppression for dense detectors; no tensors, no files.

mod bbox;
mod coder;
mod detection;
mod error;
mod generator;
mod level;
mod matcher;
mod nms;
mod pyramid;
mod size;

pub use bbox::BBox;
pub use coder::BoxCoder;
pub use detection::Detection;
pub use error::{AnchorError, PyramidError};
pub use generator::{AnchorConfig, AnchorGenerator, AnchorRounding, AnchorStride};
pub use level::PyramidLevel;
pub use matcher::{Assignment, Matcher, best_ious};
pub use nms::class_wise_nms;
pub use pyramid::Pyramid;
pub use size::ImageSize;
