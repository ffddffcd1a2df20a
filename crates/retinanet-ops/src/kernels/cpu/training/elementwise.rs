//! Sums and cuts of gradients, number by number, and sums over pixels.

use super::super::columns::{Columns, moments};
use super::super::inference::{Numbers, NumbersMut};
use super::super::isa::vectorized;
use super::super::tasks::{SharedMut, for_each};
use super::super::{Element, Isa};
use super::Workspace;
use super::numbers::Number;
use crate::kernels::ImageShape;

/// Numbers of one task.
const CHUNK: usize = 32 * 1024;

/// Runs `body` on chunks of the numbers in parallel, with the place of the first.
fn for_each_chunk<N: Number>(numbers: &mut [N], body: impl Fn(usize, &mut [N]) + Send + Sync) {
    let len = numbers.len();
    let shared = SharedMut::new(numbers);
    for_each(len.div_ceil(CHUNK), |task_idx| {
        let start = task_idx * CHUNK;
        // SAFETY: chunks do not overlap.
        body(start, unsafe { shared.slice(start, CHUNK.min(len - start)) });
    });
}

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
    for_each_chunk(to, |start, to| add_chunk(isa, &from[start..], to));
}

vectorized! {
    fn add_chunk[N: Number](from: &[N], to: &mut [N]) {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = N::nearest(to.load() + from.load());
        }
    }
}

/// Sets a gradient to 0 where the output of a ReLU is not positive.
///
/// # Panics
/// Lengths differ, or a storage is not of floating-point numbers.
pub fn gate(isa: Isa, output: Numbers<'_>, gradient: NumbersMut<'_>) {
    fn run<Y: Number, N: Number>(isa: Isa, output: &[Y], gradient: &mut [N]) {
        assert_eq!(output.len(), gradient.len(), "gate: numbers");
        for_each_chunk(gradient, |start, gradient| gate_chunk(isa, &output[start..], gradient));
    }
    match (output, gradient) {
        (Numbers::F32(output), NumbersMut::F32(gradient)) => run(isa, output, gradient),
        (Numbers::F32(output), NumbersMut::Bf16(gradient)) => run(isa, output, gradient),
        (Numbers::Bf16(output), NumbersMut::Bf16(gradient)) => run(isa, output, gradient),
        _ => panic!("gate: expected floating-point numbers"),
    }
}

vectorized! {
    fn gate_chunk[Y: Number, N: Number](output: &[Y], gradient: &mut [N]) {
        for (gradient, &output) in gradient.iter_mut().zip(output) {
            *gradient = N::nearest(if output.load() > 0.0 { gradient.load() } else { 0.0 });
        }
    }
}

/// `to = from`, in the storage of `to`.
///
/// # Panics
/// Lengths differ.
pub fn convert(isa: Isa, from: &[f32], to: NumbersMut<'_>) {
    match to {
        NumbersMut::F32(to) => copy(isa, from, to),
        NumbersMut::Bf16(to) => copy(isa, from, to),
        NumbersMut::U8(_) => panic!("convert: expected floating-point numbers, found bytes"),
    }
}

/// [`convert`] from one type to another.
pub(super) fn copy<A: Number, B: Number>(isa: Isa, from: &[A], to: &mut [B]) {
    assert_eq!(from.len(), to.len(), "convert: numbers");
    for_each_chunk(to, |start, to| copy_chunk(isa, &from[start..], to));
}

vectorized! {
    fn copy_chunk[A: Number, B: Number](from: &[A], to: &mut [B]) {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = B::nearest(from.load());
        }
    }
}

/// `y = max(x, 0)`.
///
/// # Panics
/// Lengths differ, or a storage is not of floating-point numbers.
pub fn relu(isa: Isa, x: Numbers<'_>, y: NumbersMut<'_>) {
    fn run<A: Number, B: Number>(isa: Isa, x: &[A], y: &mut [B]) {
        assert_eq!(x.len(), y.len(), "relu: numbers");
        for_each_chunk(y, |start, y| relu_chunk(isa, &x[start..], y));
    }
    match (x, y) {
        (Numbers::F32(x), NumbersMut::F32(y)) => run(isa, x, y),
        (Numbers::F32(x), NumbersMut::Bf16(y)) => run(isa, x, y),
        (Numbers::Bf16(x), NumbersMut::F32(y)) => run(isa, x, y),
        (Numbers::Bf16(x), NumbersMut::Bf16(y)) => run(isa, x, y),
        _ => panic!("relu: expected floating-point numbers"),
    }
}

vectorized! {
    fn relu_chunk[A: Number, B: Number](x: &[A], y: &mut [B]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = B::nearest(x.load().relu());
        }
    }
}

/// The gradient of [`relu`] by its output, added to what is there if wanted.
///
/// # Panics
/// Lengths differ, or storages do.
pub fn relu_gradient(isa: Isa, y: Numbers<'_>, y_gradient: Numbers<'_>, accumulate: bool, x_gradient: NumbersMut<'_>) {
    fn run<Y: Number, N: Number>(isa: Isa, y: &[Y], y_gradient: &[N], accumulate: bool, x_gradient: &mut [N]) {
        assert!(y.len() == x_gradient.len() && y_gradient.len() == x_gradient.len(), "relu gradient: numbers");
        for_each_chunk(x_gradient, |start, x_gradient| {
            relu_gradient_chunk(isa, &y[start..], &y_gradient[start..], accumulate, x_gradient);
        });
    }
    match (y, y_gradient, x_gradient) {
        (Numbers::F32(y), Numbers::F32(from), NumbersMut::F32(to)) => run(isa, y, from, accumulate, to),
        (Numbers::F32(y), Numbers::Bf16(from), NumbersMut::Bf16(to)) => run(isa, y, from, accumulate, to),
        (Numbers::Bf16(y), Numbers::Bf16(from), NumbersMut::Bf16(to)) => run(isa, y, from, accumulate, to),
        _ => panic!("relu gradient: expected one floating-point storage"),
    }
}

vectorized! {
    fn relu_gradient_chunk[Y: Number, N: Number](y: &[Y], y_gradient: &[N], accumulate: bool, x_gradient: &mut [N]) {
        for ((to, &y), &gradient) in x_gradient.iter_mut().zip(y).zip(y_gradient) {
            let before = if accumulate { to.load() } else { 0.0 };
            *to = N::nearest(before + if y.load() > 0.0 { gradient.load() } else { 0.0 });
        }
    }
}

/// Adds the sum over all pixels of each channel to `sums`, `[C]`: what a bias gets of its convolution's output gradient.
///
/// # Panics
/// A slice is shorter than its shape.
pub fn channel_sums(isa: Isa, shape: &ImageShape, x: Numbers<'_>, sums: &mut [f32], workspace: &mut Workspace) {
    let columns = Columns { groups: 1, pixels: shape.num_pixels(), channels: shape.channels };
    assert!(x.len() == shape.len() && sums.len() == shape.channels, "channel sums: numbers");
    let doubles = workspace.doubles(columns.sums_len() + columns.workspace_len());
    let (totals, rest) = doubles.split_at_mut(columns.sums_len());
    match x {
        Numbers::F32(x) => moments(isa, columns, x, totals, rest),
        Numbers::Bf16(x) => moments(isa, columns, x, totals, rest),
        Numbers::U8(_) => panic!("channel sums: expected floating-point numbers, found bytes"),
    }
    for (sum, &total) in sums.iter_mut().zip(&*totals) {
        *sum += total as f32;
    }
}
