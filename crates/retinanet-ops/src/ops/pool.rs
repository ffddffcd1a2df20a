//! Max pooling.

use super::tensors::{Numbers, image_shape, located, output, slice, tensor, with_element, zeros};
use crate::kernels::PoolShape;
use crate::kernels::cpu::{self, Isa, max_pool2d_gradient};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

const NAME: &str = "max_pool2d";

/// The maximum of each `kernel` x `kernel` window, padding counting as minus infinity.
///
/// Differentiable: each output's gradient goes to the first maximum of its window in row order, as in torch; NaN counts
/// as the maximum.
///
/// # Shapes
/// - `x`: `[N, H, W, C]`
/// - returns `[N, (H + 2 padding - kernel) / stride + 1, (W + 2 padding - kernel) / stride + 1, C]`
///
/// # Errors
/// The shape does not fit the window, padding is more than half the kernel, a dimension is empty, or the dtype is
/// neither f32 nor f64.
pub fn max_pool2d(x: &Tensor, kernel: usize, stride: usize, padding: usize) -> Result<Tensor> {
    let shape = PoolShape::new(image_shape(NAME, x)?, kernel, stride, padding).map_err(located(NAME))?;
    x.contiguous()?.apply_op1(MaxPool2d { shape })
}

struct MaxPool2d {
    shape: PoolShape,
}

impl CustomOp1 for MaxPool2d {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, x: &CpuStorage, x_l: &Layout) -> Result<(CpuStorage, Shape)> {
        with_element!(NAME, x.dtype(), T => {
            let out = self.shape.output();
            let mut y = zeros(out.len());
            cpu::max_pool2d(Isa::detect(), &self.shape, slice::<T>(NAME, x, x_l)?, &mut y);
            Ok(output::<T>(y, (out.batch, out.height, out.width, out.channels)))
        })
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, y_gradient: &Tensor) -> Result<Option<Tensor>> {
        let y_gradient = y_gradient.contiguous()?;
        let (numbers, gradient) = (Numbers::of(NAME, x), Numbers::of(NAME, &y_gradient));
        with_element!(NAME, x.dtype(), T => {
            let mut x_gradient = zeros(x.elem_count());
            let (numbers, gradient) = (numbers.slice::<T>()?, gradient.slice()?);
            max_pool2d_gradient(Isa::detect(), &self.shape, numbers, gradient, &mut x_gradient);
            Ok(Some(tensor::<T>(x_gradient, x.shape())?))
        })
    }
}
