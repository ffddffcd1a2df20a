//! Convolutions of a training step and their gradients, by whichever algorithm they take, against plain loops in double
//! precision.

mod reference;

use half::bf16;
use reference::{conv2d, conv2d_input_gradient, conv2d_weight_gradient, numbers};
use retinanet_ops::Activation;
use retinanet_ops::kernels::cpu::Isa;
use retinanet_ops::kernels::cpu::inference::{Numbers, NumbersMut};
use retinanet_ops::kernels::cpu::training::{
    Forward, InputGradient, WeightGradient, Workspace, forward, input_gradient, weight_gradient,
};
use retinanet_ops::kernels::{ConvShape, ImageShape};

/// Largest error relative to the largest number: of direct sums, and of those by Winograd's filtering, whose products are
/// up to some hundred times larger than what they add up to.
const F32: f64 = 2e-6;
const F32_WINOGRAD: f64 = 1e-5;
/// Of numbers rounded to 8 bits: the inputs are exact, so that the weights and the result remain.
const BF16: f64 = 2e-2;

/// A convolution on feature maps of these sizes, two images each.
struct Case {
    shapes: Vec<ConvShape>,
    tolerance: f64,
}

impl Case {
    fn new(channels: (usize, usize), kernel: usize, stride: usize, groups: usize, sizes: &[(usize, usize)]) -> Self {
        let shape = |&(height, width): &(usize, usize)| {
            let input = ImageShape { batch: 2, height, width, channels: channels.0 };
            ConvShape::new(input, [channels.1, channels.0 / groups, kernel, kernel], stride, kernel / 2, groups)
                .unwrap()
        };
        let is_winograd = (kernel, stride, groups) == (3, 1, 1) && channels.0.min(channels.1) >= 32;
        let tolerance = if is_winograd { F32_WINOGRAD } else { F32 };
        Self { shapes: sizes.iter().map(shape).collect(), tolerance }
    }

    fn weight(&self) -> Vec<f64> {
        numbers(self.shapes[0].weight().iter().product(), 1)
    }
}

/// Numbers of the definition, of which bf16 holds every one.
fn exact(len: usize, seed: u64) -> Vec<f64> {
    numbers(len, seed).into_iter().map(|value| (value * 64.0).round() / 64.0).collect()
}

enum Stored {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
}

impl Stored {
    fn new(values: &[f64], is_bf16: bool) -> Self {
        if is_bf16 {
            Self::Bf16(values.iter().map(|&value| bf16::from_f64(value)).collect())
        } else {
            Self::F32(values.iter().map(|&value| value as f32).collect())
        }
    }

    fn numbers(&self) -> Numbers<'_> {
        match self {
            Self::F32(values) => Numbers::F32(values),
            Self::Bf16(values) => Numbers::Bf16(values),
        }
    }

    fn numbers_mut(&mut self) -> NumbersMut<'_> {
        match self {
            Self::F32(values) => NumbersMut::F32(values),
            Self::Bf16(values) => NumbersMut::Bf16(values),
        }
    }

    fn values(&self) -> Vec<f64> {
        match self {
            Self::F32(values) => values.iter().copied().map(f64::from).collect(),
            Self::Bf16(values) => values.iter().map(|value| value.to_f64()).collect(),
        }
    }
}

/// The largest error relative to the largest number.
fn error(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    let difference = |(found, expected): (&f64, &f64)| {
        let difference = (found - expected).abs();
        if difference.is_nan() { f64::INFINITY } else { difference }
    };
    found.iter().zip(expected).map(difference).fold(0.0, f64::max) / largest
}

/// In each storage, and in both: an odd number of channels is f32 beside maps in bf16, as is an image.
#[track_caller]
fn check(case: &Case) {
    for is_bf16 in [[false; 2], [true; 2], [true, false], [false, true]] {
        check_scaled(case, is_bf16, true);
        check_scaled(case, is_bf16, false);
    }
}

/// With the gradient of a weight that had been scaled, or of the weight itself; inputs and outputs in bf16 or not.
#[track_caller]
fn check_scaled(case: &Case, [input_is_bf16, output_is_bf16]: [bool; 2], is_scaled: bool) {
    let tolerance = if input_is_bf16 || output_is_bf16 { BF16 } else { case.tolerance };
    let (weight, shift) = (case.weight(), numbers(case.shapes[0].weight()[0], 2));
    let (weight_f32, shift_f32): (Vec<f32>, Vec<f32>) =
        (weight.iter().map(|&w| w as f32).collect(), shift.iter().map(|&s| s as f32).collect());
    let xs: Vec<_> = case.shapes.iter().map(|shape| exact(shape.input().len(), 3)).collect();
    let residuals: Vec<_> = case.shapes.iter().map(|shape| exact(shape.output().len(), 4)).collect();
    let y_gradients: Vec<_> = case.shapes.iter().map(|shape| exact(shape.output().len(), 5)).collect();
    let before: Vec<_> = case.shapes.iter().map(|shape| exact(shape.input().len(), 6)).collect();
    let stored = |values: &[Vec<f64>], is_bf16: bool| -> Vec<Stored> {
        values.iter().map(|values| Stored::new(values, is_bf16)).collect()
    };
    let nan = |values: &Vec<f64>| vec![f64::NAN; values.len()];
    let nans: Vec<_> = residuals.iter().map(nan).collect();
    let x = stored(&xs, input_is_bf16);
    let [residual, y_gradient] = [&residuals, &y_gradients].map(|values| stored(values, output_is_bf16));

    let forward_expected: Vec<Vec<f64>> = (0..case.shapes.len())
        .map(|idx| {
            let y = conv2d(&case.shapes[idx], &xs[idx], &weight);
            let channels = shift.len();
            let sum = y.iter().zip(&residuals[idx]).enumerate();
            sum.map(|(place, (y, residual))| (y + shift[place % channels] + residual).max(0.0)).collect()
        })
        .collect();
    let input_expected: Vec<Vec<f64>> = (0..case.shapes.len())
        .map(|idx| {
            let gradient = conv2d_input_gradient(&case.shapes[idx], &weight, &y_gradients[idx]);
            let sum = gradient.iter().zip(&before[idx]).zip(&xs[idx]);
            sum.map(|((gradient, before), &x)| if x > 0.0 { gradient + before } else { 0.0 }).collect()
        })
        .collect();
    let mut weight_expected = vec![0.5; weight.len()];
    for idx in 0..case.shapes.len() {
        let part = conv2d_weight_gradient(&case.shapes[idx], &xs[idx], &y_gradients[idx]);
        let per_channel = weight.len() / shift.len();
        let parts = weight_expected.iter_mut().zip(&part).enumerate();
        parts.for_each(|(place, (sum, part))| *sum += part * if is_scaled { shift[place / per_channel] } else { 1.0 });
    }

    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let mut workspace = Workspace::default();
        // Twice, so that the second finds the workspace used.
        for _ in 0..2 {
            let mut y = stored(&nans, output_is_bf16);
            let maps = case.shapes.iter().zip(&x).zip(&residual).zip(&mut y);
            let mut maps: Vec<Forward> = maps
                .map(|(((&shape, x), residual), y)| Forward {
                    shape,
                    x: x.numbers(),
                    residual: Some(residual.numbers()),
                    y: y.numbers_mut(),
                })
                .collect();
            forward(isa, &weight_f32, Some(&shift_f32), Activation::Relu, &mut maps, &mut workspace);
            for (found, expected) in y.iter().zip(&forward_expected) {
                let error = error(&found.values(), expected);
                assert!(error < tolerance, "{isa:?} {:?}: forward: error {error:e}", case.shapes[0]);
            }

            let mut gradient = stored(&before, input_is_bf16);
            let maps = case.shapes.iter().zip(&x).zip(&y_gradient).zip(&mut gradient);
            let mut maps: Vec<InputGradient> = maps
                .map(|(((&shape, x), y_gradient), gradient)| InputGradient {
                    shape,
                    y_gradient: y_gradient.numbers(),
                    accumulate: true,
                    relu_input: Some(x.numbers()),
                    x_gradient: gradient.numbers_mut(),
                })
                .collect();
            input_gradient(isa, &weight_f32, &mut maps, &mut workspace);
            for (found, expected) in gradient.iter().zip(&input_expected) {
                let error = error(&found.values(), expected);
                assert!(error < tolerance, "{isa:?} {:?}: input gradient: error {error:e}", case.shapes[0]);
            }

            let maps = case.shapes.iter().zip(&x).zip(&y_gradient);
            let maps: Vec<WeightGradient> = maps
                .map(|((&shape, x), gradient)| WeightGradient { shape, x: x.numbers(), y_gradient: gradient.numbers() })
                .collect();
            let mut found = vec![0.5f32; weight.len()];
            weight_gradient(isa, &maps, is_scaled.then_some(&shift_f32[..]), &mut found, &mut workspace);
            let found: Vec<f64> = found.into_iter().map(f64::from).collect();
            let error = error(&found, &weight_expected);
            // Inputs and gradients are exact in both storages, and sums are f32 in both.
            assert!(error < case.tolerance, "{isa:?} {:?}: weight gradient: error {error:e}", case.shapes[0]);
        }
    }
}

/// Widths and heights that tiles of four do not divide, and maps smaller than a tile; channels that vectors do not divide.
const SIZES: [(usize, usize); 4] = [(9, 14), (8, 4), (3, 3), (1, 2)];

#[test]
fn three_by_three_of_many_channels() {
    for channels in [(32, 64), (48, 36), (64, 32), (38, 70)] {
        let case = Case::new(channels, 3, 1, 1, &SIZES);
        check(&case);
    }
    // Several chunks of tiles.
    check(&Case::new((64, 64), 3, 1, 1, &[(41, 57), (20, 28)]));
}

#[test]
fn the_others() {
    for (channels, kernel, stride, groups) in [
        ((40, 24), 1, 1, 1),
        ((24, 40), 1, 2, 1),
        ((16, 32), 3, 2, 1),
        ((6, 10), 3, 1, 1),
        ((32, 32), 3, 1, 4),
        ((4, 8), 7, 2, 1),
    ] {
        let case = Case::new(channels, kernel, stride, groups, &SIZES[..3]);
        check(&case);
    }
}

#[test]
fn sums_over_more_pixels_than_a_chunk() {
    let case = Case::new((16, 20), 1, 1, 1, &[(41, 43)]);
    check(&case);
}
