//! Which ground truth each anchor is trained toward.

use serde::{Deserialize, Serialize};

use crate::BBox;
use crate::overlap::{AnchorBlock, BLOCK, block_overlaps};

/// Assigns ground truth to anchors by their IoU.
///
/// The defaults are the paper's and all references': foreground from 0.5, background below 0.4, ignored between, and
/// each ground truth keeps its best anchors.
///
/// Source: Lin et al. 2017, section 4; torchvision's `models/detection/_utils.py`, Detectron2's `modeling/matcher.py`,
/// from which a ground truth that overlaps no anchor differs: there it takes every anchor of IoU 0, here none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Matcher {
    /// An anchor whose best IoU is at least this is foreground, in `0..=1`.
    pub foreground_iou: f32,
    /// An anchor whose best IoU is below this, and below `foreground_iou`, is background, in `0..=foreground_iou`.
    pub background_iou: f32,
    /// Whether each ground truth keeps its best anchors, whatever their IoU.
    pub allow_low_quality: bool,
}

impl Default for Matcher {
    fn default() -> Self {
        Self { foreground_iou: 0.5, background_iou: 0.4, allow_low_quality: true }
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
    /// Nothing: the anchor is left out of the loss.
    Ignore,
}

impl Matcher {
    /// The assignment of each anchor, in the order of the anchors; all background where there is no ground truth.
    ///
    /// An anchor belongs to the ground truth of its best IoU, of equal ones the first. With `allow_low_quality` it is
    /// foreground also where its IoU with any ground truth is the best that this ground truth has with any anchor, ties
    /// included; it still belongs to its own best ground truth, which may be another one. Give the anchors of all levels
    /// at once: a ground truth's best anchor is the best of all.
    ///
    /// # Numerics
    /// Ties are equality in f32. An IoU of 0 never matches, so boxes that are empty or not finite match nothing, and an
    /// anchor that overlaps nothing is background whatever the thresholds. Memory is proportional to the anchors, not
    /// to their product with the ground truth.
    ///
    /// ```
    /// use retinanet_anchors::{Assignment, BBox, Matcher};
    ///
    /// let anchors = [BBox::new(0.0, 0.0, 10.0, 10.0), BBox::new(0.0, 0.0, 10.0, 30.0)];
    /// // IoU 0.5 with the first and 0.666 with the second.
    /// let ground_truth = [BBox::new(0.0, 0.0, 10.0, 20.0)];
    /// let foreground = Assignment::Foreground { ground_truth_idx: 0 };
    /// assert_eq!(Matcher::default().assign(&anchors, &ground_truth), [foreground, foreground]);
    /// let strict = Matcher { foreground_iou: 0.7, background_iou: 0.6, allow_low_quality: true };
    /// assert_eq!(strict.assign(&anchors, &ground_truth), [Assignment::Background, foreground]);
    /// ```
    #[must_use]
    pub fn assign(&self, anchors: &[BBox], ground_truth: &[BBox]) -> Vec<Assignment> {
        if ground_truth.is_empty() {
            return vec![Assignment::Background; anchors.len()];
        }
        let best = BestOverlaps::new(anchors, ground_truth);
        let mut assignments: Vec<Assignment> = best
            .of_anchors
            .iter()
            .map(|&Best { iou, ground_truth_idx }| {
                if iou > 0.0 && iou >= self.foreground_iou {
                    Assignment::Foreground { ground_truth_idx }
                } else if iou == 0.0 || iou < self.background_iou {
                    Assignment::Background
                } else {
                    Assignment::Ignore
                }
            })
            .collect();
        if self.allow_low_quality {
            best.for_each_low_quality(anchors, ground_truth, |anchor_idx| {
                let ground_truth_idx = best.of_anchors[anchor_idx].ground_truth_idx;
                assignments[anchor_idx] = Assignment::Foreground { ground_truth_idx };
            });
        }
        assignments
    }
}

/// The best IoU that each ground truth has with any anchor, in the order of the ground truth: how well anchors fit a
/// data set, before anything is trained.
///
/// 0 for a ground truth that overlaps no anchor, is empty or is not finite.
///
/// ```
/// use retinanet_anchors::{BBox, best_ious};
///
/// let anchors = [BBox::new(0.0, 0.0, 10.0, 10.0), BBox::new(0.0, 0.0, 10.0, 30.0)];
/// let ground_truth = [BBox::new(0.0, 0.0, 10.0, 15.0), BBox::new(50.0, 50.0, 60.0, 60.0)];
/// assert_eq!(best_ious(&anchors, &ground_truth), [10.0 / 15.0, 0.0]);
/// ```
#[must_use]
pub fn best_ious(anchors: &[BBox], ground_truth: &[BBox]) -> Vec<f32> {
    BestOverlaps::new(anchors, ground_truth).of_ground_truth
}

#[derive(Clone, Copy)]
struct Best {
    iou: f32,
    ground_truth_idx: usize,
}

/// What one pass over all pairs leaves behind.
struct BestOverlaps {
    of_anchors: Vec<Best>,
    of_ground_truth: Vec<f32>,
    /// `[blocks of anchors, ground truths]`, so that the second pass visits only blocks that hold a best anchor.
    of_blocks: Vec<f32>,
}

impl BestOverlaps {
    fn new(anchors: &[BBox], ground_truth: &[BBox]) -> Self {
        let mut of_anchors = Vec::with_capacity(anchors.len());
        let mut of_ground_truth = vec![0.0f32; ground_truth.len()];
        let mut of_blocks = Vec::with_capacity(anchors.len().div_ceil(BLOCK) * ground_truth.len());
        let mut ious = [0.0; BLOCK];
        for anchors in anchors.chunks(BLOCK) {
            let block = AnchorBlock::new(anchors);
            let mut best_iou = [0.0; BLOCK];
            let mut best_idx = [0u32; BLOCK];
            for (ground_truth_idx, bbox) in ground_truth.iter().enumerate() {
                let block_best = block_overlaps(&block, bbox, &mut ious);
                of_blocks.push(block_best);
                if block_best == 0.0 {
                    continue;
                }
                of_ground_truth[ground_truth_idx] = of_ground_truth[ground_truth_idx].max(block_best);
                for anchor_idx in 0..BLOCK {
                    // Strictly: of equal ones the first ground truth stays.
                    let better = ious[anchor_idx] > best_iou[anchor_idx];
                    best_iou[anchor_idx] = if better { ious[anchor_idx] } else { best_iou[anchor_idx] };
                    best_idx[anchor_idx] = if better { ground_truth_idx as u32 } else { best_idx[anchor_idx] };
                }
            }
            let best = best_iou.iter().zip(&best_idx).take(anchors.len());
            of_anchors.extend(best.map(|(&iou, &idx)| Best { iou, ground_truth_idx: idx as usize }));
        }
        Self { of_anchors, of_ground_truth, of_blocks }
    }

    /// Calls `f` with each anchor whose IoU with some ground truth is the best of that ground truth.
    fn for_each_low_quality(&self, anchors: &[BBox], ground_truth: &[BBox], mut f: impl FnMut(usize)) {
        let mut ious = [0.0; BLOCK];
        let blocks = anchors.chunks(BLOCK).zip(self.of_blocks.chunks(ground_truth.len()));
        for (block_idx, (anchors, block_bests)) in blocks.enumerate() {
            let mut block = None;
            let bests = ground_truth.iter().zip(block_bests).zip(&self.of_ground_truth);
            for ((bbox, &block_best), &best) in bests {
                // The IoUs are worked out again by the same instructions, so equality is exact.
                if best == 0.0 || block_best != best {
                    continue;
                }
                block_overlaps(block.get_or_insert_with(|| AnchorBlock::new(anchors)), bbox, &mut ious);
                let equal = ious.iter().take(anchors.len()).enumerate().filter(|&(_, &iou)| iou == best);
                equal.for_each(|(idx, _)| f(block_idx * BLOCK + idx));
            }
        }
    }
}
