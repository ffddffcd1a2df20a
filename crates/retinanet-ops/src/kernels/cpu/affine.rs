//! A scale and a shift for each channel: a norm whose statistics are frozen.

use super::columns::{Columns, gradient_sums, linear, linear_gradient};
use super::{Element, Isa};
use crate::kernels::{Activation, ImageShape};

fn columns(shape: &ImageShape) -> Columns {
    Columns { groups: 1, pixels: shape.num_pixels(), channels: shape.channels }
}

/// Workspace of [`channel_affine`] and [`channel_affine_gradient`], in doubles.
pub fn channel_affine_workspace_len(shape: &ImageShape) -> usize {
    let columns = columns(shape);
    columns.workspace_len() + columns.sums_len() + 3 * shape.channels
}

/// `y = act(x * scale[c] + shift[c])`.
///
/// # Panics
/// A slice is shorter than its shape.
pub fn channel_affine<T: Element>(
    isa: Isa,
    shape: &ImageShape,
    x: &[T],
    scale: &[T],
    shift: &[T],
    activation: Activation,
    y: &mut [T],
    workspace: &mut [f64],
) {
    assert!(x.len() == shape.len() && y.len() == shape.len(), "channel affine: input and output");
    assert!(scale.len() == shape.channels && shift.len() == shape.channels, "channel affine: scale and shift");
    for (out, &value) in workspace.iter_mut().zip(scale.iter().chain(shift)) {
        *out = value.to_f64();
    }
    linear(isa, columns(shape), x, &workspace[..2 * shape.channels], None, activation, y);
}

/// The gradients of input, scale and shift; the last two only where wanted.
///
/// # Panics
/// A slice is shorter than its shape.
pub fn channel_affine_gradient<T: Element>(
    isa: Isa,
    shape: &ImageShape,
    x: &[T],
    scale: &[T],
    y_gradient: &[T],
    relu_output: Option<&[T]>,
    x_gradient: &mut [T],
    parameter_gradients: Option<(&mut [T], &mut [T])>,
    workspace: &mut [f64],
) {
    assert!(x.len() == shape.len() && y_gradient.len() == shape.len(), "channel affine gradient: input");
    assert!(x_gradient.len() == shape.len(), "channel affine gradient: input gradient");
    let channels = shape.channels;
    if let Some((scale_gradient, shift_gradient)) = parameter_gradients {
        let (sums, workspace) = workspace.split_at_mut(2 * channels);
        gradient_sums(isa, columns(shape), y_gradient, relu_output, x, sums, workspace);
        for channel in 0..channels {
            shift_gradient[channel] = T::from_f64(sums[channel]);
            scale_gradient[channel] = T::from_f64(sums[channels + channel]);
        }
    }
    let coefficients = &mut workspace[..3 * channels];
    coefficients.fill(0.0);
    for (out, &scale) in coefficients.iter_mut().zip(scale) {
        *out = scale.to_f64();
    }
    linear_gradient(isa, columns(shape), Some(y_gradient), relu_output, x, coefficients, x_gradient);
}
