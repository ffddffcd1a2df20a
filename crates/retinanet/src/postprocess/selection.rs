//! The best logits above a threshold, without sorting all of them.

use super::sigmoid;
use retinanet_anchors::ScoreThreshold;
use std::cmp::Ordering;

/// A logit and its place in the level, `anchor * K + class`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pair {
    pub(super) logit: f32,
    pub(super) index: usize,
}

/// Logits tested together.
const CHUNK: usize = 64;

/// The best `limit` pairs of what was scanned, in no order, and up to as many that will be dropped.
pub(super) struct Selection {
    threshold: ScoreThreshold,
    limit: usize,
    /// Pairs at or below this logit are not wanted: below the threshold, or behind `limit` others.
    floor: f32,
    pairs: Vec<Pair>,
}

impl Selection {
    pub(super) fn new(score_threshold: f32, limit: usize) -> Self {
        let threshold = ScoreThreshold::new(score_threshold);
        // Nothing is above infinity.
        let floor = if limit == 0 { f32::INFINITY } else { threshold.never };
        Self { threshold, limit, floor, pairs: Vec::new() }
    }

    /// Looks at the logits whose first has this index; all earlier ones had lower indices.
    pub(super) fn scan(&mut self, logits: &[f32], first_index: usize) {
        for (chunk_idx, chunk) in logits.chunks(CHUNK).enumerate() {
            let floor = self.floor;
            // One test a chunk, which vectorises: chunks without a candidate are the rule.
            if chunk.iter().fold(false, |any, &logit| any | (logit > floor)) {
                let first_index = first_index + chunk_idx * CHUNK;
                let indexed = chunk.iter().enumerate().map(|(i, &logit)| Pair { logit, index: first_index + i });
                self.pairs.extend(indexed.filter(|pair| pair.logit > floor && is_above(&self.threshold, pair.logit)));
                if self.pairs.len() >= self.limit.saturating_mul(2).max(CHUNK) {
                    self.reduce();
                }
            }
        }
    }

    /// Drops all but the best. Later pairs that equal the last of them are behind it, as their indices are higher.
    fn reduce(&mut self) {
        if self.pairs.len() >= self.limit && self.limit > 0 {
            let (_, last, _) = self.pairs.select_nth_unstable_by(self.limit - 1, order);
            self.floor = last.logit;
            self.pairs.truncate(self.limit);
        }
    }

    /// The best of both.
    pub(super) fn join(mut self, other: Self) -> Self {
        self.pairs.extend(other.pairs);
        self.reduce();
        self
    }

    /// The best, in order.
    pub(super) fn into_best(mut self) -> Vec<Pair> {
        self.reduce();
        self.pairs.sort_unstable_by(order);
        self.pairs
    }
}

/// The higher logit first, then the lower index.
fn order(a: &Pair, b: &Pair) -> Ordering {
    // No pair is NaN, as NaN is above no threshold.
    b.logit.partial_cmp(&a.logit).unwrap_or(Ordering::Equal).then(a.index.cmp(&b.index))
}

/// Whether the score of a logit is above the threshold's; only of logits above its `never`.
fn is_above(threshold: &ScoreThreshold, logit: f32) -> bool {
    logit > threshold.always || sigmoid(logit) > threshold.score
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_are_compared_as_scores_would_be() {
        let near_one = f32::from_bits(1.0f32.to_bits() - 1);
        for score in [0.0, 1e-30, 1e-6, 0.01, 0.05, 0.3, 0.5, 0.95, 0.999_999, 1.0 - f32::EPSILON, near_one] {
            let threshold = ScoreThreshold::new(score);
            let logit = (f64::from(score) / (1.0 - f64::from(score))).ln().max(-110.0);
            // A fine grid about the threshold, and a coarse one over all that a sigmoid tells apart.
            let near = (-4000..4000).map(|i| (logit + 1e-6 * f64::from(i)) as f32);
            let around = (-4000..4000).map(|i| (logit + 1e-3 * f64::from(i)) as f32);
            let everywhere = (-1100..1100).map(|i| 0.1 * i as f32);
            for logit in near.chain(around).chain(everywhere).chain([f32::NAN, f32::INFINITY, f32::NEG_INFINITY]) {
                let found = logit > threshold.never && is_above(&threshold, logit);
                assert_eq!(found, sigmoid(logit) > score, "{score}: {logit}");
            }
        }
    }

    #[test]
    fn the_floor_rises_with_what_is_found() {
        let mut selection = Selection::new(0.5, 2);
        let rising: Vec<f32> = (1..=1000).map(|i| i as f32).collect();
        selection.scan(&rising, 0);
        assert!(selection.pairs.len() < 3 * CHUNK && selection.floor > 800.0, "{}", selection.floor);
        let best: Vec<usize> = selection.into_best().iter().map(|pair| pair.index).collect();
        assert_eq!(best, [999, 998]);
    }
}
