//! Group norm.

use super::tensors::{Numbers, check, image_shape, located, output, slice, tensor, with_element, zeros};
use crate::kernels::cpu::{self, Isa, group_norm_gradient, group_norm_workspace_len};
use crate::kernels::{Activation, ImageShape};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use std::sync::OnceLock;

const NAME: &str = "group_norm";

/// Group norm: `y = act((x - mean) / sqrt(variance + epsilon) * weight[c] + bias[c])`, mean and biased variance over the
/// pixels of an image and the channels of a group.
///
/// Source: Wu and He 2018, equation 7. Differentiable in `x`, `weight` and `bias`; the gradient of
/// [`Activation::Relu`] is 0 where the output is 0.
///
/// # Shapes
/// - `x`: `[N, H, W, C]`
/// - `weight`, `bias`: `[C]`
/// - returns `[N, H, W, C]`
///
/// # Numerics
/// Statistics are summed in double precision, in an order that does not depend on the number of threads.
///
/// # Errors
/// Shapes, dtypes or devices do not fit, `num_groups` does not divide the channels, a dimension is empty, or the dtype
/// is neither f32 nor f64.
pub fn group_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    num_groups: usize,
    epsilon: f64,
    activation: Activation,
) -> Result<Tensor> {
    let shape = image_shape(NAME, x)?;
    shape.check_not_empty().map_err(located(NAME))?;
    if num_groups == 0 || !shape.channels.is_multiple_of(num_groups) {
        bail!("{NAME}: groups: expected a divisor of {} channels, found {num_groups}", shape.channels);
    }
    check(NAME, "weight", weight, &[shape.channels], x.dtype())?;
    check(NAME, "bias", bias, &[shape.channels], x.dtype())?;
    let op = GroupNorm { shape, num_groups, epsilon, activation, statistics: OnceLock::new() };
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, op)
}

struct GroupNorm {
    shape: ImageShape,
    num_groups: usize,
    epsilon: f64,
    activation: Activation,
    /// Kept by the forward pass for the gradient.
    statistics: OnceLock<Vec<f64>>,
}

impl CustomOp3 for GroupNorm {
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
            let mut statistics = zeros(2 * self.shape.batch * self.num_groups);
            cpu::group_norm(
                Isa::detect(),
                &self.shape,
                self.num_groups,
                self.epsilon,
                slice::<T>(NAME, x, x_l)?,
                slice(NAME, weight, weight_l)?,
                slice(NAME, bias, bias_l)?,
                None,
                self.activation,
                &mut y,
                &mut statistics,
                &mut zeros(group_norm_workspace_len(&self.shape)),
            );
            // A second run of one operation finds the same numbers.
            self.statistics.get_or_init(|| statistics);
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
        let Some(statistics) = self.statistics.get() else {
            bail!("{NAME}: gradient: expected a forward pass before it, found none");
        };
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
            group_norm_gradient(
                Isa::detect(),
                &self.shape,
                self.num_groups,
                x_n.slice::<T>()?,
                weight_n.slice()?,
                statistics,
                Some(gradient.slice()?),
                relu_output,
                &mut x_gradient,
                &mut weight_gradient,
                &mut bias_gradient,
                &mut zeros(group_norm_workspace_len(&self.shape)),
            );
            Ok((
                Some(tensor::<T>(x_gradient, x.shape())?),
                Some(tensor::<T>(weight_gradient, channels)?),
                Some(tensor::<T>(bias_gradient, channels)?),
            ))
        })
    }
}
