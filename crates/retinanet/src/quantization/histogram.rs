//! How often which magnitude occurs, and the range that 8 bits had better span.

use serde::{Deserialize, Serialize};

/// How much of an activation's range the 8 bits span; what lies beyond is cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clipping {
    /// All that was seen.
    Max,
    /// This share of what was seen, within (0, 1].
    Percentile(f64),
    /// As much as makes the mean square error of rounding and cutting off smallest.
    #[default]
    MeanSquare,
}

/// Bins of a histogram; the largest magnitude falls into the upper half of them.
const BINS: usize = 4096;

/// Magnitudes, counted.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    bins: Vec<u64>,
    /// Where the last bin ends: a power of two, or 0 before anything was counted.
    limit: f32,
    largest: f32,
    count: u64,
    /// Of exact zeros, which no scale rounds.
    zeros: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { bins: vec![0; BINS], limit: 0.0, largest: 0.0, count: 0, zeros: 0 }
    }
}

impl Histogram {
    /// Counts the magnitudes of these numbers; false if one is not finite, and nothing is counted.
    pub(super) fn add(&mut self, numbers: &[f32]) -> bool {
        if !numbers.iter().all(|number| number.is_finite()) {
            return false;
        }
        let largest = numbers.iter().fold(0.0f32, |largest, number| largest.max(number.abs()));
        self.make_room(largest);
        self.largest = self.largest.max(largest);
        self.count += numbers.len() as u64;
        let per_unit = BINS as f32 / self.limit;
        for number in numbers {
            if *number == 0.0 {
                self.zeros += 1;
            } else {
                self.bins[((number.abs() * per_unit) as usize).min(BINS - 1)] += 1;
            }
        }
        true
    }

    /// Joins neighbouring bins until the largest magnitude has one.
    fn make_room(&mut self, largest: f32) {
        if self.limit == 0.0 {
            // Small enough for everything that matters, large enough for its inverse.
            self.limit = 2f32.powi(-60);
        }
        while self.limit <= largest && self.limit.is_finite() {
            let joined: Vec<u64> = self.bins.chunks_exact(2).map(|pair| pair[0] + pair[1]).collect();
            self.bins[..BINS / 2].copy_from_slice(&joined);
            self.bins[BINS / 2..].fill(0);
            self.limit *= 2.0;
        }
    }

    /// The scale of `steps` steps from 0 to the largest magnitude that is kept.
    pub(super) fn scale(&self, clipping: Clipping, steps: f32) -> f32 {
        let range = match clipping {
            Clipping::Max => self.largest,
            Clipping::Percentile(share) => self.percentile(share),
            Clipping::MeanSquare => self.least_error(steps),
        };
        let scale = range / steps;
        // Of zeros alone any scale is right.
        if scale.is_normal() && (1.0 / scale).is_normal() { scale } else { 1.0 }
    }

    fn width(&self) -> f64 {
        f64::from(self.limit) / BINS as f64
    }

    /// The magnitude that this share of all numbers does not exceed, to a bin.
    fn percentile(&self, share: f64) -> f32 {
        let wanted = share * self.count as f64;
        let mut below = self.zeros as f64;
        for (bin, &count) in self.bins.iter().enumerate() {
            below += count as f64;
            if below >= wanted {
                return ((bin + 1) as f64 * self.width()).min(f64::from(self.largest)) as f32;
            }
        }
        self.largest
    }

    /// The range with the least square error, each magnitude taken as the middle of its bin.
    fn least_error(&self, steps: f32) -> f32 {
        /// Ranges that are tried: from the largest magnitude down to a thousandth of it, in sixteenths of an octave.
        const TRIED: i32 = 160;
        let tried = (0..=TRIED).map(|i| f64::from(self.largest) * (-f64::from(i) / 16.0).exp2());
        let best = tried.map(|range| (self.error(range, f64::from(steps)), range)).min_by(|a, b| a.0.total_cmp(&b.0));
        best.map_or(self.largest, |(_, range)| range as f32)
    }

    fn error(&self, range: f64, steps: f64) -> f64 {
        let (step, width) = (range / steps, self.width());
        let error = |(bin, &count): (usize, &u64)| {
            let magnitude = (bin as f64 + 0.5) * width;
            let rounded = (magnitude / step).round().min(steps) * step;
            count as f64 * (magnitude - rounded).powi(2)
        };
        self.bins.iter().enumerate().filter(|(_, count)| **count > 0).map(error).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn near(found: f32, expected: f32, tolerance: f32) {
        assert!((found - expected).abs() <= tolerance, "expected {expected}, found {found}");
    }

    #[test]
    fn ranges_by_hand() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.scale(Clipping::Max, 255.0), 1.0);
        // 1 to 1000 in two calls, the second beyond the first one's bins.
        assert!(histogram.add(&(1..=10).map(|i| i as f32).collect::<Vec<_>>()));
        assert!(histogram.add(&(11..=1000).map(|i| -(i as f32)).collect::<Vec<_>>()));
        assert_eq!(histogram.scale(Clipping::Max, 250.0), 4.0);
        near(histogram.scale(Clipping::Percentile(0.9), 1.0), 900.0, 1.0);
        assert_eq!(histogram.scale(Clipping::Percentile(1.0), 1.0), 1000.0);
        // Evenly spread numbers are worth their whole range.
        near(histogram.scale(Clipping::MeanSquare, 127.0), 1000.0 / 127.0, 0.3);
    }

    #[test]
    fn an_outlier_is_cut_off_by_its_weight() {
        let spread: Vec<f32> = (0..100_000).map(|i| (i % 1000) as f32 / 1000.0).collect();
        let mut histogram = Histogram::default();
        histogram.add(&spread);
        histogram.add(&[100.0]);
        // Keeping 100 would round 100,000 numbers by steps of .39: an error of 100,000 x .39^2 / 12 = 1,300. Cutting it off
        // at T costs (100 - T)^2, and 100,000 (T / 255)^2 / 12: least at T = 100 / (1 + 100,000 / 12 / 255^2) = 88.6.
        near(histogram.scale(Clipping::MeanSquare, 255.0) * 255.0, 88.6, 6.0);
        assert_eq!(histogram.scale(Clipping::Max, 1.0), 100.0);
        near(histogram.scale(Clipping::Percentile(0.9999), 1.0), 1.0, 0.05);
    }

    #[test]
    fn zeros_and_numbers_that_are_not_finite() {
        let mut histogram = Histogram::default();
        assert!(histogram.add(&[0.0, -0.0]));
        assert_eq!(histogram.scale(Clipping::MeanSquare, 255.0), 1.0);
        assert!(!histogram.add(&[1.0, f32::NAN]) && !histogram.add(&[f32::INFINITY]));
        assert_eq!(histogram.scale(Clipping::Max, 255.0), 1.0);
        assert!(histogram.add(&[1e37, 1e-30]));
        assert_eq!(histogram.scale(Clipping::Max, 1.0), 1e37);
    }
}
