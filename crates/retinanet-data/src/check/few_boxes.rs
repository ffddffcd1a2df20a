//! Images where a class was probably left unmarked.

use super::report::median_of_sorted;

/// Images of a class from which on its counts say anything.
const MIN_IMAGES: usize = 20;

/// Share of all images that have a class from which on an image without it is unusual, too.
const USUAL_SHARE: f64 = 0.9;

/// How many standard deviations below the middle are too few.
const DEVIATIONS: f64 = 2.5;

/// The standard deviation of the root of a count that varies by chance alone (Poisson), whatever its mean.
const CHANCE: f64 = 0.5;

/// 1.4826 median absolute deviations are the standard deviation of normal numbers.
const NORMAL: f64 = 1.4826;

/// How many boxes of a class an image has, usually.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct UsualCount {
    /// The middle of the counts.
    pub(super) median: f64,
    /// Root of the middle, and how far roots are from it.
    middle_root: f64,
    deviation: f64,
    /// Whether nearly all images have the class, so that one without it counts.
    counts_zero: bool,
}

impl UsualCount {
    /// From the boxes of one class in each image; none where too few images have it.
    ///
    /// The roots of counts vary about alike whether there are few or many (Anscombe 1948). Their median and median absolute
    /// deviation, at least that of chance, are not moved by the images that are looked for. Counted are the images that have
    /// the class, and, where nine in ten do, all.
    pub(super) fn of(counts: &[usize]) -> Option<Self> {
        let holding = counts.iter().filter(|&&count| count > 0).count();
        if holding < MIN_IMAGES {
            return None;
        }
        let counts_zero = holding as f64 >= USUAL_SHARE * counts.len() as f64;
        let counted = counts.iter().filter(|&&count| count > 0 || counts_zero);
        let mut roots: Vec<f64> = counted.map(|&count| (count as f64).sqrt()).collect();
        roots.sort_unstable_by(f64::total_cmp);
        let middle_root = median_of_sorted(&roots);
        let mut distances: Vec<f64> = roots.iter().map(|root| (root - middle_root).abs()).collect();
        distances.sort_unstable_by(f64::total_cmp);
        let deviation = (NORMAL * median_of_sorted(&distances)).max(CHANCE);
        Some(Self { median: middle_root.powi(2).round(), middle_root, deviation, counts_zero })
    }

    /// How many deviations a count is below the middle, where that is too far and at most half of it.
    pub(super) fn shortfall(&self, count: usize) -> Option<f64> {
        let below = (self.middle_root - (count as f64).sqrt()) / self.deviation;
        let is_low = below >= DEVIATIONS && 2.0 * count as f64 <= self.median;
        (is_low && (count > 0 || self.counts_zero)).then_some(below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(counts: &[usize], too_few: &[usize]) {
        let usual = UsualCount::of(counts);
        let flagged = |&count: &usize| usual.is_some_and(|usual| usual.shortfall(count).is_some());
        assert_eq!(counts.iter().copied().filter(flagged).collect::<Vec<_>>(), too_few);
    }

    #[test]
    fn few_among_many() {
        let mut counts: Vec<usize> = (0..60).map(|idx| 9 + idx % 6).collect();
        check(&counts, &[]);
        counts.extend([5, 3, 0, 1]);
        check(&counts, &[3, 0, 1]);
        // Where a third lacks the class, that is no flaw, but one of twelve still is.
        counts.extend([0; 30]);
        check(&counts, &[3, 1]);
    }

    #[test]
    fn counts_that_say_nothing() {
        check(&[12; 19], &[]);
        check(&[], &[]);
        let singles: Vec<usize> = (0..100).map(|idx| usize::from(idx % 30 != 0)).collect();
        check(&singles, &[]);
        let scattered: Vec<usize> = (0..100).map(|idx| 1 + (idx * 37) % 40).collect();
        check(&scattered, &[]);
    }
}
