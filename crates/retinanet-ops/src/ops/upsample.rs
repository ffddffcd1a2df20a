//! Nearest upsampling.

use super::tensors::{Numbers, image_shape, located, output, slice, tensor, with_element, zeros};
use crate::kernels::ImageShape;
use crate::kernels::cpu::{self, Isa, upsample_nearest2d_gradient};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

const NAME: &str = "upsample_nearest2d";

/// The nearest pixel for each of a given size: output row `i` is input row `floor(i * H / height)`, columns likewise, as
/// torch's mode "nearest" has it.
///
/// Differentiable: a pixel's gradient is the sum over its copies.
///
/// # Shapes
/// - `x`: `[N, H, W, C]`
/// - returns `[N, height, width, C]`
///
/// # Errors
/// A dimension or the size is empty, or the dtype is neither f32 nor f64.
pub fn upsample_nearest2d(x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let shape = image_shape(NAME, x)?;
    shape.check_not_empty().map_err(located(NAME))?;
    if height == 0 || width == 0 {
        bail!("{NAME}: size: expected at least 1x1, found {width}x{height}");
    }
    x.contiguous()?.apply_op1(UpsampleNearest2d { shape, size: (height, width) })
}

struct UpsampleNearest2d {
    shape: ImageShape,
    size: (usize, usize),
}

impl CustomOp1 for UpsampleNearest2d {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, x: &CpuStorage, x_l: &Layout) -> Result<(CpuStorage, Shape)> {
        with_element!(NAME, x.dtype(), T => {
            let ImageShape { batch, channels, .. } = self.shape;
            let (height, width) = self.size;
            let mut y = zeros(batch * height * width * channels);
            cpu::upsample_nearest2d(&self.shape, self.size, slice::<T>(NAME, x, x_l)?, &mut y);
            Ok(output::<T>(y, (batch, height, width, channels)))
        })
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, y_gradient: &Tensor) -> Result<Option<Tensor>> {
        let y_gradient = y_gradient.contiguous()?;
        let gradient = Numbers::of(NAME, &y_gradient);
        with_element!(NAME, x.dtype(), T => {
            let mut x_gradient = zeros(x.elem_count());
            let gradient = gradient.slice::<T>()?;
            upsample_nearest2d_gradient(Isa::detect(), &self.shape, self.size, gradient, &mut x_gradient);
            Ok(Some(tensor::<T>(x_gradient, x.shape())?))
        })
    }
}
