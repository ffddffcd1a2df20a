//! The operations written plainly in double precision, for the kernels to be compared with.
#![allow(dead_code, reason = "each test file uses a part")]

use retinanet_ops::kernels::{ConvShape, ImageShape};

/// Numbers in -1..1 that look random and are the same everywhere.
pub(crate) fn numbers(len: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // In steps that f32 holds too, so that both types start from equal numbers.
        (state >> 44) as f64 / f64::from(1u32 << 19) - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// Calls `visit(x place, weight place, y place)` for every product of a convolution.
pub(crate) fn for_each_product(shape: &ConvShape, mut visit: impl FnMut(usize, usize, usize)) {
    let (input, output) = (shape.input(), shape.output());
    let [_, group_channels, kernel_height, kernel_width] = shape.weight();
    let group_out = output.channels / shape.groups();
    for image in 0..input.batch {
        for out_row in 0..output.height {
            for out_column in 0..output.width {
                for tap_y in 0..kernel_height {
                    for tap_x in 0..kernel_width {
                        let row = (out_row * shape.stride() + tap_y).checked_sub(shape.padding());
                        let column = (out_column * shape.stride() + tap_x).checked_sub(shape.padding());
                        let (Some(row), Some(column)) = (row, column) else { continue };
                        if row >= input.height || column >= input.width {
                            continue;
                        }
                        for out in 0..output.channels {
                            for channel in 0..group_channels {
                                let in_channel = out / group_out * group_channels + channel;
                                let x = place(&input, image, row, column, in_channel);
                                let w =
                                    ((out * group_channels + channel) * kernel_height + tap_y) * kernel_width + tap_x;
                                visit(x, w, place(&output, image, out_row, out_column, out));
                            }
                        }
                    }
                }
            }
        }
    }
}

pub(crate) fn place(shape: &ImageShape, image: usize, row: usize, column: usize, channel: usize) -> usize {
    ((image * shape.height + row) * shape.width + column) * shape.channels + channel
}

pub(crate) fn conv2d(shape: &ConvShape, x: &[f64], weight: &[f64]) -> Vec<f64> {
    let mut y = vec![0.0; shape.output().len()];
    for_each_product(shape, |x_place, w_place, y_place| y[y_place] += x[x_place] * weight[w_place]);
    y
}

pub(crate) fn conv2d_input_gradient(shape: &ConvShape, weight: &[f64], gradient: &[f64]) -> Vec<f64> {
    let mut out = vec![0.0; shape.input().len()];
    for_each_product(shape, |x_place, w_place, y_place| out[x_place] += gradient[y_place] * weight[w_place]);
    out
}

pub(crate) fn conv2d_weight_gradient(shape: &ConvShape, x: &[f64], gradient: &[f64]) -> Vec<f64> {
    let mut out = vec![0.0; shape.weight().iter().product()];
    for_each_product(shape, |x_place, w_place, y_place| out[w_place] += gradient[y_place] * x[x_place]);
    out
}

/// A gradient where the output is positive.
pub(crate) fn masked(gradient: &[f64], y: &[f64]) -> Vec<f64> {
    gradient.iter().zip(y).map(|(&gradient, &y)| if y > 0.0 { gradient } else { 0.0 }).collect()
}

#[track_caller]
pub(crate) fn assert_close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    let scale = expected.iter().fold(1.0f64, |max, value| max.max(value.abs()));
    for (idx, (found, expected)) in found.iter().zip(expected).enumerate() {
        let close = (found - expected).abs() <= tolerance * scale;
        assert!(close, "{what}: number {idx}: expected {expected}, found {found}");
    }
}
