//! Sum of two tensors, with an activation.

use super::tensors::{Numbers, check, output, slice, tensor, with_element, zeros};
use crate::kernels::Activation;
use crate::kernels::cpu::{self, Isa, relu_gradient};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

const NAME: &str = "add";

/// `y = act(a + b)`: a residual connection.
///
/// Differentiable in both; the gradient of [`Activation::Relu`] is 0 where the output is 0.
///
/// # Shapes
/// `a`, `b` and the result have one shape, of any rank.
///
/// # Errors
/// Shapes, dtypes or devices differ, there are no numbers, or the dtype is neither f32 nor f64.
pub fn add(a: &Tensor, b: &Tensor, activation: Activation) -> Result<Tensor> {
    check(NAME, "second term", b, a.dims(), a.dtype())?;
    if a.elem_count() == 0 {
        bail!("{NAME}: input: expected no empty dimension, found {:?}", a.dims());
    }
    a.contiguous()?.apply_op2(&b.contiguous()?, Add { activation })
}

struct Add {
    activation: Activation,
}

impl CustomOp2 for Add {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, a: &CpuStorage, a_l: &Layout, b: &CpuStorage, b_l: &Layout) -> Result<(CpuStorage, Shape)> {
        with_element!(NAME, a.dtype(), T => {
            let (a, b) = (slice::<T>(NAME, a, a_l)?, slice::<T>(NAME, b, b_l)?);
            let mut y = zeros(a.len());
            cpu::add(Isa::detect(), a, b, self.activation, &mut y);
            Ok(output::<T>(y, a_l.shape()))
        })
    }

    fn bwd(
        &self,
        _a: &Tensor,
        _b: &Tensor,
        y: &Tensor,
        y_gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = match self.activation {
            Activation::None => y_gradient.clone(),
            Activation::Relu => {
                let y_gradient = y_gradient.contiguous()?;
                let (gradient, numbers) = (Numbers::of(NAME, &y_gradient), Numbers::of(NAME, y));
                with_element!(NAME, y.dtype(), T => {
                    let mut out = zeros(y.elem_count());
                    relu_gradient(Isa::detect(), gradient.slice::<T>()?, numbers.slice()?, &mut out);
                    tensor::<T>(out, y.shape())?
                })
            }
        };
        Ok((Some(gradient.clone()), Some(gradient)))
    }
}
