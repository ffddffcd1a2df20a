//! Boxes, pyramid levels, anchors, box coding, matching and suppression for dense detectors; no tensors, no files.
//!
//! ```
//! use retinanet_anchors::{
//!     AnchorConfig, AnchorGenerator, Assignment, BBox, BoxCoder, ImageSize, Matcher, Pyramid, PyramidLevel,
//! };
//!
//! let generator = AnchorGenerator::new(&AnchorConfig::default(), PyramidLevel::P3)?;
//! let grids = Pyramid::new(PyramidLevel::P3, [32, 16, 8, 4, 2].map(|side| ImageSize::new(side, side)).to_vec())?;
//! let anchors = generator.generate(ImageSize::new(256, 256), &grids)?.into_values().concat();
//! assert_eq!(anchors.len(), 9 * (32 * 32 + 16 * 16 + 8 * 8 + 4 * 4 + 2 * 2));
//!
//! let ground_truth = [BBox::new(100.0, 90.0, 140.0, 130.0)];
//! let assignments = Matcher::default().assign(&anchors, &ground_truth);
//! let foreground = assignments.iter().position(|a| matches!(a, Assignment::Foreground { .. })).unwrap();
//! let deltas = BoxCoder::default().encode(&ground_truth[0], &anchors[foreground]);
//! assert!(BoxCoder::default().decode(deltas, &anchors[foreground]).iou(&ground_truth[0]) > 0.999);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Boxes are `(x0, y0, x1, y1)` in continuous pixels, half-open, f32. Nothing here fails on numbers: what NaN, infinite
//! and empty boxes do is said at each function. Constructors, the generator and the name
//! of a level return errors; the rest cannot fail.

mod atss;
mod bbox;
mod coder;
mod config;
mod detection;
mod error;
mod generator;
mod level;
mod level_anchors;
mod matcher;
mod matching;
mod nms;
mod overlap;
mod pyramid;
mod score_threshold;
mod size;

pub use atss::Atss;
pub use bbox::BBox;
pub use coder::BoxCoder;
pub use config::{AnchorConfig, AnchorRounding, AnchorStride};
pub use detection::Detection;
pub use error::{AnchorError, PyramidError};
pub use generator::AnchorGenerator;
pub use level::PyramidLevel;
pub use level_anchors::LevelAnchors;
pub use matcher::{Assignment, Matcher, best_ious};
pub use matching::Matching;
pub use nms::{Suppression, class_wise_nms};
pub use pyramid::Pyramid;
pub use score_threshold::ScoreThreshold;
pub use size::ImageSize;
