//! The parameters of a layer as slices.

use super::super::plan::PlanError;
use super::super::{ConvLayer, NormKind, Parameters};
use crate::ops::tensors::Numbers;
use candle_core::{Tensor, bail};

/// A layer's tensors, held while a step reads them.
pub(super) struct Tensors {
    weight: Tensor,
    /// Bias, or the norm's weight and bias, and the statistics of a frozen norm.
    others: Vec<Tensor>,
}

impl Tensors {
    pub(super) fn of(parameters: &Parameters, layer: &ConvLayer) -> Result<Self, PlanError> {
        let tensor = |prefix: &str, leaf: &str, shape: &[usize]| -> candle_core::Result<Tensor> {
            let name = format!("{prefix}.{leaf}");
            let tensor = parameters.detached(&name)?;
            if tensor.dims() != shape {
                bail!("{name}: shape: expected {shape:?}, found {:?}", tensor.dims());
            }
            Ok(tensor)
        };
        let channels = [layer.out_channels];
        let weight = [layer.out_channels, layer.in_channels / layer.conv.groups.max(1), layer.kernel, layer.kernel];
        let others = match (&layer.norm, layer.applied_norm()) {
            (Some((name, _)), Some(NormKind::FrozenBatch { .. })) => {
                let leaves = ["weight", "bias", "running_mean", "running_var"];
                leaves.iter().map(|leaf| tensor(name, leaf, &channels)).collect::<Result<_, _>>()?
            }
            (Some((name, _)), _) => {
                vec![tensor(name, "weight", &channels)?, tensor(name, "bias", &channels)?]
            }
            (None, _) => vec![tensor(&layer.name, "bias", &channels)?],
        };
        Ok(Self { weight: tensor(&layer.name, "weight", &weight)?, others })
    }

    /// Calls `body` with the numbers of the weight and of the others.
    pub(super) fn with<R>(&self, body: impl FnOnce(&[f32], &[&[f32]]) -> Result<R, PlanError>) -> Result<R, PlanError> {
        let weight = Numbers::of("training", &self.weight);
        let others: Vec<Numbers> = self.others.iter().map(|tensor| Numbers::of("training", tensor)).collect();
        let others = others.iter().map(Numbers::slice::<f32>).collect::<candle_core::Result<Vec<_>>>()?;
        body(weight.slice()?, &others)
    }
}

/// A convolution with a frozen norm as a convolution with another weight, w[c] * scale[c], and a shift.
#[derive(Debug, Default)]
pub(super) struct Folded {
    pub(super) weight: Vec<f32>,
    pub(super) scale: Vec<f32>,
    pub(super) shift: Vec<f32>,
}

impl Folded {
    /// Folds weight, bias, mean and variance of a norm into a convolution's weight.
    pub(super) fn fold(&mut self, weight: &[f32], norm: &[&[f32]], epsilon: f64) {
        let [factor, bias, mean, variance] = norm else { unreachable!("a frozen norm has four tensors") };
        let scale = factor.iter().zip(*variance);
        self.scale.clear();
        self.scale.extend(scale.map(|(&w, &variance)| (f64::from(w) / (f64::from(variance) + epsilon).sqrt()) as f32));
        let shift = bias.iter().zip(*mean).zip(&self.scale);
        self.shift.clear();
        self.shift.extend(shift.map(|((&b, &m), &s)| (f64::from(b) - f64::from(m) * f64::from(s)) as f32));
        let channels = weight.chunks_exact(weight.len() / self.scale.len());
        self.weight.clear();
        self.weight.extend(channels.zip(&self.scale).flat_map(|(weight, scale)| weight.iter().map(move |w| w * scale)));
    }
}
