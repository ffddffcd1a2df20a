//! Batch norm in training: channels normalised by the statistics of the batch.

use super::columns::{Columns, gradient_sums, linear, linear_gradient, moments};
use super::{Element, Isa, Storable};
use crate::kernels::{Activation, ImageShape};

fn columns(shape: &ImageShape) -> Columns {
    Columns { groups: 1, pixels: shape.num_pixels(), channels: shape.channels }
}

/// Workspace of the batch norm kernels, in doubles.
pub fn batch_norm_workspace_len(shape: &ImageShape) -> usize {
    let columns = columns(shape);
    columns.workspace_len() + columns.sums_len() + 3 * shape.channels
}

/// Mean and biased variance of each channel over the batch: `[2, C]`.
///
/// # Panics
/// A slice is shorter than its shape.
pub fn batch_norm_statistics<T: Storable>(
    isa: Isa,
    shape: &ImageShape,
    x: &[T],
    statistics: &mut [f64],
    workspace: &mut [f64],
) {
    assert_eq!(x.len(), shape.len(), "batch norm: input");
    assert_eq!(statistics.len(), 2 * shape.channels, "batch norm: statistics");
    moments(isa, columns(shape), x, statistics, workspace);
    let count = shape.num_pixels() as f64;
    let (mean, variance) = statistics.split_at_mut(shape.channels);
    for (mean, variance) in mean.iter_mut().zip(variance) {
        *mean /= count;
        *variance = (*variance / count - *mean * *mean).max(0.0);
    }
}

/// `y = act((x - mean[c]) / sqrt(variance[c] + epsilon) * weight[c] + bias[c] + residual)`, with the batch's own statistics
/// from [`batch_norm_statistics`].
///
/// # Panics
/// A slice is shorter than its shape.
pub fn batch_norm<T: Storable>(
    isa: Isa,
    shape: &ImageShape,
    epsilon: f64,
    x: &[T],
    weight: &[T::Float],
    bias: &[T::Float],
    statistics: &[f64],
    residual: Option<&[T]>,
    activation: Activation,
    y: &mut [T],
    workspace: &mut [f64],
) {
    assert!(x.len() == shape.len() && y.len() == shape.len(), "batch norm: input and output");
    assert!(residual.is_none_or(|residual| residual.len() == shape.len()), "batch norm: residual");
    let channels = shape.channels;
    let (mean, variance) = statistics.split_at(channels);
    let coefficients = &mut workspace[..2 * channels];
    for channel in 0..channels {
        let scale = weight[channel].to_f64() / (variance[channel] + epsilon).sqrt();
        coefficients[channel] = scale;
        coefficients[channels + channel] = bias[channel].to_f64() - mean[channel] * scale;
    }
    linear(isa, columns(shape), x, coefficients, residual, activation, y);
}

/// The gradients of input, weight and bias, through the statistics too.
///
/// Without `y_gradient`, `x_gradient` holds the output's gradient, and then the input's. A residual's gradient is that of the
/// output where a ReLU lets it pass.
///
/// # Panics
/// A slice is shorter than its shape.
pub fn batch_norm_gradient<T: Storable>(
    isa: Isa,
    shape: &ImageShape,
    epsilon: f64,
    x: &[T],
    weight: &[T::Float],
    statistics: &[f64],
    y_gradient: Option<&[T]>,
    relu_output: Option<&[T]>,
    x_gradient: &mut [T],
    weight_gradient: &mut [T::Float],
    bias_gradient: &mut [T::Float],
    workspace: &mut [f64],
) {
    assert!(x.len() == shape.len(), "batch norm gradient: input");
    assert!(y_gradient.is_none_or(|gradient| gradient.len() == shape.len()), "batch norm gradient: output gradient");
    assert!(x_gradient.len() == shape.len(), "batch norm gradient: input gradient");
    let (channels, columns) = (shape.channels, columns(shape));
    let count = shape.num_pixels() as f64;
    let (mean, variance) = statistics.split_at(channels);
    let (sums, workspace) = workspace.split_at_mut(columns.sums_len());
    gradient_sums(isa, columns, y_gradient.unwrap_or(x_gradient), relu_output, x, sums, workspace);
    let coefficients = &mut workspace[..3 * channels];
    for channel in 0..channels {
        let inv_std = 1.0 / (variance[channel] + epsilon).sqrt();
        let mean = mean[channel];
        let (sum, product) = (sums[channel], sums[channels + channel]);
        let normalised = (product - mean * sum) * inv_std;
        weight_gradient[channel] = T::Float::from_f64(normalised);
        bias_gradient[channel] = T::Float::from_f64(sum);
        // dx = w inv_std (g - mean(g) - n mean(g n)), with n = (x - mean) inv_std.
        let scale = weight[channel].to_f64() * inv_std;
        let slope = -scale * inv_std * normalised / count;
        coefficients[channel] = scale;
        coefficients[channels + channel] = slope;
        coefficients[2 * channels + channel] = -scale * sum / count - slope * mean;
    }
    linear_gradient(isa, columns, y_gradient, relu_output, x, coefficients, x_gradient);
}
