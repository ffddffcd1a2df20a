//! Ranges in the configuration: looked at, and drawn from.

use std::ops::RangeInclusive;

use rand::{Rng, RngExt};

use crate::ConfigError;

/// Refuses what is no share, 0..=1.
pub(super) fn check_share(field: &'static str, share: f64) -> Result<(), ConfigError> {
    if (0.0..=1.0).contains(&share) {
        return Ok(());
    }
    Err(ConfigError { field, expected: "0..=1", found: share.to_string() })
}

/// Refuses a range that runs backwards or leaves the limits, which `expected` says in words.
pub(super) fn check_range(
    field: &'static str,
    [least, most]: [f64; 2],
    limits: RangeInclusive<f64>,
    expected: &'static str,
) -> Result<(), ConfigError> {
    if *limits.start() <= least && least <= most && most <= *limits.end() {
        return Ok(());
    }
    Err(ConfigError { field, expected, found: format!("{:?}", [least, most]) })
}

/// A number of a range, each as likely.
pub(super) fn draw([least, most]: [f64; 2], rng: &mut impl Rng) -> f64 {
    least + (most - least) * rng.random::<f64>()
}

/// A whole number of `0..=most`, each as likely.
pub(super) fn draw_up_to(most: usize, rng: &mut impl Rng) -> usize {
    rng.random_range(0..=most)
}
