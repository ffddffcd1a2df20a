//! Sums and cuts of gradients, number by number, and sums over pixels.

use super::super::columns::{Columns, moments};
use super::super::inference::{Numbers, NumbersMut};
use super::super::tasks::{SharedMut, for_each};
use super::super::{Element, Isa, Storable};
use super::Workspace;
use super::numbers::Number;
use crate::kernels::ImageShape;
use half::bf16;

/// Numbers of one task.
const CHUNK: usize = 32 * 1024;

/// `to += from`.
///
/// # Panics
/// Lengths or storages differ.
pub fn accumulate(isa: Isa, from: Numbers<'_>, to: NumbersMut<'_>) {
    match (from, to) {
        (Numbers::F32(from), NumbersMut::F32(to)) => add_to(isa, from, to),
        (Numbers::Bf16(from), NumbersMut::Bf16(to)) => add_to(isa, from, to),
        _ => panic!("accumulate: expected one floating-point storage"),
    }
}

/// [`accumulate`] of one type.
pub(super) fn add_to<N: Number>(isa: Isa, from: &[N], to: &mut [N]) {
    assert_eq!(from.len(), to.len(), "accumulate: numbers");
    for_each_chunk(isa, to, |start, to| {
        for (to, &from) in to.iter_mut().zip(&from[start..]) {
            *to = N::nearest(to.load() + from.load());
        }
    });
}

/// Sets a gradient to 0 where the output of a ReLU is not positive.
///
/// # Panics
/// Lengths or storages differ.
pub fn gate(isa: Isa, output: Numbers<'_>, gradient: NumbersMut<'_>) {
    fn run<N: Number>(isa: Isa, output: &[N], gradient: &mut [N]) {
        assert_eq!(output.len(), gradient.len(), "gate: numbers");
        for_each_chunk(isa, gradient, |start, gradient| {
            for (gradient, &output) in gradient.iter_mut().zip(&output[start..]) {
                *gradient = if output.load() > f32::ZERO { *gradient } else { N::nearest(0.0) };
            }
        });
    }
    match (output, gradient) {
        (Numbers::F32(output), NumbersMut::F32(gradient)) => run(isa, output, gradient),
        (Numbers::Bf16(output), NumbersMut::Bf16(gradient)) => run(isa, output, gradient),
        _ => panic!("gate: expected one floating-point storage"),
    }
}

/// `to = from`, in the storage of `to`.
///
/// # Panics
/// Lengths differ.
pub fn convert(isa: Isa, from: &[f32], to: NumbersMut<'_>) {
    fn run<N: Number>(isa: Isa, from: &[f32], to: &mut [N]) {
        assert_eq!(from.len(), to.len(), "convert: numbers");
        for_each_chunk(isa, to, |start, to| {
            to.iter_mut().zip(&from[start..]).for_each(|(to, &from)| *to = N::nearest(from));
        });
    }
    match to {
        NumbersMut::F32(to) => run(isa, from, to),
        NumbersMut::Bf16(to) => run(isa, from, to),
        NumbersMut::U8(_) => panic!("convert: expected floating-point numbers, found bytes"),
    }
}

/// `y = max(x, 0)`.
///
/// # Panics
/// Lengths or storages differ.
pub fn relu(isa: Isa, x: Numbers<'_>, y: NumbersMut<'_>) {
    fn run<N: Number>(isa: Isa, x: &[N], y: &mut [N]) {
        assert_eq!(x.len(), y.len(), "relu: numbers");
        for_each_chunk(isa, y, |start, y| {
            y.iter_mut().zip(&x[start..]).for_each(|(y, &x)| *y = N::nearest(x.load().relu()));
        });
    }
    match (x, y) {
        (Numbers::F32(x), NumbersMut::F32(y)) => run(isa, x, y),
        (Numbers::Bf16(x), NumbersMut::Bf16(y)) => run(isa, x, y),
        // A network's output is f32 in any case.
        (Numbers::F32(x), NumbersMut::Bf16(y)) => {
            convert(isa, x, NumbersMut::Bf16(y));
            for_each_chunk(isa, y, |_, y| y.iter_mut().for_each(|y| *y = bf16::nearest(y.load().relu())));
        }
        (Numbers::Bf16(x), NumbersMut::F32(y)) => {
            for_each_chunk(isa, y, |start, y| y.iter_mut().zip(&x[start..]).for_each(|(y, &x)| *y = x.load().relu()));
        }
        _ => panic!("relu: expected floating-point numbers"),
    }
}

/// The gradient of [`relu`] by its output, added to what is there if wanted.
///
/// # Panics
/// Lengths differ.
pub fn relu_gradient(isa: Isa, y: Numbers<'_>, y_gradient: Numbers<'_>, accumulate: bool, x_gradient: NumbersMut<'_>) {
    fn run<Y: Number, N: Number>(isa: Isa, y: &[Y], y_gradient: &[N], accumulate: bool, x_gradient: &mut [N]) {
        assert!(y.len() == x_gradient.len() && y_gradient.len() == x_gradient.len(), "relu gradient: numbers");
        for_each_chunk(isa, x_gradient, |start, x_gradient| {
            for ((to, &y), &gradient) in x_gradient.iter_mut().zip(&y[start..]).zip(&y_gradient[start..]) {
                let before = if accumulate { to.load() } else { 0.0 };
                *to = N::nearest(before + if y.load() > 0.0 { gradient.load() } else { 0.0 });
            }
        });
    }
    match (y, y_gradient, x_gradient) {
        (Numbers::F32(y), Numbers::F32(from), NumbersMut::F32(to)) => run(isa, y, from, accumulate, to),
        (Numbers::F32(y), Numbers::Bf16(from), NumbersMut::Bf16(to)) => run(isa, y, from, accumulate, to),
        (Numbers::Bf16(y), Numbers::Bf16(from), NumbersMut::Bf16(to)) => run(isa, y, from, accumulate, to),
        _ => panic!("relu gradient: expected one floating-point storage"),
    }
}

/// Runs `body` on chunks of the numbers in parallel, with the place of the first.
fn for_each_chunk<N: Number>(isa: Isa, numbers: &mut [N], body: impl Fn(usize, &mut [N]) + Send + Sync) {
    let len = numbers.len();
    let shared = SharedMut::new(numbers);
    for_each(len.div_ceil(CHUNK), |task_idx| {
        let start = task_idx * CHUNK;
        // SAFETY: chunks do not overlap.
        let chunk = unsafe { shared.slice(start, CHUNK.min(len - start)) };
        isa.run(|| body(start, chunk));
    });
}

/// Adds the sum over all pixels of each channel to `sums`, `[C]`: what a bias gets of its convolution's output gradient.
///
/// # Panics
/// A slice is shorter than its shape.
pub fn channel_sums(isa: Isa, shape: &ImageShape, x: Numbers<'_>, sums: &mut [f32], workspace: &mut Workspace) {
    let columns = Columns { groups: 1, pixels: shape.num_pixels(), channels: shape.channels };
    assert!(x.len() == shape.len() && sums.len() == shape.channels, "channel sums: numbers");
    let (totals, rest) =
        workspace.doubles(columns.sums_len() + columns.workspace_len()).split_at_mut(columns.sums_len());
    match x {
        Numbers::F32(x) => moments(isa, columns, x, totals, rest),
        Numbers::Bf16(x) => moments(isa, columns, x, totals, rest),
        Numbers::U8(_) => panic!("channel sums: expected floating-point numbers, found bytes"),
    }
    for (sum, &total) in sums.iter_mut().zip(&*totals) {
        *sum += total as f32;
    }
}
