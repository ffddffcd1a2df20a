//! Parameters in torch's order, and the weights that convolutions read.

use super::launch::{blocks, by_element, double, int, launch, long, of, operand, optional, places};
use super::source;
use crate::device::{Element, Source, Span};
use crate::error::Result;

pub(super) const SOURCE: Source = source!("weights.cu");

/// A frozen norm as a scale and a shift of each channel: `w / sqrt(variance + epsilon)` and `b - mean * scale`, in f64 and rounded
/// once.
///
/// # Errors
/// A span is shorter than `channels` numbers in f32, or the launch fails.
pub fn fold_norm(
    channels: usize,
    epsilon: f64,
    [weight, bias, mean, variance]: [Span<'_>; 4],
    (scale, shift): (Span<'_>, Span<'_>),
) -> Result<()> {
    let number = |place, span| operand(place, span, channels, 4);
    let arguments = [
        number("folding: weight", weight)?,
        number("folding: bias", bias)?,
        number("folding: mean", mean)?,
        number("folding: variance", variance)?,
        double(epsilon),
        number("folding: scale", scale)?,
        number("folding: shift", shift)?,
        int("folding: channels", channels)?,
    ];
    // SAFETY: the sizes were checked.
    unsafe { launch(weight, &SOURCE, "fold_norm", [blocks(channels), 1, 1], &arguments) }
}

/// A weight as convolutions read it: f32 in the order `[O, I, kh, kw]`, each output times its scale unless there is none, to
/// `[O, kh, kw, I]` in an element.
///
/// # Errors
/// A span is shorter than its shape, or the launch fails.
pub fn pack_weight(
    element: Element,
    dimensions: [usize; 4],
    weight: Span<'_>,
    scale: Option<Span<'_>>,
    packed: Span<'_>,
) -> Result<()> {
    let ([outputs, inputs, height, width], count) = (dimensions, dimensions.iter().product());
    let arguments = [
        operand("packing: weight", weight, count, 4)?,
        optional("packing: scale", scale, outputs, 4)?,
        operand("packing: packed", packed, count, element.size())?,
        int("packing: inputs", inputs)?,
        int("packing: taps", height * width)?,
        places("packing: count", count)?,
    ];
    // SAFETY: the sizes were checked.
    unsafe { launch(weight, &SOURCE, of(element, by_element!("pack_weight")), [blocks(count), 1, 1], &arguments) }
}

/// Adds the gradient of a [packed](pack_weight) weight to that of the weight, each output times its scale unless there is none.
///
/// # Errors
/// As for [`pack_weight`].
pub fn unpack_weight_gradient(
    element: Element,
    dimensions: [usize; 4],
    packed: Span<'_>,
    scale: Option<Span<'_>>,
    gradient: Span<'_>,
) -> Result<()> {
    let ([outputs, inputs, height, width], count) = (dimensions, dimensions.iter().product());
    let arguments = [
        operand("unpacking: packed", packed, count, element.size())?,
        optional("unpacking: scale", scale, outputs, 4)?,
        operand("unpacking: gradient", gradient, count, 4)?,
        int("unpacking: inputs", inputs)?,
        int("unpacking: taps", height * width)?,
        places("unpacking: count", count)?,
    ];
    let kernel = of(element, by_element!("unpack_weight_gradient"));
    // SAFETY: the sizes were checked.
    unsafe { launch(packed, &SOURCE, kernel, [blocks(count), 1, 1], &arguments) }
}

/// Moves the running mean and variance of a batch norm towards those of a batch of `count` pixels by the momentum, the variance
/// unbiased as torch has it; not where the i32 in `go` is 0.
///
/// # Errors
/// A span is shorter than its shape, or the launch fails.
pub fn update_running_statistics(
    channels: usize,
    count: usize,
    momentum: f64,
    statistics: Span<'_>,
    (mean, variance): (Span<'_>, Span<'_>),
    go: Option<Span<'_>>,
) -> Result<()> {
    let arguments = [
        operand("running statistics: of the batch", statistics, 2 * channels, 8)?,
        long("running statistics: count", count)?,
        double(momentum),
        operand("running statistics: mean", mean, channels, 4)?,
        operand("running statistics: variance", variance, channels, 4)?,
        optional("running statistics: go", go, 1, 4)?,
        int("running statistics: channels", channels)?,
    ];
    // SAFETY: the sizes were checked.
    unsafe { launch(mean, &SOURCE, "update_running_statistics", [blocks(channels), 1, 1], &arguments) }
}
