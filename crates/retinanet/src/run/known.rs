//! What a checkpoint knows of what was written: a resumed run writes the rest again.

use super::metrics::Metric;
use super::tensorboard::LoggedValue;
use crate::train::TrainingState;

/// How the tags of numbers begin that are of steps; all others are of epochs and pictures.
pub(super) const OF_STEPS: [&str; 4] = ["loss/", "optimizer/", "speed/", "memory/"];

/// How far a checkpoint is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    step: usize,
    epoch: usize,
    /// Whether it is of between two epochs, so that all of its last step is written, scores and pictures too.
    is_between_epochs: bool,
}

impl Known {
    pub(super) fn of(state: &TrainingState) -> Self {
        let is_between_epochs = state.epoch > 0 && state.batch == 0;
        Self { step: state.step, epoch: state.epoch, is_between_epochs }
    }

    /// Whether it was written before the checkpoint.
    pub(super) fn has_metric(&self, metric: &Metric) -> bool {
        match metric {
            Metric::Step(steps) => steps.step <= self.step,
            Metric::Epoch(epoch) => epoch.epoch <= self.epoch,
        }
    }

    /// Whether it was written before the checkpoint.
    pub(super) fn has_value(&self, value: &LoggedValue) -> bool {
        let is_of_steps = OF_STEPS.iter().any(|prefix| value.tag.starts_with(prefix));
        value.step < self.step || value.step == self.step && (is_of_steps || self.is_between_epochs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{EpochMetrics, StepMetrics};

    #[track_caller]
    fn check(state: &TrainingState, tag: &str, known_until: Option<usize>) {
        let known = Known::of(state);
        let value = |step| LoggedValue { step, wall_time: 0.0, tag: tag.to_owned(), scalar: None };
        assert_eq!((0..20).rev().find(|&step| known.has_value(&value(step))), known_until, "{state:?}");
    }

    #[test]
    fn the_last_step_is_known_with_its_epoch_or_without() {
        let state = |text| serde_json::from_str::<TrainingState>(text).expect("a state");
        let within = state(r#"{ "step": 7, "epoch": 1, "batch": 2 }"#);
        check(&within, "loss/class", Some(7));
        check(&within, "score/AP", Some(6));
        let between = state(r#"{ "step": 10, "epoch": 2 }"#);
        check(&between, "loss/class", Some(10));
        check(&between, "epoch/box_loss", Some(10));
        // The picture of the first batch is of step 0, before which there is nothing.
        check(&TrainingState::default(), "first_batch", None);

        let step = |step| Metric::Step(StepMetrics { step, ..StepMetrics::default() });
        let epoch = |epoch| Metric::Epoch(EpochMetrics { epoch, ..EpochMetrics::default() });
        let known = Known::of(&within);
        assert!(known.has_metric(&step(7)) && !known.has_metric(&step(8)));
        assert!(known.has_metric(&epoch(1)) && !known.has_metric(&epoch(2)));
    }
}
