//! Batch norm in training.

use super::tensors::{Numbers, check, image_shape, located, output, slice, tensor, with_element, zeros};
use crate::kernels::cpu::{self, Isa, batch_norm_gradient, batch_norm_statistics, batch_norm_workspace_len};
use crate::kernels::{Activation, ImageShape};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Device, Layout, Result, Shape, Tensor};

const NAME: &str = "batch_norm";

/// Statistics of a batch, for the running ones. They carry no gradient.
#[derive(Clone, Debug)]
pub struct BatchStatistics {
    /// `[C]`.
    pub mean: Tensor,
    /// `[C]`, biased: divided by the count. Running variances take it times `count / (count - 1)`.
    pub variance: Tensor,
    /// N * H * W.
    pub count: usize,
}

/// Batch norm by the batch's own statistics: `y = act((x - mean[c]) / sqrt(variance[c] + epsilon) * weight[c] + bias[c])`.
///
/// Source: Ioffe and Szegedy 2015, algorithm 1. Differentiable in `x` (through the statistics too), `weight` and `bias`;
/// the gradient of [`Activation::Relu`] is 0 where the output is 0.
///
/// # Shapes
/// - `x`: `[N, H, W, C]`
/// - `weight`, `bias`: `[C]`
/// - returns `[N, H, W, C]` and the batch's statistics
///
/// # Numerics
/// Statistics are summed in double precision, in an order that does not depend on the number of threads. A batch of one
/// pixel is normalised to 0.
///
/// # Errors
/// Shapes, dtypes or devices do not fit, a dimension is empty, or the dtype is neither f32 nor f64.
pub fn batch_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    epsilon: f64,
    activation: Activation,
) -> Result<(Tensor, BatchStatistics)> {
    let shape = image_shape(NAME, x)?;
    shape.check_not_empty().map_err(located(NAME))?;
    check(NAME, "weight", weight, &[shape.channels], x.dtype())?;
    check(NAME, "bias", bias, &[shape.channels], x.dtype())?;
    let x = x.contiguous()?;
    let mut statistics: Vec<f64> = zeros(2 * shape.channels);
    with_element!(NAME, x.dtype(), T => {
        let numbers = Numbers::of(NAME, &x);
        let mut workspace = zeros(batch_norm_workspace_len(&shape));
        batch_norm_statistics(Isa::detect(), &shape, numbers.slice::<T>()?, &mut statistics, &mut workspace);
    });
    let (mean, variance) = statistics.split_at(shape.channels);
    let vector = |numbers: &[f64]| Tensor::from_slice(numbers, shape.channels, &Device::Cpu)?.to_dtype(x.dtype());
    let batch_statistics =
        BatchStatistics { mean: vector(mean)?, variance: vector(variance)?, count: shape.num_pixels() };
    let op = BatchNorm { shape, epsilon, activation, statistics };
    Ok((x.apply_op3(&weight.contiguous()?, &bias.contiguous()?, op)?, batch_statistics))
}

struct BatchNorm {
    shape: ImageShape,
    epsilon: f64,
    activation: Activation,
    /// Mean and biased variance, `[2, C]`.
    statistics: Vec<f64>,
}

impl CustomOp3 for BatchNorm {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_l: &Layout,
        weight: &CpuStorage,
        weight_l: &Layout,
        bias: &CpuStorage,
        bias_l: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        with_element!(NAME, x.dtype(), T => {
            let mut y = zeros(self.shape.len());
            cpu::batch_norm(
                Isa::detect(),
                &self.shape,
                self.epsilon,
                slice::<T>(NAME, x, x_l)?,
                slice(NAME, weight, weight_l)?,
                slice(NAME, bias, bias_l)?,
                &self.statistics,
                None,
                self.activation,
                &mut y,
                &mut zeros(batch_norm_workspace_len(&self.shape)),
            );
            Ok(output::<T>(y, x_l.shape()))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _bias: &Tensor,
        y: &Tensor,
        y_gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let y_gradient = y_gradient.contiguous()?;
        let [x_n, weight_n, y_n, gradient] = &[x, weight, y, &y_gradient].map(|tensor| Numbers::of(NAME, tensor));
        with_element!(NAME, x.dtype(), T => {
            let relu_output = match self.activation {
                Activation::None => None,
                Activation::Relu => Some(y_n.slice::<T>()?),
            };
            let channels = self.shape.channels;
            let mut x_gradient = zeros(self.shape.len());
            let (mut weight_gradient, mut bias_gradient) = (zeros(channels), zeros(channels));
            batch_norm_gradient(
                Isa::detect(),
                &self.shape,
                self.epsilon,
                x_n.slice::<T>()?,
                weight_n.slice()?,
                &self.statistics,
                Some(gradient.slice()?),
                relu_output,
                &mut x_gradient,
                &mut weight_gradient,
                &mut bias_gradient,
                &mut zeros(batch_norm_workspace_len(&self.shape)),
            );
            Ok((
                Some(tensor::<T>(x_gradient, x.shape())?),
                Some(tensor::<T>(weight_gradient, channels)?),
                Some(tensor::<T>(bias_gradient, channels)?),
            ))
        })
    }
}
