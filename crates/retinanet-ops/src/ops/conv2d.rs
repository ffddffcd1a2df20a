//! Convolution.

use super::tensors::{Numbers, check, image_shape, located, output, slice, tensor, with_element, zeros};
use crate::kernels::cpu::{
    Element, Epilogue, Isa, conv2d_input_gradient, conv2d_input_gradient_workspace_len, conv2d_weight_gradient,
    conv2d_weight_gradient_workspace_len, conv2d_workspace_len, pack_weights, pack_weights_for_input_gradient,
    packed_weights_for_input_gradient_len, packed_weights_len,
};
use crate::kernels::{Activation, ConvShape, ImageShape, cpu};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, WithDType, bail};

const NAME: &str = "conv2d";

/// How a convolution slides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv2d {
    /// Pixels from one window to the next; 1 by default.
    pub stride: usize,
    /// Zero pixels around the input; 0 by default.
    pub padding: usize,
    /// Groups of channels that do not see each other; 1 by default.
    pub groups: usize,
}

impl Default for Conv2d {
    fn default() -> Self {
        Self { stride: 1, padding: 0, groups: 1 }
    }
}

impl Conv2d {
    fn shape(&self, x: &Tensor, weight: &Tensor) -> Result<ConvShape> {
        let input = image_shape(NAME, x)?;
        let &[out_channels, group_channels, kernel_height, kernel_width] = weight.dims() else {
            bail!("{NAME}: weight: expected [Cout, Cin / groups, kh, kw], found {:?}", weight.dims());
        };
        let weight_dims = [out_channels, group_channels, kernel_height, kernel_width];
        let shape =
            ConvShape::new(input, weight_dims, self.stride, self.padding, self.groups).map_err(located(NAME))?;
        check(NAME, "weight", weight, &weight_dims, x.dtype())?;
        Ok(shape)
    }
}

/// Convolution of channels-last maps: `y = act(sum over taps and channels of x * weight + bias)`.
///
/// The cross-correlation that every framework calls convolution. Differentiable in `x`, `weight` and `bias`; the
/// gradient of [`Activation::Relu`] is 0 where the output is 0.
///
/// # Shapes
/// - `x`: `[N, H, W, Cin]`
/// - `weight`: `[Cout, Cin / groups, kh, kw]`
/// - `bias`: `[Cout]`
/// - returns `[N, (H + 2 padding - kh) / stride + 1, (W + 2 padding - kw) / stride + 1, Cout]`
///
/// # Numerics
/// Sums run in the tensors' type. The same bits for any number of threads.
///
/// # Errors
/// Shapes, dtypes or devices do not fit, a dimension is empty, or the dtype is neither f32 nor f64.
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    conv: Conv2d,
    activation: Activation,
) -> Result<Tensor> {
    let op = Convolution { shape: conv.shape(x, weight)?, activation };
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    match bias {
        None => x.apply_op2(&weight, op),
        Some(bias) => {
            check(NAME, "bias", bias, &[op.shape.output().channels], x.dtype())?;
            x.apply_op3(&weight, &bias.contiguous()?, op)
        }
    }
}

/// Convolution for inference: `y = act(conv(x) * scale[c] + shift[c] + residual)`, without a gradient.
///
/// # Shapes
/// - `x`, `weight`: as for [`conv2d`]
/// - `scale`, `shift`: `[Cout]`
/// - `residual`: as the output
///
/// # Errors
/// As for [`conv2d`].
pub fn conv2d_fused(
    x: &Tensor,
    weight: &Tensor,
    scale: Option<&Tensor>,
    shift: Option<&Tensor>,
    residual: Option<&Tensor>,
    conv: Conv2d,
    activation: Activation,
) -> Result<Tensor> {
    let conv_shape = conv.shape(x, weight)?;
    let out = conv_shape.output();
    let contiguous = |what: &str, tensor: Option<&Tensor>, dims: &[usize]| {
        tensor.map(|tensor| check(NAME, what, tensor, dims, x.dtype()).and_then(|()| tensor.contiguous())).transpose()
    };
    let epilogue = Fused {
        shape: conv_shape,
        scale: contiguous("scale", scale, &[out.channels])?,
        shift: contiguous("shift", shift, &[out.channels])?,
        residual: contiguous("residual", residual, &dims(out))?,
        activation,
    };
    x.contiguous()?.apply_op2_no_bwd(&weight.contiguous()?, &epilogue)
}

fn dims(shape: ImageShape) -> [usize; 4] {
    [shape.batch, shape.height, shape.width, shape.channels]
}

fn forward<T: Element + WithDType>(
    shape: &ConvShape,
    x: &[T],
    weight: &[T],
    epilogue: Epilogue<T>,
) -> (CpuStorage, Shape) {
    let isa = Isa::detect();
    let mut packed = zeros(packed_weights_len::<T>(isa, shape));
    pack_weights(isa, shape, weight, &mut packed);
    let mut y = zeros(shape.output().len());
    let mut workspace = zeros(conv2d_workspace_len::<T>(shape));
    cpu::conv2d(isa, shape, x, &packed, epilogue, &mut y, &mut workspace);
    output(y, &dims(shape.output()))
}

struct Fused {
    shape: ConvShape,
    scale: Option<Tensor>,
    shift: Option<Tensor>,
    residual: Option<Tensor>,
    activation: Activation,
}

impl CustomOp2 for Fused {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, x: &CpuStorage, x_l: &Layout, w: &CpuStorage, w_l: &Layout) -> Result<(CpuStorage, Shape)> {
        let [scale, shift, residual] = [&self.scale, &self.shift, &self.residual]
            .map(|tensor| tensor.as_ref().map(|tensor| Numbers::of(NAME, tensor)));
        with_element!(NAME, x.dtype(), T => {
            let epilogue = Epilogue {
                scale: scale.as_ref().map(Numbers::slice::<T>).transpose()?,
                shift: shift.as_ref().map(Numbers::slice).transpose()?,
                residual: residual.as_ref().map(Numbers::slice).transpose()?,
                activation: self.activation,
            };
            Ok(forward::<T>(&self.shape, slice(NAME, x, x_l)?, slice(NAME, w, w_l)?, epilogue))
        })
    }
}

struct Convolution {
    shape: ConvShape,
    activation: Activation,
}

impl Convolution {
    /// The gradients of input, weight and bias; of those that need none, and of the tensors that no variable feeds, none.
    fn gradients(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        y: &Tensor,
        y_gradient: &Tensor,
    ) -> Result<[Option<Tensor>; 3]> {
        let y_gradient = y_gradient.contiguous()?;
        let numbers = [x, weight, y, &y_gradient].map(|tensor| Numbers::of(NAME, tensor));
        with_element!(NAME, x.dtype(), T => {
            let [x_numbers, weight_numbers, y_numbers, gradient] = &numbers;
            let (x_numbers, gradient) = (x_numbers.slice::<T>()?, gradient.slice::<T>()?);
            let relu_output = match self.activation {
                Activation::None => None,
                Activation::Relu => Some(y_numbers.slice::<T>()?),
            };
            let (isa, shape) = (Isa::detect(), &self.shape);
            let mut gradients = [None, None, None];
            if x.track_op() {
                let mut packed = zeros(packed_weights_for_input_gradient_len::<T>(isa, shape));
                pack_weights_for_input_gradient(isa, shape, weight_numbers.slice()?, &mut packed);
                let mut x_gradient = zeros(shape.input().len());
                let mut workspace = zeros(conv2d_input_gradient_workspace_len::<T>(shape));
                conv2d_input_gradient(isa, shape, gradient, relu_output, &packed, &mut x_gradient, &mut workspace);
                gradients[0] = Some(tensor::<T>(x_gradient, x.shape())?);
            }
            if weight.track_op() || bias.is_some_and(Tensor::track_op) {
                let mut weight_gradient = zeros(weight.elem_count());
                let mut bias_gradient = bias.map(|bias| zeros(bias.elem_count()));
                let mut workspace = zeros(conv2d_weight_gradient_workspace_len::<T>(isa, shape));
                conv2d_weight_gradient(
                    isa,
                    shape,
                    x_numbers,
                    gradient,
                    relu_output,
                    &mut weight_gradient,
                    bias_gradient.as_deref_mut(),
                    &mut workspace,
                );
                gradients[1] = Some(tensor::<T>(weight_gradient, weight.shape())?);
                gradients[2] = bias_gradient.map(|gradient| {
                    let len = gradient.len();
                    tensor::<T>(gradient, len)
                }).transpose()?;
            }
            Ok(gradients)
        })
    }
}

impl CustomOp2 for Convolution {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, x: &CpuStorage, x_l: &Layout, w: &CpuStorage, w_l: &Layout) -> Result<(CpuStorage, Shape)> {
        with_element!(NAME, x.dtype(), T => {
            let epilogue = Epilogue { activation: self.activation, ..Epilogue::default() };
            Ok(forward::<T>(&self.shape, slice(NAME, x, x_l)?, slice(NAME, w, w_l)?, epilogue))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        y: &Tensor,
        y_gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [x_gradient, weight_gradient, _] = self.gradients(x, weight, None, y, y_gradient)?;
        Ok((x_gradient, weight_gradient))
    }
}

impl CustomOp3 for Convolution {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_l: &Layout,
        w: &CpuStorage,
        w_l: &Layout,
        b: &CpuStorage,
        b_l: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        with_element!(NAME, x.dtype(), T => {
            let shift = Some(slice::<T>(NAME, b, b_l)?);
            let epilogue = Epilogue { shift, activation: self.activation, ..Epilogue::default() };
            Ok(forward(&self.shape, slice(NAME, x, x_l)?, slice(NAME, w, w_l)?, epilogue))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        y: &Tensor,
        y_gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [x_gradient, weight_gradient, bias_gradient] = self.gradients(x, weight, Some(bias), y, y_gradient)?;
        Ok((x_gradient, weight_gradient, bias_gradient))
    }
}
