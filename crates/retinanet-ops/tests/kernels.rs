//! The other kernels for both types and every instruction set, value and each gradient, against plain loops in double
//! precision, on channels and widths whose tails matter.

mod reference;

use reference::{assert_close, numbers, place};
use retinanet_ops::kernels::cpu::*;
use retinanet_ops::kernels::{Activation, ImageShape, PoolShape};

const CHANNELS: [usize; 7] = [1, 3, 5, 16, 17, 64, 260];

fn to<T: Element>(values: &[f64]) -> Vec<T> {
    values.iter().map(|&value| T::from_f64(value)).collect()
}

fn back<T: Element>(values: &[T]) -> Vec<f64> {
    values.iter().map(|value| value.to_f64()).collect()
}

fn poisoned<T: Element>(len: usize) -> Vec<T> {
    vec![T::from_f64(f64::NAN); len]
}

/// Runs a check for every type and available instruction set, with a tolerance of the type.
macro_rules! for_each_path {
    ($isa:ident, $t:ident, $tolerance:ident => $body:block) => {
        for $isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            {
                type $t = f64;
                let $tolerance = 1e-12;
                $body
            }
            {
                type $t = f32;
                let $tolerance = 3e-6;
                $body
            }
        }
    };
}

fn relu(values: &[f64]) -> Vec<f64> {
    values.iter().map(|value| value.max(0.0)).collect()
}

#[test]
fn sums_and_masks() {
    for len in [1, 7, 16, 33, 70_001] {
        let (a, b, gradient) = (numbers(len, 1), numbers(len, 2), numbers(len, 3));
        let sum: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
        for_each_path!(isa, T, tolerance => {
            let mut y = poisoned::<T>(len);
            add(isa, &to::<T>(&a), &to::<T>(&b), Activation::None, &mut y);
            assert_close("sum", &back(&y), &sum, tolerance);
            add(isa, &to::<T>(&a), &to::<T>(&b), Activation::Relu, &mut y);
            assert_close("sum and relu", &back(&y), &relu(&sum), tolerance);
            let mut out = poisoned::<T>(len);
            relu_gradient(isa, &to::<T>(&gradient), &y, &mut out);
            assert_close("mask", &back(&out), &reference::masked(&gradient, &relu(&sum)), tolerance);
        });
    }
}

#[test]
fn pooling() {
    for channels in CHANNELS {
        for (height, width, kernel, stride, padding) in
            [(1, 1, 3, 2, 1), (5, 6, 3, 2, 1), (6, 5, 2, 2, 0), (4, 7, 3, 1, 1)]
        {
            let input = ImageShape { batch: 2, height, width, channels };
            let shape = PoolShape::new(input, kernel, stride, padding).unwrap();
            let output = shape.output();
            let (x, gradient) = (numbers(input.len(), 1), numbers(output.len(), 2));
            let (mut y, mut x_gradient) = (vec![f64::NEG_INFINITY; output.len()], vec![0.0; input.len()]);
            for idx in 0..output.len() {
                let (channel, column) = (idx % channels, idx / channels % output.width);
                let (row, image) =
                    (idx / channels / output.width % output.height, idx / channels / output.width / output.height);
                let mut winner = None;
                for tap in 0..kernel * kernel {
                    let in_row = (row * stride + tap / kernel).checked_sub(padding).filter(|&row| row < height);
                    let in_column =
                        (column * stride + tap % kernel).checked_sub(padding).filter(|&column| column < width);
                    let (Some(in_row), Some(in_column)) = (in_row, in_column) else { continue };
                    let source = place(&input, image, in_row, in_column, channel);
                    if x[source] > y[idx] {
                        y[idx] = x[source];
                        winner = Some(source);
                    }
                }
                x_gradient[winner.unwrap()] += gradient[idx];
            }
            for_each_path!(isa, T, tolerance => {
                let (mut found, mut found_gradient) = (poisoned::<T>(y.len()), poisoned::<T>(x.len()));
                max_pool2d(isa, &shape, &to::<T>(&x), &mut found);
                assert_close("pool", &back(&found), &y, 0.0);
                max_pool2d_gradient(isa, &shape, &to::<T>(&x), &to::<T>(&gradient), &mut found_gradient);
                assert_close("pool gradient", &back(&found_gradient), &x_gradient, tolerance);
            });
        }
    }
}

#[test]
fn upsampling() {
    for channels in CHANNELS {
        for (height, width, out_height, out_width) in
            [(1, 1, 3, 2), (3, 4, 6, 8), (3, 4, 5, 7), (4, 3, 4, 3), (5, 2, 3, 9)]
        {
            let shape = ImageShape { batch: 2, height, width, channels };
            let out = ImageShape { batch: 2, height: out_height, width: out_width, channels };
            let (x, gradient) = (numbers(shape.len(), 1), numbers(out.len(), 2));
            let (mut y, mut x_gradient) = (vec![0.0; out.len()], vec![0.0; x.len()]);
            for idx in 0..out.len() {
                let (channel, column) = (idx % channels, idx / channels % out_width);
                let (row, image) = (idx / channels / out_width % out_height, idx / channels / out_width / out_height);
                let source = place(&shape, image, row * height / out_height, column * width / out_width, channel);
                y[idx] = x[source];
                x_gradient[source] += gradient[idx];
            }
            for_each_path!(isa, T, tolerance => {
                let (mut found, mut found_gradient) = (poisoned::<T>(y.len()), poisoned::<T>(x.len()));
                upsample_nearest2d(&shape, (out_height, out_width), &to::<T>(&x), &mut found);
                assert_close("upsample", &back(&found), &y, 0.0);
                let size = (out_height, out_width);
                upsample_nearest2d_gradient(isa, &shape, size, &to::<T>(&gradient), &mut found_gradient);
                assert_close("upsample gradient", &back(&found_gradient), &x_gradient, tolerance);
            });
        }
    }
}

/// A norm written plainly: numbers that share `group(idx)` share statistics.
struct Norm {
    y: Vec<f64>,
    x_gradient: Vec<f64>,
    weight_gradient: Vec<f64>,
    bias_gradient: Vec<f64>,
}

fn norm(
    x: &[f64],
    weight: &[f64],
    bias: &[f64],
    gradient: &[f64],
    epsilon: f64,
    relu: bool,
    group: impl Fn(usize) -> usize,
) -> Norm {
    let channels = weight.len();
    let num_groups = (0..x.len()).map(&group).max().unwrap() + 1;
    let means = |values: &dyn Fn(usize) -> f64| {
        let (mut sums, mut counts) = (vec![0.0; num_groups], vec![0.0; num_groups]);
        for idx in 0..x.len() {
            sums[group(idx)] += values(idx);
            counts[group(idx)] += 1.0;
        }
        sums.iter().zip(&counts).map(|(sum, count)| sum / count).collect::<Vec<f64>>()
    };
    let mean = means(&|idx| x[idx]);
    let variance = means(&|idx| (x[idx] - mean[group(idx)]).powi(2));
    let normalised = |idx: usize| (x[idx] - mean[group(idx)]) / (variance[group(idx)] + epsilon).sqrt();
    let mut y: Vec<f64> =
        (0..x.len()).map(|idx| normalised(idx) * weight[idx % channels] + bias[idx % channels]).collect();
    let mut gradient = gradient.to_vec();
    if relu {
        gradient = reference::masked(&gradient, &y);
        y = self::relu(&y);
    }
    let inner = |idx: usize| gradient[idx] * weight[idx % channels];
    let (mean_inner, mean_product) = (means(&|idx| inner(idx)), means(&|idx| inner(idx) * normalised(idx)));
    let x_gradient = (0..x.len())
        .map(|idx| {
            let group = group(idx);
            (inner(idx) - mean_inner[group] - normalised(idx) * mean_product[group])
                / (variance[group] + epsilon).sqrt()
        })
        .collect();
    let (mut weight_gradient, mut bias_gradient) = (vec![0.0; channels], vec![0.0; channels]);
    for idx in 0..x.len() {
        weight_gradient[idx % channels] += gradient[idx] * normalised(idx);
        bias_gradient[idx % channels] += gradient[idx];
    }
    Norm { y, x_gradient, weight_gradient, bias_gradient }
}

#[test]
fn norms() {
    for channels in CHANNELS {
        for (batch, height, width) in [(1, 1, 7), (2, 3, 5), (3, 20, 19)] {
            for activation in [Activation::None, Activation::Relu] {
                let shape = ImageShape { batch, height, width, channels };
                let num_groups = (1..=4).rev().find(|count| channels % count == 0).unwrap();
                check_norms(shape, num_groups, activation);
            }
        }
    }
}

fn check_norms(shape: ImageShape, num_groups: usize, activation: Activation) {
    let (channels, len) = (shape.channels, shape.len());
    // Off centre, so that statistics matter.
    let x: Vec<f64> = numbers(len, 1).into_iter().map(|value| value + 0.5).collect();
    let (weight, bias, gradient) = (numbers(channels, 2), numbers(channels, 3), numbers(len, 4));
    let (epsilon, relu) = (1e-2, activation == Activation::Relu);
    let image_len = shape.height * shape.width * channels;
    let batch = norm(&x, &weight, &bias, &gradient, epsilon, relu, |idx| idx % channels);
    let group = norm(&x, &weight, &bias, &gradient, epsilon, relu, |idx| {
        idx / image_len * num_groups + idx % channels / (channels / num_groups)
    });
    let affine_y: Vec<f64> = (0..len).map(|idx| x[idx] * weight[idx % channels] + bias[idx % channels]).collect();
    let affine_gradient = if relu { reference::masked(&gradient, &affine_y) } else { gradient.clone() };
    let affine = Norm {
        y: if relu { self::relu(&affine_y) } else { affine_y },
        x_gradient: (0..len).map(|idx| affine_gradient[idx] * weight[idx % channels]).collect(),
        weight_gradient: (0..channels)
            .map(|c| (c..len).step_by(channels).map(|idx| affine_gradient[idx] * x[idx]).sum())
            .collect(),
        bias_gradient: (0..channels)
            .map(|c| (c..len).step_by(channels).map(|idx| affine_gradient[idx]).sum())
            .collect(),
    };
    for_each_path!(isa, T, tolerance => {
        let (tx, tw, tb, tg) = (to::<T>(&x), to::<T>(&weight), to::<T>(&bias), to::<T>(&gradient));
        let compare = |what: &str, expected: &Norm, y: &[T], dx: &[T], dw: &[T], db: &[T]| {
            let what = |part: &str| format!("{shape:?} {isa:?} {what} {part}");
            assert_close(&what("value"), &back(y), &expected.y, tolerance);
            assert_close(&what("input gradient"), &back(dx), &expected.x_gradient, tolerance);
            assert_close(&what("weight gradient"), &back(dw), &expected.weight_gradient, 2.0 * tolerance);
            assert_close(&what("bias gradient"), &back(db), &expected.bias_gradient, tolerance);
        };
        let outputs = || (poisoned::<T>(len), poisoned::<T>(len), poisoned::<T>(channels), poisoned::<T>(channels));

        let (mut y, mut dx, mut dw, mut db) = outputs();
        let mut workspace = poisoned::<f64>(channel_affine_workspace_len(&shape));
        channel_affine(isa, &shape, &tx, &tw, &tb, activation, &mut y, &mut workspace);
        let output = relu.then(|| y.clone());
        let parameters = Some((&mut dw[..], &mut db[..]));
        channel_affine_gradient(isa, &shape, &tx, &tw, &tg, output.as_deref(), &mut dx, parameters, &mut workspace);
        compare("affine", &affine, &y, &dx, &dw, &db);

        let (mut y, mut dx, mut dw, mut db) = outputs();
        let mut workspace = poisoned::<f64>(batch_norm_workspace_len(&shape));
        let mut statistics = poisoned::<f64>(2 * channels);
        batch_norm_statistics(isa, &shape, &tx, &mut statistics, &mut workspace);
        batch_norm(isa, &shape, epsilon, &tx, &tw, &tb, &statistics, None, activation, &mut y, &mut workspace);
        let output = relu.then(|| y.clone());
        batch_norm_gradient(
            isa, &shape, epsilon, &tx, &tw, &statistics, Some(&tg), output.as_deref(), &mut dx, &mut dw, &mut db, &mut workspace,
        );
        compare("batch norm", &batch, &y, &dx, &dw, &db);

        let (mut y, mut dx, mut dw, mut db) = outputs();
        let mut workspace = poisoned::<f64>(group_norm_workspace_len(&shape));
        let mut statistics = poisoned::<f64>(2 * shape.batch * num_groups);
        group_norm(isa, &shape, num_groups, epsilon, &tx, &tw, &tb, None, activation, &mut y, &mut statistics, &mut workspace);
        let output = relu.then(|| y.clone());
        group_norm_gradient(
            isa, &shape, num_groups, &tx, &tw, &statistics, Some(&tg), output.as_deref(), &mut dx, &mut dw, &mut db,
            &mut workspace,
        );
        compare("group norm", &group, &y, &dx, &dw, &db);
    });
}
