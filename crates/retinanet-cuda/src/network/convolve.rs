//! Convolutions over spans, which are checked.

use crate::device::{Activation, Convolution, Pass, Span};
use crate::error::{Error, Result};

/// `y = activation(conv(x, weight) + bias + residual)`.
pub(super) struct Forward<'a> {
    pub(super) x: Span<'a>,
    pub(super) weight: Span<'a>,
    pub(super) bias: Option<Span<'a>>,
    pub(super) residual: Option<Span<'a>>,
    pub(super) activation: Activation,
    pub(super) y: Span<'a>,
}

/// Runs a convolution forward.
pub(super) fn forward(convolution: &Convolution, maps: Forward<'_>) -> Result<()> {
    let Forward { x, weight, bias, residual, activation, y } = maps;
    let lens = Lens::of(convolution);
    check("input", x, lens.x)?;
    check("weight", weight, lens.weight)?;
    bias.map_or(Ok(()), |bias| check("bias", bias, lens.bias))?;
    residual.map_or(Ok(()), |residual| check("residual", residual, lens.y))?;
    check("output", y, lens.y)?;
    let pass = Pass::Forward {
        x: x.address(),
        weight: weight.address(),
        bias: bias.map(|bias| bias.address()),
        residual: residual.map(|residual| residual.address()),
        activation,
        y: y.address(),
    };
    // SAFETY: all spans were just checked.
    unsafe { y.device().convolve(convolution, &pass) }
}

/// Writes, or adds to, the gradient of the input.
pub(super) fn input_gradient(
    convolution: &Convolution,
    weight: Span<'_>,
    y_gradient: Span<'_>,
    accumulate: bool,
    x_gradient: Span<'_>,
) -> Result<()> {
    let lens = Lens::of(convolution);
    check("weight", weight, lens.weight)?;
    check("gradient of the output", y_gradient, lens.y)?;
    check("gradient of the input", x_gradient, lens.x)?;
    let (weight, y_gradient) = (weight.address(), y_gradient.address());
    let pass = Pass::InputGradient { weight, y_gradient, x_gradient: x_gradient.address(), accumulate };
    // SAFETY: all spans were just checked.
    unsafe { x_gradient.device().convolve(convolution, &pass) }
}

/// Writes the gradient of the packed weight.
pub(super) fn weight_gradient(
    convolution: &Convolution,
    x: Span<'_>,
    y_gradient: Span<'_>,
    weight_gradient: Span<'_>,
) -> Result<()> {
    let lens = Lens::of(convolution);
    check("input", x, lens.x)?;
    check("gradient of the output", y_gradient, lens.y)?;
    check("gradient of the weight", weight_gradient, lens.weight)?;
    let (x, y_gradient, device) = (x.address(), y_gradient.address(), weight_gradient.device());
    let weight_gradient = weight_gradient.address();
    let pass = Pass::WeightGradient { x, y_gradient, weight_gradient, accumulate: false };
    // SAFETY: all spans were just checked.
    unsafe { device.convolve(convolution, &pass) }
}

/// Bytes.
struct Lens {
    x: usize,
    y: usize,
    weight: usize,
    bias: usize,
}

impl Lens {
    fn of(convolution: &Convolution) -> Self {
        let (shape, size) = (convolution.shape, convolution.element.size());
        Self {
            x: shape.input().len() * size,
            y: shape.output().len() * size,
            weight: shape.weight().iter().product::<usize>() * size,
            bias: shape.output().channels * size_of::<f32>(),
        }
    }
}

fn check(what: &str, span: Span<'_>, bytes: usize) -> Result<()> {
    if span.bytes() >= bytes {
        return Ok(());
    }
    let (expected, found) = (format!("{bytes} bytes"), span.bytes().to_string());
    Err(Error::Mismatch { place: format!("convolution: {what}"), expected, found })
}
