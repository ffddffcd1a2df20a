//! How fast a training goes, and how long it will go on.

use retinanet::Step;
use std::collections::VecDeque;
use std::time::Duration;

/// Steps that the rate is taken over: enough to be calm, few enough to follow a change.
const WINDOW: usize = 50;

/// The rate of the last steps, and what is still to be done.
#[derive(Debug, Default)]
pub(super) struct Pace {
    recent: VecDeque<Step>,
    total_steps: usize,
    steps_done: usize,
    validations_left: usize,
    validation: Duration,
}

impl Pace {
    pub(super) fn new(total_steps: usize, validations: usize) -> Self {
        Self { total_steps, validations_left: validations, ..Self::default() }
    }

    pub(super) fn step(&mut self, step: &Step) {
        if self.recent.len() == WINDOW {
            self.recent.pop_front();
        }
        self.recent.push_back(*step);
        self.steps_done = step.step + 1;
    }

    pub(super) fn validated(&mut self, duration: Duration) {
        self.validation = duration;
        self.validations_left = self.validations_left.saturating_sub(1);
    }

    fn seconds(&self) -> f64 {
        self.recent.iter().map(|step| step.duration.as_secs_f64()).sum()
    }

    /// Images learned from in a second.
    pub(super) fn images_per_second(&self) -> Option<f64> {
        let images: usize = self.recent.iter().map(|step| step.images).sum();
        Some(images as f64 / self.seconds()).filter(|rate| rate.is_finite())
    }

    /// Share of the time that is spent in waiting for images.
    pub(super) fn waited(&self) -> Option<f64> {
        let waited: f64 = self.recent.iter().map(|step| step.waited.as_secs_f64()).sum();
        Some(waited / self.seconds()).filter(|share| share.is_finite())
    }

    /// Seconds until the end: the steps at the rate of the last ones, and scorings as long as the last one.
    pub(super) fn seconds_left(&self) -> Option<f64> {
        let step = self.seconds() / self.recent.len() as f64;
        let steps_left = self.total_steps.saturating_sub(self.steps_done);
        let validations = self.validations_left as f64 * self.validation.as_secs_f64();
        step.is_finite().then_some(step * steps_left as f64 + validations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: usize, seconds: f64, waited: f64) -> Step {
        Step {
            epoch: 0,
            step,
            images: 4,
            class_loss: 1.0,
            box_loss: 1.0,
            gradient_norm: 1.0,
            learning_rate: 0.1,
            num_foreground: 3,
            duration: Duration::from_secs_f64(seconds),
            waited: Duration::from_secs_f64(waited),
        }
    }

    #[test]
    fn the_last_steps_make_the_rate() {
        let mut pace = Pace::new(200, 2);
        assert_eq!((pace.images_per_second(), pace.waited(), pace.seconds_left()), (None, None, None));
        pace.step(&step(0, 50.0, 0.0));
        (1..=WINDOW).for_each(|number| pace.step(&step(number, 0.5, 0.125)));
        assert_eq!((pace.images_per_second(), pace.waited()), (Some(8.0), Some(0.25)));
        assert_eq!(pace.seconds_left(), Some(0.5 * (200 - 51) as f64));
        pace.validated(Duration::from_secs(10));
        assert_eq!(pace.seconds_left(), Some(0.5 * (200 - 51) as f64 + 10.0));
        pace.validated(Duration::from_secs(10));
        assert_eq!(pace.seconds_left(), Some(0.5 * (200 - 51) as f64));
    }
}
