//! Group norm: every image's channels normalised by the statistics of their group.

use super::columns::{Columns, gradient_sums, linear, linear_gradient, moments};
use super::{Element, Isa, Storable};
use crate::kernels::{Activation, ImageShape};

fn columns(shape: &ImageShape) -> Columns {
    Columns { groups: shape.batch, pixels: shape.height * shape.width, channels: shape.channels }
}

/// Workspace of [`group_norm`] and [`group_norm_gradient`], in doubles.
pub fn group_norm_workspace_len(shape: &ImageShape) -> usize {
    let columns = columns(shape);
    columns.workspace_len() + columns.sums_len() + 3 * shape.batch * shape.channels
}

/// `y = act((x - mean) * inv_std * weight[c] + bias[c] + residual)`, mean and variance (biased) over the pixels and channels of a
/// group, `inv_std = 1 / sqrt(variance + epsilon)`.
///
/// `statistics` keeps `(mean, inv_std)` for the gradient: `[N, num_groups, 2]`.
///
/// # Panics
/// A slice is shorter than its shape, or `num_groups` does not divide the channels.
pub fn group_norm<T: Storable>(
    isa: Isa,
    shape: &ImageShape,
    num_groups: usize,
    epsilon: f64,
    x: &[T],
    weight: &[T::Float],
    bias: &[T::Float],
    residual: Option<&[T]>,
    activation: Activation,
    y: &mut [T],
    statistics: &mut [f64],
    workspace: &mut [f64],
) {
    assert!(x.len() == shape.len() && y.len() == shape.len(), "group norm: input and output");
    assert!(residual.is_none_or(|residual| residual.len() == shape.len()), "group norm: residual");
    assert!(shape.channels.is_multiple_of(num_groups), "group norm: groups");
    assert_eq!(statistics.len(), shape.batch * num_groups * 2, "group norm: statistics");
    let (channels, columns) = (shape.channels, columns(shape));
    let group_channels = channels / num_groups;
    let count = (columns.pixels * group_channels) as f64;
    let (sums, workspace) = workspace.split_at_mut(columns.sums_len());
    moments(isa, columns, x, sums, workspace);
    let coefficients = &mut workspace[..2 * shape.batch * channels];
    for image in 0..shape.batch {
        let (sum, square) = sums[image * 2 * channels..][..2 * channels].split_at(channels);
        let (scale, shift) = coefficients[image * 2 * channels..][..2 * channels].split_at_mut(channels);
        for group in 0..num_groups {
            let range = group * group_channels..(group + 1) * group_channels;
            let mean = sum[range.clone()].iter().sum::<f64>() / count;
            let variance = (square[range.clone()].iter().sum::<f64>() / count - mean * mean).max(0.0);
            let inv_std = 1.0 / (variance + epsilon).sqrt();
            statistics[(image * num_groups + group) * 2..][..2].copy_from_slice(&[mean, inv_std]);
            for channel in range {
                scale[channel] = weight[channel].to_f64() * inv_std;
                shift[channel] = bias[channel].to_f64() - mean * scale[channel];
            }
        }
    }
    linear(isa, columns, x, coefficients, residual, activation, y);
}

/// The gradients of input, weight and bias. Without `y_gradient`, `x_gradient` holds the output's gradient, and then the
/// input's.
///
/// # Panics
/// A slice is shorter than its shape, or `num_groups` does not divide the channels.
pub fn group_norm_gradient<T: Storable>(
    isa: Isa,
    shape: &ImageShape,
    num_groups: usize,
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
    assert!(x.len() == shape.len(), "group norm gradient: input");
    assert!(y_gradient.is_none_or(|gradient| gradient.len() == shape.len()), "group norm gradient: output gradient");
    assert!(x_gradient.len() == shape.len(), "group norm gradient: input gradient");
    let (channels, columns) = (shape.channels, columns(shape));
    let group_channels = channels / num_groups;
    let count = (columns.pixels * group_channels) as f64;
    let (sums, workspace) = workspace.split_at_mut(columns.sums_len());
    gradient_sums(isa, columns, y_gradient.unwrap_or(x_gradient), relu_output, x, sums, workspace);
    for channel in 0..channels {
        let (mut weight_sum, mut bias_sum) = (0.0, 0.0);
        for image in 0..shape.batch {
            let place = (image * num_groups + channel / group_channels) * 2;
            let (mean, inv_std) = (statistics[place], statistics[place + 1]);
            let sum = sums[image * 2 * channels + channel];
            weight_sum += (sums[(image * 2 + 1) * channels + channel] - mean * sum) * inv_std;
            bias_sum += sum;
        }
        weight_gradient[channel] = T::Float::from_f64(weight_sum);
        bias_gradient[channel] = T::Float::from_f64(bias_sum);
    }
    // With h = w g and n = (x - mean) inv_std: dx = inv_std (h - mean(h) - n mean(h n)), linear in g and x.
    let coefficients = &mut workspace[..3 * shape.batch * channels];
    for image in 0..shape.batch {
        let (sum, product) = sums[image * 2 * channels..][..2 * channels].split_at(channels);
        let coefficients = &mut coefficients[image * 3 * channels..][..3 * channels];
        for group in 0..num_groups {
            let place = (image * num_groups + group) * 2;
            let (mean, inv_std) = (statistics[place], statistics[place + 1]);
            let (mut mean_h, mut mean_hn) = (0.0, 0.0);
            for channel in group * group_channels..(group + 1) * group_channels {
                let weight = weight[channel].to_f64();
                mean_h += weight * sum[channel] / count;
                mean_hn += weight * (product[channel] - mean * sum[channel]) * inv_std / count;
            }
            for channel in group * group_channels..(group + 1) * group_channels {
                coefficients[channel] = weight[channel].to_f64() * inv_std;
                coefficients[channels + channel] = -inv_std * inv_std * mean_hn;
                coefficients[2 * channels + channel] = inv_std * (mean * inv_std * mean_hn - mean_h);
            }
        }
    }
    linear_gradient(isa, columns, y_gradient, relu_output, x, coefficients, x_gradient);
}
