//! A scale and a shift for each channel.

use super::tensors::{Numbers, check, image_shape, output, slice, tensor, with_element, zeros};
use crate::kernels::cpu::{self, Isa, channel_affine_gradient, channel_affine_workspace_len};
use crate::kernels::{Activation, ImageShape};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

const NAME: &str = "channel_affine";

/// `y = act(x * scale[c] + shift[c])`: a batch norm whose statistics are frozen, folded to two numbers a channel.
///
/// Differentiable in all three; the gradient of [`Activation::Relu`] is 0 where the output is 0.
///
/// # Shapes
/// - `x`: `[N, H, W, C]`
/// - `scale`, `shift`: `[C]`
/// - returns `[N, H, W, C]`
///
/// # Errors
/// Shapes, dtypes or devices do not fit, a dimension is empty, or the dtype is neither f32 nor f64.
pub fn channel_affine(x: &Tensor, scale: &Tensor, shift: &Tensor, activation: Activation) -> Result<Tensor> {
    let shape = image_shape(NAME, x)?;
    shape.check_not_empty().map_err(super::tensors::located(NAME))?;
    check(NAME, "scale", scale, &[shape.channels], x.dtype())?;
    check(NAME, "shift", shift, &[shape.channels], x.dtype())?;
    x.contiguous()?.apply_op3(&scale.contiguous()?, &shift.contiguous()?, ChannelAffine { shape, activation })
}

struct ChannelAffine {
    shape: ImageShape,
    activation: Activation,
}

impl CustomOp3 for ChannelAffine {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_l: &Layout,
        scale: &CpuStorage,
        scale_l: &Layout,
        shift: &CpuStorage,
        shift_l: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        with_element!(NAME, x.dtype(), T => {
            let (scale, shift) = (slice::<T>(NAME, scale, scale_l)?, slice(NAME, shift, shift_l)?);
            let mut y = zeros(self.shape.len());
            let mut workspace = zeros(channel_affine_workspace_len(&self.shape));
            let x = slice(NAME, x, x_l)?;
            cpu::channel_affine(
                Isa::detect(), &self.shape, x, scale, shift, self.activation, &mut y, &mut workspace,
            );
            Ok(output::<T>(y, x_l.shape()))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
        y: &Tensor,
        y_gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let y_gradient = y_gradient.contiguous()?;
        let [x_n, scale_n, y_n, gradient] = &[x, scale, y, &y_gradient].map(|tensor| Numbers::of(NAME, tensor));
        let parameters = scale.track_op() || shift.track_op();
        with_element!(NAME, x.dtype(), T => {
            let relu_output = match self.activation {
                Activation::None => None,
                Activation::Relu => Some(y_n.slice::<T>()?),
            };
            let channels = self.shape.channels;
            let mut x_gradient = zeros(self.shape.len());
            let (mut scale_gradient, mut shift_gradient) = (zeros(channels), zeros(channels));
            channel_affine_gradient(
                Isa::detect(),
                &self.shape,
                x_n.slice::<T>()?,
                scale_n.slice()?,
                gradient.slice()?,
                relu_output,
                &mut x_gradient,
                parameters.then_some((&mut scale_gradient, &mut shift_gradient)),
                &mut zeros(channel_affine_workspace_len(&self.shape)),
            );
            let parameter = |gradient: Vec<T>| parameters.then(|| tensor(gradient, channels)).transpose();
            Ok((Some(tensor(x_gradient, x.shape())?), parameter(scale_gradient)?, parameter(shift_gradient)?))
        })
    }
}
