//! Outcomes of one class over all images, to precision and recall.

use super::matching::{Outcome, Outcomes};
use super::{MAX_DETECTIONS, NUM_AREAS, NUM_MAX_DETECTIONS, NUM_RECALLS, NUM_THRESHOLDS};

/// All detections of one class.
#[derive(Debug, Default)]
pub(super) struct ClassOutcomes {
    /// In the order of image ids, within an image in descending order of score.
    pub(super) detections: Vec<ScoredOutcomes>,
    /// Objects to find in each area range.
    pub(super) num_objects: [usize; NUM_AREAS],
}

/// One detection.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScoredOutcomes {
    pub(super) score: f64,
    /// Position among the image's detections of the class, best first.
    pub(super) rank: usize,
    pub(super) outcomes: Outcomes,
}

/// Sums over recalls or thresholds of one class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct AreaScores {
    /// Mean precision over the recalls, for each threshold.
    pub(super) precision: [f64; NUM_THRESHOLDS],
    /// Highest recall for each number of detections, mean over the thresholds.
    pub(super) recall: [f64; NUM_MAX_DETECTIONS],
}

impl ClassOutcomes {
    /// The scores in each area range; none where there is nothing to find.
    ///
    /// Source: `accumulate` of pycocotools.
    pub(super) fn scores(&mut self, recalls: &[f64; NUM_RECALLS]) -> [Option<AreaScores>; NUM_AREAS] {
        // Stable, so that equal scores stay in the order of images and ranks.
        self.detections.sort_by(|a, b| super::descending(a.score, b.score));
        std::array::from_fn(|area_idx| {
            let num_objects = self.num_objects[area_idx];
            (num_objects > 0).then(|| self.area_scores(area_idx, num_objects, recalls))
        })
    }

    fn area_scores(&self, area_idx: usize, num_objects: usize, recalls: &[f64; NUM_RECALLS]) -> AreaScores {
        let mut scores = AreaScores { precision: [0.0; NUM_THRESHOLDS], recall: [0.0; NUM_MAX_DETECTIONS] };
        for threshold_idx in 0..NUM_THRESHOLDS {
            let outcomes = || self.detections.iter().map(|d| (d.rank, d.outcomes[area_idx][threshold_idx]));
            for (sum, max_detections) in scores.recall.iter_mut().zip(MAX_DETECTIONS) {
                let found = outcomes().filter(|&(rank, o)| rank < max_detections && o == Outcome::True).count();
                *sum += found as f64 / num_objects as f64;
            }
            scores.precision[threshold_idx] = mean_precision(outcomes().map(|(_, o)| o), num_objects, recalls);
        }
        for sum in &mut scores.recall {
            *sum /= NUM_THRESHOLDS as f64;
        }
        scores
    }
}

/// The mean over `recalls` of the highest precision at that recall or above; 0 where it is not reached.
fn mean_precision(outcomes: impl Iterator<Item = Outcome>, num_objects: usize, recalls: &[f64; NUM_RECALLS]) -> f64 {
    let (mut found, mut wrong) = (0.0, 0.0);
    let (mut recall, mut precision) = (Vec::new(), Vec::new());
    for outcome in outcomes {
        match outcome {
            Outcome::True => found += 1.0,
            Outcome::False => wrong += 1.0,
            Outcome::Ignored => {}
        }
        recall.push(found / num_objects as f64);
        // The reference's guard against 0 / 0, which keeps even perfect precision just below 1 for a single detection.
        precision.push(found / (wrong + found + f64::EPSILON));
    }
    for idx in (1..precision.len()).rev() {
        precision[idx - 1] = f64::max(precision[idx - 1], precision[idx]);
    }
    let at = |&wanted: &f64| precision.get(recall.partition_point(|&reached| reached < wanted)).copied().unwrap_or(0.0);
    recalls.iter().map(at).sum::<f64>() / NUM_RECALLS as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coco::recalls;

    #[track_caller]
    fn check(outcomes: &[Outcome], num_objects: usize, expected: f64) {
        let found = mean_precision(outcomes.iter().copied(), num_objects, &recalls());
        assert!((found - expected).abs() < 1e-12, "{found}, expected {expected}");
    }

    #[test]
    fn by_hand() {
        use Outcome::{False, Ignored, True};
        check(&[], 1, 0.0);
        check(&[True], 1, 1.0);
        check(&[False], 1, 0.0);
        check(&[False, True], 1, 0.5);
        // Recall .5 is reached with precision 1: recalls 0, .01 ... .5 are 51 of 101.
        check(&[True, False], 2, 51.0 / 101.0);
        // Recall 1 with precision 2/3: that of the other 50.
        check(&[True, False, True], 2, (51.0 + 50.0 * 2.0 / 3.0) / 101.0);
        check(&[Ignored, True, Ignored, False, Ignored, True], 2, (51.0 + 50.0 * 2.0 / 3.0) / 101.0);
        // The second precision, 2/3, is above the first, 1/2, so that it counts from recall 0 on.
        check(&[False, True, True], 2, 2.0 / 3.0);
    }
}
