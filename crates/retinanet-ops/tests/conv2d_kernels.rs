//! Every path of the convolution kernels (type, instruction set, value and each gradient) against plain sums in double
//! precision, on shapes whose tails matter.

mod reference;

use reference::{assert_close, numbers};
use retinanet_ops::kernels::cpu::*;
use retinanet_ops::kernels::{Activation, ConvShape, ImageShape};

/// Input `[N, H, W, C]`, then output channels, kernel, stride, padding, groups.
type Case = ([usize; 4], usize, (usize, usize), usize, usize, usize);

fn shape(case: Case) -> ConvShape {
    let ([batch, height, width, channels], out_channels, (kernel_height, kernel_width), stride, padding, groups) = case;
    let weight = [out_channels, channels / groups, kernel_height, kernel_width];
    ConvShape::new(ImageShape { batch, height, width, channels }, weight, stride, padding, groups).unwrap()
}

fn to<T: Element>(values: &[f64]) -> Vec<T> {
    values.iter().map(|&value| T::from_f64(value)).collect()
}

fn back<T: Element>(values: &[T]) -> Vec<f64> {
    values.iter().map(|value| value.to_f64()).collect()
}

/// Workspaces and outputs start as NaN: what a kernel does not write shows.
fn poisoned<T: Element>(len: usize) -> Vec<T> {
    vec![T::from_f64(f64::NAN); len]
}

#[track_caller]
fn check<T: Element>(isa: Isa, case: Case, tolerance: f64) {
    let shape = shape(case);
    let what = |part: &str| format!("{case:?} {isa:?} {} bytes: {part}", size_of::<T>());
    let out = shape.output();
    let x = numbers(shape.input().len(), 1);
    let weight = numbers(shape.weight().iter().product(), 2);
    let gradient = numbers(out.len(), 3);
    let [scale, shift] = [4, 5].map(|seed| numbers(out.channels, seed));
    let residual = numbers(out.len(), 6);
    let sums = reference::conv2d(&shape, &x, &weight);

    let mut packed = poisoned(packed_weights_len::<T>(isa, &shape));
    pack_weights(isa, &shape, &to::<T>(&weight), &mut packed);
    let mut workspace = poisoned(conv2d_workspace_len::<T>(&shape));
    let mut run = |epilogue: Epilogue<T>| {
        let mut y = poisoned(out.len());
        conv2d(isa, &shape, &to::<T>(&x), &packed, epilogue, &mut y, &mut workspace);
        back(&y)
    };
    assert_close(&what("value"), &run(Epilogue::default()), &sums, tolerance);
    let (t_scale, t_shift, t_residual) = (to::<T>(&scale), to::<T>(&shift), to::<T>(&residual));
    let epilogue = Epilogue {
        scale: Some(&t_scale),
        shift: Some(&t_shift),
        residual: Some(&t_residual),
        activation: Activation::Relu,
    };
    let fused: Vec<f64> = (0..out.len())
        .map(|idx| {
            let channel = idx % out.channels;
            (sums[idx] * scale[channel] + shift[channel] + residual[idx]).max(0.0)
        })
        .collect();
    assert_close(&what("fused value"), &run(epilogue), &fused, tolerance);
    let biased: Vec<f64> = (0..out.len()).map(|idx| (sums[idx] + shift[idx % out.channels]).max(0.0)).collect();
    let bias = Epilogue { shift: Some(&t_shift), activation: Activation::Relu, ..Epilogue::default() };
    assert_close(&what("value with bias"), &run(bias), &biased, tolerance);

    let mut packed = poisoned(packed_weights_for_input_gradient_len::<T>(isa, &shape));
    pack_weights_for_input_gradient(isa, &shape, &to::<T>(&weight), &mut packed);
    for mask in [None, Some(&biased)] {
        let masked = mask.map_or_else(|| gradient.clone(), |y| reference::masked(&gradient, y));
        let relu_output = mask.map(|y| to::<T>(y));
        let mut workspace = poisoned(conv2d_input_gradient_workspace_len::<T>(&shape));
        let mut x_gradient = poisoned(x.len());
        let t_gradient = to::<T>(&gradient);
        conv2d_input_gradient(
            isa,
            &shape,
            &t_gradient,
            relu_output.as_deref(),
            &packed,
            &mut x_gradient,
            &mut workspace,
        );
        let expected = reference::conv2d_input_gradient(&shape, &weight, &masked);
        assert_close(&what("input gradient"), &back(&x_gradient), &expected, tolerance);

        let mut workspace = poisoned(conv2d_weight_gradient_workspace_len::<T>(isa, &shape));
        let (mut weight_gradient, mut bias_gradient) = (poisoned(weight.len()), poisoned(out.channels));
        conv2d_weight_gradient(
            isa,
            &shape,
            &to::<T>(&x),
            &t_gradient,
            relu_output.as_deref(),
            &mut weight_gradient,
            Some(&mut bias_gradient),
            &mut workspace,
        );
        let expected = reference::conv2d_weight_gradient(&shape, &x, &masked);
        assert_close(&what("weight gradient"), &back(&weight_gradient), &expected, tolerance);
        let mut expected = vec![0.0; out.channels];
        masked.iter().enumerate().for_each(|(idx, &value)| expected[idx % out.channels] += value);
        assert_close(&what("bias gradient"), &back(&bias_gradient), &expected, tolerance);
    }
}

#[track_caller]
fn check_all(case: Case) {
    for isa in Isa::ALL {
        if !isa.is_available() {
            println!("skipped: {isa:?} is not on this processor");
            continue;
        }
        check::<f64>(isa, case, 1e-13);
        check::<f32>(isa, case, 3e-6);
    }
}

#[test]
fn channels_around_a_vector() {
    for channels in [1, 3, 5, 16, 17] {
        for out_channels in [1, 3, 5, 16, 17, 33] {
            check_all(([2, 5, 4, channels], out_channels, (3, 3), 1, 1, 1));
            check_all(([1, 3, 5, channels], out_channels, (1, 1), 1, 0, 1));
        }
    }
}

#[test]
fn widths_strides_and_paddings() {
    for (height, width) in [(1, 1), (2, 3), (7, 1), (5, 6), (6, 13), (4, 27)] {
        for kernel in [(1, 1), (3, 3), (2, 3), (7, 7)] {
            for stride in [1, 2, 3] {
                for padding in 0..=3 {
                    if height + 2 * padding >= kernel.0 && width + 2 * padding >= kernel.1 {
                        check_all(([2, height, width, 3], 5, kernel, stride, padding, 1));
                    }
                }
            }
        }
    }
}

#[test]
fn groups() {
    for groups in [1, 2, 4, 8] {
        check_all(([2, 5, 6, 8], 16, (3, 3), 1, 1, groups));
        check_all(([1, 6, 5, 24], 24, (3, 3), 2, 1, groups));
        check_all(([2, 3, 3, 8], 8, (1, 1), 1, 0, groups));
    }
    check_all(([1, 5, 4, 7], 7, (3, 3), 1, 1, 7));
    check_all(([1, 4, 4, 34], 34, (3, 3), 1, 1, 34));
    check_all(([1, 3, 4, 40], 80, (3, 3), 2, 1, 2));
    check_all(([1, 4, 3, 128], 128, (3, 3), 1, 1, 32));
}

#[test]
fn more_than_one_tile() {
    check_all(([1, 3, 400, 2], 3, (3, 3), 1, 1, 1));
    check_all(([2, 30, 31, 4], 18, (3, 3), 2, 1, 1));
    check_all(([1, 1, 700, 5], 4, (1, 1), 1, 0, 1));
    check_all(([9, 4, 3, 20], 6, (3, 3), 1, 1, 1));
    check_all(([1, 40, 33, 3], 8, (7, 7), 2, 3, 1));
    check_all(([1, 6, 60, 300], 4, (3, 3), 1, 1, 1));
}
