//! The running average of the weights: often a better detector than the last ones, as it does not shake with single steps.

use crate::config::ConfigError;
use crate::train::NamedState;
use crate::weights;
use candle_core::{CpuStorage, InplaceOp2, Layout, Result, bail};
use rayon::prelude::*;
use retinanet_ops::network::Parameters;
use serde::{Deserialize, Serialize};

/// How the weights are averaged: after each step, average = d average + (1 - d) weights.
///
/// d = min(decay, n / (n + warmup)), n = steps before
///
/// Source: Polyak & Juditsky 1992; the rise as timm's `ModelEmaV3` with power 1. The running statistics of batch norms are
/// averaged too, as torchvision and timm do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmaConfig {
    /// Largest d, within [0, 1): the average reaches 1 / (1 - decay) steps back.
    pub decay: f64,
    /// Until then it reaches back over one in so many of the steps so far, and forgets the weights that training started from.
    /// 0 for `decay` from the first step on.
    pub warmup: usize,
}

impl Default for EmaConfig {
    fn default() -> Self {
        Self { decay: 0.999, warmup: 10 }
    }
}

impl EmaConfig {
    pub(crate) fn validate(&self) -> std::result::Result<(), ConfigError> {
        ConfigError::require((0.0..1.0).contains(&self.decay), "train.ema.decay", "within [0, 1)", &self.decay)
    }

    /// d after `updates` steps.
    fn decay_after(&self, updates: u64) -> f64 {
        if self.warmup == 0 {
            return self.decay;
        }
        self.decay.min(updates as f64 / (updates as f64 + self.warmup as f64))
    }
}

/// Entries of a checkpoint: the number of steps, and before the names of parameters.
const UPDATES: &str = "average.updates";
const AVERAGE: &str = "average.weights.";

/// The average of a model's parameters over the steps of a training.
#[derive(Clone, Debug)]
pub struct AveragedWeights {
    config: EmaConfig,
    updates: u64,
    parameters: Parameters,
}

impl AveragedWeights {
    /// An average that is the parameters themselves.
    ///
    /// # Errors
    /// There is no memory for a copy.
    pub fn new(config: EmaConfig, parameters: &Parameters) -> Result<Self> {
        let copies =
            parameters.iter().map(|(name, variable)| Ok((name.to_owned(), variable.as_detached_tensor().copy()?)));
        Ok(Self { config, updates: 0, parameters: Parameters::new(copies.collect::<Result<Vec<_>>>()?)? })
    }

    /// Takes in the parameters as they are after a step.
    ///
    /// # Errors
    /// A parameter is missing, of another shape, or not f32 on the CPU.
    pub fn update(&mut self, parameters: &Parameters) -> Result<()> {
        let share = self.begin_update();
        for (name, average) in self.parameters.iter() {
            let current = parameters.detached(name)?;
            average.as_tensor().inplace_op2(&current, &MoveTowards { share })?;
        }
        Ok(())
    }

    /// How far the average moves toward the parameters in the update that begins, which is counted.
    pub(crate) fn begin_update(&mut self) -> f32 {
        let share = 1.0 - self.config.decay_after(self.updates);
        self.updates += 1;
        share as f32
    }

    /// The average. A clone of it shares the memory, and moves with the next update.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Puts in what the next update depends on.
    pub(crate) fn keep(&self, state: &mut NamedState) {
        state.put_number(UPDATES, self.updates as f64);
        let tensors = self.parameters.iter().map(|(name, average)| (name.to_owned(), average.as_detached_tensor()));
        state.put_tensors(AVERAGE, tensors.collect());
    }

    /// Takes out what [`keep`](Self::keep) put in.
    ///
    /// # Errors
    /// It is not there, or of other parameters.
    pub(crate) fn restore(&mut self, state: &mut NamedState) -> crate::Result<()> {
        self.updates = state.take_number(UPDATES)? as u64;
        let tensors = state.take_tensors(AVERAGE);
        let expected = self.parameters.iter().map(|(name, average)| (name.to_owned(), average.dims().to_vec()));
        weights::check(&expected.collect(), &tensors)?;
        for (name, average) in self.parameters.iter() {
            if let Some(tensor) = tensors.get(name) {
                average.set(tensor)?;
            }
        }
        Ok(())
    }
}

/// Values that one task changes.
const CHUNK: usize = 1 << 14;

/// average += share (current - average): exact where both are equal, so that what is frozen stays as it is.
struct MoveTowards {
    share: f32,
}

impl InplaceOp2 for MoveTowards {
    fn name(&self) -> &'static str {
        "average-weights"
    }

    fn cpu_fwd(
        &self,
        average: &mut CpuStorage,
        average_layout: &Layout,
        current: &CpuStorage,
        layout: &Layout,
    ) -> Result<()> {
        let (CpuStorage::F32(average), CpuStorage::F32(current)) = (average, current) else {
            bail!("average of the weights: expected f32 parameters")
        };
        let (Some((a0, a1)), Some((c0, c1))) = (average_layout.contiguous_offsets(), layout.contiguous_offsets())
        else {
            bail!("average of the weights: expected contiguous parameters")
        };
        if a1 - a0 != c1 - c0 {
            bail!("average of the weights: expected {} values, found {}", a1 - a0, c1 - c0);
        }
        let chunks = average[a0..a1].par_chunks_mut(CHUNK).zip(current[c0..c1].par_chunks(CHUNK));
        chunks.for_each(|(average, current)| {
            for (average, current) in average.iter_mut().zip(current) {
                *average += self.share * (current - *average);
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor};

    fn parameters(values: [f32; 2]) -> Result<Parameters> {
        Parameters::new([("w".to_owned(), Tensor::new(&values, &Device::Cpu)?)])
    }

    /// The average of w0 after each of the weights 8, 0, 4, which begins at 100.
    #[track_caller]
    fn check(config: EmaConfig, expected: [f32; 3]) {
        let run = || -> Result<Vec<f32>> {
            let mut average = AveragedWeights::new(config, &parameters([100.0, 3.0])?)?;
            let mut found = Vec::new();
            for value in [8.0, 0.0, 4.0] {
                average.update(&parameters([value, 3.0])?)?;
                let values = average.parameters().detached("w")?.to_vec1::<f32>()?;
                assert_eq!(values[1], 3.0, "what does not move stays");
                found.push(values[0]);
            }
            Ok(found)
        };
        assert_eq!(run().expect("three updates"), expected, "{config:?}");
    }

    #[test]
    fn averages_worked_by_hand() {
        // .75 * 100 + .25 * 8 = 77; .75 * 77 = 57.75; .75 * 57.75 + 1.
        check(EmaConfig { decay: 0.75, warmup: 0 }, [77.0, 57.75, 44.3125]);
        // d = 0, 1/2, 2/3 is the plain mean: 8, 4, 4.
        check(EmaConfig { decay: 0.999, warmup: 1 }, [8.0, 4.0, 4.0]);
        // d = 0, 1/2, then 1/2 at most.
        check(EmaConfig { decay: 0.5, warmup: 1 }, [8.0, 4.0, 4.0]);
        check(EmaConfig { decay: 0.25, warmup: 1 }, [8.0, 2.0, 3.5]);
    }

    #[test]
    fn a_restored_average_goes_on_as_the_other() -> crate::Result<()> {
        let config = EmaConfig::default();
        let mut average = AveragedWeights::new(config, &parameters([1.0, 2.0])?)?;
        average.update(&parameters([4.0, 5.0])?)?;
        average.update(&parameters([0.5, -1.0])?)?;
        let mut kept = NamedState::default();
        average.keep(&mut kept);
        let mut other = AveragedWeights::new(config, &parameters([0.0, 0.0])?)?;
        other.restore(&mut kept)?;
        let values = |average: &AveragedWeights| average.parameters().detached("w")?.to_vec1::<f32>();
        for average in [&mut average, &mut other] {
            average.update(&parameters([7.0, 7.5])?)?;
        }
        assert_eq!(values(&average)?, values(&other)?);
        assert!(other.restore(&mut NamedState::default()).is_err());
        Ok(())
    }
}
