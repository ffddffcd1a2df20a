//! Which ground truth each anchor is trained toward.

use serde::{Deserialize, Serialize};

use crate::BBox;

/// Assigns ground truth to anchors by their IoU.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Matcher {
    /// An anchor whose best IoU is at least this is foreground.
    pub foreground_iou: f32,
    /// An anchor whose best IoU is less than this is background.
    pub background_iou: f32,
    /// Whether each ground truth keeps its best anchors whatever their IoU.
    pub allow_low_quality: bool,
}

impl Default for Matcher {
    fn default() -> Self {
        Self {
            foreground_iou: 0.5,
            background_iou: 0.4,
            allow_low_quality: true,
        }
    }
}

/// What an anchor is trained toward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Assignment {
    /// An object.
    Foreground {
        /// Its index in the ground truth.
        ground_truth_idx: usize,
    },
    /// No object.
    Background,
    /// Nothing: left out of the loss.
    Ignore,
}

impl Matcher {
    /// The assignment of each anchor.
    #[must_use]
    pub fn assign(&self, anchors: &[BBox], ground_truth: &[BBox]) -> Vec<Assignment> {
        let _ = (anchors, ground_truth);
        unimplemented!()
    }
}

/// The best IoU of each ground truth with any anchor.
#[must_use]
pub fn best_ious(anchors: &[BBox], ground_truth: &[BBox]) -> Vec<f32> {
    let _ = (anchors, ground_truth);
    unimplemented!()
}
