//! A loss that grows instead of falling: finite, so that nothing ends, and yet nothing is learned any more.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How much more than in the first step is no accident. A moving normaliser that has yet to settle makes some ten times.
const FACTOR: f32 = 100.0;

/// Steps with so much more before it is told: a single one may be an image.
const TIMES: usize = 3;

/// A training whose loss has grown beyond measure.
#[derive(Clone, Debug, PartialEq)]
pub struct Divergence {
    /// Step of the optimiser, from 0.
    pub step: usize,
    /// Its loss.
    pub loss: f32,
    /// That of the first step with objects, before anything was learned.
    pub first_loss: f32,
    /// What usually causes it, with what was found of each.
    pub causes: Vec<String>,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, loss, first_loss, causes } = self;
        write!(
            f,
            "step {step}: loss: expected less than at the beginning ({first_loss:.3}), found {loss:.3}, and so {TIMES} times: it \
             learns nothing more; usual causes: {}",
            causes.join("; ")
        )
    }
}

/// Watches the losses of a training for [`Divergence`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LossWatch {
    first_loss: Option<f32>,
    times: usize,
}

impl LossWatch {
    /// Takes the loss of a step along; the loss of the first step, once, when it is far exceeded.
    pub(super) fn take(&mut self, loss: f32, num_foreground: usize) -> Option<f32> {
        // Without objects a loss is next to nothing, and no measure of others.
        if num_foreground == 0 {
            return None;
        }
        let first_loss = *self.first_loss.get_or_insert(loss);
        let is_beyond = loss > FACTOR * first_loss;
        self.times += usize::from(is_beyond);
        (is_beyond && self.times == TIMES).then_some(first_loss)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps at which it is told.
    fn told(losses: &[f32]) -> Vec<usize> {
        let mut watch = LossWatch::default();
        (0..losses.len()).filter(|&step| watch.take(losses[step], 1).is_some()).collect()
    }

    #[test]
    fn a_loss_that_grows_is_told_once() {
        let normal = [1.6, 1.5, 2.5, 1.4, 1.6, 9.0, 1.1, 30.0, 0.7];
        assert!(told(&normal).is_empty());
        let grows = [1.6, 1.5, 1.6, 1.4, 1.6, 900.0, 1.1, 161.0, 2.6, 1e6, 1e6, 1e6];
        assert_eq!(told(&grows), [9]);
        assert!(told(&[0.0; 20]).is_empty());
    }

    #[test]
    fn steps_without_objects_are_no_measure() {
        let mut watch = LossWatch::default();
        for _ in 0..10 {
            assert_eq!(watch.take(1e-3, 0), None);
        }
        assert!((0..20).all(|_| watch.take(1.6, 4).is_none()));
    }
}
