//! When a training ends because it gets no better.

use crate::config::ConfigError;
use serde::{Deserialize, Serialize};

/// Ends a training when the AP on the validation split has not risen for some scorings.
///
/// The learning rate follows the whole schedule: one that falls towards the end, as a cosine does, has not come there yet.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EarlyStopping {
    /// Scorings in a row without progress that end it, at least 1.
    pub patience: usize,
    /// AP by which one has to pass the best before it to be progress, within [0, 1].
    pub min_delta: f64,
}

impl Default for EarlyStopping {
    fn default() -> Self {
        Self { patience: 5, min_delta: 0.0 }
    }
}

impl EarlyStopping {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let Self { patience, min_delta } = self;
        ConfigError::require(*patience > 0, "train.early_stopping.patience", "at least 1", patience)?;
        let is_share = (0.0..=1.0).contains(min_delta);
        ConfigError::require(is_share, "train.early_stopping.min_delta", "within [0, 1]", min_delta)
    }
}

/// How long a training has made no progress. Plain numbers, for a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The AP that has to be passed; none before the first score.
    pub best: Option<f64>,
    /// Scorings since.
    pub waited: usize,
}

impl Progress {
    /// Takes a score along. One that is not defined, as there is nothing to find, is negative and counts for nothing.
    pub fn take(&mut self, config: &EarlyStopping, ap: f64) {
        if ap < 0.0 {
            return;
        }
        if self.best.is_none_or(|best| ap > best + config.min_delta) {
            *self = Self { best: Some(ap), waited: 0 };
        } else {
            self.waited += 1;
        }
    }

    /// Whether it is time to end.
    #[must_use]
    pub fn has_ended(&self, config: &EarlyStopping) -> bool {
        self.waited >= config.patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of the score that ends the training.
    #[track_caller]
    fn check(patience: usize, min_delta: f64, scores: &[f64], expected: Option<usize>) {
        let (config, mut progress) = (EarlyStopping { patience, min_delta }, Progress::default());
        let found = scores.iter().position(|&ap| {
            progress.take(&config, ap);
            progress.has_ended(&config)
        });
        assert_eq!(found, expected, "{config:?} on {scores:?}");
    }

    #[test]
    fn scores_without_progress_end_it() {
        check(2, 0.0, &[0.1, 0.2, 0.2, 0.15], Some(3));
        check(2, 0.0, &[0.1, 0.2, 0.15, 0.3, 0.3, 0.31, 0.2], None);
        check(1, 0.0, &[0.0, 0.0], Some(1));
        // Small steps are progress only once they add up.
        check(3, 0.1, &[0.1, 0.15, 0.18, 0.25, 0.3, 0.3, 0.34], Some(6));
        check(1, 0.0, &[-1.0, -1.0, 0.1, -1.0, 0.1], Some(4));
    }
}
