//! What executes a described network.

use super::{ConvLayer, NormKind, Parameters};
use crate::{
    Activation, BatchStatistics, add, batch_norm, channel_affine, conv2d, conv2d_fused, group_norm, max_pool2d,
    upsample_nearest2d,
};
use candle_core::{Result, Tensor};

/// Executes a network's layers on values of its own kind: tensors, or the steps of a plan.
pub trait Engine {
    /// What flows between layers.
    type Value: Clone;

    /// `activation(norm(conv(x)) + residual)`.
    ///
    /// # Errors
    /// A parameter is missing or the shapes do not fit.
    fn conv(&mut self, layer: &ConvLayer, x: &Self::Value, residual: Option<&Self::Value>) -> Result<Self::Value>;

    /// Max pooling with a square window, padded by minus infinity.
    ///
    /// # Errors
    /// The input is not a channels-last batch of images.
    fn max_pool(&mut self, x: &Self::Value, kernel: usize, stride: usize, padding: usize) -> Result<Self::Value>;

    /// `upsample(coarse) + fine`: nearest neighbour, to the size of `fine` (the FPN's top-down step).
    ///
    /// # Errors
    /// Batch or channels differ.
    fn upsample_add(&mut self, coarse: &Self::Value, fine: &Self::Value) -> Result<Self::Value>;

    /// max(0, x).
    ///
    /// # Errors
    /// The engine cannot hold the result.
    fn relu(&mut self, x: &Self::Value) -> Result<Self::Value>;
}

/// Runs candle tensors `[N, H, W, C]` and keeps the graph for the gradients; batch norms use the batch's statistics.
#[derive(Debug)]
pub struct TrainingEngine<'a> {
    parameters: &'a Parameters,
    running: Vec<(String, f64, BatchStatistics)>,
}

impl<'a> TrainingEngine<'a> {
    /// An engine over these parameters.
    pub fn new(parameters: &'a Parameters) -> Self {
        Self { parameters, running: Vec::new() }
    }

    /// Moves the running statistics of every batch norm that ran by its momentum, the variance unbiased as torch has it.
    ///
    /// Apart from the forward pass, so that a step whose loss is not finite can be dropped with nothing changed.
    ///
    /// # Errors
    /// A running statistic is missing.
    pub fn update_running_statistics(self) -> Result<()> {
        for (name, momentum, statistics) in self.running {
            let count = statistics.count as f64;
            let unbiased = (statistics.variance * (count / (count - 1.0).max(1.0)))?;
            for (leaf, batch) in [("running_mean", statistics.mean), ("running_var", unbiased)] {
                let variable = self.parameters.variable(&format!("{name}.{leaf}"))?;
                variable.set(&((variable.as_detached_tensor() * (1.0 - momentum))? + (batch * momentum)?)?)?;
            }
        }
        Ok(())
    }

    fn tensor(&self, layer: &ConvLayer, prefix: &str, leaf: &str) -> Result<Tensor> {
        let variable = self.parameters.variable(&format!("{prefix}.{leaf}"))?;
        Ok(if layer.trainable { variable.as_tensor().clone() } else { variable.as_detached_tensor() })
    }
}

impl Engine for TrainingEngine<'_> {
    type Value = Tensor;

    fn conv(&mut self, layer: &ConvLayer, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        let weight = self.tensor(layer, &layer.name, "weight")?;
        // With a residual the activation comes after the sum; without one it is fused with what stands last.
        let inner = if residual.is_some() { Activation::None } else { layer.activation };
        let y = match (&layer.norm, layer.applied_norm()) {
            (Some((name, _)), Some(kind)) => {
                let y = conv2d(x, &weight, None, layer.conv, Activation::None)?;
                let (scale, shift) = (self.tensor(layer, name, "weight")?, self.tensor(layer, name, "bias")?);
                match kind {
                    NormKind::FrozenBatch { epsilon } => {
                        let (scale, shift) = fold(self.parameters, name, epsilon)?;
                        channel_affine(&y, &scale, &shift, inner)?
                    }
                    NormKind::Batch { epsilon, momentum } => {
                        let (y, statistics) = batch_norm(&y, &scale, &shift, epsilon, inner)?;
                        self.running.push((name.clone(), momentum, statistics));
                        y
                    }
                    NormKind::Group { groups, epsilon } => group_norm(&y, &scale, &shift, groups, epsilon, inner)?,
                }
            }
            _ => conv2d(x, &weight, Some(&self.tensor(layer, &layer.name, "bias")?), layer.conv, inner)?,
        };
        match residual {
            Some(residual) => add(&y, residual, layer.activation),
            None => Ok(y),
        }
    }

    fn max_pool(&mut self, x: &Tensor, kernel: usize, stride: usize, padding: usize) -> Result<Tensor> {
        max_pool2d(x, kernel, stride, padding)
    }

    fn upsample_add(&mut self, coarse: &Tensor, fine: &Tensor) -> Result<Tensor> {
        upsample_add(coarse, fine)
    }

    fn relu(&mut self, x: &Tensor) -> Result<Tensor> {
        // candle's own gradient of ReLU is 1 at 0 where torch's is 0, so it is written as the maximum with a constant.
        x.gt(0.0)?.to_dtype(x.dtype())? * x
    }
}

/// Runs candle tensors `[N, H, W, C]` with norm, residual and activation fused into the convolution, and no graph.
#[derive(Clone, Copy, Debug)]
pub struct InferenceEngine<'a> {
    parameters: &'a Parameters,
}

impl<'a> InferenceEngine<'a> {
    /// An engine over these parameters.
    pub fn new(parameters: &'a Parameters) -> Self {
        Self { parameters }
    }
}

impl Engine for InferenceEngine<'_> {
    type Value = Tensor;

    fn conv(&mut self, layer: &ConvLayer, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        let weight = self.parameters.detached(&format!("{}.weight", layer.name))?;
        match &layer.norm {
            Some((name, NormKind::FrozenBatch { epsilon } | NormKind::Batch { epsilon, .. })) => {
                let (scale, shift) = fold(self.parameters, name, *epsilon)?;
                conv2d_fused(x, &weight, Some(&scale), Some(&shift), residual, layer.conv, layer.activation)
            }
            Some((name, NormKind::Group { groups, epsilon })) => {
                let y = conv2d_fused(x, &weight, None, None, None, layer.conv, Activation::None)?;
                let scale = self.parameters.detached(&format!("{name}.weight"))?;
                let shift = self.parameters.detached(&format!("{name}.bias"))?;
                let inner = if residual.is_some() { Activation::None } else { layer.activation };
                let y = group_norm(&y, &scale, &shift, *groups, *epsilon, inner)?;
                residual.map_or(Ok(y.clone()), |residual| add(&y, residual, layer.activation))
            }
            None => {
                let bias = self.parameters.detached(&format!("{}.bias", layer.name))?;
                conv2d_fused(x, &weight, None, Some(&bias), residual, layer.conv, layer.activation)
            }
        }
    }

    fn max_pool(&mut self, x: &Tensor, kernel: usize, stride: usize, padding: usize) -> Result<Tensor> {
        max_pool2d(x, kernel, stride, padding)
    }

    fn upsample_add(&mut self, coarse: &Tensor, fine: &Tensor) -> Result<Tensor> {
        upsample_add(coarse, fine)
    }

    fn relu(&mut self, x: &Tensor) -> Result<Tensor> {
        x.relu()
    }
}

fn upsample_add(coarse: &Tensor, fine: &Tensor) -> Result<Tensor> {
    let (_, height, width, _) = fine.dims4()?;
    add(&upsample_nearest2d(coarse, height, width)?, fine, Activation::None)
}

/// A batch norm with stored statistics as one scale and one shift a channel: w / sqrt(var + eps), b - mean * scale.
fn fold(parameters: &Parameters, name: &str, epsilon: f64) -> Result<(Tensor, Tensor)> {
    let tensor = |leaf: &str| parameters.detached(&format!("{name}.{leaf}"));
    let scale = (tensor("weight")? / (tensor("running_var")? + epsilon)?.sqrt()?)?;
    let shift = (tensor("bias")? - (tensor("running_mean")? * &scale)?)?;
    Ok((scale, shift))
}
