//! SGD with momentum and AdamW, each step fused into one pass over a parameter.

use super::{ParameterGradients, RateFactors};
use crate::train::NamedState;
use candle_core::{CpuStorage, InplaceOp1, Layout, Result, bail};
use rayon::prelude::*;
use retinanet_ops::network::{ParameterKind, ParameterSpec, Parameters};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Which optimiser, and its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// Stochastic gradient descent as torch has it: v = momentum v + (g + decay w); w = w - lr v.
    Sgd {
        /// .9 in the paper.
        momentum: f64,
        /// 1e-4 in the paper.
        weight_decay: f64,
        /// For norms' weights and shifts, and for biases unless these have their own.
        norm_weight_decay: f64,
        /// For biases; none for `norm_weight_decay`.
        bias_weight_decay: Option<f64>,
    },
    /// Adam with the decay apart from the gradient (Loshchilov & Hutter 2019), betas .9 and .999, epsilon 1e-8.
    Adamw {
        /// .05 in torchvision v2.
        weight_decay: f64,
        /// For norms' weights and shifts, and for biases unless these have their own; 0 in torchvision v2.
        norm_weight_decay: f64,
        /// For biases; none for `norm_weight_decay`.
        bias_weight_decay: Option<f64>,
    },
}

impl OptimizerConfig {
    /// The decay of a parameter of this kind.
    fn weight_decay(&self, kind: ParameterKind) -> f64 {
        let (Self::Sgd { weight_decay, norm_weight_decay, bias_weight_decay, .. }
        | Self::Adamw { weight_decay, norm_weight_decay, bias_weight_decay }) = *self;
        match kind {
            ParameterKind::Weight => weight_decay,
            ParameterKind::Bias => bias_weight_decay.unwrap_or(norm_weight_decay),
            _ => norm_weight_decay,
        }
    }
}

/// An optimiser with its state.
#[derive(Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    steps: i32,
    slots: BTreeMap<String, Slot>,
}

/// Entries of a checkpoint: the number of steps, and before the names of parameters.
const STEPS: &str = "optimizer.steps";
const FIRST: &str = "optimizer.first.";
const SECOND: &str = "optimizer.second.";

/// What an optimiser keeps of a parameter.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) weight_decay: f64,
    /// On the learning rate.
    pub(crate) rate_factor: f64,
    /// Momentum, or Adam's first moment.
    pub(crate) first: Vec<f32>,
    /// Adam's second moment.
    pub(crate) second: Vec<f32>,
}

impl Optimizer {
    /// An optimiser with empty state for the trainable ones of these parameters.
    pub fn new(config: OptimizerConfig, specs: &[ParameterSpec]) -> Self {
        Self::with_rates(config, &RateFactors::default(), specs)
    }

    /// As [`new`](Self::new), the learning rate of each parameter times its factor. The parameters come in the order of the
    /// layers.
    pub fn with_rates(config: OptimizerConfig, rates: &RateFactors, specs: &[ParameterSpec]) -> Self {
        let has_second = matches!(config, OptimizerConfig::Adamw { .. });
        let slot = |(spec, rate_factor): (&ParameterSpec, f64)| {
            let count = spec.shape.iter().product();
            let weight_decay = config.weight_decay(spec.kind);
            let second = vec![0.0; if has_second { count } else { 0 }];
            (spec.name.clone(), Slot { weight_decay, rate_factor, first: vec![0.0; count], second })
        };
        let with_factor = specs.iter().zip(rates.of(specs));
        Self { config, steps: 0, slots: with_factor.filter(|(spec, _)| spec.trainable).map(slot).collect() }
    }

    /// Puts in what the next step depends on.
    ///
    /// # Errors
    /// candle cannot hold a list.
    pub(crate) fn keep(&self, state: &mut NamedState) -> Result<()> {
        state.put_number(STEPS, f64::from(self.steps));
        for (name, slot) in &self.slots {
            state.put_values(format!("{FIRST}{name}"), &slot.first)?;
            if !slot.second.is_empty() {
                state.put_values(format!("{SECOND}{name}"), &slot.second)?;
            }
        }
        Ok(())
    }

    /// Takes out what [`keep`](Self::keep) put in.
    ///
    /// # Errors
    /// It is not there, or of other parameters.
    pub(crate) fn restore(&mut self, state: &mut NamedState) -> crate::Result<()> {
        self.steps = state.take_number(STEPS)? as i32;
        for (name, slot) in &mut self.slots {
            slot.first = state.take_values(&format!("{FIRST}{name}"), slot.first.len())?;
            if !slot.second.is_empty() {
                slot.second = state.take_values(&format!("{SECOND}{name}"), slot.second.len())?;
            }
        }
        Ok(())
    }

    /// The numbers of the step that begins, which the optimiser counts.
    #[cfg(feature = "cuda")]
    pub(crate) fn begin_step(&mut self) -> (OptimizerConfig, i32) {
        self.steps += 1;
        (self.config, self.steps)
    }

    /// What is kept of each parameter, sorted by name.
    #[cfg(feature = "cuda")]
    pub(crate) fn slots(&self) -> impl Iterator<Item = (&str, &Slot)> {
        self.slots.iter().map(|(name, slot)| (name.as_str(), slot))
    }

    /// The same, to be changed.
    #[cfg(feature = "cuda")]
    pub(crate) fn slots_mut(&mut self) -> impl Iterator<Item = (&str, &mut Slot)> {
        self.slots.iter_mut().map(|(name, slot)| (name.as_str(), slot))
    }

    /// One step along the gradients. A parameter without a gradient stays as it is.
    ///
    /// # Errors
    /// A parameter is missing, or not f32 on the CPU.
    pub fn step(
        &mut self,
        parameters: &Parameters,
        gradients: &impl ParameterGradients,
        learning_rate: f64,
    ) -> Result<()> {
        self.steps += 1;
        for (name, slot) in &mut self.slots {
            let variable = parameters.variable(name)?;
            let (config, steps) = (self.config, self.steps);
            let learning_rate = learning_rate * slot.rate_factor;
            gradients.read(name, variable, &mut |gradient| {
                let update = Update { config, steps, learning_rate, gradient, slot: Mutex::new(&mut *slot) };
                variable.as_tensor().inplace_op1(&update)
            })?;
        }
        Ok(())
    }
}

/// Values that one task changes: enough to be worth a task, few enough to share a layer between cores.
const CHUNK: usize = 1 << 14;

struct Update<'a> {
    config: OptimizerConfig,
    steps: i32,
    learning_rate: f64,
    gradient: &'a [f32],
    slot: Mutex<&'a mut Slot>,
}

impl InplaceOp1 for Update<'_> {
    fn name(&self) -> &'static str {
        "optimizer-step"
    }

    fn cpu_fwd(&self, weight: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let CpuStorage::F32(weight) = weight else { bail!("optimizer: expected f32 parameters") };
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("optimizer: expected contiguous parameters")
        };
        let (weight, gradient) = (&mut weight[start..end], self.gradient);
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut **slot;
        if weight.len() != gradient.len() || weight.len() != slot.first.len() {
            bail!("optimizer: gradient: expected {} values, found {}", slot.first.len(), gradient.len());
        }
        let chunks = weight.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK)).zip(slot.first.par_chunks_mut(CHUNK));
        let (rate, decay) = (self.learning_rate as f32, slot.weight_decay as f32);
        match self.config {
            OptimizerConfig::Sgd { momentum, .. } => {
                let momentum = momentum as f32;
                chunks.for_each(|((w, g), v)| {
                    for ((w, g), v) in w.iter_mut().zip(g).zip(v) {
                        *v = momentum * *v + (g + decay * *w);
                        *w -= rate * *v;
                    }
                });
            }
            OptimizerConfig::Adamw { .. } => {
                let (beta1, beta2): (f64, f64) = (0.9, 0.999);
                let step = (self.learning_rate / (1.0 - beta1.powi(self.steps))) as f32;
                let correction = (1.0 - beta2.powi(self.steps)).sqrt().recip() as f32;
                // 1 - beta is rounded once, from f64: in f32 it would be off by 5e-5 of itself.
                let (rest1, rest2) = ((1.0 - beta1) as f32, (1.0 - beta2) as f32);
                let (beta1, beta2) = (beta1 as f32, beta2 as f32);
                chunks.zip(slot.second.par_chunks_mut(CHUNK)).for_each(|(((w, g), m), v)| {
                    for (((w, g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
                        *w *= 1.0 - rate * decay;
                        *m = beta1 * *m + rest1 * g;
                        *v = beta2 * *v + rest2 * g * g;
                        *w -= step * *m / (v.sqrt() * correction + 1e-8);
                    }
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor};
    use retinanet_ops::network::Initialization;

    /// Two steps on w = (1, -2) with loss 3 w0 + w1, whose gradient is (3, 1) everywhere.
    #[track_caller]
    fn check(config: OptimizerConfig, expected: [f64; 2]) {
        let run = || -> Result<Vec<f32>> {
            let spec = ParameterSpec {
                name: "w".to_owned(),
                shape: vec![2],
                kind: ParameterKind::Weight,
                trainable: true,
                initialization: Initialization::Normal(0.0),
                start: 0.0,
            };
            let parameters = Parameters::new([("w".to_owned(), Tensor::new(&[1f32, -2.0], &Device::Cpu)?)])?;
            let mut optimizer = Optimizer::new(config, &[spec]);
            for _ in 0..2 {
                let w = parameters.variable("w")?;
                let loss = (w.as_tensor() * Tensor::new(&[3f32, 1.0], &Device::Cpu)?)?.sum_all()?;
                optimizer.step(&parameters, &loss.backward()?, 0.1)?;
            }
            parameters.variable("w")?.to_vec1::<f32>()
        };
        let found = run().expect("two steps");
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-6, "{config:?}: expected {expected}, found {found}");
        }
    }

    #[test]
    fn two_steps_worked_by_hand() {
        // v = 3 then .5 * 3 + 3 = 4.5: w0 = 1 - .3 - .45; likewise w1 with 1 and 1.5.
        let sgd = |weight_decay: f64| OptimizerConfig::Sgd {
            momentum: 0.5,
            weight_decay,
            norm_weight_decay: 9.0,
            bias_weight_decay: Some(9.0),
        };
        check(sgd(0.0), [0.25, -2.25]);
        // Decay .1: g0 = 3.1, w0 = .69; g0 = 3.069, v = 4.619, w0 = .2281. g1 = .8, w1 = -2.08; g1 = .792, v = 1.192, w1 = -2.1992.
        check(sgd(0.1), [0.2281, -2.1992]);
        // A constant gradient moves Adam by the rate: m / (1 - beta1^t) = g and sqrt(v / (1 - beta2^t)) = |g|.
        let adamw = |weight_decay: f64| OptimizerConfig::Adamw {
            weight_decay,
            norm_weight_decay: 9.0,
            bias_weight_decay: Some(9.0),
        };
        check(adamw(0.0), [0.8, -2.2]);
        // Decay .5 shrinks by 1 - .05 first: (1 * .95 - .1) * .95 - .1, (-2 * .95 - .1) * .95 - .1.
        check(adamw(0.5), [0.7075, -2.0]);
    }

    #[test]
    fn decay_and_rate_belong_to_what_a_parameter_is_and_where() -> Result<()> {
        let spec = |name: &str, kind: ParameterKind| ParameterSpec {
            name: name.to_owned(),
            shape: vec![1],
            kind,
            trainable: true,
            initialization: Initialization::Normal(0.0),
            start: 0.0,
        };
        let specs = [
            spec("backbone.body.conv1.weight", ParameterKind::Weight),
            spec("backbone.body.bn1.weight", ParameterKind::NormWeight),
            spec("head.conv.weight", ParameterKind::Weight),
            spec("head.conv.bias", ParameterKind::Bias),
            spec("head.norm.bias", ParameterKind::NormBias),
        ];
        let one = || Tensor::new(&[1f32], &Device::Cpu);
        let after = |bias_weight_decay: Option<f64>| -> Result<Vec<f32>> {
            let config =
                OptimizerConfig::Sgd { momentum: 0.0, weight_decay: 0.5, norm_weight_decay: 0.0, bias_weight_decay };
            let parameters =
                Parameters::new(specs.iter().map(|spec| Ok((spec.name.clone(), one()?))).collect::<Result<Vec<_>>>()?)?;
            let mut loss = Tensor::zeros((), candle_core::DType::F32, &Device::Cpu)?;
            for (_, variable) in parameters.iter() {
                loss = (loss + variable.as_tensor().sum_all()?)?;
            }
            let rates = RateFactors { backbone: 0.5, layer_decay: 1.0 };
            Optimizer::with_rates(config, &rates, &specs).step(&parameters, &loss.backward()?, 0.5)?;
            specs.iter().map(|spec| Ok(parameters.detached(&spec.name)?.to_vec1::<f32>()?[0])).collect()
        };
        // The gradient is 1 everywhere: 1 - .25 (1 + .5), 1 - .25, 1 - .5 (1 + .5), then norms and biases without decay.
        assert_eq!(after(None)?, [0.625, 0.75, 0.25, 0.5, 0.5]);
        assert_eq!(after(Some(1.0))?, [0.625, 0.75, 0.25, 0.0, 0.5]);
        Ok(())
    }
}
