//! Logits and deltas to detections.

use crate::Predictions;
use candle_core::{Result, Tensor};
use rayon::prelude::*;
use retinanet_anchors::{BBox, BoxCoder, Detection, ImageSize, Pyramid, class_wise_nms};
use serde::{Deserialize, Serialize};

/// Which predictions become detections; RetinaNet, section 4.1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PostProcessing {
    /// A (location, class) pair counts above this score; within [0, 1).
    pub score_threshold: f32,
    /// At most so many pairs a level, the best by logit.
    pub pre_nms_top_k: usize,
    /// Of two boxes of a class that overlap by more, the better stays.
    pub nms_iou_threshold: f32,
    /// At most so many detections an image.
    pub max_detections: usize,
}

impl Default for PostProcessing {
    /// torchvision's numbers; the paper keeps 100.
    fn default() -> Self {
        Self { score_threshold: 0.05, pre_nms_top_k: 1000, nms_iou_threshold: 0.5, max_detections: 300 }
    }
}

/// A (location, class) pair above the threshold.
#[derive(Clone, Copy)]
struct Candidate {
    logit: f32,
    /// Of the pair in the level, `anchor * K + class`.
    index: usize,
}

impl PostProcessing {
    /// Detections of every image, best first, in the frame of the resized image that `sizes` gives.
    ///
    /// In torchvision's order: threshold, top-k a level by logit over all pairs, decoding, clipping to the image, class-wise
    /// suppression over all levels, the first `max_detections`. As there, a box that clipping leaves without an area stays.
    ///
    /// # Errors
    /// The predictions are not f32 on the CPU or do not fit the anchors.
    pub fn detections(
        &self,
        predictions: &Predictions,
        anchors: &Pyramid<Vec<BBox>>,
        coder: &BoxCoder,
        sizes: &[ImageSize],
    ) -> Result<Vec<Vec<Detection>>> {
        let num_classes = predictions.class_logits.values()[0].dim(2)?;
        let flat = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
        let levels =
            predictions.class_logits.values().iter().zip(predictions.box_deltas.values()).zip(anchors.values());
        let levels: Vec<(Vec<f32>, Vec<f32>, &[BBox])> = levels
            .map(|((logits, deltas), anchors)| Ok((flat(logits)?, flat(deltas)?, &anchors[..])))
            .collect::<Result<_>>()?;

        let image = |(image_idx, &size): (usize, &ImageSize)| {
            let (mut boxes, mut scores, mut labels) = (Vec::new(), Vec::new(), Vec::new());
            for (logits, deltas, anchors) in &levels {
                let pairs = anchors.len() * num_classes;
                let (rows, _) = deltas[image_idx * anchors.len() * 4..][..anchors.len() * 4].as_chunks::<4>();
                for candidate in self.candidates(&logits[image_idx * pairs..][..pairs]) {
                    let anchor_idx = candidate.index / num_classes;
                    boxes.push(coder.decode(rows[anchor_idx], &anchors[anchor_idx]).clip(size));
                    scores.push(sigmoid(candidate.logit));
                    labels.push(candidate.index % num_classes);
                }
            }
            let mut kept = class_wise_nms(&boxes, &scores, &labels, self.nms_iou_threshold);
            kept.truncate(self.max_detections);
            kept.into_iter().map(|i| Detection { bbox: boxes[i], label: labels[i], score: scores[i] }).collect()
        };
        Ok(sizes.par_iter().enumerate().map(image).collect())
    }

    /// The pairs above the threshold, best first, ties by lower index, at most `pre_nms_top_k`.
    fn candidates(&self, logits: &[f32]) -> Vec<Candidate> {
        // Most logits are far below the threshold: they are compared as logits, with room for the rounding of the sigmoid,
        // and only what is near or above is put through it. A NaN is above nothing.
        let threshold = f64::from(self.score_threshold);
        let cut = (threshold / (1.0 - threshold)).ln() as f32;
        let cut = cut - 1e-3 * cut.abs().max(1.0);
        let mut candidates: Vec<Candidate> = Vec::new();
        for (chunk_idx, chunk) in logits.chunks(CHUNK).enumerate() {
            // One test a chunk, which vectorises: chunks without a candidate are the rule.
            if chunk.iter().fold(false, |any, &logit| any | (logit > cut)) {
                let indexed =
                    chunk.iter().enumerate().map(|(i, &logit)| Candidate { logit, index: chunk_idx * CHUNK + i });
                candidates.extend(indexed.filter(|c| c.logit > cut && sigmoid(c.logit) > self.score_threshold));
            }
        }
        let order = |a: &Candidate, b: &Candidate| b.logit.total_cmp(&a.logit).then(a.index.cmp(&b.index));
        if candidates.len() > self.pre_nms_top_k {
            if self.pre_nms_top_k > 0 {
                candidates.select_nth_unstable_by(self.pre_nms_top_k - 1, order);
            }
            candidates.truncate(self.pre_nms_top_k);
        }
        candidates.sort_unstable_by(order);
        candidates
    }
}

/// Logits tested together.
const CHUNK: usize = 64;

fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_above_the_threshold_best_first_and_few() {
        let post = PostProcessing { score_threshold: 0.5, pre_nms_top_k: 3, ..Default::default() };
        let mut logits = vec![-5.0; 200];
        for (index, logit) in [(3, 1.0), (70, 2.0), (71, 1.0), (150, 1.0), (199, 0.0), (10, f32::NAN)] {
            logits[index] = logit;
        }
        // sigmoid(0) = .5 is not above .5; the third of three equal logits falls to the limit.
        let indices: Vec<usize> = post.candidates(&logits).iter().map(|c| c.index).collect();
        assert_eq!(indices, [70, 3, 71]);
        assert!(PostProcessing { pre_nms_top_k: 0, ..post }.candidates(&logits).is_empty());
        let all = PostProcessing { score_threshold: 0.0, pre_nms_top_k: 1000, ..post };
        assert_eq!(all.candidates(&logits).len(), 199);
    }
}
