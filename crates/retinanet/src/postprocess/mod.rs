//! Logits and deltas to detections.
//!
//! In two steps, so that a network may leave out what the first makes needless: the candidates of a level need its class
//! logits alone, and the detections of an image need the box deltas at the candidates alone.

mod selection;

use crate::Predictions;
use candle_core::{Layout, Result, Storage, Tensor};
use rayon::prelude::*;
use retinanet_anchors::{BBox, BoxCoder, Detection, ImageSize, LevelAnchors, Pyramid, Suppression};
use selection::Selection;
use serde::{Deserialize, Serialize};

/// Which predictions become detections; RetinaNet, section 4.1.
///
/// ```
/// use retinanet::PostProcessing;
/// use retinanet_anchors::{BBox, ImageSize};
///
/// let post = PostProcessing { score_threshold: 0.5, ..PostProcessing::default() };
/// // Two anchors, three classes; sigmoid(2) = .881, sigmoid(1) = .731.
/// let level = post.candidates(&[-4.0, 1.0, -3.0, -5.0, 2.0, -2.0], 3);
/// assert_eq!((level[0].anchor_idx, level[0].label, level[1].anchor_idx), (1, 1, 0));
/// let boxes = [BBox::new(0.0, 0.0, 9.0, 9.0), BBox::new(0.0, 0.0, 10.0, 10.0)];
/// let found = post.finish(&[level], |_, anchor_idx| boxes[anchor_idx], ImageSize::new(20, 8));
/// assert_eq!((found.len(), found[0].bbox), (1, BBox::new(0.0, 0.0, 10.0, 8.0)));
/// ```
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
    /// When boxes are clipped to the image.
    pub borders: Borders,
}

/// When boxes are clipped to the image, and what becomes of those that have no area then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Borders {
    /// Clipped, then suppressed; boxes without an area stay. torchvision.
    #[default]
    Torchvision,
    /// Suppressed, then clipped; of the best `max_detections`, those without an area go. Detectron2.
    Detectron2,
    /// Clipped, those without an area dropped, then suppressed. MMDetection.
    Mmdetection,
}

impl Default for PostProcessing {
    /// torchvision's numbers; the paper keeps 100.
    fn default() -> Self {
        Self {
            score_threshold: 0.05,
            pre_nms_top_k: 1000,
            nms_iou_threshold: 0.5,
            max_detections: 300,
            borders: Borders::Torchvision,
        }
    }
}

/// An anchor and a class whose score passes the threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The class logit.
    pub logit: f32,
    /// The anchor in its level, 0..R, in the order (y, x, anchor).
    pub anchor_idx: usize,
    /// The class, 0..K.
    pub label: usize,
}

impl Candidate {
    /// sigmoid(logit)
    #[must_use]
    pub fn score(&self) -> f32 {
        sigmoid(self.logit)
    }
}

impl PostProcessing {
    /// The candidates of one level of one image: pairs of an anchor and a class above the threshold, best first, ties by
    /// the lower anchor and then class, at most `pre_nms_top_k`. Uses the threads of the pool it is called in.
    ///
    /// # Shapes
    /// - `class_logits`: `[R, K]`
    ///
    /// # Numerics
    /// The same for any number of threads. Logits are compared with the logit of the threshold; only those whose sigmoid
    /// rounding could put on either side of it are put through a sigmoid. NaN is above nothing.
    ///
    /// # Panics
    /// There are logits, and `num_classes` is 0.
    #[must_use]
    pub fn candidates(&self, class_logits: &[f32], num_classes: usize) -> Vec<Candidate> {
        let part = |(part_idx, logits): (usize, &[f32])| {
            let mut selection = Selection::new(self.score_threshold, self.pre_nms_top_k);
            selection.scan(logits, part_idx * PART);
            selection
        };
        let parts = class_logits.par_chunks(PART).enumerate().map(part);
        let best = parts.reduce_with(Selection::join).map(Selection::into_best).unwrap_or_default();
        let candidate = |pair: selection::Pair| Candidate {
            logit: pair.logit,
            anchor_idx: pair.index / num_classes,
            label: pair.index % num_classes,
        };
        best.into_iter().map(candidate).collect()
    }

    /// The detections of one image, best first, from the candidates of its levels.
    ///
    /// Class-wise suppression over all levels, the first `max_detections`, and clipping to the image where
    /// [`borders`](Self::borders) has it. Ties keep the order of the levels.
    ///
    /// `bbox_of(level_idx, anchor_idx)` is the decoded box of an anchor; it is asked for candidates alone, and only until
    /// there are enough detections.
    #[must_use]
    pub fn finish(
        &self,
        levels: &[Vec<Candidate>],
        bbox_of: impl Fn(usize, usize) -> BBox,
        size: ImageSize,
    ) -> Vec<Detection> {
        let all = levels.iter().enumerate().flat_map(|(level_idx, level)| level.iter().map(move |c| (level_idx, c)));
        let all: Vec<(usize, &Candidate)> = all.collect();
        // The best score first, the first of equal ones first: scores are not negative, so their bits have their order. A
        // stable sort finds that each level is in order already.
        let mut order: Vec<(u32, u32)> =
            (0u32..).zip(&all).map(|(position, (_, candidate))| (!candidate.score().to_bits(), position)).collect();
        order.sort();

        let mut suppression = Suppression::new(self.nms_iou_threshold);
        let detections = order.into_iter().filter_map(|(inverted, position)| {
            let (level_idx, candidate) = all[position as usize];
            let decoded = bbox_of(level_idx, candidate.anchor_idx);
            let bbox = decoded.clip(size);
            let keeps = match self.borders {
                Borders::Torchvision => suppression.keeps(&bbox, candidate.label),
                Borders::Detectron2 => suppression.keeps(&decoded, candidate.label),
                Borders::Mmdetection => bbox.area() > 0.0 && suppression.keeps(&bbox, candidate.label),
            };
            keeps.then(|| Detection { bbox, label: candidate.label, score: f32::from_bits(!inverted) })
        });
        let detections = detections.take(self.max_detections);
        match self.borders {
            Borders::Detectron2 => detections.filter(|detection| detection.bbox.area() > 0.0).collect(),
            Borders::Torchvision | Borders::Mmdetection => detections.collect(),
        }
    }

    /// Detections of every image, best first, in the frame of the resized image that `sizes` gives.
    ///
    /// # Errors
    /// The predictions are not f32, not contiguous or not on the CPU.
    ///
    /// # Panics
    /// The predictions have fewer anchors than `anchors`, or fewer images than `sizes`.
    pub fn detections(
        &self,
        predictions: &Predictions,
        anchors: &Pyramid<LevelAnchors<'_>>,
        coder: &BoxCoder,
        sizes: &[ImageSize],
    ) -> Result<Vec<Vec<Detection>>> {
        let num_classes = predictions.class_logits.values()[0].dim(2)?;
        // The guards keep the storages readable while their slices are in use.
        let class_logits: Vec<_> = predictions.class_logits.values().iter().map(Tensor::storage_and_layout).collect();
        let box_deltas: Vec<_> = predictions.box_deltas.values().iter().map(Tensor::storage_and_layout).collect();
        let class_logits = class_logits.iter().map(|(storage, layout)| slice(storage, layout));
        let box_deltas = box_deltas.iter().map(|(storage, layout)| slice(storage, layout));
        let (class_logits, box_deltas) =
            (class_logits.collect::<Result<Vec<_>>>()?, box_deltas.collect::<Result<Vec<_>>>()?);

        let image = |(image_idx, &size): (usize, &ImageSize)| {
            let level = |(logits, anchors): (&&[f32], &LevelAnchors<'_>)| {
                let pairs = anchors.len() * num_classes;
                self.candidates(&logits[image_idx * pairs..][..pairs], num_classes)
            };
            let candidates: Vec<Vec<Candidate>> = class_logits.iter().zip(anchors.values()).map(level).collect();
            let bbox_of = |level_idx: usize, anchor_idx: usize| {
                let anchors = &anchors.values()[level_idx];
                let anchor = anchors.get(anchor_idx).expect("a candidate is of an anchor of its level");
                let rows = box_deltas[level_idx].as_chunks::<4>().0;
                coder.decode(rows[image_idx * anchors.len() + anchor_idx], &anchor)
            };
            self.finish(&candidates, bbox_of, size)
        };
        Ok(sizes.par_iter().enumerate().map(image).collect())
    }
}

/// The values of a contiguous tensor, where they are.
fn slice<'a>(storage: &'a Storage, layout: &Layout) -> Result<&'a [f32]> {
    let Storage::Cpu(storage) = storage else {
        candle_core::bail!("post-processing: device: expected the CPU, found another")
    };
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => candle_core::bail!("post-processing: layout: expected contiguous, found {layout:?}"),
    }
}

fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

/// Logits that one task scans: 1 MiB of them.
const PART: usize = 1 << 18;

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition: every pair through a sigmoid, all sorted.
    fn by_definition(post: &PostProcessing, logits: &[f32], num_classes: usize) -> Vec<Candidate> {
        let pair =
            |(i, &logit): (usize, &f32)| Candidate { logit, anchor_idx: i / num_classes, label: i % num_classes };
        let mut all: Vec<Candidate> =
            logits.iter().enumerate().map(pair).filter(|c| c.score() > post.score_threshold).collect();
        all.sort_by(|a, b| b.logit.partial_cmp(&a.logit).expect("no NaN is above a threshold"));
        all.truncate(post.pre_nms_top_k);
        all
    }

    /// Numbers in [0, 1) from a counter.
    fn uniform(i: usize) -> f32 {
        ((i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f32 / (1 << 24) as f32
    }

    #[test]
    fn candidates_are_above_the_threshold_best_first_and_few() {
        let post = PostProcessing { score_threshold: 0.5, pre_nms_top_k: 3, ..Default::default() };
        let mut logits = vec![-5.0; 200];
        for (index, logit) in [(3, 1.0), (70, 2.0), (71, 1.0), (150, 1.0), (199, 0.0), (10, f32::NAN)] {
            logits[index] = logit;
        }
        // sigmoid(0) = .5 is not above .5; the third of three equal logits falls to the limit.
        let found = |post: PostProcessing| -> Vec<usize> {
            post.candidates(&logits, 2).iter().map(|c| c.anchor_idx * 2 + c.label).collect()
        };
        assert_eq!(found(post), [70, 3, 71]);
        assert!(found(PostProcessing { pre_nms_top_k: 0, ..post }).is_empty());
        assert_eq!(found(PostProcessing { score_threshold: 0.0, pre_nms_top_k: 1000, ..post }).len(), 199);
        assert!(post.candidates(&[], 0).is_empty());
    }

    #[test]
    fn candidates_are_those_of_the_definition() {
        let num_classes = 7;
        // Several parts; few, many and nearly all above the threshold; many equal logits; some NaN and infinite ones.
        let len = (2 * PART + 1000).next_multiple_of(num_classes);
        let coarse = |i: usize| (uniform(i) * 64.0).floor() / 8.0 - 4.0;
        let fine = |i: usize| uniform(i) * 8.0 - 6.0;
        for value in [&coarse as &dyn Fn(usize) -> f32, &fine] {
            let mut logits: Vec<f32> = (0..len).map(value).collect();
            logits[PART - 1] = f32::NAN;
            logits[PART] = f32::INFINITY;
            logits[PART + 1] = f32::NEG_INFINITY;
            logits[PART + 2] = -0.0;
            for (score_threshold, pre_nms_top_k) in [(0.05, 1000), (0.8, 1000), (0.0, 1), (0.87, 100_000), (0.02, 50)] {
                let post = PostProcessing { score_threshold, pre_nms_top_k, ..Default::default() };
                let found = post.candidates(&logits, num_classes);
                assert_eq!(found, by_definition(&post, &logits, num_classes), "{score_threshold} {pre_nms_top_k}");
                let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
                assert_eq!(found, one.install(|| post.candidates(&logits, num_classes)));
            }
        }
    }

    #[test]
    fn boxes_are_clipped_when_the_toolkit_clips_them() {
        // Of one class, best first: the first two are the same once clipped to 10 x 10 and have an IoU of .4 before; the
        // third lies outside.
        let boxes =
            [BBox::new(0.0, 0.0, 10.0, 10.0), BBox::new(0.0, 0.0, 25.0, 10.0), BBox::new(12.0, 0.0, 20.0, 10.0)];
        let candidates = [3.0, 2.0, 1.0].into_iter().enumerate();
        let level: Vec<Candidate> =
            candidates.map(|(anchor_idx, logit)| Candidate { logit, anchor_idx, label: 0 }).collect();
        let found = |borders, max_detections| -> Vec<BBox> {
            let post = PostProcessing { borders, max_detections, ..PostProcessing::default() };
            let found =
                post.finish(std::slice::from_ref(&level), |_, anchor_idx| boxes[anchor_idx], ImageSize::new(10, 10));
            found.into_iter().map(|detection| detection.bbox).collect()
        };
        let (whole, outside) = (boxes[0], BBox::new(10.0, 0.0, 10.0, 10.0));
        assert_eq!(found(Borders::Torchvision, 9), [whole, outside]);
        assert_eq!(found(Borders::Detectron2, 9), [whole, whole]);
        assert_eq!(found(Borders::Mmdetection, 9), [whole]);
        // What is dropped for its area has taken its place in the limit in Detectron2 alone.
        assert_eq!(found(Borders::Detectron2, 1), [whole]);
        let inside = |borders| {
            let post = PostProcessing { borders, max_detections: 1, ..PostProcessing::default() };
            let order = [2, 0];
            post.finish(std::slice::from_ref(&level), |_, i| boxes[order[i.min(1)]], ImageSize::new(10, 10)).len()
        };
        assert_eq!(
            (inside(Borders::Torchvision), inside(Borders::Detectron2), inside(Borders::Mmdetection)),
            (1, 0, 1)
        );
    }

    #[test]
    fn detections_are_those_of_suppression_over_all_candidates() {
        let size = ImageSize::new(90, 70);
        let bbox_of = |level_idx: usize, anchor_idx: usize| {
            let at = |k: usize| uniform(1000 * level_idx + 4 * anchor_idx + k);
            let (x, y) = (at(0) * 90.0 - 10.0, at(1) * 70.0);
            // One in 50 is not finite.
            let x1 = if anchor_idx % 50 == 7 { f32::NAN } else { x + at(2) * 50.0 };
            BBox::new(x, y, x1, y + at(3) * 40.0)
        };
        for max_detections in [0, 1, 40, 10_000] {
            let post = PostProcessing { score_threshold: 0.3, max_detections, ..Default::default() };
            // Logits on a grid of eighths, and far above 17, where the sigmoid is 1: ties within levels and between them.
            let logits = |level_idx: usize| (0..1200).map(move |i| (uniform(i + 77 * level_idx) * 200.0).floor() / 8.0);
            let levels: Vec<Vec<Candidate>> =
                (0..3).map(|level_idx| post.candidates(&logits(level_idx).collect::<Vec<_>>(), 4)).collect();
            let found = post.finish(&levels, bbox_of, size);

            let all: Vec<(usize, Candidate)> =
                levels.iter().enumerate().flat_map(|(l, level)| level.iter().map(move |&c| (l, c))).collect();
            let boxes: Vec<BBox> = all.iter().map(|(l, c)| bbox_of(*l, c.anchor_idx).clip(size)).collect();
            let scores: Vec<f32> = all.iter().map(|(_, c)| c.score()).collect();
            let labels: Vec<usize> = all.iter().map(|(_, c)| c.label).collect();
            let kept = retinanet_anchors::class_wise_nms(&boxes, &scores, &labels, post.nms_iou_threshold);
            let expected: Vec<Detection> = kept
                .into_iter()
                .take(max_detections)
                .map(|i| Detection { bbox: boxes[i], label: labels[i], score: scores[i] })
                .collect();
            assert_eq!(found, expected);
            assert_eq!(found.len().min(40), max_detections.min(40));
        }
    }
}
