//! The learning rate as a function of the step.

use serde::{Deserialize, Serialize};

/// A rise over the first steps, then a decay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// The rise; 0 steps for none.
    pub warmup: Warmup,
    /// What follows.
    pub decay: Decay,
}

/// A linear rise of the learning rate from `factor` to 1 over the first steps (Goyal et al. 2017).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Warmup {
    /// Optimiser steps; at most half of the training is used, so that a short run still reaches its full rate.
    pub steps: usize,
    /// Share of the rate at step 0, within [0, 1].
    pub factor: f64,
}

/// How the learning rate falls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Decay {
    /// Never.
    Constant,
    /// Multiplied by `factor` at each milestone.
    Step {
        /// Shares of the whole training, within (0, 1), ascending: torchvision's 16 and 22 of 26 epochs are .6154 and .8462.
        milestones: Vec<f64>,
        /// Below 1.
        factor: f64,
    },
    /// Half a cosine from 1 to `final_factor` (Loshchilov & Hutter 2017).
    Cosine {
        /// Share of the rate that is left at the end.
        final_factor: f64,
    },
}

impl Schedule {
    /// Whether the first `total` steps of a training of `longer` have the same factors as one of `total`.
    pub(crate) fn agrees(&self, total: usize, longer: usize) -> bool {
        (0..total).all(|step| self.factor(step, total) == self.factor(step, longer))
    }

    /// What the learning rate is multiplied by at `step` of `total`.
    pub fn factor(&self, step: usize, total: usize) -> f64 {
        let warmup_steps = self.warmup.steps.min(total / 2);
        let rise = if step < warmup_steps {
            self.warmup.factor + (1.0 - self.warmup.factor) * (step + 1) as f64 / warmup_steps as f64
        } else {
            1.0
        };
        let progress = step as f64 / total.max(1) as f64;
        rise * match &self.decay {
            Decay::Constant => 1.0,
            Decay::Step { milestones, factor } => {
                factor.powi(milestones.iter().filter(|&&milestone| progress >= milestone).count() as i32)
            }
            Decay::Cosine { final_factor } => {
                final_factor + (1.0 - final_factor) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(schedule: &Schedule, step: usize, expected: f64) {
        let found = schedule.factor(step, 100);
        assert!((found - expected).abs() < 1e-12, "step {step}: expected {expected}, found {found}");
    }

    #[test]
    fn values_worked_by_hand() {
        let step = Schedule {
            warmup: Warmup { steps: 4, factor: 0.0 },
            decay: Decay::Step { milestones: vec![0.5, 0.75], factor: 0.1 },
        };
        for (at, expected) in
            [(0, 0.25), (1, 0.5), (3, 1.0), (4, 1.0), (49, 1.0), (50, 0.1), (74, 0.1), (75, 0.01), (99, 0.01)]
        {
            check(&step, at, expected);
        }
        let cosine = Schedule { warmup: Warmup { steps: 0, factor: 0.0 }, decay: Decay::Cosine { final_factor: 0.2 } };
        for (at, expected) in [(0, 1.0), (50, 0.6), (100, 0.2)] {
            check(&cosine, at, expected);
        }
        check(&Schedule { decay: Decay::Constant, ..cosine }, 77, 1.0);
    }

    #[test]
    fn only_a_constant_rate_lets_a_training_grow() {
        let warmup = Warmup { steps: 5, factor: 0.1 };
        let constant = Schedule { warmup, decay: Decay::Constant };
        assert!(constant.agrees(10, 11) && constant.agrees(100, 1000));
        assert!(!constant.agrees(8, 80), "the warm-up of eight steps is four long");
        let cosine = Schedule { warmup, decay: Decay::Cosine { final_factor: 0.0 } };
        assert!(cosine.agrees(100, 100) && !cosine.agrees(100, 101));
        let step = Schedule { warmup, decay: Decay::Step { milestones: vec![0.5], factor: 0.1 } };
        assert!(!step.agrees(100, 200));
    }

    #[test]
    fn a_warm_up_longer_than_the_training_is_cut_to_half_of_it() {
        let schedule = Schedule { warmup: Warmup { steps: 1000, factor: 0.001 }, decay: Decay::Constant };
        check(&schedule, 49, 1.0);
        assert!(schedule.factor(0, 100) < 0.03);
    }
}
